# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One backlog of changes behind several slots, drained in turn by the CDC worker, by PostgreSQL's own subscription, and
by C(pg_recvlogical) to nowhere. A drain ends when the last row of the backlog is seen at the destination.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from bench.harness import ROUNDS, Bench, clusters, in_turn, peak_rss_mb, report
from psycopg import sql
from support.clusters.local import Server
from support.clusters.pairs import End, Pair
from support.compiling import compiled_engine
from support.harness.streaming import Streaming

SCALE = float(os.environ.get("BENCH_SCALE", "1"))
"""A part of the full size, to iterate on; the numbers that count are those of 1."""

DONE = "CREATE TABLE bench_done (id int PRIMARY KEY)"
_POLL = 0.01
_TIMEOUT = 900


def scaled(full: int) -> int:
    """So many of a workload's rows or transactions."""
    return max(int(full * SCALE), 1)


@dataclasses.dataclass(frozen=True)
class Workload:
    """C(load) makes the same tables and rows at either end (it gets a connection and the database's DSN), C(write) the
    backlog at the source. C(changes) is the number of rows that the backlog changes.
    """

    name: str
    load: Callable[[Any, str], None]
    write: Callable[[Any, str], None]
    tables: Sequence[str]
    changes: int


@dataclasses.dataclass
class Worker:
    """What was seen of the worker's process."""

    peak_rss_mb: int = 0
    cpu_s: list[float] = dataclasses.field(default_factory=list)


