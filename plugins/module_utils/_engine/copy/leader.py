# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One copy by several worker hosts: one of them leads, the others join the run that it has opened.

The leader opens the runs and holds their snapshot. It is decided by an advisory lock on its session at the destination,
which goes when that session goes: then another one takes over, under a new mark. Hosts know of each other by the state
tables alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .. import names
from ..errors import StateError
from ..large_objects.copy import ObjectCopy
from ..large_objects.objects import LARGE_OBJECTS
from ..objects.mapping import tables_there
from ..postgres._asyncpg import require_asyncpg
from ..postgres._psycopg import psycopg, sql
from ..postgres.connect import explain_errors
from .index_builder import Builder
from .progress import begin, set_pace
from .queue import Job, part_of
from .reporter import CopyReporter
from .resync import reset
from .runs import CopyServices, HostShare, bytes_of, copy_tables, exclude_worker, unfinished, work_through
from .workers import Limits, Run

if TYPE_CHECKING:
    from ..capture.snapshot import Form
    from ..migration import Migration
    from ..postgres.catalog import Name, Table
    from ..schema.table_builds import TableBuilds
    from ..state.store import StateStore

POLL = 0.3
"""Seconds between two looks at what the others do."""

_LEADER = "copy"
_BUILD = "build"


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A run that has not ended, as its leader recorded it."""

    number: int
    form: Form
    snapshot: str


def run_copy(
    migration: Migration, limits: Limits, again: Sequence[Table] = (), behind: dict[Name, TableBuilds] | None = None
) -> HostShare:
    """Copy until every selected table is complete and the phase is noted, leading where nobody else does.

    ``again``: tables that are to be copied although they are complete, which only the leader can see to; ``behind`` is
    what is built on the tables that this host completes. Raises EngineErrors of all kinds; what is complete stays.
    """
    require_asyncpg()
    runs = parts = last = 0
    while True:
        with _lead(migration) as leading:
            if leading:
                if limits.pace is not None:  # who only helps, and took over, leaves it as it is
                    set_pace(migration.store, limits.pace)
                with _beside(migration, limits, behind) as beside:
                    objects = ObjectCopy(migration, limits.objects, beside.gauge)
                    objects.begin()
                    if beside.builder is not None:
                        beside.builder.begin_complete()
                    done = _copy_all(migration, limits, again, replace(beside, objects=objects))
                    runs, parts = runs + done.runs, parts + done.parts
                    objects.copy()  # under a snapshot of its own what no run could copy under the run's
                    if beside.builder is not None:
                        beside.builder.finish()
                while _held(migration, _BUILD):  # the sections that come next find what the others build
                    time.sleep(POLL)
                migration.store.advance("copied")
                return HostShare(runs, parts, True, objects.copied)
        if again or limits.objects.again:
            raise StateError(
                "copying again table",
                ", ".join([*map(str, again[:5]), *([LARGE_OBJECTS] if limits.objects.again else [])]),
                "another host leads a copy of this migration at this moment",
                "Wait until it has finished, then run this again.",
            )
        found = find_open_run(migration.store)
        if found is not None and found.number > last:
            last, runs = found.number, runs + 1
            parts += _join(migration, limits, found, behind)
            migration.refresh_catalog()
        elif finished(migration):
            return HostShare(runs, parts)
        else:
            time.sleep(POLL)


def _copy_all(migration: Migration, limits: Limits, again: Sequence[Table], beside: CopyServices) -> HostShare:
    """As the leader: runs until all tables are complete. How much there is to do is noted first."""
    objects, tables = beside.objects, len(migration.selected().leaves)
    size = objects.size if objects is not None else 0
    if not again and not unfinished(migration):
        if size:
            begin(migration.store, tables, size)
        return HostShare()
    with exclude_worker(migration):
        if again:
            reset(migration, again)
        begin(migration.store, tables, bytes_of(migration, unfinished(migration)) + size)
        return copy_tables(migration, limits, beside=beside)


@contextmanager
def _beside(migration: Migration, limits: Limits, behind: dict[Name, TableBuilds] | None) -> Iterator[CopyServices]:
    """Builder and gauge of this host."""
    with (
        CopyReporter(migration, limits.progress_file, limits.progress_interval) as gauge,
        Builder(migration, behind or {}, limits.build) as builder,
    ):
        yield CopyServices(builder, gauge)


def finished(migration: Migration) -> bool:
    """Whether every selected table is complete, and the phase noted."""
    state = migration.state()
    return state is not None and state.reached("copied") and not unfinished(migration)


def wait_for_leader(migration: Migration, patience: float) -> bool:
    """Wait until somebody leads a copy that this host can join: True. Holds no lock, so that earlier phases can run.

    False when there is nothing to do, or when nobody has worked on the migration for ``patience`` seconds.
    """
    seen = time.monotonic()
    while not _held(migration, _LEADER):
        if finished(migration):
            return False
        if _held(migration, "run"):
            seen = time.monotonic()
        elif time.monotonic() - seen > patience:
            return False
        time.sleep(POLL)
    return True


@contextmanager
def _lead(migration: Migration) -> Iterator[bool]:
    """Try to become the one leader, without waiting; given back at the end, or by the end of the session."""
    key = (names.lock_key(migration.name, _LEADER),)
    with explain_errors("looking for who leads the copy of migration", migration.name):
        row = migration.destination.execute("SELECT pg_catalog.pg_try_advisory_lock(%s)", key).fetchone()
    leading = bool(row and row[0])
    try:
        yield leading
    finally:
        if leading:
            try:
                migration.destination.execute("SELECT pg_catalog.pg_advisory_unlock(%s)", key)
            except psycopg.Error:  # a session that has gone leads no more
                pass


def _held(migration: Migration, purpose: str) -> bool:
    """Whether any session holds this lock of the migration."""
    with explain_errors("looking for who works on migration", migration.name):
        row = migration.destination.execute(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_locks l WHERE l.locktype = 'advisory' AND l.granted"
            " AND l.objsubid = 1 AND l.classid::bigint = %s AND l.objid::bigint = %s AND l.database ="
            " (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))",
            names.lock_halves(names.lock_key(migration.name, purpose)),
        ).fetchone()
    return bool(row and row[0])


def find_open_run(store: StateStore) -> OpenRun | None:
    """The run that tables have been given to and that has not ended, if it is the latest; None before the first."""
    with explain_errors("looking for an open copy run of migration", store.name):
        row = store.conn.execute(
            sql.SQL(
                "SELECT r.run, r.form, coalesce(r.snapshot, '') FROM {run} r WHERE r.migration = %s"
                " AND r.finished_at IS NULL AND r.run = (SELECT max(run) FROM {run} WHERE migration = %s)"
                " AND EXISTS (SELECT FROM {part} p WHERE p.migration = r.migration AND p.run = r.run)"
            ).format(run=store.table("copy_run"), part=store.table("copy_part")),
            (store.name, store.name),
        ).fetchone()
    return None if row is None else OpenRun(*row)


def _join(migration: Migration, limits: Limits, found: OpenRun, behind: dict[Name, TableBuilds] | None) -> int:
    """Copy parts of a run that another host leads, until there is none left. Returns how many it copied."""
    key = (names.lock_key(migration.name, _BUILD),)
    # Before a part is claimed: the leader sees all parts done only when it also sees that we build.
    migration.destination.execute("SELECT pg_catalog.pg_advisory_lock_shared(%s)", key)
    try:
        jobs, unknown = _jobs(migration, found.number)
        with _beside(migration, limits, behind) as beside:
            run = Run(migration, limits, found.number, found.form, found.snapshot, jobs, beside.builder, beside.gauge)
            run.changed.update(unknown)
            work_through(run)
            if beside.builder is not None:
                beside.builder.finish()
    finally:
        try:
            migration.destination.execute("SELECT pg_catalog.pg_advisory_unlock_shared(%s)", key)
        except psycopg.Error:  # a session that has gone builds no more
            pass
    return run.copied


def _jobs(migration: Migration, number: int) -> tuple[Mapping[int, Job], set[int]]:
    """The tables of a run, by source OID, as its leader gave them to it; and those that are not there any more."""
    store = migration.store
    with explain_errors("reading the tables of a copy run of migration", store.name):
        rows = store.conn.execute(
            sql.SQL(
                "SELECT t.relation::bigint, t.schema_name, t.table_name, NOT coalesce(t.found_empty, true),"
                " p.part, p.first_page, p.end_page, p.key_column, p.key_type::bigint, p.key_from, p.key_to"
                " FROM {table} t JOIN {part} p USING (migration, relation)"
                " WHERE t.migration = %s AND t.run = %s AND p.run = t.run AND p.state = 'waiting' ORDER BY p.ordinal"
            ).format(table=store.table("table_copy"), part=store.table("copy_part")),
            (store.name, number),
        ).fetchall()
    here, there = migration.source_catalog.tables, tables_there(migration.destination_catalog())
    jobs: dict[int, Job] = {}
    unknown: set[int] = set()
    for relation, schema, name, merge, *part in rows:
        source, destination = here.get(relation), there.get(migration.mapping.there((schema, name)))
        if source is None or destination is None:
            unknown.add(relation)
            continue
        job = jobs.setdefault(relation, Job(source, destination, (), merge=merge))
        jobs[relation] = replace(job, parts=(*job.parts, part_of(part)))
    return jobs, unknown
