# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""C(clone): pgbench at scale 50, whole: schema, rows, keys, statistics. C(clone_mixed) shares all but the database."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from bench.clone_peers import Peers, contents, version_of_pgcopydb
from bench.engine import Steps, carry_out
from bench.harness import SCALE, Bench, clusters, in_turn, report, timed
from bench.playbook import overhead

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.copy.limits import Layout, Limits

DBNAME = "clone"
LIMITS = Limits(parallel=2, layout=Layout(part_size=64 << 20))


def fill(bench: Bench, peers: Peers) -> int:
    """pgbench's four tables; the number of their rows."""
    scale = max(1, int(50 * SCALE))
    done = peers.psql.program("pgbench", "-i", "-q", "-s", str(scale), "service=source")
    if done.returncode:
        raise RuntimeError(done.stderr)
    return scale * 100_011


def measure(name: str, schemas: Sequence[str], fill: Callable[[Bench, Peers], int]) -> None:
    """Ours and the peers in turn, each into a database that was not there before."""
    with clusters() as bench:
        bench.fresh(bench.source, DBNAME)
        peers = Peers(bench, DBNAME)
        rows = fill(bench, peers)
        with bench.connect(bench.source, DBNAME) as conn:
            conn.execute("VACUUM (FREEZE, ANALYZE)")
        options = bench.options(DBNAME, "public", objects=[{"schema": schema} for schema in schemas])
        steps: list[dict[str, float]] = []

        def ours() -> float:
            bench.fresh(bench.destination, DBNAME)
            seconds = timed(lambda: steps.append(carry_out(options, Steps(bench.bin_dir, LIMITS).clone())))
            if len(steps) == 1:
                at_source, at_destination = contents(bench, DBNAME)
                if at_source != at_destination:
                    raise RuntimeError(f"not identical: {at_source} {at_destination}")
            return seconds

        def peer(work: Callable[[], None]) -> Callable[[], float]:
            def run() -> float:
                bench.fresh(bench.destination, DBNAME)
                return timed(work)

            return run

        only = os.environ.get("BENCH_PEERS")
        chosen = {key: peer(work) for key, work in peers.all().items() if only is None or key in only.split(",")}
        seconds, peer_seconds = in_turn(ours, chosen)
        more = {"steps": steps, "pgcopydb": version_of_pgcopydb(), "missing": peers.missing, **overhead(bench)}
        report(name, seconds, peer_seconds, rows, **more)


def main() -> None:
    """Three rounds in turn."""
    measure("clone", ["public"], fill)
