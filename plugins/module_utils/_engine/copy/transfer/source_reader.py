# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading one part of one table on an asyncpg session, under the run's snapshot or one of the session's own.

First the lock, then the snapshot, the comparison of fingerprints, and the COPY. `own_slot` is the other way to read.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ...capture.snapshot import POSITION
from ...capture.snapshot_import import SNAPSHOT_GONE, import_statement
from ...capture.under_lock import LOOK, SHORT, Patience, Turns
from ...errors import EngineError, ServerError, TimeoutExpired
from ...postgres._asyncpg import asyncpg
from ...postgres._psycopg import sql
from ...postgres.async_connect import explain_errors as explain_async_errors
from ...postgres.connect import explain_errors
from ...postgres.locks import lock_holders, named, observe_holders
from ...postgres.lsn import Lsn, parse_lsn
from . import table_fingerprint
from .columns import Format
from .pipe import Sink
from .table_fingerprint import Fingerprint

if TYPE_CHECKING:
    from ...postgres.catalog import Table
    from ...postgres.connect import Connection

Result = TypeVar("Result")

_HOLDERS = """
SELECT 'pid ' || a.pid || ' (' || a.usename || ', ' || coalesce(nullif(a.application_name, ''), 'no name') || ')'
  FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a USING (pid)
 WHERE l.locktype = 'relation' AND l.relation = %s AND l.mode = 'AccessExclusiveLock'
   AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
 ORDER BY l.granted DESC, a.pid LIMIT 3
"""


_BESIDE_OUR_LOCK = ("AccessShareLock", "RowShareLock", "ShareLock")
"""The lock modes beside which a table can be locked against writers."""

NO_TABLE = ("42P01", "3F000", "42809")
"""SQLSTATEs of a lock on a table that has gone: no such relation, no such schema, another kind of relation."""

Excluding = Callable[[float], AbstractContextManager[None]]
"""Opens a context in which no session can write to the table that is about to be read; it blocks for so many seconds."""

_OWN = "reading under a snapshot of its own table"


class TableChanged(EngineError):
    """The table is no longer what the snapshot sees: a new run copies it."""

    code = "table_changed"


class SnapshotGone(EngineError):
    """The run's snapshot is no longer held open: a new run copies what is left."""

    code = "snapshot_gone"


def changed(table: Table) -> TableChanged:
    return TableChanged(
        "copying table",
        str(table),
        "it was truncated, rewritten, renamed or altered since the snapshot was taken",
        "It is copied again under a new snapshot.",
    )


def lock_statement(table: Table) -> str:
    """Return the lock that blocks DDL while a part is copied; sessions that read or write rows do not wait for it."""
    return (
        sql.SQL("LOCK TABLE ONLY {} IN ACCESS SHARE MODE")
        .format(sql.Identifier(table.schema, table.name))
        .as_string(None)
    )


def seen_now(ordinary: Connection, table: Table) -> Fingerprint:
    """Return the table's fingerprint as an ordinary session sees it at this moment."""
    with explain_errors("comparing with its present definition table", str(table)):
        query = sql.SQL(table_fingerprint.statement("%(oid)s::oid", ordinary.info.server_version))
        return table_fingerprint.read(ordinary.execute(query, {"oid": table.oid}).fetchall())


def compared(seen: Fingerprint, now: Fingerprint, table: Table) -> Fingerprint:
    """Return what the snapshot sees, if ordinary sessions see the same. Raises TableChanged."""
    if not seen.lines or seen != now or seen.name != table.qualified_name:
        raise changed(table)
    return seen


def not_locked(ordinary: Connection, table: Table, seconds: float) -> TimeoutExpired:
    """Return the error for a table that stayed locked, naming the sessions that lock it."""
    with explain_errors("looking for who locks table", str(table)):
        holders = ordinary.execute(_HOLDERS, (table.oid,)).fetchall()
    who = "; ".join(row[0] for row in holders if row[0]) or "a session that has already ended"
    return TimeoutExpired(
        "locking for the copy table",
        str(table),
        f"no ACCESS SHARE lock was granted within {seconds:g} s; an exclusive lock is held or requested by {who}",
        "End that session or wait for it, then run the playbook again; what is copied stays.",
        sqlstate="55P03",
    )


def not_excluded(ordinary: Connection, table: Table, seconds: float) -> TimeoutExpired:
    """Return the error for a table that was written to all the time, naming the sessions that write."""
    who = named(lock_holders(ordinary, [table.oid], _BESIDE_OUR_LOCK))
    return TimeoutExpired(
        "briefly locking against writers table",
        str(table),
        f"no SHARE lock was granted within {seconds:g} s: {who}",
        "Wait until these transactions end, or raise lock_timeout or lock_retries; what is copied stays.",
        sqlstate="55P03",
    )


