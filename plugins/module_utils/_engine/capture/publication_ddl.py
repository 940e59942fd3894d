# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The statements that create and change the publication of a migration, with the locks that they wait for. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from ..plan import SqlChange
from ..postgres._psycopg import sql
from ..postgres.catalog import Catalog, Name, Table, qualified
from ..postgres.versions import has
from .under_lock import Locked

if TYPE_CHECKING:
    from psycopg.sql import Composed

    from ..postgres.connect import Connection

# ALTER PUBLICATION does not block readers and row lockers; its lock on a table conflicts with VACUUM and DDL.
_HARMLESS_TO_ADD = ("AccessShareLock", "RowShareLock")
HARMLESS_TO_ALTER = (*_HARMLESS_TO_ADD, "RowExclusiveLock")
"""VACUUM and ANALYZE hold locks that CREATE PUBLICATION waits for, as every DDL does."""


def _only(table: Name) -> Composed:
    return sql.SQL("ONLY {}").format(sql.Identifier(*table))


def create_statement(name: str, tables: Sequence[Name], server_version: int, *, generated: bool = False) -> Composed:
    """Return CREATE PUBLICATION for exactly these tables; every option that the server has is written out, since defaults
    may change. ``generated`` sends stored generated columns too."""
    truncate = ", truncate" if has(server_version, "publish = truncate") else ""
    options = f"publish = 'insert, update, delete{truncate}'"
    if has(server_version, "publish_via_partition_root"):
        options += ", publish_via_partition_root = false"
    if generated:
        options += ", publish_generated_columns = stored"
    members = sql.SQL(" FOR TABLE {}").format(sql.SQL(", ").join(map(_only, tables))) if tables else sql.SQL("")
    return sql.SQL("CREATE PUBLICATION {}{} WITH ({})").format(sql.Identifier(name), members, sql.SQL(options))


def generated_columns(name: str, after: Callable[[Connection], None]) -> Locked:
    """Return the change by which stored generated columns are sent too."""
    statement = sql.SQL("ALTER PUBLICATION {} SET (publish_generated_columns = stored)").format(sql.Identifier(name))
    change = SqlChange("source", f"generated columns in publication {name}", "left out", "sent", (statement,))
    return Locked((), change, HARMLESS_TO_ALTER, after)


def removal(name: str, oid: int, member: Name) -> Locked:
    """Return the removal of a table."""
    drop = sql.SQL("ALTER PUBLICATION {} DROP TABLE {}").format(sql.Identifier(name), _only(member))
    change = SqlChange("source", f"{qualified(member)} in publication {name}", "published", None, (drop,))
    return Locked((oid,), change, HARMLESS_TO_ALTER)


def with_descendants(table: Table, children: Mapping[int, Sequence[Table]]) -> tuple[int, ...]:
    """Return a table's OID and, for a partitioned one, those of all its partitions, in the order of their names."""
    found = {table.oid: table}
    todo = [table] if table.kind == "p" else []
    while todo:
        for child in children.get(todo.pop().oid, ()):
            if child.oid not in found:
                found[child.oid] = child
                todo.append(child)
    return tuple(found)


def addition(catalog: Catalog, name: str, table: Table, children: Mapping[int, Sequence[Table]]) -> Locked:
    """Return an addition that locks first: while transactions write it loses their later changes (before May 2025)."""
    oids = with_descendants(table, children)
    members = sorted(catalog.tables[oid].qualified_name for oid in oids)
    lock = sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(sql.SQL(", ").join(map(_only, members)))
    add = sql.SQL("ALTER PUBLICATION {} ADD TABLE {}").format(sql.Identifier(name), _only(table.qualified_name))
    change = SqlChange("source", f"{table} in publication {name}", None, "published", (lock, add))
    return Locked(oids, change, _HARMLESS_TO_ADD)
