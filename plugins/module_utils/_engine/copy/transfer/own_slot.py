# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading tables on a walsender, under the snapshot of a temporary slot that it has created itself.

A slot waits for all open transactions. So a session creates one, and copies as many tables under it as it gets: each in a
savepoint, whose end releases the table's lock while the transaction and its snapshot stay.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ...capture.snapshot import begin_under_slot, drop_run_slot, patiently, waiting
from ...errors import ConnectError, EngineError, ServerError, StateError
from ...postgres._psycopg import pq, psycopg
from ...postgres.connect import connect, server_error, simple_query
from ...postgres.lsn import NO_LSN, Lsn
from . import table_fingerprint
from .columns import Format
from .pipe import Sink
from .source_reader import NO_TABLE, changed, compared, in_thread, lock_statement, not_locked, seen_now
from .table_fingerprint import Fingerprint

if TYPE_CHECKING:
    from ...migration import Migration
    from ...postgres.catalog import Table
    from ...postgres.connect import Connection

PIECE = 240_000
"""Bytes that a walsender's rows are gathered to: libpq hands them over one by one."""

_COPYING = "copying from a slot of its own at the"

_NONE_LEFT = ("53300", "53400")
"""SQLSTATEs of a server that has no walsender and no replication slot left."""

_TURN = threading.Lock()
"""Held while this host creates a slot: its workers need one free replication slot then, not one each."""


class NoWalsender(Exception):
    """Raised where the server grants no walsender or no slot; ``error`` says why."""

    def __init__(self, error: EngineError) -> None:
        super().__init__(str(error))
        self.error = error


