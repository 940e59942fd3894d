# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nothing is read under a slot's snapshot until every transaction that it calls finished has really finished.

A slot's snapshot is made from the WAL, so it can call a transaction committed whose backend has not yet set the commit
log. A reader under it then marks that transaction's rows as invalid, and they vanish at the source, for everybody.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ..connect import speaking
from ..errors import TimeoutExpired

if TYPE_CHECKING:
    from ..connect import Connection

SNAPSHOT_FUNCTIONS = 130000
"""pg_current_snapshot() and its relatives came with this version; before it txid_visible_in_snapshot() may not be
called, since it crashes PolarDB 11."""

_FINISHED = """
SELECT pg_catalog.pg_snapshot_xmax(now.snapshot) >= pg_catalog.pg_snapshot_xmax(%(seen)s::pg_snapshot)
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_snapshot_xip(now.snapshot) AS running(xid)
                        WHERE pg_catalog.pg_visible_in_snapshot(running.xid, %(seen)s::pg_snapshot))
  FROM (SELECT pg_catalog.pg_current_snapshot() AS snapshot) AS now
"""

_RUNNING = """
SELECT transactionid::text::bigint FROM pg_catalog.pg_locks
 WHERE locktype = 'transactionid' AND mode = 'ExclusiveLock' AND granted
"""

_OLDEST = """
(SELECT 'pid ' || a.pid || ' (' || a.usename || ', ' || coalesce(nullif(a.application_name, ''), 'no name')
        || ') in a transaction since ' || a.xact_start::timestamptz(0)
   FROM pg_catalog.pg_stat_activity a
  WHERE a.backend_xid IS NOT NULL AND a.pid <> pg_catalog.pg_backend_pid() ORDER BY a.xact_start LIMIT 3)
UNION ALL
(SELECT 'prepared transaction ' || p.gid || ' (' || p.owner || ') since ' || p.prepared::timestamptz(0)
   FROM pg_catalog.pg_prepared_xacts p ORDER BY p.prepared LIMIT 3)
"""


def seen_by_statement(server_version: int) -> str:
    """What the holder is asked for its own snapshot: a pg_snapshot as text, or on old servers its xmax alone."""
    if server_version >= SNAPSHOT_FUNCTIONS:
        return "SELECT pg_catalog.pg_current_snapshot()::text"
    return "SELECT pg_catalog.txid_snapshot_xmax(pg_catalog.txid_current_snapshot())::text"


def all_finished(ordinary: Connection, seen: str) -> bool:
    """Whether every transaction that the snapshot ``seen`` calls finished has finished for an ordinary session now."""
    if ordinary.info.server_version >= SNAPSHOT_FUNCTIONS:
        row = ordinary.execute(_FINISHED, {"seen": seen}).fetchone()
        return bool(row and row[0])
    first_unseen = int(seen) & 0xFFFFFFFF
    running = (row[0] for row in ordinary.execute(_RUNNING).fetchall())
    return not any(is_before(xid, first_unseen) for xid in running)


def is_before(xid: int, other: int) -> bool:
    """Order of 32-bit transaction ids, which wrap around (PostgreSQL manual, Transaction ID Wraparound)."""
    return 0 < (other - xid) & 0xFFFFFFFF < 0x80000000


def wait_finished(ordinary: Connection, seen: str, timeout: float, poll: float = 0.005) -> float:
    """Wait until nothing that the snapshot calls finished still runs. Returns the seconds it took.

    ``ordinary`` is a session outside any transaction. Raises TimeoutExpired, naming the oldest open transactions.
    """
    began = time.monotonic()
    with speaking("waiting for the transactions that the snapshot calls finished at the", "source"):
        while not all_finished(ordinary, seen):
            if time.monotonic() - began > timeout:
                raise TimeoutExpired(
                    "waiting for the transactions that the snapshot calls finished at the",
                    "source",
                    f"still open after {timeout:g} s: {oldest_transactions(ordinary)}",
                    "A commit waits, mostly for a synchronous standby: let it finish, then run the playbook again.",
                )
            time.sleep(poll)
    return time.monotonic() - began


def oldest_transactions(ordinary: Connection) -> str:
    """The oldest open transactions that have written, for a person; no text of a statement."""
    with speaking("looking for open transactions at the", "source"):
        found = [row[0] for row in ordinary.execute(_OLDEST).fetchall() if row[0]]
    return "; ".join(found) or "none that this account may see"
