# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One copy by several worker hosts: one of them leads, the others join the run that it has opened.

The leader opens the runs and holds their snapshot. An advisory lock of its session at the destination makes it the leader;
when that session ends, another host takes over, with a new snapshot. Hosts know of each other only by the state tables.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from ..errors import StateError
from ..large_objects.copy import ObjectCopy
from ..large_objects.objects import LARGE_OBJECTS
from ..objects.mapping import tables_there
from ..postgres._asyncpg import require_asyncpg
from ..state.advisory import building, is_held, try_to_lead
from ..state.copy_pace import begin_copy, set_pace
from ..state.copy_queue import OpenRun, find_open_run, parts_to_copy
from .index_builder import Builder
from .job import Job
from .layout import bytes_of, unfinished
from .limits import Limits
from .reporter import CopyReporter
from .resync import reset
from .runs import CopyServices, HostShare, copy_tables, exclude_worker, work_through
from .workers import Run

if TYPE_CHECKING:
    from ..capture.snapshot import Form
    from ..migration import Migration
    from ..postgres.catalog import Name, Table
    from ..schema.table_builds import TableBuilds

POLL = 0.3
"""Seconds between two checks of the other hosts' progress."""


def run_copy(
    migration: Migration, limits: Limits, again: Sequence[Table] = (), behind: dict[Name, TableBuilds] | None = None
) -> HostShare:
    """Copy until every selected table is complete and the phase is recorded, leading if no other host does.

    ``again``: complete tables to copy again, which only the leader can do; ``behind``: what is built on the tables that
    this host completes. Return this host's share. Raises EngineErrors of all kinds; complete tables stay complete.
    """
    require_asyncpg()
    runs = parts = last = 0
    apart = False
    while True:
        with try_to_lead(migration.destination, migration.name) as leading:
            if leading:
                if limits.pace is not None:  # a helper that took over leaves the limits unchanged
                    set_pace(migration.store, limits.pace.stored())
                with _beside(migration, limits, behind) as beside:
                    objects = ObjectCopy(migration, limits.objects, beside.gauge)
                    objects.begin()
                    if beside.builder is not None:
                        beside.builder.begin_complete()
                    done = _copy_all(migration, limits, again, replace(beside, objects=objects))
                    runs, parts, apart = runs + done.runs, parts + done.parts, apart or done.apart
                    objects.copy()  # under a snapshot of its own: those that no run could copy under the run's
                    if beside.builder is not None:
                        beside.builder.finish()
                # The sections that follow must find what the other hosts build.
                while is_held(migration.destination, migration.name, "build"):
                    time.sleep(POLL)
                migration.store.advance("copied")
                return HostShare(runs, parts, True, objects.copied, apart)
        if again or limits.objects.again:
            raise StateError(
                "copying again table",
                ", ".join([*map(str, again[:5]), *([LARGE_OBJECTS] if limits.objects.again else [])]),
                "another host leads a copy of this migration at this moment",
                "Wait until it has finished, then run this again.",
            )
        found = find_open_run(migration.store)
        if found is not None and found.number > last:
            joined = _join(migration, limits, found, behind)
            last, runs, parts, apart = found.number, runs + 1, parts + joined.copied, apart or joined.apart
            migration.refresh_catalog()
        elif finished(migration):
            return HostShare(runs, parts, apart=apart)
        else:
            time.sleep(POLL)


def _copy_all(migration: Migration, limits: Limits, again: Sequence[Table], beside: CopyServices) -> HostShare:
    """Copy as the leader, in runs until all tables are complete; record the total first. Return this host's share."""
    objects, tables = beside.objects, len(migration.selected().leaves)
    size = objects.size if objects is not None else 0
    if not again and not unfinished(migration):
        if size:
            begin_copy(migration.store, tables, size)
        return HostShare()
    with exclude_worker(migration):
        if again:
            reset(migration, again)
        begin_copy(migration.store, tables, bytes_of(migration, unfinished(migration)) + size)
        return copy_tables(migration, limits, beside=beside)


@contextmanager
def _beside(migration: Migration, limits: Limits, behind: dict[Name, TableBuilds] | None) -> Iterator[CopyServices]:
    """Return a context with this host's builder and reporter."""
    with (
        CopyReporter(migration, limits.progress.path, limits.progress.interval) as gauge,
        Builder(migration, behind or {}, limits.build) as builder,
    ):
        yield CopyServices(builder, gauge)


def finished(migration: Migration) -> bool:
    """Return whether every selected table is complete, and the phase recorded."""
    state = migration.state()
    return state is not None and state.reached("copied") and not unfinished(migration)


def wait_for_leader(migration: Migration, patience: float) -> bool:
    """Wait for a copy that this host can join: True. Holds no lock, so that earlier phases can run.

    False if there is nothing to do, or if no host has worked on the migration for ``patience`` seconds.
    """
    seen = time.monotonic()
    while not is_held(migration.destination, migration.name, "copy"):
        if finished(migration):
            return False
        if is_held(migration.destination, migration.name, "run"):
            seen = time.monotonic()
        elif time.monotonic() - seen > patience:
            return False
        time.sleep(POLL)
    return True


def _join(migration: Migration, limits: Limits, found: OpenRun, behind: dict[Name, TableBuilds] | None) -> Run:
    """Copy parts of a run that another host leads, until none is left; return the run as this host saw it."""
    # Before a part is claimed: the leader sees all parts done only when it also sees that we build.
    with building(migration.destination, migration.name):
        jobs, unknown = _jobs(migration, found.number)
        with _beside(migration, limits, behind) as beside:
            form = cast("Form", found.form)
            run = Run(migration, limits, found.number, form, found.snapshot, jobs, beside.builder, beside.gauge)
            run.changed.update(unknown)
            work_through(run)
            if beside.builder is not None:
                beside.builder.finish()
    return run


def _jobs(migration: Migration, number: int) -> tuple[Mapping[int, Job], set[int]]:
    """Return the tables of a run by source OID, as its leader enqueued them; and those that no longer exist."""
    here, there = migration.source_catalog.tables, tables_there(migration.destination_catalog())
    jobs: dict[int, Job] = {}
    unknown: set[int] = set()
    for waits in parts_to_copy(migration.store, number):
        source, destination = here.get(waits.relation), there.get(migration.mapping.there(waits.name))
        if source is None or destination is None:
            unknown.add(waits.relation)
            continue
        job = jobs.setdefault(waits.relation, Job(source, destination, (), merge=waits.merge))
        jobs[waits.relation] = replace(job, parts=(*job.parts, waits.part))
    return jobs, unknown
