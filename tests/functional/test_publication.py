# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pg_publication against real servers, judged by pg_publication and its members."""

from __future__ import annotations

from typing import Any

import pytest
from support import witness
from support.harness.modules import Migration, ModuleFailed

SCHEMA = """
CREATE SCHEMA sales;
CREATE TABLE sales.orders (id int PRIMARY KEY, note text);
CREATE TABLE sales.plain (a int);
CREATE TABLE sales.part (id int, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE sales.part_1 PARTITION OF sales.part FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE sales.parent (id int PRIMARY KEY);
CREATE SCHEMA other;
CREATE TABLE other.child () INHERITS (sales.parent);
"""
MEMBERS = """
SELECT r.prrelid::regclass::text FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
 WHERE p.pubname = %s ORDER BY 1
"""
WANTED = ["sales.orders", "sales.parent", "sales.part", "sales.plain"]


def migration(pair: Any, name: str = "orders", **more: Any) -> Migration:
    return Migration(name, pair.source.endpoint, pair.destination.endpoint, [{"schema": "sales"}], more)


def members(pair: Any, name: str = "causeway_orders") -> list[str]:
    return [row[0] for row in pair.source.query(MEMBERS, [name])]


@pytest.fixture
def shop(pair: Any) -> Any:
    pair.source.run(SCHEMA)
    return pair


def test_four_beats_and_back(shop: Any) -> None:
    untouched = witness.fingerprint(shop.source.sql)
    dry = migration(shop).run("pg_publication", check=True)
    assert dry["changed"]
    assert "no replica identity yet" in dry["notes"][0]
    assert witness.fingerprint(shop.source.sql) == untouched

    migration(shop).run("pg_replica_identity")
    results = migration(shop).four_beats("pg_publication")
    assert results[1]["tables"] == 4
    assert members(shop) == WANTED
    assert shop.source.query(
        "SELECT puballtables, pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot FROM pg_publication"
    ) == [(False, True, True, True, True, False)]
    assert shop.source.value("SELECT to_regnamespace('causeway')") is None, "the source gets no table of ours"
    shop.source.run("UPDATE sales.plain SET a = 1")

    back = migration(shop).four_beats("pg_publication", state="absent")
    assert back[1]["left_behind"] == []
    assert shop.source.value("SELECT count(*) FROM pg_publication") == 0
    assert shop.source.value("SELECT to_regnamespace('causeway')") is None
    # and it can be made again
    assert migration(shop).run("pg_publication")["changed"]
    assert not migration(shop).run("pg_publication")["changed"]


def test_without_identities_the_application_is_not_harmed(shop: Any) -> None:
    with pytest.raises(ModuleFailed, match="Run pg_replica_identity first"):
        migration(shop).run("pg_publication")
    assert members(shop) == []
    shop.source.run("UPDATE sales.plain SET a = 2")


def test_a_publication_that_is_not_ours_is_refused(shop: Any) -> None:
    migration(shop).run("pg_replica_identity")
    shop.source.run("CREATE PUBLICATION causeway_orders FOR TABLE sales.orders")
    with pytest.raises(ModuleFailed, match="was not created by this migration"):
        migration(shop).run("pg_publication")
    assert not migration(shop).run("pg_publication", state="absent")["changed"]
    assert members(shop) == ["sales.orders"]
    shop.source.run("DROP PUBLICATION causeway_orders")
    migration(shop).run("pg_publication")
    shop.source.run("DROP PUBLICATION causeway_orders; CREATE PUBLICATION causeway_orders FOR TABLE sales.orders")
    with pytest.raises(ModuleFailed, match="recreated by another session"):
        migration(shop).run("pg_publication")
    migration(shop).run("pg_publication", state="absent")
    assert members(shop) == ["sales.orders"]


@pytest.mark.parametrize(
    "change",
    ["SET (publish = 'insert')", "SET (publish_via_partition_root = true)", "SET TABLE sales.orders WHERE (id > 3)"],
)
def test_an_altered_publication_is_refused(shop: Any, change: str) -> None:
    migration(shop).run("pg_replica_identity")
    migration(shop).run("pg_publication")
    shop.source.run(f"ALTER PUBLICATION causeway_orders {change}")
    with pytest.raises(ModuleFailed, match="it was altered"):
        migration(shop).run("pg_publication")


def test_later_tables_come_and_go(shop: Any) -> None:
    migration(shop).run("pg_replica_identity")
    migration(shop).run("pg_publication")
    shop.source.run("CREATE TABLE sales.newer (id int PRIMARY KEY)")
    shop.source.run("CREATE TABLE sales.pnew (id int PRIMARY KEY) PARTITION BY HASH (id)")
    shop.source.run("CREATE TABLE sales.pnew_0 PARTITION OF sales.pnew FOR VALUES WITH (MODULUS 1, REMAINDER 0)")
    results = migration(shop).four_beats("pg_publication")
    assert "LOCK TABLE ONLY" in results[1]["statements"][0]["sql"]
    assert "SHARE ROW EXCLUSIVE" in results[1]["statements"][0]["sql"]
    assert members(shop) == sorted([*WANTED, "sales.newer", "sales.pnew"])
    narrower = Migration(
        "orders", shop.source.endpoint, shop.destination.endpoint, [{"schema": "sales", "exclude": ["newer"]}]
    )
    narrower.four_beats("pg_publication")
    assert members(shop) == sorted([*WANTED, "sales.pnew"])