class Drains:
    """The slots of one backlog, and a fresh copy of the destination for each drain."""

    def __init__(self, bench: Bench, workload: Workload) -> None:
        self.bench = bench
        self.workload = workload
        self.seen = Worker()
        self._source = Server(bench.source.dsn(), bench.source)
        self._destination = Server(bench.destination.dsn(), bench.destination)
        self._turn = {"ours": 0, "subscription": 0, "floor": 0}
        self._workers: list[Streaming] = []
        self._end = ""

    def prepare(self) -> None:
        """Both ends loaded, every slot made, then the backlog."""
        for end, dbname in ((self._source, "bench"), (self._destination, "base")):
            with end.connect() as conn:
                conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(dbname)))
            with end.connect(dbname) as conn:
                conn.execute(DONE)
                self.workload.load(conn, end.dsn(dbname))
                conn.execute("VACUUM (FREEZE, ANALYZE)")
                conn.execute("CHECKPOINT")
        home = self.bench.folder / "workers"
        home.mkdir()
        with self._source.connect("bench") as source:
            tables = sql.SQL(", ").join([sql.Identifier(name) for name in (*self.workload.tables, "bench_done")])
            source.execute(sql.SQL("CREATE PUBLICATION peer FOR TABLE {}").format(tables))
            for number in range(ROUNDS):
                for peer in ("subscription", "floor"):
                    source.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (f"{peer}_{number}",))
                self._copy_of_base(f"subscription_{number}")
                self._workers.append(self._migration(home, number))
            self.workload.write(source, self._source.dsn("bench"))
            source.execute("INSERT INTO bench_done VALUES (1)")
            position = source.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
            self._end = position[0] if position else ""
            source.execute("CHECKPOINT")

    def _migration(self, home: pathlib.Path, number: int) -> Streaming:
        dbname = f"ours_{number}"
        self._copy_of_base(dbname)
        ends = (End(self._source, "bench", self._source.connect("bench")),)
        pair = Pair(*ends, End(self._destination, dbname, self._destination.connect(dbname)))
        streaming = Streaming(pair, home)
        streaming.engine = compiled_engine()
        streaming.begin()
        return streaming

    def _copy_of_base(self, dbname: str) -> None:
        with self._destination.connect() as conn:
            conn.execute(sql.SQL("CREATE DATABASE {} TEMPLATE base STRATEGY file_copy").format(sql.Identifier(dbname)))

    def _wait_done(self, dbname: str) -> None:
        deadline = time.monotonic() + _TIMEOUT
        with self._destination.connect(dbname) as conn:
            while conn.execute("SELECT FROM bench_done").fetchone() is None:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{dbname} was not drained in {_TIMEOUT} s")
                time.sleep(_POLL)

    def _next(self, who: str) -> int:
        self._turn[who] += 1
        return self._turn[who] - 1

    def _quieten(self) -> None:
        """What the turn before has left to be written is not this one's to write."""
        for end in (self._source, self._destination):
            with end.connect() as conn:
                conn.execute("CHECKPOINT")

    def ours(self) -> float:
        """By the worker, from the start of its process on."""
        self._quieten()
        streaming = self._workers[self._next("ours")]
        began = time.perf_counter()
        process = streaming.start()
        try:
            self._wait_done(streaming.pair.destination.dbname)
            seconds = time.perf_counter() - began
            self.look_at(process.pid)
            streaming.drain()
        finally:
            status = streaming.stop()
        if status != 0:
            raise RuntimeError(f"the worker ended with {status}: {streaming.log()[-2000:]}")
        self._compare(streaming.pair.destination.dbname, streaming.pair)
        self._forget(streaming.pair.destination.dbname, streaming.pair)
        return seconds

    def connect_source(self) -> Any:
        """An autocommit connection to the source."""
        return self._source.connect("bench")

    def connect_destination(self, dbname: str) -> Any:
        """An autocommit connection to one of the destinations."""
        return self._destination.connect(dbname)

    @contextlib.contextmanager
    def running_worker(self) -> Iterator[str]:
        """A worker that has caught up; its destination's name."""
        streaming = self._workers[self._next("ours")]
        dbname = streaming.pair.destination.dbname
        process = streaming.start()
        try:
            self._wait_done(dbname)
            streaming.drain()
            yield dbname
            self.look_at(process.pid)
        finally:
            streaming.stop()
            self._forget(dbname, streaming.pair)

    @contextlib.contextmanager
    def running_subscription(self) -> Iterator[str]:
        """A subscription that has caught up; its destination's name."""
        dbname = self._subscribe()
        try:
            self._wait_done(dbname)
            yield dbname
        finally:
            self._unsubscribe(dbname)

    def look_at(self, pid: int) -> None:
        """Peak memory and CPU of a worker that is still there."""
        self.seen.peak_rss_mb = max(self.seen.peak_rss_mb, peak_rss_mb(pid))
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        self.seen.cpu_s.append(round((int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), 2))

    def subscription(self) -> float:
        """By CREATE SUBSCRIPTION, from the statement on."""
        self._quieten()
        began = time.perf_counter()
        dbname = self._subscribe()
        self._wait_done(dbname)
        seconds = time.perf_counter() - began
        self._unsubscribe(dbname)
        return seconds

    def _subscribe(self) -> str:
        dbname = f"subscription_{self._next('subscription')}"
        with self._destination.connect(dbname) as conn:
            conn.execute(
                sql.SQL(
                    "CREATE SUBSCRIPTION {name} CONNECTION {source} PUBLICATION peer WITH (create_slot = false,"
                    " slot_name = {name}, copy_data = false, binary = true, streaming = off)"
                ).format(name=sql.Identifier(dbname), source=sql.Literal(self._source.dsn("bench")))
            )
        return dbname

    def _unsubscribe(self, dbname: str) -> None:
        with self._destination.connect(dbname) as conn:
            conn.execute(sql.SQL("DROP SUBSCRIPTION {}").format(sql.Identifier(dbname)))
        self._forget(dbname, None)

    def floor(self) -> float:
        """What the source alone needs to send it."""
        self._quieten()
        slot = f"floor_{self._next('floor')}"
        argv = [
            f"{self.bench.bin_dir}/pg_recvlogical",
            "--dbname",
            self._source.dsn("bench"),
            "--slot",
            slot,
            "--start",
        ]
        argv += ["--endpos", self._end, "--file", os.devnull, "--no-loop"]
        argv += ["-o", "proto_version=1", "-o", "publication_names=peer", "-o", "binary=true"]
        began = time.perf_counter()
        subprocess.run(argv, check=True, timeout=_TIMEOUT)
        return time.perf_counter() - began

    def _compare(self, dbname: str, pair: Pair) -> None:
        """Once: every row of every table, as its output functions write it."""
        if self._turn["ours"] != 1:
            return
        for table in self.workload.tables:
            statement = sql.SQL("SELECT count(*), sum(hashtextextended(ROW(t.*)::text, 0)) FROM {} AS t").format(
                sql.Identifier(table)
            )
            with self._source.connect("bench") as source, self._destination.connect(dbname) as destination:
                here, there = (conn.execute(statement).fetchone() for conn in (source, destination))
            if here != there:
                raise RuntimeError(f"{table} differs in {dbname}: {here}, {there}")
        print(f"contents of {dbname} are the source's", flush=True)

    def _forget(self, dbname: str, pair: Pair | None) -> None:
        if pair is not None:
            for end in pair.ends:
                end.sql.close()
        with self._destination.connect() as conn:
            conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(dbname)))

    def close(self) -> None:
        """No worker of ours outlives the bench."""
        for streaming in self._workers:
            streaming.close()


@contextlib.contextmanager
def drains(workload: Workload) -> Iterator[Drains]:
    """Clusters of their own with the backlog of C(workload)."""
    with clusters() as bench:
        made = Drains(bench, workload)
        try:
            made.prepare()
            yield made
        finally:
            made.close()


def run(workload: Workload) -> None:
    """Three rounds in turn."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with drains(workload) as made:
        ours, peers = in_turn(made.ours, {"subscription": made.subscription, "floor": made.floor})
        report(
            workload.name,
            ours,
            peers,
            workload.changes,
            peak_rss_mb=made.seen.peak_rss_mb,
            worker_cpu_s=made.seen.cpu_s,
            scale=SCALE,
        )
