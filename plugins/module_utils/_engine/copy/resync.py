# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies complete tables again, because rows changed outside the stream, or were found to differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..errors import SpecError, StateError
from ..state.copies import reset_copies

if TYPE_CHECKING:
    from ..migration import Migration
    from ..postgres.catalog import Table


def tables_again(migration: Migration, names: Sequence[str]) -> tuple[Table, ...]:
    """Return the selected tables of these names (``schema.table``, quoted as PostgreSQL prints them, or as they are); for
    a partitioned table its partitions.

    Raises SpecError for a name that is not among them, StateError for a table that held rows before us.
    """
    selection = migration.selected()
    leaves = {table.oid: table for table in selection.leaves}
    found: dict[int, Table] = {}
    children = migration.source_catalog.children() if names else {}
    for name in names:
        named = [t for t in migration.source_catalog.tables.values() if name in (str(t), f"{t.schema}.{t.name}")]
        chosen = [leaves[oid] for oid in _with_all_below(named, children) if oid in leaves]
        if not chosen:
            raise SpecError(
                "reading the tables that are to be copied again",
                name,
                "no table of that name is part of the migration",
                "Name it with its schema, as in public.orders.",
            )
        found.update({table.oid: table for table in chosen})
    copies = migration.copies()
    foreign = [str(table) for oid, table in found.items() if oid in copies and copies[oid].found_empty is False]
    if foreign:
        raise StateError(
            "copying again table",
            ", ".join(foreign),
            "the destination's table held rows before this migration, which cannot be distinguished from ours",
            "Compare the two by hand; or release the migration, empty the table, and begin again.",
        )
    return tuple(found.values())


def _with_all_below(tables: Sequence[Table], children: Mapping[int, Sequence[Table]]) -> list[int]:
    """Return the OIDs of the tables and, of partitioned ones, of all partitions."""
    below = [table.oid for table in tables]
    for table in tables:
        if table.kind == "p":
            below += _with_all_below(children.get(table.oid, ()), children)
    return below


def reset(migration: Migration, tables: Sequence[Table]) -> None:
    """Forget that these tables are complete: the next run empties them, and retains none of their parts."""
    store = migration.store
    reset_copies(store, [table.oid for table in tables])
    store.event("copied", "tables are copied again", {"tables": [str(table) for table in tables][:50]})
