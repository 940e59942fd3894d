# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Enqueues tables in a copy run: retains or truncates what an earlier run copied, and checks that the destination's
tables may be filled. Only a table that we found empty is ever emptied.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import MismatchError
from ..objects.mapping import DestinationName
from ..postgres._psycopg import psycopg, sql
from ..postgres.catalog import Name, holding_rows, qualified
from ..postgres.connect import explain_errors
from ..postgres.key_ranges import WHOLE
from ..postgres.lsn import Lsn
from ..state.copies import uncopied
from ..state.copy_queue import (
    LockedCopy,
    QueuedTable,
    analyze_queue,
    forget_copy,
    lock_copies,
    read_left_parts,
    write_queue,
)
from .job import Job
from .transfer.source_reader import seen_now

if TYPE_CHECKING:
    from ..migration import Migration
    from ..objects.mapping import ObjectMapping
    from ..postgres.connect import Connection
    from ..state.store import StateStore


def enqueue(
    store: StateStore, run: int, mark: Lsn, jobs: Sequence[Job], mapping: ObjectMapping, *, keep_foreign_rows: bool
) -> tuple[Job, ...]:
    """Add tables to a run, in one transaction: empty what an earlier run left of them, and store their parts.

    Return the jobs that remain, largest first, without tables that are complete already. Only a table that we found
    empty, and of which parts are done, is emptied. Raises MismatchError for a table that holds other rows, unless
    ``keep_foreign_rows`` (conflicting_tables: ignore) makes it a merge.
    """
    with explain_errors("preparing the copy of migration", store.name), store.conn.transaction():
        sources = [job.source for job in jobs]
        known = lock_copies(store, [source.oid for source in sources], [source.qualified_name for source in sources])
        _take_back_moved(store, jobs, known, mapping)
        left = {table.oid for table in uncopied(sources, known)}
        biggest_first = sorted(jobs, key=lambda job: (-job.size, job.source.qualified_name))
        open_jobs = [job for job in biggest_first if job.source.oid in left]
        unknown = [job for job in open_jobs if not _is_ours(known.get(job.source.oid))]
        filled = holding_rows(store.conn, [job.destination.qualified_name for job in unknown])
        todo = [_admit(store.conn, job, known.get(job.source.oid), filled, keep_foreign_rows) for job in open_jobs]
        write_queue(store, run, mark, [_queued(job) for job in todo])
    analyze_queue(store)
    return tuple(todo)


def _take_back_moved(
    store: StateStore, jobs: Sequence[Job], known: dict[int, LockedCopy], mapping: ObjectMapping
) -> None:
    """Delete the rows and the state of tables that were renamed, or dropped and recreated, since they were copied: their
    name at the destination may be another table's by now. Raises MismatchError for a table that held rows before us."""
    present = {job.source.oid: job.source.qualified_name for job in jobs}
    for relation, found in list(known.items()):
        if present.get(relation) == found.name:
            continue
        if found.parts_done and not found.found_empty:
            raise MismatchError(
                "copying table",
                qualified(found.name),
                "it was copied into a table that already held rows, and was renamed or recreated at the source since",
                "Rename the destination's table, or release the migration and begin again.",
            )
        if found.parts_done:
            empty_table(store.conn, mapping.there(found.name))
        forget_copy(store, relation)
        del known[relation]


def _is_ours(found: LockedCopy | None) -> bool:
    """Return whether all rows of the destination's table are ours."""
    return found is not None and bool(found.found_empty and found.parts_done)


def _admit(
    conn: Connection, job: Job, found: LockedCopy | None, filled: frozenset[Name], keep_foreign_rows: bool
) -> Job:
    """Return the job as a copy or a merge. Raises MismatchError if the destination's table may not be filled. ``filled``
    are the tables with rows that may not be ours."""
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
            "the destination's table holds rows and has no key to determine which rows are missing",
            "Give it a primary key, or empty it.",
        )
    return replace(job, parts=WHOLE, merge=True, resumes=False)


def empty_table(conn: Connection, name: DestinationName) -> None:
    """Remove the rows that we copied: by DELETE if a foreign key forbids TRUNCATE. A missing table is empty."""
    table = sql.Identifier(*name)
    conn.execute("SET LOCAL session_replication_role = replica")
    try:
        with conn.transaction():
            conn.execute(sql.SQL("TRUNCATE ONLY {}").format(table))
    except psycopg.errors.FeatureNotSupported:
        conn.execute(sql.SQL("DELETE FROM ONLY {}").format(table))
    except psycopg.errors.UndefinedTable:
        pass


def _queued(job: Job) -> QueuedTable:
    """Return a job as the queue stores it."""
    source = job.source
    return QueuedTable(source.oid, source.qualified_name, job.merge, job.fingerprint, job.resumes, job.parts)


def resume_parts(migration: Migration, jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs; a table that an earlier run began with the same key has only the remaining parts.

    A table that was truncated, rewritten or altered since then is copied from the start: its copied rows are outdated.
    """
    keyed = [job for job in jobs if job.key is not None]
    left = (
        read_left_parts(migration.store, [job.source.oid for job in keyed]) if keyed and migration.store.load() else {}
    )
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
