# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Creates a logical slot over a replication connection, in bounded time; a timeout names the blocking sessions.

The SQL function is no substitute: on PolarDB 11 it returned while a transaction was open and lost one of its rows.
PostgreSQL manual, Streaming Replication Protocol: CREATE_REPLICATION_SLOT.
"""

from __future__ import annotations

import select
import time
from typing import TYPE_CHECKING

from ..errors import ConnectError, ProtocolError, ServerError, TimeoutExpired
from ..postgres._psycopg import pq, psycopg
from ..postgres.connect import explain_errors
from ..postgres.locks import REMEDY, blockers_of, named
from ..postgres.sqlstates import policy_for
from ..postgres.versions import has

if TYPE_CHECKING:
    from ..postgres.connect import Connection

_MAKING = "making the replication slot"


def creation_statement(name: str, plugin: str, failover: bool, version: int) -> str:
    """Return CREATE_REPLICATION_SLOT without a snapshot, in the old syntax before PostgreSQL 15."""
    if has(version, "slot options in parentheses"):
        more = ", FAILOVER true" if failover and has(version, "slot option FAILOVER") else ""
        return f"CREATE_REPLICATION_SLOT \"{name}\" LOGICAL {plugin} (SNAPSHOT 'nothing'{more})"
    return f'CREATE_REPLICATION_SLOT "{name}" LOGICAL {plugin} NOEXPORT_SNAPSHOT'


def create_slot(walsender: Connection, watcher: Connection, statement: str, name: str, timeout: float) -> str:
    """Create the slot and return its consistent point as text.

    PostgreSQL waits here for every running transaction, one after the other, prepared ones and commits that wait for
    a standby too; no server timeout bounds the whole. After ``timeout`` seconds the blocking sessions are read (over
    ``watcher``, an ordinary session) and the command is cancelled: the server then drops the unfinished slot. Raises
    TimeoutExpired, ServerError, ConnectError.
    """
    pgconn = walsender.pgconn
    pid = walsender.info.backend_pid
    pgconn.send_query(statement.encode())
    deadline = time.monotonic() + timeout
    waited_for: tuple[str, ...] = ()
    cancelled = False
    while _busy(walsender, name):
        left = deadline - time.monotonic()
        if left <= 0 and not cancelled:
            cancelled = True
            # Read before cancelling: a cancelled command has no blockers.
            waited_for = blockers_of(watcher, pid)
            with explain_errors("cancelling the replication slot", name):
                walsender.cancel_safe(timeout=10.0)
        select.select([pgconn.socket], [], [], min(max(left, 0.05), 0.5))
    return _consistent_point(walsender, name, waited_for, timeout if cancelled else 0)


def _busy(walsender: Connection, name: str) -> bool:
    try:
        walsender.pgconn.consume_input()
        return bool(walsender.pgconn.is_busy())
    except psycopg.Error as exc:
        raise ConnectError(_MAKING, name, "the connection broke", policy_for("").remedy) from exc


def _consistent_point(walsender: Connection, name: str, waited_for: tuple[str, ...], timeout: float) -> str:
    result = walsender.pgconn.get_result()
    while walsender.pgconn.get_result() is not None:  # the end of the command
        pass
    if result is not None and result.status == pq.ExecStatus.TUPLES_OK and result.ntuples == 1:
        point = result.get_value(0, 1)
        if point:
            return point.decode()
        raise ProtocolError(_MAKING, name, "the server named no consistent point", "Name the primary, not a proxy.")
    state = result.error_field(pq.DiagnosticField.SQLSTATE) if result is not None else None
    message = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) if result is not None else None
    sqlstate = state.decode() if state else ""
    if sqlstate == "57014" and timeout:
        raise TimeoutExpired(
            _MAKING,
            name,
            f"it waits for transactions that were open before, and after {timeout:g} s still for {named(waited_for)}",
            REMEDY,
        )
    why = message.decode(errors="replace") if message else "the server gave no answer"
    remedy = policy_for(sqlstate).remedy
    if sqlstate == "53400":
        remedy = "Raise max_replication_slots at the source, or drop a slot that is not needed."
    raise ServerError(_MAKING, name, why, remedy or "See the server's log.", sqlstate=sqlstate)


def wait_inactive(conn: Connection, name: str, timeout: float, poll: float = 0.1) -> int:
    """Wait until no session reads the slot. Return 0, or the pid that still reads it after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        with explain_errors("looking at the replication slot", name):
            row = conn.execute(
                "SELECT coalesce(active_pid, 0) FROM pg_catalog.pg_replication_slots WHERE slot_name = %s", (name,)
            ).fetchone()
        if row is None or not row[0]:
            return 0
        if time.monotonic() > deadline:
            return int(row[0])
        time.sleep(poll)


def drop_slot(conn: Connection, name: str) -> None:
    """Drop the slot. Raises ServerError.

    As the account that logs in, which made it: only a role with REPLICATION may, and a session's role need not have it.
    """
    with explain_errors("dropping the replication slot", name), conn.transaction():
        conn.execute("SET LOCAL ROLE NONE")
        conn.execute("SELECT pg_catalog.pg_drop_replication_slot(%s)", (name,))
