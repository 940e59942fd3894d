# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The selection: what a migration moves, by the `objects` of its spec and the source's catalog.

Compiled once and used by all: publication, schema, copy, CDC, sequences, validation, fence.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass

from ..errors import SpecError
from ..postgres.catalog import Catalog, Sequence, Table, qualified, quoted
from .rules import SchemaRule, patterns


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a selection cannot be what was intended; ``check`` is the id of the precheck that reports it."""

    check: str
    what: str
    why: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Selection:
    """The selected objects of one source catalog, in a fixed order (by schema and name).

    ``tables`` holds partitioned roots and their partitions alike; ``schemas`` those selected whole, whose views,
    functions and types come along.
    """

    rules: tuple[SchemaRule, ...]
    schemas: tuple[str, ...]
    tables: tuple[Table, ...]
    sequences: tuple[Sequence, ...]
    problems: tuple[Problem, ...]

    @property
    def written(self) -> tuple[Table | Sequence, ...]:
        """Return all that the application writes to: the tables, and the sequences that it draws from."""
        return (*self.tables, *self.sequences)

    @property
    def leaves(self) -> tuple[Table, ...]:
        """Return the tables that hold rows: those that are copied, streamed and compared."""
        return tuple(table for table in self.tables if table.holds_rows)

    def published(self, members: Collection[int] = (), *, by_roots: bool = True) -> tuple[Table, ...]:
        """Return the tables that the publication names. ``members`` are the OIDs that it names already, since root or
        partitions is decided once and never altered.

        A partitioned table with a primary key is named for its partitions, future ones included: they have the key. For
        one without a key its partitions are named: a future partition would be published without an identity, and the
        source would refuse the application's UPDATE and DELETE on it. The same where ``by_roots`` is false, for a server
        that takes no partitioned table.
        """
        below: dict[int, list[Table]] = {}
        for table in self.tables:
            for parent in table.parents if table.is_partition else ():
                below.setdefault(parent, []).append(table)
        selected = {table.oid for table in self.tables}
        named: list[Table] = []
        for root in self.tables:
            if root.is_partition and any(parent in selected for parent in root.parents):
                continue
            leaves, todo = [], [root]
            while todo:
                found = todo.pop()
                todo += below.get(found.oid, [])
                leaves += [found] if found.holds_rows else []
            keyed = any(key.primary for key in root.keys)
            by_leaves = root.oid not in members and (
                not (keyed and by_roots) or any(leaf.oid in members for leaf in leaves)
            )
            named += leaves if root.kind == "p" and by_leaves else [root]
        return tuple(sorted(named, key=lambda table: table.qualified_name))

    def require(self) -> None:
        """Raise SpecError for the first problem."""
        for problem in self.problems:
            raise SpecError("reading the objects of the migration", problem.what, problem.why, problem.remedy)


def select(rules: tuple[SchemaRule, ...], catalog: Catalog) -> Selection:
    """Apply the rules to a catalog. Never raises: errors are returned as Problems, which precheck shows all at once."""
    problems: list[Problem] = []
    chosen: dict[int, Table] = {}
    excluded: set[int] = set()
    by_schema: dict[str, dict[str, Table]] = {}
    for table in catalog.tables.values():
        by_schema.setdefault(table.schema, {})[table.name] = table
    for rule in rules:
        in_schema = by_schema.get(rule.schema, {})
        if rule.schema not in catalog.schemas:
            problems.append(_missing(quoted(rule.schema), "the source has no schema of that name"))
        problems.extend(
            _missing(qualified((rule.schema, pattern)), "it matches no table of the source")
            for pattern in rule.tables
            if pattern not in in_schema and not any(map(patterns((pattern,)).match, in_schema))
        )
        wanted, unwanted = patterns(rule.tables), patterns(rule.exclude)
        for name, table in in_schema.items():
            if unwanted.match(name):
                excluded.add(table.oid)
            elif rule.whole or wanted.match(name):
                chosen[table.oid] = table
    _complete_partitions(catalog, chosen, excluded, problems)
    whole = {rule.schema for rule in rules if rule.whole and rule.schema in catalog.schemas}
    ruled: dict[str, list[SchemaRule]] = {}
    for rule in rules:
        ruled.setdefault(rule.schema, []).append(rule)
    sequences = [s for s in catalog.sequences.values() if _takes_sequence(s, chosen, whole, ruled.get(s.schema, ()))]
    if not chosen and not sequences and not whole:
        problems.append(
            Problem("nothing_selected", "objects", "they select nothing at the source", "Name a schema that exists.")
        )
    return Selection(
        rules=rules,
        schemas=tuple(sorted(whole)),
        tables=tuple(sorted(chosen.values(), key=lambda table: table.qualified_name)),
        sequences=tuple(sorted(sequences, key=lambda sequence: sequence.qualified_name)),
        problems=tuple(problems),
    )


def _missing(what: str, why: str) -> Problem:
    return Problem("pattern_matches_nothing", what, why, "Correct the name, or remove it from the objects.")


def _complete_partitions(
    catalog: Catalog, chosen: dict[int, Table], excluded: set[int], problems: list[Problem]
) -> None:
    """Add to each chosen partitioned table all its partitions; excluding one of them is a problem."""
    todo = [table for table in chosen.values() if table.kind == "p"]
    children = catalog.children() if todo else {}
    while todo:
        for child in children.get(todo.pop().oid, ()):
            if child.oid in excluded:
                problems.append(
                    Problem(
                        "partition_incomplete",
                        str(child),
                        "it is excluded, but the partitioned table that it belongs to is selected",
                        "Exclude the whole partitioned table, or none of its partitions.",
                    )
                )
            elif child.oid not in chosen:
                chosen[child.oid] = child
            if child.kind == "p":
                todo.append(child)
    for table in list(chosen.values()):
        orphan = [p for p in table.parents if table.is_partition and p not in chosen]
        if orphan:
            parent = catalog.tables.get(orphan[0])
            problems.append(
                Problem(
                    "partition_incomplete",
                    str(table),
                    f"it is a partition of {parent or 'a table'}, which is not selected",
                    "Select the partitioned table, and with it all partitions.",
                )
            )


def _takes_sequence(sequence: Sequence, chosen: Mapping[int, Table], whole: set[str], rules: Items[SchemaRule]) -> bool:
    """Return whether a sequence is selected: with the table that owns it, else with its schema, or with a table whose
    default draws from it: the dump includes it there, and a value drawn twice would be a row's key. ``rules`` are those
    of its schema."""
    if sequence.owner_table in chosen:
        return True
    if any(rule.leaves_out(sequence.name) for rule in rules):
        return False
    if any(table in chosen for table in sequence.drawn_by):
        return True
    return not sequence.owner_table and sequence.schema in whole
