# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all benches share: clusters of their own, rounds taken in turn, and the one line of JSON at the end."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import platform
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import psycopg
from support.clusters import servers

VERSION = "17"
SETTINGS = {
    "fsync": "off",
    "max_wal_size": "8GB",
    "shared_buffers": "512MB",
    "maintenance_work_mem": "256MB",
    "autovacuum": "off",
    "checkpoint_timeout": "1h",
}
ROUNDS = 3
SCALE = float(os.environ.get("BENCH_SCALE", "1"))
"""A part of the real size, for whoever works on a bench: its numbers then mean nothing."""


@dataclasses.dataclass(frozen=True)
class Bench:
    """Two clusters and a folder; both go when the bench ends."""

    folder: pathlib.Path
    source: Any
    destination: Any

    @property
    def bin_dir(self) -> str:
        return str(self.source.bin_dir)

    def connect(self, cluster: Any, dbname: str = "postgres") -> psycopg.Connection[Any]:
        """An ordinary autocommit connection."""
        return psycopg.connect(cluster.dsn(dbname), autocommit=True)

    def fresh(self, cluster: Any, dbname: str, template: str = "template0") -> None:
        """A new database, empty or like C(template), and no work left over from before: nobody pays for who went first."""
        with self.connect(cluster) as conn:
            conn.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = %s", (dbname,)
            )
            conn.execute(f"DROP DATABASE IF EXISTS {dbname} WITH (FORCE)")
            conn.execute(f"CREATE DATABASE {dbname} TEMPLATE {template} STRATEGY file_copy")
        for end in (self.source, self.destination):
            with self.connect(end) as conn:
                conn.execute("CHECKPOINT")

    def options(self, dbname: str, schema: str, **more: Any) -> dict[str, Any]:
        """What all modules of one migration take, as the engine reads it."""
        return {
            "name": dbname,
            "source": {**self.source.endpoint(), "login_db": dbname},
            "destination": {**self.destination.endpoint(), "login_db": dbname},
            "objects": [{"schema": schema}],
            "types": ["schema", "full"],
            "state_schema": "causeway",
            "allow_keyless": True,
            "conflicting_tables": "report",
            "restart": False,
            **more,
        }


@contextlib.contextmanager
def clusters(**settings: str) -> Iterator[Bench]:
    """Source and destination of the same version, on loopback ports, with settings that leave the disk out of it."""
    home = servers.own_folder(servers.default_home())
    folder = servers.own_folder(home / f"bench-{os.getpid()}")
    try:
        wanted = {**SETTINGS, **settings}
        ends = [servers.ensure(folder / name, name, VERSION, wanted)[0] for name in ("source", "destination")]
        yield Bench(folder, *ends)
    finally:
        for name in ("source", "destination"):
            servers.destroy(folder / name)
        shutil.rmtree(folder, ignore_errors=True)


def timed(work: Callable[[], object]) -> float:
    """Seconds that some work took."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def peak_rss_mb(pid: int | str = "self") -> int:
    """The most memory that a process has had since it began, in MB."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return round(next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024)


def in_turn(ours: Callable[[], float], peers: Mapping[str, Callable[[], float]]) -> tuple[list[float], dict[str, Any]]:
    """Ours and each peer, one after the other, round by round: what drifts in the machine drifts for all."""
    ours_s: list[float] = []
    peer_s: dict[str, list[float]] = {name: [] for name in peers}
    for number in range(1, ROUNDS + 1):
        ours_s.append(round(ours(), 3))
        for name, peer in peers.items():
            peer_s[name].append(round(peer(), 3))
        told = ", ".join(f"{name} {seconds[-1]} s" for name, seconds in peer_s.items())
        print(f"round {number}: ours {ours_s[-1]} s, {told}", flush=True)
    return ours_s, peer_s


def report(bench: str, ours_s: list[float], peer_s: Mapping[str, list[float]], rows: int, **more: Any) -> None:
    """Print the one line: ratios of medians, the first peer's as C(ratio)."""
    median = statistics.median(ours_s)
    ratios = {name: round(median / statistics.median(seconds), 3) for name, seconds in peer_s.items()}
    line = {
        "bench": bench,
        "ratio": next(iter(ratios.values()), None),
        "vs": ratios,
        "ours_s": ours_s,
        "peer_s": dict(peer_s),
        "peak_rss_mb": peak_rss_mb(),
        "rows": rows,
        "versions": {"postgresql": VERSION, "python": platform.python_version(), "psycopg": psycopg.__version__},
        "cores": os.cpu_count(),
        "scale": SCALE,
        **more,
    }
    print(json.dumps(line))
