# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting at the source without harm: bounded lock waits, and the names of the sessions that are waited for.

A statement that waits for a lock blocks every later session that needs a conflicting one. So it waits shortly and is
retried later, and the tables that were busy come last.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import ServerError, TimeoutExpired
from .connect import explain_errors

if TYPE_CHECKING:
    from ..plan import SqlChange
    from .connect import Connection

_BUSY = ("55P03", "40P01")  # lock_not_available, deadlock_detected
_SHOWN = 5

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


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for one lock (``timeout``, in seconds), and how often to retry."""

    timeout: float
    retries: int


@dataclass(frozen=True, slots=True)
class Locked:
    """Work that needs locks on ``relations`` (OIDs): one transaction of its own. Holders of ``harmless`` lock modes are
    not in its way."""

    relations: tuple[int, ...]
    change: SqlChange
    harmless: tuple[str, ...] = ()


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
SELECT DISTINCT l.mode, {_SESSION}
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


def lock_holders(conn: Connection, relations: Sequence[int], harmless: Sequence[str] = ()) -> tuple[str, ...]:
    """Describe the holders of locks on these relations, except those whose mode is among ``harmless``."""
    with explain_errors("looking for lock holders at the source"):
        rows = conn.execute(_HOLDERS, (list(relations), list(harmless))).fetchall()
    return tuple(sorted({_described(row[1:]) for row in rows}))


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
    more = f" and {len(holders) - _SHOWN} more" if len(holders) > _SHOWN else ""
    return "; ".join(holders[:_SHOWN]) + more


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


def each_under_lock(
    conn: Connection,
    work: Sequence[Locked],
    patience: Patience,
    doing: str,
    refused: Callable[[Locked, ServerError], None] | None = None,
) -> None:
    """Execute every piece in a transaction of its own, in order; busy ones are put off and retried.

    ``conn`` must be in autocommit. Raises TimeoutExpired, which names every piece that is left and who holds it (the
    others are done). Any other failure is passed to ``refused``, and the rest continues; without it, it is raised.
    """
    left = list(work)
    holders: dict[str, tuple[str, ...]] = {}
    for attempt in range(patience.retries + 1):
        busy = []
        for piece in left:
            try:
                with explain_errors(doing, piece.change.what), conn.transaction():
                    in_lock_timeout(conn, patience.timeout)
                    piece.change.execute(conn, doing)
            except ServerError as exc:
                if exc.sqlstate not in _BUSY:
                    if refused is None:
                        raise
                    refused(piece, exc)
                    continue
                busy.append(piece)
                holders[piece.change.what] = lock_holders(conn, piece.relations, piece.harmless)
        left = busy
        if not left:
            return
        if attempt < patience.retries:
            # Without jitter two migrations, or one and a cron job, would collide again and again.
            time.sleep(random.uniform(0.5, 1.5) * min(patience.timeout, 2.0))
    shown = "; ".join(
        f"{piece.change.what} (held by {named(holders[piece.change.what])})" for piece in left[: 2 * _SHOWN]
    )
    raise TimeoutExpired(
        doing,
        left[0].change.what if len(left) == 1 else f"{len(left)} tables",
        f"no lock within {patience.timeout:g} s in {patience.retries + 1} attempts: {shown}",
        REMEDY + " To wait longer, raise lock_timeout or lock_retries.",
    )
