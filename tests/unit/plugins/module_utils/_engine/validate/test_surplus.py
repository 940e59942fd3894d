# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which tables of the destination are not where the source has them, over catalogs that no server has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from unit.plugins.module_utils._engine.catalog_values import table

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.objects.mapping import (
    IDENTITY,
    ObjectMapping,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.objects.selection import Selection
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres.catalog import Catalog, Table
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.state.copies import TableCopy
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.validate.surplus import (
    gone_tables,
    misplaced_partitions,
)

ROOT = table(1, "r", kind="p")
LEAF = table(2, "r1", parents=(1,), is_partition=True)
INNER = table(3, "r2", kind="p", parents=(1,), is_partition=True)
BELOW = table(4, "r2a", parents=(3,), is_partition=True)
PLAIN = table(5, "plain")
ALL = (ROOT, LEAF, INNER, BELOW, PLAIN)


def catalog(end: Any, tables: Iterable[Table]) -> Catalog:
    return Catalog(end, {entry.oid: entry for entry in tables}, {}, {})


def misplaced(here: Iterable[Table], there: Iterable[Table], mapping: ObjectMapping = IDENTITY) -> dict[str, list[str]]:
    here = tuple(here)
    found = misplaced_partitions(
        Selection((), (), here, (), ()), catalog("source", here), mapping, catalog("destination", there)
    )
    return {".".join(name): statements for name, statements in found.items()}


def gone(here: Iterable[Table], there: Iterable[Table], *copied: Table, mapping: ObjectMapping = IDENTITY) -> list[str]:
    copies = [TableCopy(one.oid, one.qualified_name, "complete", True, 1, 1, 0, 0) for one in copied]
    return list(gone_tables(copies, catalog("source", here), mapping, catalog("destination", there)).values())


def test_alike() -> None:
    assert misplaced(ALL, ALL) == {} and gone(ALL, ALL, LEAF, BELOW, PLAIN) == []


def test_a_leaf_that_is_gone_is_dropped() -> None:
    here = (ROOT, INNER, BELOW, PLAIN)
    assert misplaced(here, ALL) == {"s.r1": ["DROP TABLE s.r1"]}
    assert gone(here, ALL, LEAF, BELOW) == ["DROP TABLE s.r1"]


def test_a_leaf_that_is_a_table_of_its_own_now_is_detached() -> None:
    alone = table(2, "r1")
    assert misplaced((ROOT, alone), (ROOT, LEAF)) == {"s.r1": ["ALTER TABLE s.r DETACH PARTITION s.r1"]}
    assert gone((ROOT, alone), (ROOT, LEAF), LEAF) == []


def test_an_inner_root_that_is_gone_goes_with_what_is_below_it() -> None:
    assert misplaced((ROOT, LEAF), (ROOT, LEAF, INNER, BELOW)) == {"s.r2": ["DROP TABLE s.r2"]}
    assert gone((ROOT, LEAF), (ROOT, LEAF, INNER, BELOW), LEAF, BELOW) == []


def test_a_table_that_the_source_has_attached_is_attached() -> None:
    attached = table(5, "plain", parents=(1,), is_partition=True)
    ((statement,),) = misplaced((ROOT, attached), (ROOT, PLAIN)).values()
    assert statement.startswith("ALTER TABLE s.r ATTACH PARTITION s.plain")


def test_a_leaf_that_went_to_another_root_is_detached_first() -> None:
    other, leaf = table(8, "q", kind="p"), table(2, "r1", parents=(8,), is_partition=True)
    (statements,) = misplaced((ROOT, other, leaf), (ROOT, other, LEAF)).values()
    assert [statement.split()[3] for statement in statements] == ["DETACH", "ATTACH"]


def test_a_partition_that_is_not_selected_but_there_at_both_ends_is_no_matter() -> None:
    """Another migration may move it."""
    selection = Selection((), (), (ROOT,), (), ())
    assert misplaced_partitions(selection, catalog("source", ALL), IDENTITY, catalog("destination", ALL)) == {}


def test_a_table_that_was_copied_and_is_gone_is_named_while_the_destination_has_it() -> None:
    assert gone((LEAF,), (LEAF, PLAIN), PLAIN) == ["DROP TABLE s.plain"]
    assert gone((LEAF,), (LEAF,), PLAIN) == []
    assert gone((LEAF,), (LEAF, PLAIN)) == [], "a table of the destination's own"


def test_a_table_that_is_not_selected_any_more_is_not_gone() -> None:
    assert gone((LEAF, PLAIN), (LEAF, PLAIN), PLAIN) == []


@pytest.mark.parametrize(
    ("now", "statement"),
    [
        (table(5, "Plain"), 'ALTER TABLE s.plain RENAME TO "Plain"'),
        (table(5, "plain", "z"), "ALTER TABLE s.plain SET SCHEMA z"),
        (table(5, "p", "z"), "ALTER TABLE s.plain SET SCHEMA z; ALTER TABLE z.plain RENAME TO p"),
    ],
)
def test_a_table_that_was_renamed_is_renamed_and_never_dropped(now: Table, statement: str) -> None:
    assert gone((now,), (PLAIN,), PLAIN) == [statement]


def test_names_are_the_destination_s() -> None:
    mapping = ObjectMapping(relations={("s", "r"): ("z", "Roots"), ("s", "r1"): ("z", "Leaf")})
    there = (table(8, "Roots", "z", kind="p"), table(9, "Leaf", "z", parents=(8,), is_partition=True))
    assert misplaced((ROOT, LEAF), there, mapping) == {}
    assert misplaced((ROOT,), there, mapping) == {"z.Leaf": ['DROP TABLE z."Leaf"']}
