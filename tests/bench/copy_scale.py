# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""C(copy_scale): the rows of pgbench at scale 50 by two worker hosts of one worker each, which share one queue, against
1, 2, 4 and 8 workers of one host. The tables stand at the destination; nothing is built on them.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

from bench.clone import fill
from bench.clone_peers import Peers, contents
from bench.engine import call
from bench.harness import Bench, clusters, in_turn, peak_rss_mb, report

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.copy import plan as full_copy
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.copy.limits import Layout, Limits

DBNAME = "copy_scale"
PART_SIZE = 16 << 20
"""Small enough for eight workers to have their share: 40 parts."""

WORKERS = (1, 2, 4, 8)
# a host begins with modules that are loaded, not with what the bench has in memory
PROCESSES = multiprocessing.get_context("spawn")


def host(options: Mapping[str, Any], workers: int, start: Any, told: Any) -> None:
    """One worker host: a process of its own. Tells the parts that it copied, and its peak memory in MB."""
    start.wait()
    limits = Limits(parallel=workers, layout=Layout(part_size=PART_SIZE))
    result = call(options, lambda migration: full_copy.plan(migration, limits), writes=False)
    told.put((result["parts"], peak_rss_mb()))


class Copies:
    """Copies of the same rows, each into tables that were not there before."""

    def __init__(self, bench: Bench, peers: Peers) -> None:
        self.bench = bench
        self.peers = peers
        self.peak_rss_mb = 0
        self.parts: list[list[int]] = []
        """Of the copies by two hosts: what either did."""

    def run(self, hosts: int, workers: int) -> float:
        """Seconds from the start of all hosts to the end of the last."""
        self.bench.fresh(self.bench.destination, DBNAME)
        made = self.peers.psql.program("pgbench", "-i", "-I", "t", "-q", "service=destination")
        if made.returncode:
            raise RuntimeError(made.stderr)
        options = self.bench.options(DBNAME, "public", types=["full"])
        start, told = PROCESSES.Barrier(hosts + 1), PROCESSES.Queue()
        running = [PROCESSES.Process(target=host, args=(options, workers, start, told)) for dummy in range(hosts)]
        for process in running:
            process.start()
        start.wait()
        began = time.perf_counter()
        done = [told.get(timeout=600) for dummy in running]
        seconds = time.perf_counter() - began
        for process in running:
            process.join()
        self.peak_rss_mb = max([self.peak_rss_mb, *(peak for dummy, peak in done)])
        if hosts > 1:
            self.parts.append(sorted(parts for parts, dummy in done))
        return seconds

    def by_two_hosts(self) -> float:
        """Compared once."""
        seconds = self.run(hosts=2, workers=1)
        if len(self.parts) == 1:
            at_source, at_destination = contents(self.bench, DBNAME)
            if at_source != at_destination:
                raise RuntimeError(f"not identical: {at_source} {at_destination}")
        return seconds


def main() -> None:
    """Three rounds in turn."""
    with clusters() as bench:
        bench.fresh(bench.source, DBNAME)
        peers = Peers(bench, DBNAME)
        rows = fill(bench, peers)
        with bench.connect(bench.source, DBNAME) as conn:
            conn.execute("VACUUM (FREEZE, ANALYZE)")
        copies = Copies(bench, peers)

        def by(workers: int) -> Callable[[], float]:
            return lambda: copies.run(hosts=1, workers=workers)

        seconds, others = in_turn(copies.by_two_hosts, {f"workers_{count}": by(count) for count in WORKERS})
        medians = {"hosts_2": statistics.median(seconds), **{key: statistics.median(s) for key, s in others.items()}}
        speedup = {key: round(medians["workers_1"] / median, 2) for key, median in medians.items()}
        more = {"peak_rss_mb": copies.peak_rss_mb, "speedup": speedup, "parts_of_two_hosts": copies.parts}
        report("copy_scale", seconds, others, rows, **more)
