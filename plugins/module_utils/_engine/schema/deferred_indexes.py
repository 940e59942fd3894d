# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Unique and exclusion indexes that would find a row twice until CDC has passed their table's newest snapshot LSN.

A table that was copied in ranges of a key under several snapshots may hold a row in two of them, before and after an
update. An index on the column that separates the ranges separates the two as well; any other waits for the section that
is created when all changes since the copy have been applied.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..state.copies import columns_between_marks

if TYPE_CHECKING:
    from ..migration import Migration
    from ..postgres.catalog import Name, Table
    from .inventory import DatabaseObject
    from .toc import Entry

DeferredIndexes = Mapping["Name", frozenset[str]]
"""Type alias: by table, the names of its unique indexes that need not wait."""


def held_back(migration: Migration) -> DeferredIndexes:
    """Return the tables between snapshot LSNs, and those that they are partitions of, with the indexes not to wait."""
    if not migration.spec.incremental or migration.state() is None:
        return {}
    tables = migration.source_catalog.tables
    held: dict[Name, frozenset[str]] = {}
    for oid, column in columns_between_marks(migration.store).items():
        table = tables.get(oid)
        while table is not None:
            safe = frozenset(index.name for index in table.unique_indexes if column in index.columns)
            held[table.qualified_name] = safe & held.get(table.qualified_name, safe)
            table = _above(table, tables)
    return held


def _above(table: Table, tables: Mapping[int, Table]) -> Table | None:
    return tables.get(table.parents[0]) if table.is_partition and table.parents else None


def must_wait(entry: Entry, thing: DatabaseObject | None, held: DeferredIndexes) -> bool:
    """Return whether this object may be built only after CDC has passed the newest snapshot LSN. Pure."""
    if thing is None or thing.relation not in held:
        return False
    unique = (entry.kind == "CONSTRAINT" and thing.detail[:1] in ("p", "u", "x")) or (
        entry.kind == "INDEX" and thing.detail == "unique"
    )
    return unique and thing.own_name not in held[thing.relation]
