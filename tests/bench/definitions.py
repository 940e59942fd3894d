# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""C(definitions): the definitions of 2 000 tables compared, against pg_dump of both ends; and how long the fence waits.

C(fenced_s) is the look at both fingerprints behind the fence: it may take 0.2 s. The comparison may take 20 s.
"""

from __future__ import annotations

import subprocess

from bench.harness import SCALE, Bench, clusters, in_turn, report, timed
from bench.tables_10k import TABLES
from support.harness.programs import Programs

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.drift.comparison import Drift
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.migration import Migration
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.spec import spec_of

DATABASE = "definitions"
LOCKS = "512"


def dump_both(bench: Bench) -> None:
    """The peer: what the comparison cannot do without."""
    for end in (bench.source, bench.destination):
        command = [f"{bench.bin_dir}/pg_dump", "--schema-only", "--schema=many", f"--dbname={end.dsn(DATABASE)}"]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)


class Rounds:
    """What each round took behind the fence, and how much it compared."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.fenced: list[float] = []
        self.facts = 0

    def run(self) -> float:
        """Compare, on new sessions, and look again."""
        options = self.bench.options(DATABASE, "many", types=["full"])
        with Migration(spec_of(options)) as migration:
            drift = Drift(migration, Programs(), self.bench.bin_dir, ())
            seconds = timed(drift.compare)
            self.fenced.append(round(timed(lambda: drift.require_unchanged("looking")), 3))
        if drift.seen is None or drift.seen.errors or not drift.seen.facts:
            raise RuntimeError("nothing was compared, or the ends differ")
        self.facts = drift.seen.facts
        return seconds


def main() -> None:
    """Three rounds in turn."""
    count = max(10, int(2000 * SCALE))
    with clusters(max_locks_per_transaction=LOCKS) as bench:
        for end in (bench.source, bench.destination):
            bench.fresh(end, DATABASE)
            with bench.connect(end, DATABASE) as conn:
                for statement in TABLES.split(";", 1):
                    conn.execute(statement.replace("{count}", str(count)).replace("{rows}", "1").replace("%%", "%"))
        rounds = Rounds(bench)
        ours, peers = in_turn(rounds.run, {"pg_dump": lambda: timed(lambda: dump_both(bench))})
        report("definitions", ours, peers, count, facts=rounds.facts, fenced_s=rounds.fenced)
