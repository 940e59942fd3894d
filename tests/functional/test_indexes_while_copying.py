# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys, indexes and statistics are built as soon as a table is complete, and pg_schema_sync finds them done."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from support import witness
from support.faults.gate import held_up, ours, waits_at_the_gate
from support.harness.modules import Migration, ModuleFailed
from support.waiting import until

SHOP = """
CREATE SCHEMA s;
CREATE TABLE s.goods (id int, sku text, price numeric, tags text[], during int4range);
INSERT INTO s.goods SELECT n, 'sku ' || n, n / 3.0, ARRAY['a', 'b' || n], int4range(n * 2, n * 2 + 1)
  FROM generate_series(1, 3000) n;
ALTER TABLE s.goods ADD CONSTRAINT "the key" PRIMARY KEY (id) INCLUDE (sku);
COMMENT ON CONSTRAINT "the key" ON s.goods IS 'kept';
ALTER TABLE s.goods ADD CONSTRAINT one_sku UNIQUE (sku) DEFERRABLE;
ALTER TABLE s.goods ADD EXCLUDE USING gist (during WITH &&);
CREATE UNIQUE INDEX lower_sku ON s.goods (lower(sku));
CREATE INDEX by_tag ON s.goods USING gin (tags);
CREATE INDEX dear ON s.goods (price DESC) WHERE price > 100;
COMMENT ON INDEX s.dear IS 'the dear ones';
ALTER TABLE s.goods CLUSTER ON lower_sku;
CREATE TABLE s.orders (id int, at date, note text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE s.orders_1 PARTITION OF s.orders FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
CREATE TABLE s.orders_2 PARTITION OF s.orders FOR VALUES FROM ('2021-01-01') TO ('2022-01-01');
CREATE INDEX by_note ON s.orders (note);
INSERT INTO s.orders SELECT n, date '2020-01-01' + n % 700, 'note ' || n FROM generate_series(1, 3000) n;
CREATE TABLE s.last (id int PRIMARY KEY, goods int REFERENCES s.goods);
INSERT INTO s.last SELECT n, n FROM generate_series(1, 10) n;
"""
INDEXES = """
SELECT pg_get_indexdef(i.indexrelid), i.indisvalid, i.indisclustered, obj_description(i.indexrelid),
       obj_description(k.oid), k.conname, k.condeferrable
  FROM pg_index i LEFT JOIN pg_constraint k ON k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x')
 WHERE i.indrelid::regclass::text LIKE 's.%' ORDER BY 1
"""
STATISTICS = (
    "SELECT tablename FROM pg_stats WHERE schemaname = 's' AND tablename IN ('goods', 'last') GROUP BY 1 ORDER BY 1"
)


@pytest.fixture
def prepared(clusters: Any) -> Callable[..., Migration]:
    """C(prepared(pair, more SQL)): the shop at the source, and its tables without keys at the destination."""

    def make(pair: Any, more: str = "") -> Migration:
        pair.source.run(SHOP + more)
        options = {"types": ["schema", "full"], "client_bin": clusters.bin_dir("17")}
        found = Migration("built", pair.source.endpoint, pair.destination.endpoint, [{"schema": "s"}], options)
        found.run("pg_schema_sync", section="pre_data")
        assert not pair.destination.query(INDEXES)
        return found

    return make


def test_keys_indexes_and_statistics_stand_when_the_copy_ends(pair: Any, prepared: Any) -> None:
    migration = prepared(pair)
    results = migration.four_beats("pg_full_copy", index_jobs=3, index_memory=30)
    shown = [s["sql"] for s in results[0]["statements"] if s["end"] == "destination"]
    assert sum('ADD CONSTRAINT "the key"' in text for text in shown) == 1
    wanted = pair.source.query(INDEXES)
    lone = [row for row in wanted if " ON ONLY " not in row[0]]
    assert pair.destination.query(INDEXES) == lone
    assert pair.destination.query(STATISTICS) == [("goods",), ("last",)]
    assert witness.assert_identical(pair) == 6010
    # what belongs to several tables at once is left to the sections, and nothing else is
    keys = migration.run("pg_schema_sync", section="keys")
    assert keys["objects"] and all("orders" in what for what in keys["objects"]), keys["objects"]
    indexes = migration.run("pg_schema_sync", section="indexes")
    assert all("note" in what for what in indexes["objects"]), indexes["objects"]
    assert pair.destination.query(INDEXES) == wanted
    for section in ("keys", "indexes"):
        assert not migration.run("pg_schema_sync", section=section)["changed"]


