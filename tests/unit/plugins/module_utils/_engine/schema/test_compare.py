# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which objects are missing, and in which section each is made."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import MismatchError
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.objects.mapping import (
    IDENTITY,
    ColumnMapping,
    DestinationName,
    ObjectMapping,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.objects.rules import SchemaRule
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.objects.selection import Selection
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres.catalog import Table
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.schema.compare import (
    Comparison,
    compare,
    refuse_conflicts,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.schema.inventory import (
    DatabaseObject,
    Inventory,
    Relation,
    Schema,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.schema.toc import Entry

CLASS, CONSTRAINT, REWRITE, NAMESPACE = 1259, 2606, 2618, 2615


def thing(
    class_oid: int, oid: int, identity: str, table: str = "", detail: str = "", target: str = ""
) -> DatabaseObject:
    relation = ("s", table) if table else ("", "")
    return DatabaseObject(class_oid, oid, identity, relation, identity, detail, ("s", target) if target else ("", ""))


THINGS = (
    thing(NAMESPACE, 1, "s"),
    thing(CLASS, 10, "s.a", "a", "r"),
    thing(CLASS, 11, "s.b", "b", "r"),
    thing(CONSTRAINT, 20, "a_pkey on s.a", "a", "p valid"),
    thing(CONSTRAINT, 21, "no_overlap on s.a", "a", "x valid"),
    thing(CLASS, 22, "s.by_name", "a", ""),
    thing(CLASS, 23, "s.once", "a", "unique"),
    thing(CLASS, 30, "s.v", "v", "v"),
    thing(REWRITE, 31, '"_RETURN" on s.v', "v", "O"),
    thing(CLASS, 32, "s.grouped", "grouped", "populated"),
    thing(CONSTRAINT, 40, "to_b on s.a", "a", "f valid", "b"),
    thing(CONSTRAINT, 41, "to_gone on s.a", "a", "f valid", "gone"),
)


def entry(number: int, kind: str, tag: str, class_oid: int = 0, oid: int = 0, needs: tuple[int, ...] = ()) -> Entry:
    return Entry(number, class_oid, oid, needs, kind, "" if kind == "SCHEMA" else "s", tag, "us", f"MAKE {tag};")


ENTRIES = (
    entry(1, "SCHEMA", "s", NAMESPACE, 1),
    entry(2, "TABLE", "a", CLASS, 10, (1,)),
    entry(3, "COMMENT", "TABLE a", needs=(2,)),
    entry(4, "TABLE", "b", CLASS, 11, (1,)),
    entry(5, "VIEW", "v", CLASS, 30, (2,)),
    entry(6, "CONSTRAINT", "a a_pkey", CONSTRAINT, 20, (2,)),
    entry(7, "CONSTRAINT", "a no_overlap", CONSTRAINT, 21, (2,)),
    entry(8, "INDEX", "by_name", CLASS, 22, (2,)),
    entry(9, "INDEX", "once", CLASS, 23, (2,)),
    entry(10, "COMMENT", "INDEX by_name", needs=(8,)),
    entry(11, "RULE", "v _RETURN", REWRITE, 31, (2, 6)),
    entry(12, "MATERIALIZED VIEW", "grouped", CLASS, 32, (2, 6)),
    entry(13, "FK CONSTRAINT", "a to_b", CONSTRAINT, 40, (2, 4)),
    entry(14, "FK CONSTRAINT", "a to_gone", CONSTRAINT, 41, (2,)),
    entry(15, "PUBLICATION TABLE", "p a", needs=(2,)),
)


def standing(end: str, things: Iterable[DatabaseObject], *, key: bool = False) -> Inventory:
    found = tuple(things)
    names = {t.relation: t.detail for t in found if t.class_oid == CLASS and t.own_name == f"s.{t.relation[1]}"}
    return Inventory(
        end="source" if end == "source" else "destination",
        version=170000,
        user="us",
        things={(t.class_oid, t.oid): t for t in found},
        details={t.key: t.detail for t in found},
        relations={n: Relation(n, kind, False, False, False, key, False) for n, kind in names.items()},
        roles=frozenset({"us"}),
        schemas={"s": Schema(True, frozenset())},
    )


def table(oid: int, name: str) -> Table:
    return Table(oid, "s", name, "r", "p", "us", "d", "", (), False, 1, 1.0, 1, (), ())


def selection(*tables: str, whole: bool = True) -> Selection:
    found = tuple(table(10 + number, name) for number, name in enumerate(("a", "b")) if name in tables)
    rule = SchemaRule("s", () if whole else tables)
    return Selection((rule,), ("s",) if whole else (), found, (), ())


def compared(there: Iterable[DatabaseObject], *, made: Iterable[str] = (), key: bool = False) -> Comparison:
    return compare(
        ENTRIES,
        standing("source", THINGS),
        standing("destination", there, key=key),
        selection("a", "b"),
        IDENTITY,
        {DestinationName(("s", name)) for name in made},
        first=True,
    )


def names(comparison: Comparison) -> dict[str, list[str]]:
    return {section: [m.entry.tag for m in found] for section, found in comparison.missing.items()}


def test_an_empty_destination_lacks_all_each_in_its_section() -> None:
    comparison = compared([])
    assert names(comparison) == {
        "pre_data": ["s", "a", "TABLE a", "b", "v"],
        "keys": ["a a_pkey", "once", "grouped"],
        "indexes": ["a no_overlap", "by_name", "INDEX by_name", "v _RETURN"],
        "foreign_keys": ["a to_b"],
    }
    assert [t.identity for t in comparison.dangling] == ["to_gone on s.a"]


def test_a_whole_destination_lacks_nothing_whatever_its_oids_and_quotes() -> None:
    there = [
        DatabaseObject(
            t.class_oid, t.oid + 5000, t.identity.replace('"', ""), t.relation, t.own_name, t.detail, t.target
        )
        for t in THINGS
    ]
    comparison = compared(there, made=["a", "b"], key=True)
    assert not any(comparison.missing.values())
    assert comparison.kept == ()


def test_a_view_that_is_still_a_shell_gets_its_query() -> None:
    shell = thing(REWRITE, 31, '"_RETURN" on s.v', "v", "shell")
    there = [t for t in THINGS if t.class_oid != REWRITE] + [shell]
    assert names(compared(there, made=["a", "b"], key=True))["indexes"] == ["v _RETURN"]


def test_a_table_with_another_primary_key_gets_no_second_one() -> None:
    there = [t for t in THINGS if t.identity in ("s", "s.a", "s.b")]
    assert "a a_pkey" not in names(compared(there, key=True))["keys"]
    assert "a a_pkey" in names(compared(there, key=False))["keys"]


def test_a_table_that_is_not_ours_is_named() -> None:
    comparison = compared([t for t in THINGS if t.identity in ("s", "s.a", "s.b")], made=["b"])
    assert comparison.kept == (("s", "a"),)
    with pytest.raises(MismatchError, match=r"s\.a"):
        refuse_conflicts(comparison.kept)
    refuse_conflicts(())


def test_a_selected_table_brings_what_it_needs_and_what_is_its_own() -> None:
    source = standing("source", THINGS)
    there = standing("destination", [])
    only_a = compare(ENTRIES, source, there, selection("a", whole=False), IDENTITY, frozenset(), first=True)
    assert names(only_a) == {
        "pre_data": ["s", "a", "TABLE a"],
        "keys": ["a a_pkey", "once"],
        "indexes": ["a no_overlap", "by_name", "INDEX by_name"],
        "foreign_keys": [],
    }
    assert {t.identity for t in only_a.dangling} == {"to_b on s.a", "to_gone on s.a"}


MAPPED = ObjectMapping(
    schemas={"s": "d"}, relations={("s", "a"): ("d", "x")}, columns={("s", "a"): {"n": ColumnMapping("m")}}
)


@pytest.mark.parametrize(
    ("here", "there"),
    [
        (thing(NAMESPACE, 1, "s"), "d"),
        (thing(CLASS, 10, "s.a", "a", "r"), "d.x"),
        (thing(CLASS, 11, "s.b", "b", "r"), "d.b"),
        (thing(CONSTRAINT, 20, '"a_pkey" on s.a', "a", "p valid"), "a_pkey on d.x"),
        (thing(CLASS, 22, "s.by_name", "a", ""), "d.by_name"),
        (thing(2604, 50, "for s.a.n", "a"), "for d.x.m"),
        (thing(1247, 60, "s.mood"), "d.mood"),
        (thing(1247, 61, "other.mood"), "other.mood"),
    ],
)
def test_an_object_is_looked_for_under_the_name_that_it_is_mapped_to(here: DatabaseObject, there: str) -> None:
    assert here.key_there(MAPPED) == f"{here.class_oid} {there}"
    assert here.key_there(IDENTITY) == here.key


def test_the_comparison_finds_the_mapped_table() -> None:
    things = [
        dataclasses.replace(thing(CLASS, 10, "d.x", "x", "r"), relation=("d", "x"), own_name="d.x"),
        thing(NAMESPACE, 1, "d"),
    ]
    there = dataclasses.replace(
        standing("destination", things),
        relations={("d", "x"): Relation(("d", "x"), "r", False, False, False, False, False)},
    )
    found = compare(ENTRIES, standing("source", THINGS), there, selection("a", "b"), MAPPED, frozenset(), first=True)
    assert found.kept == (("s", "a"),)
    assert names(found)["pre_data"] == ["b", "v"]
    made = frozenset({DestinationName(("d", "x"))})
    again = compare(ENTRIES, standing("source", THINGS), there, selection("a", "b"), MAPPED, made, first=True)
    assert again.kept == ()
