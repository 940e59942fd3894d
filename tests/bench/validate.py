# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""C(validate): comparing the contents of both ends as at the fence, against counting the rows of the same tables."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from bench.harness import Bench, clusters, in_turn, report, timed

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.migration import Migration
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.spec import spec_of
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.validate.compare import compare_tables

ROWS = 2_000_000
TABLES = """
CREATE SCHEMA s;
CREATE TABLE s.accounts (aid int PRIMARY KEY, bid int, abalance int, filler char(84));
CREATE TABLE s.orders (id bigint PRIMARY KEY, customer uuid, total numeric(12, 2), note text, at timestamptz);
INSERT INTO s.accounts SELECT i, i % 100, i % 977, '' FROM generate_series(1, {half}) i;
INSERT INTO s.orders SELECT i, md5(i::text)::uuid, i / 7.0, 'note ' || i, timestamptz '2024-01-01' + i * interval '1 s'
  FROM generate_series(1, {half}) i;
ANALYZE;
"""
NAMES = ("s.accounts", "s.orders")


def count_both(bench: Bench) -> None:
    """The peer: the same tables, both ends at the same time, as the comparison reads them."""

    def count(end: object) -> None:
        with bench.connect(end, "validate") as conn:
            for name in NAMES:
                conn.execute(f"SELECT count(*) FROM {name}").fetchone()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(count, (bench.source, bench.destination)))


def compare(bench: Bench) -> None:
    """Ours. Raises if it does not find both ends identical."""
    with Migration(spec_of(bench.options("validate", "s", types=["full"]))) as migration:
        verdicts = compare_tables(migration, migration.selected().leaves, live=False)
    if [verdict.verdict for verdict in verdicts.values()] != ["identical"] * len(NAMES):
        raise RuntimeError(f"not identical: {verdicts}")


def main() -> None:
    """Three rounds in turn."""
    with clusters() as bench:
        for end in (bench.source, bench.destination):
            with bench.connect(end) as conn:
                conn.execute("CREATE DATABASE validate")
            with bench.connect(end, "validate") as conn:
                conn.execute(TABLES.format(half=ROWS // 2))
                conn.execute("VACUUM (FREEZE)")
        ours, peers = in_turn(
            lambda: timed(lambda: compare(bench)), {"count": lambda: timed(lambda: count_both(bench))}
        )
        report("validate", ours, peers, ROWS)
