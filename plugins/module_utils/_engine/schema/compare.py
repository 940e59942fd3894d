# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the objects of the source's dump that the destination lacks, and the section that creates each. Pure.

No statement is tried and its error ignored: what is missing is known from both catalogs before anything is executed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ..errors import MismatchError
from ..postgres.catalog import Name, qualified
from .deferred_indexes import must_wait
from .inventory import one_line

if TYPE_CHECKING:
    from ..objects.mapping import DestinationName, ObjectMapping
    from ..objects.selection import Selection
    from .deferred_indexes import DeferredIndexes
    from .inventory import DatabaseObject, Inventory
    from .toc import Entry

Section = Literal["pre_data", "keys", "indexes", "foreign_keys"]

SECTIONS: tuple[Section, ...] = ("pre_data", "keys", "indexes", "foreign_keys")
"""In the order in which they are created: rows are copied between the first and the second, and an object that needs one
of a later section is created there too (a view grouped by a primary key)."""

NOT_MOVED = (
    "EVENT TRIGGER",
    "PUBLICATION",
    "SUBSCRIPTION",
    "MATERIALIZED VIEW DATA",
    "DATABASE",
    "EXTENSION",
    "ENCODING",
    "STDSTRINGS",
    "SEARCHPATH",
)
_LATE = ("STATISTICS", "TRIGGER", "RULE", "POLICY", "ROW SECURITY", "CHECK CONSTRAINT", "DEFAULT ACL")
_SCHEMA = "SCHEMA"


