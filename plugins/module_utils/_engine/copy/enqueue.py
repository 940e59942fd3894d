# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Giving tables to a run: what an earlier one left of them stays or goes, and which tables of the destination may be
filled. Only a table that we found empty is ever emptied.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..errors import MismatchError
from ..objects.mapping import DestinationName
from ..postgres._psycopg import psycopg, sql
from ..postgres.catalog import Name, holding_rows, qualified
from ..postgres.connect import explain_errors
from ..postgres.lsn import Lsn
from ..state.store import lsn_text
from .queue import Job, part_of
from .transfer.parts import WHOLE, KeyRange, Part
from .transfer.source_reader import seen_now

if TYPE_CHECKING:
    from ..migration import Migration
    from ..objects.mapping import ObjectMapping
    from ..postgres.catalog import Table
    from ..postgres.connect import Connection
    from ..state.store import StateStore


@dataclass(frozen=True, slots=True)
class _Known:
    """What the rows of one table say before a run."""

    name: Name
    state: str
    found_empty: bool | None
    parts_done: int


def enqueue(
    store: StateStore, run: int, mark: Lsn, jobs: Sequence[Job], mapping: ObjectMapping, *, keep_foreign_rows: bool
) -> tuple[Job, ...]:
    """Give tables to a run, in one transaction: what an earlier run left of them is emptied, their parts are laid out.

    Returns the jobs that are to be done, biggest first, less those that turned out to be complete. Only a table that
    we found empty, and of which parts are done, is emptied. Raises MismatchError for a table that holds other rows,
    unless ``keep_foreign_rows`` (conflicting_tables: ignore) makes it a merge.
    """
    with explain_errors("preparing the copy of migration", store.name), store.conn.transaction():
        known = _lock_known(store, jobs)
        _take_back_moved(store, jobs, known, mapping)
        biggest_first = sorted(jobs, key=lambda job: (-job.size, job.source.qualified_name))
        open_jobs = [job for job in biggest_first if not is_complete(known.get(job.source.oid), job.source)]
        unknown = [job for job in open_jobs if not _is_ours(known.get(job.source.oid))]
        filled = holding_rows(store.conn, [job.destination.qualified_name for job in unknown])
        todo = [_admit(store.conn, job, known.get(job.source.oid), filled, keep_foreign_rows) for job in open_jobs]
        _write(store, run, mark, todo)
    with explain_errors("counting the parts of the copy of migration", store.name):
        # Nobody has, and without it whoever finishes a part may read all of its run to find it.
        for name in ("copy_part", "table_copy"):
            store.conn.execute(sql.SQL("ANALYZE {}").format(store.table(name)))
    return tuple(todo)


def is_complete(known: _Known | None, table: Table) -> bool:
    """Whether a table's rows all stand at the destination, under the name that it has now."""
    return known is not None and known.state == "complete" and known.name == table.qualified_name


def _lock_known(store: StateStore, jobs: Sequence[Job]) -> dict[int, _Known]:
    """What is known of these tables, and of others under whose names they stand now, by source OID.

    Locks the parts first and the tables then, as a finishing worker does: whoever is left over has ended after this.
    """
    conn, names = store.conn, {"part": store.table("copy_part"), "table": store.table("table_copy")}
    schemas, tables = zip(*(job.source.qualified_name for job in jobs), strict=True)
    relations = conn.execute(
        sql.SQL(
            "SELECT t.relation::bigint FROM {table} t WHERE t.migration = %s AND (t.relation = ANY (%s::oid[])"
            " OR (t.schema_name, t.table_name) IN (SELECT * FROM ROWS FROM (pg_catalog.unnest(%s::text[]),"
            " pg_catalog.unnest(%s::text[])) AS n))"
        ).format(**names),
        (store.name, [job.source.oid for job in jobs], list(schemas), list(tables)),
    ).fetchall()
    values = (store.name, [row[0] for row in relations])
    for name, order in (("part", "relation, part"), ("table", "relation")):
        conn.execute(
            sql.SQL("SELECT FROM {} WHERE migration = %s AND relation = ANY (%s::oid[]) ORDER BY {} FOR UPDATE").format(
                names[name], sql.SQL(order)
            ),
            values,
        )
    rows = conn.execute(
        sql.SQL(
            "SELECT t.relation::bigint, t.schema_name, t.table_name, t.state, t.found_empty,"
            "       (SELECT count(*) FROM {part} p WHERE (p.migration, p.relation) = (t.migration, t.relation)"
            "           AND p.state = 'done')"
            "  FROM {table} t WHERE t.migration = %s AND t.relation = ANY (%s::oid[])"
        ).format(**names),
        values,
    ).fetchall()
    return {row[0]: _Known((row[1], row[2]), row[3], row[4], row[5]) for row in rows}


