# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which tables of the destination are not where the source has them, over catalogs that no server has."""

from __future__ import annotations

from collections.abc import Iterable

from unit.plugins.module_utils._engine.catalog_values import table

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.objects.mapping import (
    IDENTITY,
    ObjectMapping,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.objects.selection import Selection
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres.catalog import Catalog, Table
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.validate.surplus import Misplaced, surplus

ROOT = table(1, "r", kind="p")
LEAF = table(2, "r1", parents=(1,), is_partition=True)
INNER = table(3, "r2", kind="p", parents=(1,), is_partition=True)
BELOW = table(4, "r2a", parents=(3,), is_partition=True)
PLAIN = table(5, "plain")
ALL = (ROOT, LEAF, INNER, BELOW, PLAIN)


def found(
    here: Iterable[Table], there: Iterable[Table], *copied: str, mapping: ObjectMapping = IDENTITY
) -> dict[str, Misplaced]:
    selection = Selection((), (), tuple(here), (), ())
    names = [mapping.there(("s", name)) for name in copied]
    answer = surplus(selection, names, mapping, Catalog("destination", {t.oid: t for t in there}, {}, {}))
    return {".".join(name): misplaced for name, misplaced in answer.items()}


def test_alike() -> None:
    assert found(ALL, ALL, "r1", "r2a", "plain") == {}


def test_a_leaf_that_is_gone_is_dropped_and_one_that_was_never_copied_detached() -> None:
    here = (ROOT, INNER, BELOW, PLAIN)
    assert found(here, ALL, "r1", "r2a") == {"s.r1": Misplaced("DROP TABLE s.r1")}
    assert found(here, ALL, "r2a") == {"s.r1": Misplaced("ALTER TABLE s.r DETACH PARTITION s.r1")}


def test_a_leaf_that_is_a_table_of_its_own_now_is_detached() -> None:
    alone = table(2, "r1")
    assert found((ROOT, alone), (ROOT, LEAF), "r1") == {"s.r1": Misplaced("ALTER TABLE s.r DETACH PARTITION s.r1")}


def test_an_inner_root_that_is_gone_goes_with_what_is_below_it() -> None:
    assert found((ROOT, LEAF), (ROOT, LEAF, INNER, BELOW), "r1", "r2a") == {"s.r2": Misplaced("DROP TABLE s.r2")}


def test_a_table_that_the_source_has_attached_is_attached() -> None:
    attached = table(5, "plain", parents=(1,), is_partition=True)
    (misplaced,) = found((ROOT, attached), (ROOT, PLAIN), "plain").values()
    assert misplaced.attach and misplaced.statement.startswith("ALTER TABLE s.r ATTACH PARTITION s.plain")


def test_a_table_that_was_copied_and_is_gone_is_named_while_the_destination_has_it() -> None:
    assert found((LEAF,), (LEAF, PLAIN), "plain") == {"s.plain": Misplaced("DROP TABLE s.plain")}
    assert found((LEAF,), (LEAF,), "plain") == {}
    assert found((LEAF,), (LEAF, PLAIN)) == {}, "a table of the destination's own is nobody's business"


def test_names_are_the_destination_s() -> None:
    mapping = ObjectMapping(relations={("s", "r"): ("z", "Roots"), ("s", "r1"): ("z", "Leaf")})
    there = (table(8, "Roots", "z", kind="p"), table(9, "Leaf", "z", parents=(8,), is_partition=True))
    assert found((ROOT, LEAF), there, "r1", mapping=mapping) == {}
    assert found((ROOT,), there, "r1", mapping=mapping) == {"z.Leaf": Misplaced('DROP TABLE z."Leaf"')}