def test_an_addition_waits_for_writers_of_the_table_and_names_them(shop: Any) -> None:
    migration(shop).run("pg_replica_identity")
    migration(shop).run("pg_publication")
    shop.source.run("CREATE TABLE sales.newer (id int PRIMARY KEY)")
    with shop.source.connect(application_name="slow import") as writer, writer.transaction():
        writer.execute("LOCK TABLE sales.newer IN ROW EXCLUSIVE MODE")
        with pytest.raises(ModuleFailed, match=r"sales\.newer .*slow import"):
            migration(shop).run("pg_publication", lock_timeout=1, lock_retries=0)
    assert migration(shop).run("pg_publication")["changed"]


def test_it_waits_for_older_transactions_and_names_them(shop: Any) -> None:
    migration(shop).run("pg_replica_identity")
    with shop.source.connect(application_name="old transaction") as old, old.transaction():
        old.execute("CREATE TABLE other.mine (a int)")
        with pytest.raises(ModuleFailed, match="old transaction"):
            migration(shop).run("pg_publication", wait_timeout=1)
        assert members(shop) == []
    assert migration(shop).run("pg_publication")["changed"]


def copied(shop: Any, *, found_empty: bool) -> None:
    shop.destination.sql.execute(
        "INSERT INTO causeway.table_copy (migration, relation, schema_name, table_name, state, mark, found_empty)"
        " VALUES ('orders', %s, 'sales', 'orders', 'complete', '0/1', %s)",
        [shop.source.value("SELECT 'sales.orders'::regclass::oid"), found_empty],
    )


def test_a_table_taken_out_after_its_copy_is_published_and_copied_again(shop: Any) -> None:
    migration(shop).run("pg_replica_identity")
    migration(shop).run("pg_publication")
    copied(shop, found_empty=True)
    shop.source.run("ALTER PUBLICATION causeway_orders DROP TABLE sales.orders")
    results = migration(shop).four_beats("pg_publication")
    assert any("sales.orders" in warning for warning in results[1]["warnings"])
    assert members(shop) == WANTED
    assert shop.destination.value("SELECT state FROM causeway.table_copy") == "copying"


def test_a_table_taken_out_whose_rows_are_not_ours_alone_is_a_loss(shop: Any) -> None:
    migration(shop).run("pg_replica_identity")
    migration(shop).run("pg_publication")
    copied(shop, found_empty=False)
    shop.source.run("ALTER PUBLICATION causeway_orders DROP TABLE sales.orders")
    with pytest.raises(ModuleFailed) as failed:
        migration(shop).run("pg_publication")
    assert failed.value.result["error"]["code"] == "would_lose_rows"
    assert shop.destination.value("SELECT state FROM causeway.table_copy") == "complete"


def test_an_unlogged_table_is_refused_by_name(shop: Any) -> None:
    shop.source.run("CREATE UNLOGGED TABLE sales.scratch (id int PRIMARY KEY)")
    with pytest.raises(ModuleFailed, match=r"sales\.scratch.*unlogged"):
        migration(shop).run("pg_publication")


def test_nothing_is_done_without_incremental(shop: Any) -> None:
    assert not migration(shop, types=["schema", "full"]).run("pg_publication")["changed"]
    assert shop.source.value("SELECT to_regnamespace('causeway')") is None


def test_a_removal_does_not_wait_without_bound(shop: Any) -> None:
    migration(shop).run("pg_replica_identity")
    migration(shop).run("pg_publication")
    narrower = Migration(
        "orders", shop.source.endpoint, shop.destination.endpoint, [{"schema": "sales", "exclude": ["orders"]}]
    )
    with shop.source.connect(application_name="long vacuum") as busy, busy.transaction():
        busy.execute("LOCK TABLE sales.orders IN SHARE UPDATE EXCLUSIVE MODE")
        process = narrower.start("pg_publication", lock_timeout=1, lock_retries=0)
        with pytest.raises(ModuleFailed, match="long vacuum"):
            narrower.finish("pg_publication", process, timeout=20)
    assert narrower.run("pg_publication")["changed"]


def test_a_new_partition_without_a_key_does_not_stop_the_application(shop: Any) -> None:
    """Published through its root it would have no identity, and the source would refuse UPDATE and DELETE on it."""
    shop.source.run(
        "CREATE TABLE sales.bare (a int, b int) PARTITION BY RANGE (a);"
        "CREATE TABLE sales.bare_1 PARTITION OF sales.bare FOR VALUES FROM (0) TO (9)"
    )
    wanted = sorted([*WANTED, "sales.bare_1"])
    migration(shop).run("pg_replica_identity")
    migration(shop).run("pg_publication")
    assert members(shop) == wanted
    shop.source.run(
        "CREATE TABLE sales.bare_2 PARTITION OF sales.bare FOR VALUES FROM (9) TO (20);"
        "CREATE TABLE sales.part_2 PARTITION OF sales.part FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');"
        "INSERT INTO sales.bare VALUES (1, 1), (10, 1); INSERT INTO sales.part VALUES (1, '2026-02-02');"
        "UPDATE sales.bare SET b = 2; DELETE FROM sales.bare; UPDATE sales.part SET id = 2"
    )
    migration(shop).run("pg_replica_identity")
    migration(shop).four_beats("pg_publication")
    assert members(shop) == sorted([*wanted, "sales.bare_2"])
    # what the publication names is decided once
    shop.source.run("ALTER TABLE sales.bare ADD PRIMARY KEY (a); ALTER TABLE sales.part DROP CONSTRAINT part_pkey")
    assert not migration(shop).run("pg_publication")["changed"]