def _take_back_moved(store: StateStore, jobs: Sequence[Job], known: dict[int, _Known], mapping: ObjectMapping) -> None:
    """A table that was renamed, or dropped and made anew, stands at the destination under a name that is, or may be,
    another table's by now: the rows that we copied there go first, and what is known of them."""
    present = {job.source.oid: job.source.qualified_name for job in jobs}
    for relation, found in list(known.items()):
        if present.get(relation) == found.name:
            continue
        if found.parts_done and not found.found_empty:
            raise MismatchError(
                "copying table",
                qualified(found.name),
                "it was copied into rows that stood there before, and was renamed or made anew at the source since",
                "Rename the destination's table, or release the migration and begin again.",
            )
        if found.parts_done:
            empty_table(store.conn, mapping.there(found.name))
        store.conn.execute(
            sql.SQL("DELETE FROM {} WHERE migration = %s AND relation = %s").format(store.table("table_copy")),
            (store.name, relation),
        )
        del known[relation]


def _is_ours(found: _Known | None) -> bool:
    """Whether all rows that stand in the destination's table are ours."""
    return found is not None and bool(found.found_empty and found.parts_done)


def _admit(conn: Connection, job: Job, found: _Known | None, filled: frozenset[Name], keep_foreign_rows: bool) -> Job:
    """Make sure that the destination's table may be filled, and say whether by copying or by merging. ``filled`` are the
    tables that hold rows which may be somebody's."""
    name = DestinationName(job.destination.qualified_name)
    if _is_ours(found):
        if not job.resumes:
            empty_table(conn, name)
        return job
    job = replace(job, resumes=False)
    if name not in filled:
        return job
    if not keep_foreign_rows:
        raise MismatchError(
            "copying table",
            str(job.source),
            "the destination's table holds rows that this migration did not copy",
            "Empty it or drop it, or set causeway_conflicting_tables: ignore to keep its rows.",
        )
    if not any(index.valid for index in job.destination.unique_indexes):
        raise MismatchError(
            "copying table",
            str(job.source),
            "the destination's table holds rows and has no key by which to tell what is missing",
            "Give it a primary key, or empty it.",
        )
    return replace(job, parts=WHOLE, merge=True, resumes=False)


def empty_table(conn: Connection, name: DestinationName) -> None:
    """Take away the rows that we copied; row by row where a foreign key forbids TRUNCATE. A missing table is empty."""
    table = sql.Identifier(*name)
    conn.execute("SET LOCAL session_replication_role = replica")
    try:
        with conn.transaction():
            conn.execute(sql.SQL("TRUNCATE ONLY {}").format(table))
    except psycopg.errors.FeatureNotSupported:
        conn.execute(sql.SQL("DELETE FROM ONLY {}").format(table))
    except psycopg.errors.UndefinedTable:
        pass