def test_an_index_is_built_while_another_table_is_still_copied(pair: Any, prepared: Any) -> None:
    migration = prepared(pair)
    with held_up(pair.destination, "s.last", "NEW.id = 10") as release:
        process = migration.start("pg_full_copy", parallel=1)
        until(lambda: waits_at_the_gate(pair.destination))
        until(lambda: pair.destination.value("SELECT to_regclass('s.by_tag') IS NOT NULL"))
        until(lambda: pair.destination.query(STATISTICS) == [("goods",)])
        assert pair.destination.value("SELECT state FROM causeway.table_copy WHERE table_name = 'last'") == "copying"
        assert pair.destination.query("SELECT 1 FROM pg_indexes WHERE tablename = 'last'") == []
        release()
        migration.finish("pg_full_copy", process)
    assert pair.destination.query("SELECT 1 FROM pg_indexes WHERE tablename = 'last'") == [(1,)]


SLOW = """
CREATE FUNCTION s.slow(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
  $$ BEGIN IF $1 = 7 THEN PERFORM pg_catalog.pg_advisory_xact_lock_shared(4712); END IF; RETURN $1; END $$;
CREATE INDEX built_slowly ON s.goods (s.slow(id));
"""


@pytest.mark.faults
def test_killed_while_an_index_is_built_the_next_run_builds_it(pair: Any, prepared: Any) -> None:
    migration = prepared(pair, SLOW)
    with pair.destination.connect() as gate:
        gate.execute("SELECT pg_advisory_lock(4712)")
        process = migration.start("pg_full_copy")
        until(lambda: waits_at_the_gate(pair.destination))
        until(lambda: pair.destination.value("SELECT bool_and(state = 'complete') FROM causeway.table_copy"))
        holders = "SELECT 1 FROM pg_stat_activity WHERE application_name LIKE 'causeway snapshot%%' AND datname = %s"
        assert pair.source.query(holders, [pair.source.dbname]) == [], "no snapshot is held while indexes are built"
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    until(lambda: not ours(pair.destination))
    assert pair.destination.value("SELECT to_regclass('s.built_slowly')") is None
    result = migration.run("pg_full_copy")
    assert (result["changed"], result["runs"]) == (True, 0)
    assert pair.destination.value("SELECT to_regclass('s.built_slowly')") == "s.built_slowly"
    assert witness.assert_identical(pair) == 6010


def test_a_key_that_cannot_be_built_is_named_and_the_other_tables_are_done(pair: Any, prepared: Any) -> None:
    migration = prepared(pair)
    pair.destination.run(
        "CREATE FUNCTION twice() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.id := 1; RETURN NEW; END $$;"
        "CREATE TRIGGER twice BEFORE INSERT ON s.goods FOR EACH ROW WHEN (NEW.id = 2) EXECUTE FUNCTION twice();"
        "ALTER TABLE s.goods ENABLE ALWAYS TRIGGER twice"
    )
    with pytest.raises(ModuleFailed) as refused:
        migration.run("pg_full_copy")
    error = refused.value.result["error"]
    assert "the key" in error["object"] and error["sqlstate"] == "23505", error
    assert pair.destination.value("SELECT bool_and(state = 'complete') FROM causeway.table_copy")
    assert pair.destination.query("SELECT 1 FROM pg_indexes WHERE tablename = 'last'") == [(1,)]


def test_the_indexes_of_tables_that_the_user_made_are_left_alone(pair: Any) -> None:
    pair.source.run(SHOP)
    pair.destination.run("CREATE SCHEMA s; CREATE TABLE s.last (id int, goods int)")
    objects = [{"schema": "s", "tables": [{"name": "last"}]}]
    migration = Migration("built", pair.source.endpoint, pair.destination.endpoint, objects, {"types": ["full"]})
    migration.run("pg_full_copy")
    assert pair.destination.query(INDEXES) == []


def test_a_locked_table_leaves_the_indexes_for_later_and_the_rows_are_copied(pair: Any, prepared: Any) -> None:
    migration = prepared(pair)
    pair.source.run("CREATE TABLE s.locked (id int)")
    pair.destination.run("CREATE TABLE s.locked (id int)")
    migration.objects = [{"schema": "s", "exclude": ["locked"]}]
    with pair.source.connect() as other, other.transaction():
        other.execute("LOCK TABLE s.goods IN ACCESS EXCLUSIVE MODE")
        checked = migration.run("pg_full_copy", check=True)
        assert any("left to pg_schema_sync" in note for note in checked["notes"]), checked["notes"]
    migration.run("pg_full_copy")
    assert pair.destination.value("SELECT to_regclass('s.by_tag') IS NOT NULL")
