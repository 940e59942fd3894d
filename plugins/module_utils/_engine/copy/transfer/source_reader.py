# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading one part of one table under a snapshot: the lock, the comparison of fingerprints, and the COPY.

Two ways: an asyncpg session that imports the run's snapshot, and a walsender that has created its own slot.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from ...capture.snapshot import SNAPSHOT_GONE, begin_under_slot, drop_run_slot, waiting
from ...errors import EngineError, ServerError, TimeoutExpired
from ...postgres._asyncpg import asyncpg
from ...postgres._psycopg import pq, psycopg, sql
from ...postgres.async_connect import explain_errors as explain_async_errors
from ...postgres.connect import connect, explain_errors, server_error, simple_query
from ...postgres.lsn import Lsn
from . import table_fingerprint
from .columns import Format
from .pipe import Sink
from .table_fingerprint import Fingerprint

if TYPE_CHECKING:
    from ...migration import Migration
    from ...postgres.catalog import Table
    from ...postgres.connect import Connection

PIECE = 240_000
"""Bytes that a walsender's rows are gathered to: libpq hands them over one by one."""

_HOLDERS = """
SELECT 'pid ' || a.pid || ' (' || a.usename || ', ' || coalesce(nullif(a.application_name, ''), 'no name') || ')'
  FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a USING (pid)
 WHERE l.locktype = 'relation' AND l.relation = %s AND l.mode = 'AccessExclusiveLock'
   AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
 ORDER BY l.granted DESC, a.pid LIMIT 3
"""


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


class SnapshotReading:
    """An asyncpg session at the source that reads under an exported snapshot, part after part."""

    def __init__(self, session: Any, ordinary: Connection, lock_timeout: float, lock_retries: int) -> None:
        self.session = session
        self._ordinary = ordinary
        self._lock_timeout = lock_timeout
        self._lock_retries = lock_retries

    async def begin(self, snapshot: str, table: Table) -> Fingerprint:
        """Begin a transaction under the snapshot, with the table locked and unchanged; return its fingerprint.

        Raises TableChanged, SnapshotGone, TimeoutExpired, ServerError. The transaction is open only if it returns.
        """
        for attempt in range(self._lock_retries + 1):
            if attempt:
                await asyncio.sleep(random.uniform(0.1, 0.5))  # nosec: spreads attempts, guards nothing
            async with explain_async_errors("reading under the snapshot table", str(table)):
                if await self._locked(snapshot, table):
                    query = table_fingerprint.statement("$1::oid", self._ordinary.info.server_version)
                    rows = await self.session.fetch(query, table.oid)
                    now = await asyncio.to_thread(seen_now, self._ordinary, table)
                    return compared(table_fingerprint.read([tuple(row) for row in rows]), now, table)
        waited = (self._lock_retries + 1) * self._lock_timeout
        raise await asyncio.to_thread(not_locked, self._ordinary, table, waited)

    async def _locked(self, snapshot: str, table: Table) -> bool:
        """Make one attempt; return False if the lock was not granted in time."""
        name = sql.Literal(snapshot).as_string(None)
        # One message: with ten thousand small tables the round trips take most of the time.
        steps = (
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            f"SET TRANSACTION SNAPSHOT {name}",
            f"SET LOCAL lock_timeout = {max(1, int(self._lock_timeout * 1000))}",
            lock_statement(table),
        )
        try:
            await self.session.execute("; ".join(steps))
        except asyncpg.LockNotAvailableError:
            await self.session.execute("ROLLBACK")
            return False
        except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError, asyncpg.WrongObjectTypeError) as exc:
            raise changed(table) from exc
        except asyncpg.PostgresError as exc:
            if exc.sqlstate in SNAPSHOT_GONE:
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


class OwnSlotReading:
    """A walsender that reads one table under the snapshot of its own temporary slot. Its calls block: use threads."""

    def __init__(self, migration: Migration, run: int, lock_timeout: float, lock_retries: int) -> None:
        self._migration = migration
        self._run = run
        self._patience = lock_timeout * max(1, lock_retries)
        self._lock_timeout = lock_timeout
        self._lock_retries = lock_retries
        self._stack = ExitStack()
        self._conn: Connection | None = None

    def begin(self, ordinary: Connection, table: Table) -> tuple[Lsn, Fingerprint]:
        """Create the slot, wait for the guard, lock, read the fingerprint, in this order; return snapshot LSN and
        fingerprint. Raises as SnapshotReading does."""
        for dummy in range(self._lock_retries + 1):
            self.close()
            conn = connect(
                self._migration.spec.source,
                f"copy {self._migration.name}",
                replication=True,
                settings=waiting(self._patience),
            )
            self._stack.callback(conn.close)
            # The pid of its backend differs from those of all other hosts' sessions.
            key = (self._migration.name, self._run, conn.info.backend_pid)
            mark = begin_under_slot(conn, ordinary, *key, wait=self._patience)
            if self._locked(conn, table):
                self._conn = conn
                query = table_fingerprint.statement(str(table.oid), conn.info.server_version)
                seen = table_fingerprint.read(simple_query(conn, query, "reading under its slot table", str(table)))
                compared(seen, seen_now(ordinary, table), table)
                drop_run_slot(conn, *key)
                return mark, seen
        raise not_locked(ordinary, table, (self._lock_retries + 1) * self._lock_timeout)

    def _locked(self, conn: Connection, table: Table) -> bool:
        doing = "locking for the copy table"
        milliseconds = max(1, int(self._lock_timeout * 1000))
        simple_query(conn, f"SET LOCAL lock_timeout = {milliseconds}", doing, str(table))
        try:
            simple_query(conn, lock_statement(table), doing, str(table))
        except ServerError as exc:
            if exc.sqlstate in ("42P01", "3F000", "42809"):
                raise changed(table) from exc
            if exc.sqlstate != "55P03":
                raise
            return False
        return True

    async def copy(self, query: str, form: Format, sink: Sink) -> str:
        """Do as SnapshotReading.copy, over the simple protocol, which is all that a walsender speaks."""
        if self._conn is None:
            raise RuntimeError("copy before begin")
        pgconn = self._conn.pgconn
        started = await asyncio.to_thread(pgconn.exec_, f"COPY ({query}) TO STDOUT (FORMAT {form})".encode())
        if started.status != pq.ExecStatus.COPY_OUT:
            raise _refused(started)
        while True:
            piece, ended = await asyncio.to_thread(_gather, pgconn.get_copy_data)
            if piece:
                await sink(piece)
            if ended:
                break
        result = await asyncio.to_thread(pgconn.get_result)
        while await asyncio.to_thread(pgconn.get_result) is not None:
            pass
        if result is None or result.status != pq.ExecStatus.COMMAND_OK:
            raise _refused(result)
        return (result.command_status or b"").decode()

    def close(self) -> None:
        """Close the walsender; its slot, if it still exists, goes with it."""
        self._stack.close()
        self._conn = None


def _gather(get_copy_data: Callable[[int], tuple[int, memoryview]]) -> tuple[bytes, bool]:
    """Return rows until a piece is full, and whether the COPY has ended."""
    rows = bytearray()
    while len(rows) < PIECE:
        length, data = get_copy_data(0)
        if length <= 0:
            return bytes(rows), True
        rows += data
    return bytes(rows), False


def _refused(result: Any) -> EngineError:
    error = psycopg.errors.error_from_result(result) if result is not None else psycopg.OperationalError("no answer")
    return server_error(error, "copying from a slot of its own at the", "source")
