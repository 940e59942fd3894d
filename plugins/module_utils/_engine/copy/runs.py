# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copy runs, one after the other until every table is complete: form of the snapshot, mark, queue, workers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..capture.snapshot import Form, Snapshot, SnapshotTooLarge, open_snapshot, patiently
from ..errors import MismatchError, StateError
from ..postgres._asyncpg import require_asyncpg
from ..postgres.connect import explain_errors
from ..postgres.key_ranges import WHOLE
from ..postgres.lsn import Lsn, format_lsn, parse_lsn
from ..slot.timeline import observe_system
from ..state.advisory import keep_worker_away, wait_gone
from ..state.copy_queue import begin_run, close_run, set_run, waiting_parts
from ..state.progress import read_progress
from ..state.task import read_control, set_wanted
from .enqueue import enqueue, resume_parts
from .job import Job
from .layout import lay_out, missing_tables, unfinished
from .limits import Limits
from .readers import tell_waits
from .workers import Run, copy_run

if TYPE_CHECKING:
    from ..large_objects.copy import ObjectCopy
    from ..migration import Migration
    from .index_builder import Builder
    from .reporter import CopyReporter

MAX_RUNS = 8
"""The number of runs after which tables that changed during each are reported to the operator."""

WORKER_PATIENCE = 600.0
"""Seconds that the CDC worker has for draining to a commit boundary."""


POLL = 0.3
"""Seconds between two checks of the parts that other hosts have claimed."""


@dataclass(frozen=True, slots=True)
class CopyServices:
    """What accompanies the runs of one host: the builder of indexes on complete tables, the reporter with its rate limit,
    and the copy of the large objects under a run's snapshot."""

    builder: Builder | None = None
    gauge: CopyReporter | None = None
    objects: ObjectCopy | None = None


@dataclass(frozen=True, slots=True)
class HostShare:
    """What this host did: ``runs`` that it took part in, ``parts`` and large ``objects`` that it copied itself, and
    whether it ``led``. ``apart``: tables were copied as of a moment each, though no changes follow that make up for it."""

    runs: int = 0
    parts: int = 0
    led: bool = False
    objects: int = 0
    apart: bool = False


@contextmanager
def exclude_worker(migration: Migration) -> Iterator[None]:
    """Stop the CDC worker at a commit and hold its lock until the snapshot LSNs are stored (docs/architecture.md, Why it is exact)."""
    store, conn = migration.store, migration.destination
    control = read_control(store)
    if control is not None and control.wanted in ("started", "paused"):
        set_wanted(store, "stopped")
    wait_gone(conn, migration.name, WORKER_PATIENCE)
    with keep_worker_away(conn, migration.name):
        yield


def copy_tables(
    migration: Migration, limits: Limits, form: Form | None = None, beside: CopyServices = CopyServices()
) -> HostShare:
    """Copy what is unfinished, in as many runs as it takes, which other hosts may join.

    ``form`` skips the probing and starts with that form; ``beside`` gets each table as soon as it is complete. Return
    this host's share. Raises EngineErrors of all kinds; complete tables stay complete, and the next call resumes.
    """
    require_asyncpg()
    parts, apart = 0, False
    wanted: Form = form or ("slot" if migration.spec.incremental else "plain")
    for number in range(MAX_RUNS):
        if number:
            migration.refresh_catalog()
        tables = unfinished(migration)
        if not tables:
            return HostShare(number, parts, True, apart=apart)
        jobs = lay_out(migration, tables, limits.layout, migration.destination_catalog())
        without = [table.qualified_name for table in tables if jobs[table.oid] is None]
        if without:
            raise missing_tables(without)
        known = [job for job in jobs.values() if job is not None]
        run = _one_run(migration, limits, known, wanted, beside)
        wanted, parts, apart = run.form, parts + run.copied, apart or run.apart
    left = unfinished(migration)
    if left:
        raise MismatchError(
            "copying table",
            ", ".join(str(table) for table in left[:5]),
            f"it was truncated, rewritten, renamed or altered during each of {MAX_RUNS} runs",
            "Run the playbook again when the application does not change the table's definition.",
        )
    return HostShare(MAX_RUNS, parts, True, apart=apart)


def _one_run(migration: Migration, limits: Limits, jobs: Sequence[Job], form: Form, beside: CopyServices) -> Run:
    """Execute one run, whose form the next run begins with, and return it."""
    store = migration.store
    number = begin_run(store, form, observe_system(migration).timeline if migration.spec.incremental else 0)
    with ExitStack() as stack:
        form, taken = _take_snapshot(migration, limits, number, form, beside, stack)
        mark = taken.mark if taken else 0
        _require_behind(migration, mark)
        if taken is None:  # each table has its own snapshot, so a table is one part
            jobs = [replace(job, parts=WHOLE, key=None) for job in jobs]
        name = taken.name if taken else ""
        set_run(store, number, form, mark, name)
        keep = migration.spec.conflicting_tables == "ignore"
        todo = enqueue(store, number, mark, resume_parts(migration, jobs), migration.mapping, keep_foreign_rows=keep)
        run = Run(
            migration, limits, number, form, name, {job.source.oid: job for job in todo}, beside.builder, beside.gauge
        )
        if todo:
            work_through(run)
        if beside.objects is not None and name:
            beside.objects.copy(name)
    close_run(store, number)
    again = [str(run.jobs[oid].source) for oid in sorted(run.changed)]
    detail = {"tables": len(todo), "again": again[:50], "one_moment": not run.apart}
    store.event("copied", f"copy run {number} ({form})", detail)
    return run


def _take_snapshot(
    migration: Migration, limits: Limits, number: int, form: Form, beside: CopyServices, stack: ExitStack
) -> tuple[Form, Snapshot | None]:
    """Return the run's form and its snapshot, held until ``stack`` is closed; None where each table gets its own."""
    if form not in ("slot", "plain"):
        return form, None

    def begin(wait: float) -> Snapshot:
        return stack.enter_context(open_snapshot(migration, number, wait=wait, slot=form == "slot"))

    try:
        taken = patiently(begin, limits.slot_patience, tell_waits(migration.store, beside.gauge))
    except SnapshotTooLarge:
        return "share", None
    return taken.form, taken if taken.name else None


def work_through(run: Run) -> None:
    """Copy parts of a run until none is left. Parts that other hosts have claimed are waited for: if such a host dies they
    are claimed again, and the snapshot has to be held until then."""
    while True:
        asyncio.run(copy_run(run))
        while not (left := waiting_parts(run.migration.store, run.number, run.changed)).free:
            if not left.claimed:
                return
            time.sleep(POLL)


def _require_behind(migration: Migration, mark: Lsn) -> None:
    """Raise LossError unless what was applied lies below the snapshot's LSN: changes in between would never be applied."""
    progress = read_progress(migration.store)
    if progress is None:
        return
    if not mark:
        with explain_errors("reading the WAL position of the", "source"):
            position = migration.source.execute("SELECT pg_catalog.pg_current_wal_insert_lsn()::text").fetchone()
        mark = parse_lsn(position[0]) if position else 0
    if progress.applied > mark:
        raise StateError(
            "copying into migration",
            migration.name,
            f"changes up to {format_lsn(progress.applied)} were applied, and this snapshot of the source is at {format_lsn(mark)}",
            "The source has lost changes, as after a failover: release the migration and begin again.",
        )