def _write(store: StateStore, run: int, mark: Lsn, jobs: Sequence[Job]) -> None:
    """The rows of the run's tables and parts; what stays of an earlier run keeps its own mark."""
    anew = [job.source.oid for job in jobs if not job.resumes]
    numbered = list(enumerate((job, part) for job in jobs for part in job.parts))
    with store.conn.cursor() as cursor:
        cursor.execute(
            sql.SQL("DELETE FROM {} WHERE migration = %s AND relation = ANY (%s::oid[])").format(
                store.table("copy_part")
            ),
            (store.name, anew),
        )
        cursor.executemany(
            sql.SQL(
                "INSERT INTO {} AS t (migration, relation, schema_name, table_name, state, found_empty, fingerprint, run,"
                " mark) VALUES (%s, %s, %s, %s, 'copying', %s, %s, %s, %s::pg_lsn) ON CONFLICT (migration, relation)"
                " DO UPDATE SET (schema_name, table_name, state, found_empty, fingerprint, run, mark, rows, bytes,"
                " started_at, finished_at) = (excluded.schema_name, excluded.table_name, excluded.state,"
                " excluded.found_empty, excluded.fingerprint, excluded.run, excluded.mark, 0, 0, NULL, NULL)"
            ).format(store.table("table_copy")),
            [
                (
                    *(store.name, job.source.oid, *job.source.qualified_name),
                    *(not job.merge, job.fingerprint or None, run, lsn_text(mark)),
                )
                for job in jobs
            ],
        )
        cursor.executemany(
            sql.SQL(
                "UPDATE {} SET run = %s, ordinal = %s, mark = %s::pg_lsn"
                " WHERE migration = %s AND relation = %s AND part = %s AND state = 'waiting'"
            ).format(store.table("copy_part")),
            [
                (run, ordinal, lsn_text(mark), store.name, job.source.oid, part.number)
                for ordinal, (job, part) in numbered
                if job.resumes
            ],
        )
        cursor.executemany(
            sql.SQL(
                "INSERT INTO {} (migration, relation, part, run, ordinal, first_page, end_page, key_column, key_type,"
                " key_from, key_to, mark, state) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s::pg_lsn, 'waiting')"
            ).format(store.table("copy_part")),
            [
                (store.name, job.source.oid, part.number, run, ordinal, *_bounds(part), lsn_text(mark))
                for ordinal, (job, part) in numbered
                if not job.resumes
            ],
        )


def _bounds(part: Part) -> tuple[int, int | None, str | None, int | None, int | None, int | None]:
    """first_page, end_page, key_column, key_type, key_from, key_to."""
    key = part.key
    ranged = (None, None, None, None) if key is None else (key.column, key.type_oid, key.low, key.high)
    return (part.first_page, part.end_page, *ranged)


def resume_parts(migration: Migration, jobs: Sequence[Job]) -> list[Job]:
    """The jobs, those that an earlier run has begun by the same key with the parts that it left.

    A table that was truncated, rewritten or altered since then begins anew: what stands of it is of another table.
    """
    keyed = [job for job in jobs if job.key is not None]
    left = left_parts(migration.store, [job.source.oid for job in keyed]) if keyed and migration.store.load() else {}
    found = []
    for job in jobs:
        if job.key is not None:
            lines = repr(seen_now(migration.source, job.source).lines)
            job = replace(job, fingerprint=hashlib.sha256(lines.encode()).hexdigest())
            earlier = left.get(job.source.oid)
            if earlier is not None and earlier.fingerprint == job.fingerprint and earlier.key == job.key:
                job = replace(job, parts=earlier.parts, resumes=True)
        found.append(job)
    return found


@dataclass(frozen=True, slots=True)
class _Left:
    """What an earlier run left of a table of which it has copied parts by a key."""

    fingerprint: str
    key: KeyRange
    parts: tuple[Part, ...]


def left_parts(store: StateStore, relations: Sequence[int]) -> Mapping[int, _Left]:
    """By source OID; only tables of which parts are done and parts are left."""
    with explain_errors("reading the parts that are left in the copy of migration", store.name):
        rows = store.conn.execute(
            sql.SQL(
                "SELECT t.relation::bigint, t.fingerprint, p.part, p.first_page, p.end_page, p.key_column,"
                " p.key_type::bigint, p.key_from, p.key_to FROM {table} t JOIN {part} p USING (migration, relation)"
                " WHERE t.migration = %s AND t.relation = ANY (%s::oid[]) AND t.state <> 'complete' AND t.found_empty"
                " AND t.fingerprint IS NOT NULL AND p.state = 'waiting' AND p.key_column IS NOT NULL"
                " AND EXISTS (SELECT FROM {part} d WHERE d.migration = t.migration AND d.relation = t.relation"
                "  AND d.state = 'done') ORDER BY t.relation, p.part"
            ).format(table=store.table("table_copy"), part=store.table("copy_part")),
            (store.name, list(relations)),
        ).fetchall()
    found: dict[int, _Left] = {}
    for relation, fingerprint, *row in rows:
        part = part_of(row)
        if part.key is not None:
            key = KeyRange(part.key.column, part.key.type_oid)
            earlier = found.get(relation, _Left(fingerprint, key, ()))
            found[relation] = replace(earlier, parts=(*earlier.parts, part))
    return found
