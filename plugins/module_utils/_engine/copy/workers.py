# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The workers of one copy run: each claims a part, copies it and records it as done, in one destination transaction."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..capture.snapshot import Form
from ..errors import ConnectError, ServerError
from ..postgres._asyncpg import asyncpg
from ..postgres.async_connect import explain_errors, open_session
from ..postgres.key_ranges import Part
from ..state.claims import Claims
from .index_builder import Builder
from .job import Job
from .limits import Limits
from .readers import Reader, SourceReaders, tell_waits
from .reporter import CopyReporter
from .transfer.columns import (
    STAGE,
    Format,
    check_columns,
    emptying_statements,
    format_of,
    select_statement,
    stage_statements,
)
from .transfer.own_slot import NoWalsender
from .transfer.pace import rows_in
from .transfer.pipe import Copied, Sink, pump
from .transfer.source_reader import SnapshotGone, TableChanged

if TYPE_CHECKING:
    from ..migration import Migration
    from ..postgres.catalog import Table

QUERIES = 7
"""Statements at the source for one part: the transaction, its snapshot, the lock, two looks at the definition, the rows."""

NO_BINARY = ("22P03", "42883", "0A000")
"""The SQLSTATEs of a destination that cannot read a type's binary form after all."""


@dataclass(slots=True)
class Run:
    """One copy run while it lasts, as one host sees it. ``changed`` collects the tables that need a new run, ``copied``
    counts the parts that this host has copied; ``builder`` gets the tables that it completes, ``gauge`` limits the rate."""

    migration: Migration
    limits: Limits
    number: int
    form: Form
    snapshot: str
    jobs: Mapping[int, Job]
    builder: Builder | None = None
    gauge: CopyReporter | None = None
    changed: set[int] = field(default_factory=set)
    text_only: set[int] = field(default_factory=set)
    began: dict[int, float] = field(default_factory=dict)
    readers: dict[int, SourceReaders] = field(default_factory=dict)
    copied: int = 0

    @property
    def apart(self) -> bool:
        """Return whether tables are of several moments, since none is shared or earlier runs have copied some, though no
        changes follow that make up for it."""
        tables = len(self.migration.selected().leaves)
        return self.form == "plain" and tables > 1 and (not self.snapshot or len(self.jobs) < tables)

    def format(self, job: Job) -> Format:
        """Return the format of a table's COPY: text once the destination has refused binary."""
        if job.source.oid in self.text_only:
            return "text"
        ends = self.migration
        return format_of(job.source, ends.source.info.server_version, ends.destination.info.server_version)


async def copy_run(run: Run) -> None:
    """Copy all parts of a run with as many workers as configured. Tables that changed meanwhile are in ``run.changed``.

    Raises the first error of a worker; the others are cancelled, their transactions rolled back.
    """
    count = max(1, min(run.limits.parallel, sum(len(job.parts) for job in run.jobs.values())))
    # a worker with a slot of its own waits in a thread, for its turn too: all must find one
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2 * count + 4, "copy"))
    tasks = [asyncio.ensure_future(_work(run, number)) for number in range(count)]
    try:
        done, dummy = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _work(run: Run, number: int) -> None:
    """Copy parts until none is left, as one worker. After any failure it opens new sessions, but keeps a slot's snapshot.

    A worker that gets no walsender leaves its parts to the others, if one of them has got one.
    """
    migration, purpose = run.migration, f"copy {run.migration.name} {number}"
    tell = tell_waits(migration.store, run.gauge)
    readers = SourceReaders(migration, run.limits, run.number, run.form, run.snapshot, purpose=purpose, tell=tell)
    run.readers[number] = readers
    try:
        while await _work_on(_Worker(run, readers, purpose)):
            readers.recover()
    except NoWalsender as exc:
        if not any(other.has_walsender for other in run.readers.values()):
            raise exc.error from exc
    finally:
        readers.terminate()


async def _work_on(worker: _Worker) -> bool:
    """Copy parts until none is left, False, or until new sessions are needed, True."""
    run = worker.run
    try:
        # A server may go away at any statement; an error that was not explained on the way is explained here.
        async with explain_errors(_COPYING, run.migration.name):
            await worker.open()
            while await worker.one_part():
                pass
            await worker.close()
    except (TableChanged, _Again):
        return True
    except SnapshotGone:
        run.changed.update(run.jobs)
    except ConnectError as exc:
        raise worker.at_its_end(exc) from exc
    finally:
        worker.terminate()
    return False


_COPYING = "copying the tables of migration"


class _Again(Exception):
    """Raised to copy the part once more, in another format."""


