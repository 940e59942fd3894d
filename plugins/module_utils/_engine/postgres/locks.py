# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks: bounded waits for them, and which session or prepared transaction holds one."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import TimeoutExpired
from .connect import explain_errors

if TYPE_CHECKING:
    from .connect import Connection

SHOWN = 5
"""How many holders a sentence names."""

BESIDE_A_READER = (
    "AccessShareLock",
    "RowShareLock",
    "RowExclusiveLock",
    "ShareUpdateExclusiveLock",
    "ShareLock",
    "ShareRowExclusiveLock",
    "ExclusiveLock",
)
"""The lock modes that do not block a reader: all but one (PostgreSQL manual, Explicit Locking)."""


_SESSION = """
    l.pid, coalesce(a.application_name, ''), coalesce(a.usename::text, ''), coalesce(a.state, ''),
    coalesce(a.xact_start::text, ''), coalesce(a.wait_event, ''), p.gid
"""

_RUNNING = f"""
SELECT l.transactionid::text, {_SESSION}
  FROM pg_catalog.pg_locks l
  LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
  LEFT JOIN pg_catalog.pg_prepared_xacts p ON p.transaction = l.transactionid
 WHERE l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock' AND l.granted
   AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
"""

_HOLDERS = f"""
SELECT DISTINCT CASE WHEN l.pid IS NULL THEN 'Infinity'::float8 WHEN a.backend_type = 'autovacuum worker' THEN 0
                     ELSE extract(epoch FROM pg_catalog.clock_timestamp() - a.xact_start)::float8 END, {_SESSION}
  FROM pg_catalog.pg_locks l
  LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
  LEFT JOIN pg_catalog.pg_locks x
    ON l.pid IS NULL AND x.pid IS NULL AND x.virtualtransaction = l.virtualtransaction
   AND x.locktype = 'transactionid' AND x.mode = 'ExclusiveLock'
  LEFT JOIN pg_catalog.pg_prepared_xacts p ON p.transaction = x.transactionid
 WHERE l.locktype = 'relation' AND l.granted AND l.relation::bigint = ANY (%s) AND l.mode <> ALL (%s)
   AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
   AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
"""


def _described(row: Sequence[Any]) -> str:
    """Describe a session or a prepared transaction for the operator, without its query, which may hold values."""
    pid, application, user, state, since, event, gid = row
    if pid is None:
        return f"prepared transaction {gid!r}" if gid else "a prepared transaction"
    words = [f"{application or 'no application_name'}", f"user {user or 'unknown'}"]
    words += [state] if state else []
    words += ["waiting for a synchronous standby"] if event == "SyncRep" else []
    return f"pid {pid} ({', '.join(words)})" + (f" in a transaction since {since}" if since else "")


def running_transactions(conn: Connection) -> Mapping[str, str]:
    """Return every other transaction of the cluster that has an xid, prepared ones too: xid to a description.

    Read from pg_locks, which every version has and every account may read in full. Raises ServerError.
    """
    with explain_errors("looking for running transactions at the source"):
        return {row[0]: _described(row[1:]) for row in conn.execute(_RUNNING).fetchall()}


@dataclass(frozen=True, slots=True)
class LockHolder:
    """A session or a prepared transaction that holds a lock. ``age`` is that of a session's transaction in seconds, None
    where it is not known, infinite for a prepared one, and 0 for autovacuum, which gives way to who waits for a second;
    ``key`` is the same as long as it holds the lock."""

    described: str
    key: str
    age: float | None


def observe_holders(conn: Connection, relations: Sequence[int], harmless: Sequence[str] = ()) -> tuple[LockHolder, ...]:
    """Return the holders of locks on these relations, except those whose mode is among ``harmless``. Raises ServerError."""
    with explain_errors("looking for lock holders at the source"):
        rows = conn.execute(_HOLDERS, (list(relations), list(harmless))).fetchall()
    found = {
        key: LockHolder(_described(row[1:]), key, row[0]) for row in rows for key in [f"{row[1]} {row[7]} {row[5]}"]
    }
    return tuple(found[key] for key in sorted(found))


def lock_holders(conn: Connection, relations: Sequence[int], harmless: Sequence[str] = ()) -> tuple[str, ...]:
    """Describe the holders of locks on these relations, except those whose mode is among ``harmless``."""
    return tuple(sorted({one.described for one in observe_holders(conn, relations, harmless)}))


def blockers_of(conn: Connection, pid: int) -> tuple[str, ...]:
    """Describe the sessions that block a waiting one (pg_blocking_pids, where 0 means a prepared transaction)."""
    with explain_errors("looking for what a session waits for at the source"):
        row = conn.execute("SELECT pg_catalog.pg_blocking_pids(%s)", (pid,)).fetchone()
        pids = set(row[0]) if row else set()
        rows = conn.execute(_RUNNING).fetchall()
    found = {_described(row[1:]) for row in rows if (row[1] or 0) in pids}
    return tuple(sorted(found | {f"pid {other}" for other in pids - {row[1] or 0 for row in rows}}))


def named(holders: Sequence[str]) -> str:
    """Return the holders as part of a sentence."""
    if not holders:
        return "a session that has already ended"
    more = f" and {len(holders) - SHOWN} more" if len(holders) > SHOWN else ""
    return "; ".join(holders[:SHOWN]) + more


REMEDY = (
    "Wait until it ends, or end it (pg_terminate_backend; COMMIT PREPARED or ROLLBACK PREPARED for a prepared"
    " transaction), and run the same playbook again."
)


def wait_for_running(conn: Connection, timeout: float, doing: str, what: str, poll: float = 0.05) -> float:
    """Wait until every transaction that runs now has ended. Returns the seconds that took.

    Raises TimeoutExpired after ``timeout`` seconds, naming those that are still there.
    """
    began = time.monotonic()
    waited_for = set(running_transactions(conn))
    while waited_for:
        still = {xid: who for xid, who in running_transactions(conn).items() if xid in waited_for}
        if not still:
            break
        if time.monotonic() - began > timeout:
            older = sorted(set(still.values()))
            raise TimeoutExpired(
                doing, what, f"earlier transactions are still open after {timeout:g} s: {named(older)}", REMEDY
            )
        waited_for = set(still)
        time.sleep(poll)
    return time.monotonic() - began


def in_lock_timeout(conn: Connection, seconds: float) -> None:
    """Bound the lock waits of the open transaction. 0 means as short as possible, not unlimited as in PostgreSQL."""
    conn.execute("SELECT pg_catalog.set_config('lock_timeout', %s, true)", (f"{max(1, int(seconds * 1000))}ms",))
