# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lays out what a run has to copy: the tables that are not complete, their sizes, and the parts of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import MismatchError
from ..objects.mapping import tables_there
from ..postgres._psycopg import psycopg, sql
from ..postgres.catalog import Name, Table, qualified
from ..postgres.connect import explain_errors
from ..state.copies import uncopied
from .job import Job
from .key_parts import cut_large
from .transfer.parts import cut

if TYPE_CHECKING:
    from ..migration import Migration
    from ..postgres.catalog import Catalog
    from ..postgres.connect import Connection
    from .limits import Layout


def unfinished(migration: Migration) -> list[Table]:
    """Return the selected tables that are not completely copied under their present name."""
    return uncopied(migration.selected().leaves, migration.copies())


def lay_out(migration: Migration, tables: Sequence[Table], layout: Layout, there: Catalog) -> dict[int, Job | None]:
    """Return a job for each table, cut into parts; None if the destination lacks the table that it is mapped to."""
    server = migration.source_server
    sizes = _sizes(migration.source, [table.oid for table in tables])
    block = int(server.setting("block_size", "8192"))
    by_name = tables_there(there)
    jobs: dict[int, Job | None] = {}
    for table in tables:
        destination = by_name.get(migration.mapping.there(table.qualified_name))
        heap, whole = sizes.get(table.oid, (0, 0))
        parts = cut(heap, block, layout.part_size, server.version)
        jobs[table.oid] = None if destination is None else Job(table, destination, parts, heap, whole)
    return cut_large(migration, jobs, layout)


def bytes_of(migration: Migration, tables: Sequence[Table]) -> int:
    """Return the bytes of these tables at the source, TOAST included."""
    return sum(whole for dummy, whole in _sizes(migration.source, [table.oid for table in tables]).values())


_SIZES = """
SELECT c.oid::bigint, {heap}, {heap} + {toast}
  FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_class t ON t.oid = c.reltoastrelid
 WHERE c.oid = ANY (%s::oid[])
"""
_EXACT = """CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_locks l WHERE l.relation = c.oid
                                AND l.mode = 'AccessExclusiveLock')
       THEN c.relpages * pg_catalog.current_setting('block_size')::bigint ELSE pg_catalog.pg_relation_size(c.oid) END"""
_COUNTED = "c.relpages * pg_catalog.current_setting('block_size')::bigint"
_TOAST = "coalesce(t.relpages, 0) * pg_catalog.current_setting('block_size')::bigint"


def _sizes(source: Connection, relations: Sequence[int]) -> dict[int, tuple[int, int]]:
    """Return by OID the bytes of the heap now, and the same with TOAST as last counted.

    pg_relation_size() waits for a session that alters the table: its last counted number of pages is used instead.
    """

    def ask(heap: str) -> dict[int, tuple[int, int]]:
        query = sql.SQL(_SIZES).format(heap=sql.SQL(heap), toast=sql.SQL(_TOAST))
        return {row[0]: (row[1], row[2]) for row in source.execute(query, (list(relations),)).fetchall()}

    with explain_errors("asking for the sizes of tables at the", "source"):
        try:
            with source.transaction():
                source.execute("SET LOCAL lock_timeout = '1s'")
                return ask(_EXACT)
        except psycopg.errors.LockNotAvailable:
            return ask(_COUNTED)


def missing_tables(names_missing: Sequence[Name]) -> MismatchError:
    """Return the error for tables that are missing at the destination."""
    listed = ", ".join(qualified(name) for name in names_missing[:5])
    more = f" and {len(names_missing) - 5} more" if len(names_missing) > 5 else ""
    return MismatchError(
        "copying table",
        f"{listed}{more}",
        "the destination has no table of that name",
        "Run the migrate playbook, whose schema phase creates it; with types [full] create it yourself.",
    )