class _Worker:
    """One worker's two ends: ``readers`` at the source, and one session at the destination."""

    def __init__(self, run: Run, readers: SourceReaders, purpose: str) -> None:
        self.run = run
        self._readers = readers
        self._purpose = purpose
        self._claims = Claims(run.migration.store, run.number)
        self._destination: Any = None

    async def open(self) -> None:
        """Open both ends. Raises ConnectError, ServerError."""
        migration = self.run.migration
        self._destination = await open_session(migration.destination, migration.spec.destination, self._purpose)
        async with explain_errors("preparing a session at the", "destination", _REPLICA_REMEDY):
            await self._destination.execute("SET session_replication_role = replica")
        await self._readers.open()

    async def close(self) -> None:
        """Close both ends in good order."""
        await self._readers.close()
        await self._destination.close(timeout=10)

    def at_its_end(self, error: ConnectError) -> ConnectError:
        """Return the error, with the end whose session has closed if it does not name it already."""
        if error.doing != _COPYING:
            return error
        gone = self._destination is not None and self._destination.is_closed()
        for end, lost in (("source", self._readers.has_lost_its_session), ("destination", gone)):
            if lost:
                what, why = f"{error.what}, at the {end}", "its server has ended the session"
                return ConnectError(_COPYING, what, why, error.remedy)
        return error

    def terminate(self) -> None:
        """Drop the session at the destination; its open transaction is rolled back. Harmless after `close`."""
        if self._destination is not None:
            self._destination.terminate()

    async def one_part(self) -> bool:
        """Claim, copy and finish one part; return False if none is waiting."""
        run = self.run
        async with explain_errors("claiming a part of the copy of migration", run.migration.name):
            await self._destination.execute("BEGIN")
            claimed = await self._claims.claim(self._destination, run.changed)
            if claimed is None:
                await self._destination.execute("ROLLBACK")
                return False
        relation, part = claimed
        job = run.jobs[relation]
        began = run.began.setdefault(relation, time.monotonic())
        with ExitStack() as stack:
            if run.gauge is not None:
                stack.enter_context(run.gauge.working())
                await run.gauge.throttle.spend(queries=QUERIES)
            try:
                reader = await self._readers.begin(job.source)
                copied = await self._transfer(job, part, reader)
            except TableChanged:
                run.changed.add(relation)
                raise
            await reader.reading.end()
        async with explain_errors("finishing a part of table", str(job.source)):
            seconds = time.monotonic() - began
            complete = await self._claims.finish(
                self._destination, relation, part, copied.rows, copied.bytes, mark=reader.mark, seconds=seconds
            )
            await self._destination.execute("COMMIT")
        run.copied += 1
        if run.gauge is not None:
            run.gauge.rows += copied.rows
            if complete:
                run.gauge.complete(str(job.source), copied.rows, job.size, seconds)
        if complete and run.builder is not None:
            run.builder.begin(job.source, ranged=part.key is not None)
        return True

    async def _transfer(self, job: Job, part: Part, reader: Reader) -> Copied:
        """Copy one part from one end to the other; return what was copied."""
        run, table, there = self.run, job.source, job.destination
        mapping = run.migration.mapping.table(table.qualified_name)
        check_columns(mapping, reader.seen.columns, there)
        columns = [column.name for column in reader.seen.columns]
        columns_there = [mapping.column(name) for name in columns]
        form = run.format(job)
        query = select_statement(table.schema, table.name, columns, part).as_string(None)
        into, stage, freeze = (there.schema, there.name), None, False
        if job.merge:
            stage = [s.as_string(None) for s in stage_statements(there.schema, there.name, columns_there)]
            into = ("pg_temp", STAGE)

        async def read(sink: Sink) -> str:
            async with explain_errors("reading at the source table", str(table)):
                return await reader.reading.copy(query, form, self._paced(sink, job, form))

        async def write(pieces: AsyncIterator[bytes]) -> str:
            async with explain_errors("writing at the destination table", str(table)):
                writing = self._destination.copy_to_table(
                    into[1],
                    schema_name=into[0],
                    columns=columns_there or None,
                    source=pieces,
                    format=form,
                    freeze=freeze or None,
                )
                return await _while_connected(self._destination, writing)

        try:
            if stage:
                async with explain_errors("making a staging table for table", str(table)):
                    await self._destination.execute(stage[0])
            freeze = job.may_freeze and await self._emptied(there)
            copied = await pump(str(table), read, write)
            if stage:
                async with explain_errors("adding the missing rows to table", str(table)):
                    await self._destination.execute(stage[1])
        except ServerError as exc:
            if form == "binary" and exc.sqlstate in NO_BINARY:
                run.text_only.add(table.oid)
                raise _Again from exc
            raise
        return copied

    def _paced(self, sink: Sink, job: Job, form: Format) -> Sink:
        """Return a sink that accepts no more than the rate limit, and counts. COPY data is about as long as the heap is."""
        gauge = self.run.gauge
        if gauge is None:
            return sink
        left = job.size // max(1, len(job.parts))

        async def paced(piece: bytes) -> None:
            nonlocal left
            rows = rows_in(piece, form) if gauge.throttle.counts_rows else 0
            await gauge.throttle.spend(bytes=len(piece), rows=rows)
            gauge.bytes += len(piece)
            step = min(left, len(piece))
            gauge.size, left = gauge.size + step, left - step
            await sink(piece)

        return paced

    async def _emptied(self, table: Table) -> bool:
        """Truncate an empty table, so that this transaction may write frozen rows; return False if that is impossible."""
        lock, ask, empty = emptying_statements(table)
        async with explain_errors("emptying at the destination table", str(table)):
            await self._destination.execute("SAVEPOINT emptying")
            try:
                await self._destination.execute(lock)
                may = await self._destination.fetchval(ask)
            except (asyncpg.LockNotAvailableError, asyncpg.InsufficientPrivilegeError):
                may = False
            # The lock outlives a savepoint that is released. Under one, COPY would refuse to freeze.
            await self._destination.execute(f"{'RELEASE' if may else 'ROLLBACK TO'} SAVEPOINT emptying")
            if not may:
                return False
            await self._destination.execute(empty)
        return True


async def _while_connected(session: Any, writing: Any) -> str:
    """Return the tag of a COPY to a session. While the driver waits for room to write it does not notice that the server
    has gone, and would wait for ever: here the connection is checked every second. Raises ConnectionError.
    """
    task = asyncio.ensure_future(writing)
    try:
        while not (await asyncio.wait({task}, timeout=1.0))[0]:
            if session.is_closed():
                raise ConnectionError("the server closed the connection")
        tag: str = task.result()
        return tag
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


_REPLICA_REMEDY = "The migration's account must be a superuser, or have GRANT SET ON PARAMETER session_replication_role (15 and later)."
