# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ends the sessions that were writing when the fence was raised, and waits until their transactions are over.

A right is checked when a statement begins, after the statement has locked its table. So a session that passed the check
before the fence holds a writer's lock then, even through a view or a function of another owner; a later one is refused.
The same goes for sequences: nextval() locks as a writer does, and a statement that calls it again and again may not see
the revoked right until its transaction ends.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ..errors import EngineError, StateError, TimeoutExpired
from ..postgres._psycopg import psycopg
from ..postgres.connect import explain_errors, server_error
from ..postgres.locks import named

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..postgres.connect import Connection
    from .fence import Fence
    from .grants import Relation

_DOING = "ending the sessions of the fenced roles"
_POLL = 0.01
_REFUSED = "42501"

# Ours are known by account and name: any session may set the name alone.
_SESSIONS = """
SELECT pid FROM pg_catalog.pg_stat_activity
 WHERE datname = pg_catalog.current_database() AND usename::text = ANY (%s) AND pid <> pg_catalog.pg_backend_pid()
   AND NOT (usename::text = %s AND application_name LIKE 'causeway %%')
"""

_WRITING_NOW = """
SELECT DISTINCT l.virtualtransaction, l.pid, coalesce(a.usename::text, 'unknown'), coalesce(a.application_name, ''),
       coalesce(p.gid, ''), c.relkind <> 'S' OR l.mode <> 'RowExclusiveLock'
  FROM pg_catalog.pg_locks l
  JOIN pg_catalog.pg_class c ON c.oid = l.relation
  LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
  LEFT JOIN pg_catalog.pg_locks x
    ON l.pid IS NULL AND x.pid IS NULL AND x.virtualtransaction = l.virtualtransaction
   AND x.locktype = 'transactionid' AND x.mode = 'ExclusiveLock'
  LEFT JOIN pg_catalog.pg_prepared_xacts p ON p.transaction = x.transactionid
 WHERE l.locktype = 'relation' AND l.granted AND l.relation::bigint = ANY (%s)
   AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
   AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
   AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
"""


def end_sessions(conn: Connection, fence: Fence, relations: Sequence[Relation], timeout: float) -> int:
    """End the sessions of the fenced roles and every transaction that was writing to ``relations``, tables and sequences,
    and wait until they are gone. To be called after the fence was raised, so that later ones are refused.

    Returns how many sessions there were. Raises TimeoutExpired, and StateError for a prepared transaction, which
    outlives its session.
    """
    deadline = time.monotonic() + timeout
    with explain_errors(_DOING):
        writing = _writing(conn, relations)
        sessions = _sessions(conn, fence)
    _refuse_prepared(writing)
    writing = [row for row in writing if row[1] is not None]
    ours = {pid: f"pid {pid} of a fenced role" for pid in sessions}
    others = {row[1]: f"pid {row[1]} ({row[3]}, user {row[2]})" for row in writing if row[1] not in ours}
    for pid in ours:
        _terminate(conn, pid, tolerant=False)
    for pid in others:
        # A role that the fence does not stop, or one that writes with another role's rights: as far as we may.
        _terminate(conn, pid, tolerant=True)
    transactions = {row[0] for row in writing}
    while True:
        with explain_errors(_DOING):
            left = {row[0]: others.get(row[1]) or f"pid {row[1]}" for row in _writing(conn, relations)}
            alive = [ours[pid] for pid in _sessions(conn, fence) if pid in ours]
        alive += [left[transaction] for transaction in transactions & left.keys()]
        if not alive:
            return len(ours) + len(others)
        if time.monotonic() > deadline:
            raise TimeoutExpired(
                _DOING,
                named(sorted(set(alive))),
                f"they had not ended after {timeout:g} s",
                "See in pg_stat_activity at the source what they wait for.",
            )
        time.sleep(_POLL)


def require_nothing_prepared(conn: Connection, relations: Sequence[Relation]) -> None:
    """Raise StateError where a prepared transaction has written to a table, or altered a sequence, of ``relations``. One
    that has drawn from a sequence is harmless: what is drawn stays drawn, however it ends."""
    with explain_errors("looking for prepared transactions at the source"):
        writing = _writing(conn, relations)
    _refuse_prepared(writing)


def _sessions(conn: Connection, fence: Fence) -> list[int]:
    roles = list(fence.roles)
    return [row[0] for row in conn.execute(_SESSIONS, (roles, fence.login)).fetchall()]


def _writing(conn: Connection, relations: Sequence[Relation]) -> list[Any]:
    return conn.execute(_WRITING_NOW, ([relation.oid for relation in relations],)).fetchall()


def _terminate(conn: Connection, pid: int, *, tolerant: bool) -> None:
    try:
        conn.execute("SELECT pg_catalog.pg_terminate_backend(%s)", (pid,))
    except psycopg.Error as exc:
        if tolerant and exc.sqlstate == _REFUSED:
            return
        remedy = "GRANT pg_signal_backend to the migration's account." if exc.sqlstate == _REFUSED else ""
        error: EngineError = server_error(exc, _DOING, f"pid {pid}", remedy)
        raise error from exc


def _refuse_prepared(writing: Sequence[Any]) -> None:
    prepared = sorted({row[4] or row[0] for row in writing if row[1] is None and row[5]})
    if prepared:
        raise StateError(
            "fencing the source",
            f"prepared transaction {prepared[0]}" + (f" and {len(prepared) - 1} more" if len(prepared) > 1 else ""),
            "it has written to the selected tables and could still be committed after they have been compared",
            "COMMIT PREPARED or ROLLBACK PREPARED it, then run the cutover again.",
        )
