# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A backlog of many batches, each prepared while the one before it is written, and how its rows are found."""

from __future__ import annotations

import pytest
from support.clusters.pairs import Pair
from support.harness.streaming import MakeStreaming
from support.witness import assert_identical

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.apply import session, staging
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.apply.destination_table import (
    observe_uniques,
)

BATCH = 3_000
TABLES = """
CREATE TABLE counted (id int PRIMARY KEY, n int NOT NULL, v text);
CREATE TABLE added (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, of int, at timestamptz);
INSERT INTO counted SELECT i, 0, 'row ' || i FROM generate_series(1, 5000) i;
"""


def write_backlog(pair: Pair, rounds: int) -> None:
    """Transactions of a hundred rows, which meet one another's rows."""
    pair.source.sql.execute(
        f"""DO $$ BEGIN FOR i IN 1..{rounds} LOOP
            UPDATE counted SET n = n + 1, v = v || i WHERE id % 50 = i % 50;
            INSERT INTO added (of, at) SELECT i, now() FROM generate_series(1, 50);
            DELETE FROM added WHERE of = i - 3 AND id % 2 = 0;
            COMMIT; END LOOP; END $$"""
    )


def test_many_batches_one_after_the_other(make_streaming: MakeStreaming) -> None:
    """The worker is started when all of it stands at the source; a column comes in its middle, and a key changes."""
    streaming = make_streaming(TABLES)
    streaming.begin(batch_size=BATCH, batch_age=60)
    write_backlog(streaming.pair, 150)
    for end in streaming.pair.ends:
        end.run("ALTER TABLE counted ADD more int")
    streaming.pair.source.run("UPDATE counted SET more = n, id = -id WHERE id % 7 = 0")
    streaming.pair.source.run("UPDATE counted SET id = -id, more = 1 WHERE id < 0 AND id % 2 = 0")
    write_backlog(streaming.pair, 150)
    streaming.start()
    streaming.drain()
    assert assert_identical(streaming.pair, ["public"]) > 10_000
    assert streaming.progress("conflicts") == 0
    assert streaming.progress("transactions") >= 302


def test_a_column_goes_in_the_middle_of_a_backlog(make_streaming: MakeStreaming) -> None:
    """At the source alone: said when its turn has come, and then it goes on. (That looking ahead does not stumble over it
    the tests of `ahead` show: how far it is ahead depends on the machine.)"""
    streaming = make_streaming(TABLES + "CREATE TABLE narrow (id int PRIMARY KEY, a text, b text, c text)")
    streaming.begin(batch_size=BATCH, batch_age=60)
    source, destination = streaming.pair.ends
    source.run("INSERT INTO narrow SELECT i, 'a', 'b', 'c' FROM generate_series(1, 10) i")
    write_backlog(streaming.pair, 100)
    source.run("ALTER TABLE narrow DROP c")
    source.run("INSERT INTO narrow SELECT i, 'a', 'b' FROM generate_series(11, 50) i")
    write_backlog(streaming.pair, 100)
    streaming.start()
    streaming.wait_state("failed")
    error = streaming.progress("last_error")
    assert error["object"] == "public.narrow" and "the source no longer has column c" in error["why"]
    streaming.wait_exit()
    destination.run("ALTER TABLE narrow DROP c")
    streaming.start()
    streaming.wait_state("running")
    streaming.drain()
    assert_identical(streaming.pair, ["public"])


def test_rows_are_looked_up_by_their_key_however_small_the_table_was_thought(make_streaming: MakeStreaming) -> None:
    """A table that has never been analyzed: reading it whole for every batch would look cheap to a planner."""
    streaming = make_streaming(TABLES + "ALTER TABLE counted REPLICA IDENTITY FULL")
    streaming.begin()
    source, destination = streaming.pair.ends
    source.run("UPDATE counted SET n = 1")
    streaming.start()
    streaming.drain()
    scans = "SELECT idx_scan, idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'counted_pkey'"
    streaming.stop()
    ((looked, read),) = destination.query(scans)
    assert looked >= 5000 and read < 3 * looked
    assert_identical(streaming.pair, ["public"])


def test_an_index_that_sorts_otherwise_is_no_way_to_a_row(make_streaming: MakeStreaming) -> None:
    """It tells rows apart, and is of no use to a plain comparison."""
    streaming = make_streaming(
        'CREATE TABLE t (name text NOT NULL, n int); CREATE UNIQUE INDEX by_c ON t (name COLLATE "C");'
        "ALTER TABLE t REPLICA IDENTITY USING INDEX by_c; INSERT INTO t SELECT 'n' || i, i FROM generate_series(1, 4000) i"
    )
    source, destination = streaming.pair.ends
    (index,) = observe_uniques(destination.sql, destination.value("SELECT 't'::regclass::oid::bigint"))
    assert (index.columns, index.collations_as_columns) == (("name",), False)
    streaming.begin()
    source.run("UPDATE t SET n = n + 1; DELETE FROM t WHERE n % 3 = 0; UPDATE t SET name = name || 'x' WHERE n % 5 = 0")
    streaming.start()
    streaming.drain()
    assert assert_identical(streaming.pair, ["public"]) > 2000


@pytest.mark.parametrize(("indexed", "way"), [(True, "Nested Loop"), (False, "Hash Join")])
def test_how_the_rows_of_a_staging_table_are_found(pair: Pair, indexed: bool, way: str) -> None:
    pair.destination.run("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 4000)")
    with pair.destination.connect() as conn, conn.transaction():
        session.pin_applying_session(conn)
        loader = staging.Loader(conn)
        stage = loader.stage("test", [("k0", "integer")], [[b"%d" % n] for n in range(3000)], binary=False)
        query = f"EXPLAIN DELETE FROM ONLY public.t AS t USING pg_temp.{stage} AS s WHERE t.id = s.k0"
        plan = "\n".join(line for (line,) in loader.join(query, indexed=indexed).fetchall())
        assert way in plan
        again = "\n".join(line for (line,) in loader.join(query, indexed=True).fetchall())
        assert "Nested Loop" in again
