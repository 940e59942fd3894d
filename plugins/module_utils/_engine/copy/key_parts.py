# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides which tables are cut by ranges of a key, and where: from the catalogs, and a sample of the table's values.

A copy of parts by key can be resumed after a crash, each part with its own snapshot LSN (`cdc.changes.part_marks`). That
needs a stream with the whole old row (identity FULL), and a destination without a unique index that could find a row
twice when it moves between two parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..postgres._psycopg import psycopg, sql
from ..postgres.catalog import Column, Table
from ..postgres.connect import explain_errors
from ..postgres.key_order import TYPE_NAMES, from_text
from ..postgres.key_ranges import KeyRange
from .transfer.parts import cut_by_key, in_order

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..migration import Migration
    from ..postgres.connect import Connection
    from .job import Job
    from .limits import Layout

CLUSTERED = 0.8
"""The least correlation of key and heap order at which ranges of the key are read about as fast as ranges of pages."""

_PAGES = 300
_PAGES_A_PART = 20
_MOST_PAGES = 2000


@dataclass(frozen=True, slots=True)
class Sampled:
    """Values of a column in the order of the heap, as integers of `key_order`."""

    values: Sequence[int]

    @property
    def clustered(self) -> bool:
        return abs(in_order(self.values)) >= CLUSTERED


def range_column(table: Table) -> Column | None:
    """Return the column whose ranges may be parts: the leading one of the key by which CDC finds the table's rows."""
    if not table.keys:
        return None
    best = min(table.keys, key=lambda index: (not index.primary, len(index.columns), index.name))
    column = next((column for column in table.columns if column.name == best.columns[0]), None)
    return column if column and column.type_oid in TYPE_NAMES and not column.generated else None


def may_resume(migration: Migration, source: Table, destination: Table, column: Column) -> bool:
    """Return whether the catalog allows parts of this table with different snapshot LSNs at the destination."""
    best = min(source.keys, key=lambda index: (not index.primary, len(index.columns), index.name))
    standing = {frozenset(index.columns) for index in destination.keys}
    return (
        migration.spec.incremental
        and source.replica_identity == "f"
        and (frozenset(best.columns) in standing or (not standing and "schema" in migration.spec.types))
        and all(column.name in index.columns for index in destination.unique_indexes)
    )


def excluded(destination: Connection, tables: Sequence[int]) -> set[int]:
    """Return the OIDs of the destination's tables with an exclusion constraint: it may compare any rows."""
    with explain_errors("looking for exclusion constraints at the", "destination"):
        rows = destination.execute(
            "SELECT DISTINCT conrelid::bigint FROM pg_catalog.pg_constraint WHERE contype = 'x'"
            " AND conrelid = ANY (%s::oid[])",
            (list(tables),),
        ).fetchall()
    return {row[0] for row in rows}


def cut_large(migration: Migration, jobs: Mapping[int, Job | None], layout: Layout) -> dict[int, Job | None]:
    """Return the jobs, with large tables cut by a key if that is configured and possible.

    ``auto``: if their copy can be resumed after a crash, and their rows lie in the order of the key.
    """
    part_size, part_by = layout.part_size, layout.part_by
    laid = dict(jobs)
    large = {oid: job for oid, job in jobs.items() if job is not None and job.heap > part_size and part_by != "ctid"}
    barred = excluded(migration.destination, [job.destination.oid for job in large.values()]) if large else set()
    for oid, job in large.items():
        column = range_column(job.source)
        if column is None:
            continue
        resumes = job.destination.oid not in barred and may_resume(migration, job.source, job.destination, column)
        key = KeyRange(column.name, column.type_oid) if resumes else None
        laid[oid] = replace(job, key=key)
        if part_by == "auto" and not resumes:
            continue
        count = -(-job.heap // part_size)
        sampled = sample(migration, job, column, count)
        if sampled is None or not sampled.values or (part_by == "auto" and not sampled.clustered):
            continue
        parts = cut_by_key(sampled.values, count, column.name, column.type_oid)
        if len(parts) > 1:
            laid[oid] = replace(job, key=key, parts=parts)
    return laid


def sample(migration: Migration, job: Job, column: Column, count: int) -> Sampled | None:
    """Return values of some pages of a table; None if it is locked at this moment, or was dropped."""
    pages = max(1, job.heap // int(migration.source_server.setting("block_size", "8192")))
    percent = min(100.0, 100.0 * min(max(_PAGES, _PAGES_A_PART * count), _MOST_PAGES) / pages)
    query = sql.SQL("SELECT {}::text FROM ONLY {} TABLESAMPLE SYSTEM ({})").format(
        sql.Identifier(column.name),
        sql.Identifier(job.source.schema, job.source.name),
        sql.Literal(percent),
    )
    gone = (psycopg.errors.LockNotAvailable, psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn)
    with explain_errors("looking at the key of table", str(job.source)):
        try:
            with migration.source.transaction():
                migration.source.execute("SET LOCAL lock_timeout = '1s'")
                rows = migration.source.execute(query).fetchall()
        except gone:
            return None
    return Sampled([from_text(column.type_oid, row[0].encode()) for row in rows if row[0] is not None])
