# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The statements for the publication, and the tables that each of them locks."""

from __future__ import annotations

from unit.plugins.module_utils._engine.catalog_values import table

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.capture import publication_ddl
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.capture.under_lock import Locked
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres.catalog import Catalog, Table

OPTIONS = "WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = false)"
READERS = ("AccessShareLock", "RowShareLock")
WRITERS = ("AccessShareLock", "RowShareLock", "RowExclusiveLock")


def catalog(*tables: Table) -> Catalog:
    return Catalog("source", {one.oid: one for one in tables}, {}, {})


def statements(locked: Locked) -> list[str]:
    return [statement.as_string(None) for statement in locked.change.statements]


def test_it_is_created_for_exactly_these_tables() -> None:
    made = publication_ddl.create_statement("causeway_shop", [("public", "orders"), ("causeway", "heartbeat")], 170000)
    assert made.as_string(None) == (
        'CREATE PUBLICATION "causeway_shop" FOR TABLE ONLY "public"."orders", ONLY "causeway"."heartbeat" ' + OPTIONS
    )


def test_names_are_quoted() -> None:
    longest = "ä" * 31 + "x"  # 63 bytes
    made = publication_ddl.create_statement('p"q', [('größe "1"', "a.b"), ("S", longest)], 170000)
    assert made.as_string(None) == (
        f'CREATE PUBLICATION "p""q" FOR TABLE ONLY "größe ""1"""."a.b", ONLY "S"."{longest}" {OPTIONS}'
    )


def test_a_table_is_locked_before_it_is_added() -> None:
    orders = table(7, 'or"ders')
    added = publication_ddl.addition(catalog(orders), "causeway_shop", orders, {})
    assert statements(added) == [
        'LOCK TABLE ONLY "s"."or""ders" IN SHARE ROW EXCLUSIVE MODE',
        'ALTER PUBLICATION "causeway_shop" ADD TABLE ONLY "s"."or""ders"',
    ]
    assert (added.relations, added.harmless) == ((7,), READERS)
    change = added.change
    assert (change.place, change.before, change.after) == ("source", None, "published")
    assert change.what == 's."or""ders" in publication causeway_shop'


def test_all_partitions_of_a_table_are_locked_and_it_alone_is_added() -> None:
    whole = table(1, "whole", kind="p")
    old, new = table(2, "old", parents=(1,), is_partition=True), table(3, "new", "z", kind="p", parents=(1,))
    newest = table(4, "newest", "a", parents=(3,), is_partition=True)
    other = table(5, "other")
    everything = catalog(whole, old, new, newest, other)
    added = publication_ddl.addition(everything, "causeway_shop", whole, everything.children())
    assert statements(added) == [
        'LOCK TABLE ONLY "a"."newest", ONLY "s"."old", ONLY "s"."whole", ONLY "z"."new" IN SHARE ROW EXCLUSIVE MODE',
        'ALTER PUBLICATION "causeway_shop" ADD TABLE ONLY "s"."whole"',
    ]
    assert sorted(added.relations) == [1, 2, 3, 4]


def test_tables_that_inherit_from_an_ordinary_one_are_not_locked_with_it() -> None:
    parent, child = table(1, "parent"), table(2, "child", parents=(1,))
    everything = catalog(parent, child)
    assert publication_ddl.addition(everything, "p", parent, everything.children()).relations == (1,)


def test_a_table_is_removed_without_a_lock_of_its_own() -> None:
    removed = publication_ddl.removal("causeway_shop", 9, ("Größe", "t"))
    assert statements(removed) == ['ALTER PUBLICATION "causeway_shop" DROP TABLE ONLY "Größe"."t"']
    assert (removed.relations, removed.harmless) == ((9,), WRITERS)
    change = removed.change
    assert (change.place, change.before, change.after) == ("source", "published", None)
    assert change.what == '"Größe".t in publication causeway_shop'