class SnapshotReading:
    """An asyncpg session at the source that reads part after part, each in a transaction of its own."""

    def __init__(self, session: Any, ordinary: Connection, lock_timeout: float, lock_retries: int) -> None:
        self.session = session
        self._ordinary = ordinary
        self._lock_timeout = lock_timeout
        self._lock_retries = lock_retries

    async def begin(self, snapshot: str, table: Table) -> Fingerprint:
        """Begin a transaction under an exported snapshot, with the table locked and unchanged; return its fingerprint.

        Raises TableChanged, SnapshotGone, TimeoutExpired, ServerError. The transaction is open only if it returns.
        """
        for attempt in range(self._lock_retries + 1):
            await _pause(attempt)
            async with explain_async_errors("reading under the snapshot table", str(table)):
                if await self._locked(table, snapshot):
                    return await self._compared(table)
        waited = (self._lock_retries + 1) * self._lock_timeout
        raise await asyncio.to_thread(not_locked, self._ordinary, table, waited)

    async def begin_own(self, table: Table, excluding: Excluding | None = None) -> tuple[Lsn, Fingerprint]:
        """Begin a transaction under a snapshot of its own, taken while ``excluding`` keeps writers away, as `begin` does.

        Return the WAL position after the snapshot too: behind ``excluding`` it is the table's snapshot LSN.
        """
        if excluding is not None:
            return await self._begin_excluding(table, excluding)
        for attempt in range(self._lock_retries + 1):
            await _pause(attempt)
            async with explain_async_errors(_OWN, str(table)):
                if await self._locked(table) and (mark := await self._take_snapshot(table)):
                    return mark, await self._compared(table)
        raise await asyncio.to_thread(not_locked, self._ordinary, table, (self._lock_retries + 1) * self._lock_timeout)

    async def _begin_excluding(self, table: Table, excluding: Excluding) -> tuple[Lsn, Fingerprint]:
        """Do as `begin_own` behind ``excluding``, for which writers queue as little as behind any lock of ours."""
        patience, turns = Patience(self._lock_timeout, self._lock_retries), Turns()
        deadline = time.monotonic() + patience.total
        wait, excluded = min(SHORT, patience.timeout), False
        while True:
            if wait:
                began = time.monotonic()
                async with explain_async_errors(_OWN, str(table)):
                    # The lock takes no snapshot, and comes first: nothing may queue between it and the other one.
                    excluded = await self._locked(table)
                    if excluded and (mark := await self._take_snapshot(table, partial(excluding, wait))):
                        return mark, await self._compared(table)
                turns.failed(wait, time.monotonic() - began, time.monotonic())
            if time.monotonic() > deadline:
                failure = not_excluded if excluded else not_locked
                raise await asyncio.to_thread(failure, self._ordinary, table, patience.total)
            await asyncio.sleep(LOOK)
            holders = await asyncio.to_thread(observe_holders, self._ordinary, [table.oid], _BESIDE_OUR_LOCK)
            wait = turns.next_wait(holders, time.monotonic(), patience.timeout)

    async def _take_snapshot(
        self, table: Table, excluding: Callable[[], AbstractContextManager[None]] | None = None
    ) -> Lsn:
        """Take the open transaction's snapshot; return the WAL position after it, or 0 if writers could not be excluded."""
        with ExitStack() as stack:
            try:
                if excluding is not None:
                    await in_thread(stack.enter_context, excluding())
                mark = parse_lsn(await self.session.fetchval(POSITION))
                await in_thread(stack.close)
            except ServerError as exc:
                if exc.sqlstate in NO_TABLE:
                    raise changed(table) from exc
                if exc.sqlstate != "55P03":
                    raise
                await self.session.execute("ROLLBACK")
                return 0
        return mark

    async def _compared(self, table: Table) -> Fingerprint:
        """Return the fingerprint under the open transaction's snapshot, if it is the same now. Raises TableChanged."""
        query = table_fingerprint.statement("$1::oid", self._ordinary.info.server_version)
        rows = await self.session.fetch(query, table.oid)
        now = await asyncio.to_thread(seen_now, self._ordinary, table)
        return compared(table_fingerprint.read([tuple(row) for row in rows]), now, table)

    async def _locked(self, table: Table, snapshot: str = "") -> bool:
        """Begin a transaction and lock the table, once; return False if the lock was not granted in time."""
        # One message: with ten thousand small tables the round trips take most of the time.
        steps = (
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            *((import_statement(snapshot).as_string(None),) if snapshot else ()),
            f"SET LOCAL lock_timeout = {max(1, int(self._lock_timeout * 1000))}",
            lock_statement(table),
        )
        try:
            await self.session.execute("; ".join(steps))
        except asyncpg.LockNotAvailableError:
            await self.session.execute("ROLLBACK")
            return False
        except asyncpg.PostgresError as exc:
            if exc.sqlstate in NO_TABLE:
                raise changed(table) from exc
            if snapshot and exc.sqlstate in SNAPSHOT_GONE:
                raise SnapshotGone(
                    "reading under the snapshot table",
                    str(table),
                    "the session that held the snapshot open has ended",
                    "Run the playbook again: what is copied stays.",
                    sqlstate=exc.sqlstate,
                ) from exc
            raise
        return True

    async def copy(self, query: str, form: Format, sink: Sink) -> str:
        """Run ``COPY (query) TO STDOUT`` and hand its data to the sink; returns the command tag."""
        tag: str = await self.session.copy_from_query(query, output=sink, format=form)
        return tag

    async def end(self) -> None:
        """End the transaction."""
        await self.session.execute("COMMIT")


async def in_thread(
    work: Callable[..., Result], *arguments: Any, interrupt: Callable[[], None] | None = None
) -> Result:
    """Run blocking work in a thread. If we are cancelled it is interrupted and waited for: until it has ended, nothing
    else may touch the sessions that it uses, nor can they be closed."""
    running = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        if interrupt is not None:
            await asyncio.to_thread(interrupt)  # a host that does not answer must not stop the others
        await asyncio.gather(running, return_exceptions=True)
        raise


async def _pause(attempt: int) -> None:
    """Let those go first that queued up behind the last attempt."""
    if attempt:
        await asyncio.sleep(random.uniform(0.1, 0.5))  # nosec: spreads attempts, guards nothing