class OwnSlotReading:
    """A walsender that reads table after table under the snapshot of its own temporary slot.

    ``patience``: seconds that one attempt to create the slot may wait for open transactions; ``tell`` gets what it waits
    for (`patiently`).
    """

    def __init__(
        self,
        migration: Migration,
        run: int,
        lock_timeout: float,
        lock_retries: int,
        *,
        patience: float,
        tell: Callable[[str], None],
    ) -> None:
        self._migration = migration
        self._run = run
        self._lock_timeout = lock_timeout
        self._lock_retries = lock_retries
        self._patience = patience
        self._tell = tell
        self._conn: Connection | None = None
        self._mark = NO_LSN
        self._in_savepoint = self._copying = self._ended = False

    async def begin(self, table: Table) -> tuple[Lsn, Fingerprint]:
        """Lock a table under the session's snapshot, which is taken before the first one; return the snapshot LSN and
        the table's fingerprint. Raises as SnapshotReading does, SnapshotTooLarge, and NoWalsender."""
        return await in_thread(self._begin, table, interrupt=self._interrupt)

    def _begin(self, table: Table) -> tuple[Lsn, Fingerprint]:
        ordinary = self._migration.source
        conn = self._conn if self._conn is not None else self._open(ordinary)
        for attempt in range(self._lock_retries + 1):
            if attempt:
                time.sleep(random.uniform(0.1, 0.5))  # nosec: spreads attempts, guards nothing
            self._leave_savepoint(conn)
            self._refuse_if_ended()
            if self._locked(conn, table):
                query = table_fingerprint.statement(str(table.oid), conn.info.server_version)
                seen = table_fingerprint.read(simple_query(conn, query, "reading under its slot table", str(table)))
                return self._mark, compared(seen, seen_now(ordinary, table), table)
        raise not_locked(ordinary, table, (self._lock_retries + 1) * self._lock_timeout)

    def _open(self, ordinary: Connection) -> Connection:
        """Open the walsender and create its slot; the slot is dropped when the guard has seen its snapshot safe."""

        def attempt(seconds: float) -> Connection:
            self._refuse_if_ended()
            purpose = f"copy {self._migration.name}"
            try:
                conn = connect(self._migration.spec.source, purpose, replication=True, settings=waiting(seconds))
            except ConnectError as exc:
                raise NoWalsender(exc) from exc
            # The pid of its backend differs from those of all other hosts' sessions.
            key = (self._migration.name, self._run, conn.info.backend_pid)
            self._conn = conn
            try:
                self._mark = begin_under_slot(conn, ordinary, *key, wait=seconds)
                drop_run_slot(conn, *key)
            except BaseException as exc:
                self._drop()
                if isinstance(exc, ServerError) and exc.sqlstate in _NONE_LEFT:
                    raise NoWalsender(exc) from exc
                raise
            return conn

        while not _TURN.acquire(timeout=0.5):
            self._refuse_if_ended()
        try:
            return patiently(attempt, self._patience, self._tell)
        finally:
            _TURN.release()

    def _locked(self, conn: Connection, table: Table) -> bool:
        """Lock the table in a savepoint, once; return False if the lock was not granted in time."""
        doing = "locking for the copy table"
        simple_query(conn, "SAVEPOINT one_table", doing, str(table))
        self._in_savepoint = True
        milliseconds = max(1, int(self._lock_timeout * 1000))
        simple_query(conn, f"SET LOCAL lock_timeout = {milliseconds}", doing, str(table))
        try:
            simple_query(conn, lock_statement(table), doing, str(table))
        except ServerError as exc:
            if exc.sqlstate in NO_TABLE:
                raise changed(table) from exc
            if exc.sqlstate != "55P03":
                raise
            return False
        return True

    def _leave_savepoint(self, conn: Connection) -> None:
        """Release the lock of the last table; after an error in the savepoint the transaction can be used again."""
        if self._in_savepoint:
            for statement in ("ROLLBACK TO SAVEPOINT one_table", "RELEASE SAVEPOINT one_table"):
                simple_query(conn, statement, "releasing the last table at the", "source")
            self._in_savepoint = False

    async def copy(self, query: str, form: Format, sink: Sink) -> str:
        """Do as SnapshotReading.copy, over the simple protocol, which is all that a walsender speaks."""
        if self._conn is None:
            raise RuntimeError("copy before begin")
        pgconn, self._copying = self._conn.pgconn, True
        started = await self._call(pgconn.exec_, f"COPY ({query}) TO STDOUT (FORMAT {form})".encode())
        if started.status != pq.ExecStatus.COPY_OUT:
            raise _refused(started)
        while True:
            piece, ended = await self._call(_gather, pgconn.get_copy_data)
            if piece:
                await sink(piece)
            if ended:
                break
        result = await self._call(pgconn.get_result)
        while await self._call(pgconn.get_result) is not None:
            pass
        if result is None or result.status != pq.ExecStatus.COMMAND_OK:
            raise _refused(result)
        self._copying = False
        return (result.command_status or b"").decode()

    async def _call(self, work: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return await in_thread(work, *arguments, interrupt=self._interrupt)
        except psycopg.Error as exc:  # the connection broke
            raise server_error(exc, _COPYING, "source") from exc

    async def end(self) -> None:
        """Release the table's lock. The snapshot stays."""
        if self._conn is not None:
            await self._call(self._leave_savepoint, self._conn)

    @property
    def is_open(self) -> bool:
        """Return whether it has a walsender."""
        return self._conn is not None

    def recover(self) -> None:
        """Make ready for another table after a failure: only what broke off in the middle of a COPY needs a new slot."""
        if self._copying:
            self.close()

    def _interrupt(self) -> None:
        """End what the session executes in another thread."""
        self._ended = True
        conn = self._conn
        if conn is not None:
            with suppress(psycopg.Error):
                conn.cancel_safe(timeout=10.0)

    def _refuse_if_ended(self) -> None:
        if self._ended:
            raise StateError(
                "copying from a slot of its own at the",
                "source",
                "another worker has failed",
                "Its error says what to do.",
            )

    def close(self) -> None:
        """Close the walsender; its slot, if it still exists, goes with it. No thread may use it any more."""
        self._drop()
        self._ended = False

    def _drop(self) -> None:
        conn, self._conn = self._conn, None
        self._in_savepoint = self._copying = False
        if conn is not None:
            conn.close()


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
    return server_error(error, _COPYING, "source")