@dataclass(frozen=True, slots=True)
class MissingObject:
    """An entry that the destination lacks, with its row of the source's catalog (None: it has none of its own)."""

    entry: Entry
    thing: DatabaseObject | None
    stands: bool = False
    """The entry holds the grants of a schema that exists already: only those to named roles are added."""
    held: frozenset[str] = frozenset()
    """The grants (``role PRIVILEGE``) that this schema has already: they are not given a second time."""

    @property
    def what(self) -> str:
        """Return its kind and name, for display."""
        name = self.thing.identity if self.thing else f"{self.entry.schema}.{self.entry.tag}".lstrip(".")
        return f"{self.entry.kind.lower()} {name}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """The ``missing`` objects by section; ``kept`` are tables that existed at the destination and are not ours;
    ``dangling`` are foreign keys to tables that are neither selected nor at the destination."""

    entries: tuple[Entry, ...]
    missing: Mapping[Section, tuple[MissingObject, ...]]
    kept: tuple[Name, ...]
    dangling: tuple[DatabaseObject, ...]


def sections(entries: tuple[Entry, ...], source: Inventory, held: DeferredIndexes) -> dict[int, int]:
    """Return the number of the section of each entry, by ``dump_id``; entries that are not moved are left out."""
    found: dict[int, int] = {}
    for entry in entries:
        if not entry.kind.startswith(NOT_MOVED):
            waits = must_wait(entry, source.things.get((entry.class_oid, entry.oid)), held)
            own = len(SECTIONS) - 1 if waits else _own_section(entry, source)
            found[entry.dump_id] = max([own, *(found[need] for need in entry.needs if need in found)])
    return found


def _own_section(entry: Entry, source: Inventory) -> int:
    thing = source.things.get((entry.class_oid, entry.oid))
    detail = thing.detail if thing else ""
    if entry.kind == "FK CONSTRAINT":
        return 3
    if entry.kind == "CONSTRAINT":
        return 1 if detail[:1] in ("p", "u") else 2
    if entry.kind == "INDEX":
        return 1 if detail == "unique" else 2
    if entry.kind == "INDEX ATTACH":
        relation = source.relation((entry.schema, entry.tag))
        return 1 if relation and relation.unique else 2
    return 2 if entry.kind in _LATE else 0


def chosen(entries: tuple[Entry, ...], source: Inventory, selection: Selection) -> tuple[Entry, ...]:
    """Return the entries that the selection covers: whole schemas, and tables with all that they need and own."""
    whole = set(selection.schemas)
    names = {table.qualified_name for table in selection.tables} | {s.qualified_name for s in selection.sequences}
    by_id = {entry.dump_id: entry for entry in entries}
    keep: set[int] = set()
    for entry in entries:
        thing = source.things.get((entry.class_oid, entry.oid))
        own_schema = entry.tag if entry.kind == _SCHEMA else entry.schema
        if own_schema in whole or (thing is not None and thing.relation in names):
            keep.add(entry.dump_id)
    while True:
        before = len(keep)
        for entry in entries:
            if entry.dump_id in keep and entry.kind != "FK CONSTRAINT":
                # For a foreign key to a table that it leaves out, pg_dump prints the needs of that table.
                keep.update(need for need in entry.needs if need in by_id)
            if (entry.class_oid, entry.oid) == (0, 0) and _goes_with(entry, keep, by_id):
                keep.add(entry.dump_id)
        if len(keep) == before:
            return tuple(entry for entry in entries if entry.dump_id in keep)


def _goes_with(entry: Entry, keep: Collection[int], by_id: Mapping[int, Entry]) -> bool:
    """Return whether an entry goes with a chosen one, as a comment, grant or attachment; with a schema only its own."""
    needs = [by_id[need] for need in entry.needs if need in by_id]
    if entry.tag.startswith("SCHEMA "):
        return any(need.dump_id in keep for need in needs)
    return any(need.dump_id in keep for need in needs if need.kind != _SCHEMA)


def compare(
    entries: tuple[Entry, ...],
    source: Inventory,
    destination: Inventory,
    selection: Selection,
    mapping: ObjectMapping,
    made: Collection[DestinationName],
    *,
    first: bool,
    held: DeferredIndexes | None = None,
) -> Comparison:
    """Return what the destination lacks; each object is looked up under its mapped name (``mapping``).

    ``made`` are the tables that this migration created there, ``held`` those with indexes that have to wait for the last
    section (`held_back`).

    ``first`` says that this migration has not created its schema yet. Only then are the grants of an existing schema
    completed: later the operator may have revoked them on purpose.
    """
    wanted = chosen(entries, source, selection)
    number = sections(wanted, source, held or {})
    tables = {table.qualified_name for table in selection.tables}
    kept = {name for name in tables if destination.relation(there := mapping.there(name)) and there not in made}
    part_of_kept = _parts_of(kept, selection)

    def reachable(target: Name) -> bool:
        return target in tables or mapping.there(target) in destination.relations

    missing: dict[Section, list[MissingObject]] = {section: [] for section in SECTIONS}
    absent: set[int] = set()
    dangling = []
    schemas = {entry.dump_id: entry.tag for entry in wanted if entry.kind == _SCHEMA}
    for entry in wanted:
        thing = source.things.get((entry.class_oid, entry.oid))
        if entry.dump_id not in number or not entry.has_statement:
            continue
        if (entry.kind, _one_line(thing.relation if thing else (entry.schema, entry.tag))) in part_of_kept:
            continue
        granted = _held_grants(entry, schemas, source, destination, mapping) if first else None
        if granted is None and not _lacks(entry, thing, destination, mapping, absent):
            continue
        if entry.kind == "FK CONSTRAINT" and thing and not reachable(thing.target):
            dangling.append(thing)
            continue
        absent.add(entry.dump_id)
        missing[SECTIONS[number[entry.dump_id]]].append(
            MissingObject(entry, thing, granted is not None, granted or frozenset())
        )
    return Comparison(wanted, {s: tuple(found) for s, found in missing.items()}, tuple(sorted(kept)), tuple(dangling))


def _held_grants(
    entry: Entry, schemas: Mapping[int, str], source: Inventory, destination: Inventory, mapping: ObjectMapping
) -> frozenset[str] | None:
    """Return the grants on an existing schema of the destination, where it lacks some that an entry holds; else None.

    ``schemas`` are those of the dump, by ``dump_id``.
    """
    if entry.kind != "ACL" or not entry.tag.startswith("SCHEMA "):
        return None
    for schema in (schemas[need] for need in entry.needs if need in schemas):
        there = destination.schemas.get(mapping.schema(schema))
        if there and there.ours:
            known = {g for g in source.schemas[schema].grants if g.rpartition(" ")[0] in destination.roles}
            return there.grants if known - there.grants else None
    return None


def _parts_of(kept: Collection[Name], selection: Selection) -> set[tuple[str, Name]]:
    """Return (kind, name) of entries that belong to kept tables: a table that is not ours stays as it is."""
    parts = {(kind, name) for name in kept for kind in ("DEFAULT", "TABLE ATTACH")}
    named = {table.oid: table.qualified_name for table in selection.tables}
    for sequence in selection.sequences:
        if named.get(sequence.owner_table) in kept:
            parts.add(("SEQUENCE OWNED BY", sequence.qualified_name))
            if sequence.identity:
                parts.add(("SEQUENCE", sequence.qualified_name))
    return {(kind, _one_line(name)) for kind, name in parts}


def _one_line(name: Name) -> Name:
    return (one_line(name[0]), one_line(name[1]))


def _lacks(
    entry: Entry,
    thing: DatabaseObject | None,
    destination: Inventory,
    mapping: ObjectMapping,
    absent: Collection[int],
) -> bool:
    """Return whether the destination lacks one entry. ``absent`` are those before it that it lacks."""
    if thing is not None:
        detail = destination.details.get(thing.key_there(mapping))
        if entry.kind == "RULE" and detail is not None:
            # A view that needs a later object is created as an empty shell first; this rule sets its query.
            return detail == "shell"
        if entry.kind == "CONSTRAINT" and thing.detail.startswith("p"):
            relation = destination.relation(mapping.there(thing.relation))
            return not (relation and relation.has_primary_key)
        return detail is None
    relation = destination.relation(mapping.there((entry.schema, entry.tag)))
    if entry.kind in ("TABLE ATTACH", "INDEX ATTACH"):
        return relation is None or not relation.attached
    if entry.kind == "SEQUENCE OWNED BY":
        return relation is None or not relation.owned
    if entry.kind == "ROW SECURITY":
        return relation is None or not relation.row_security
    return any(need in absent for need in entry.needs)


def refuse_conflicts(kept: tuple[Name, ...]) -> None:
    """Raise MismatchError, naming the first of the tables that exist at the destination and are not ours."""
    if kept:
        others = f" (and {len(kept) - 1} more)" if len(kept) > 1 else ""
        raise MismatchError(
            "comparing the schemas of both ends: table",
            qualified(kept[0]) + others,
            "it already exists at the destination, and this migration did not create it",
            "Drop or rename it there, exclude it from the objects, or set conflicting_tables: ignore to keep its rows.",
        )
