# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The wait before a slot's snapshot is read, until every transaction that it calls finished has really finished.

A slot's snapshot is made from the WAL, so it can call a transaction committed whose backend has not yet set the commit
log. A reader under it then marks that transaction's rows as invalid, and they vanish at the source, for all sessions.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import TimeoutExpired
from ..postgres.connect import explain_errors
from ..postgres.locks import named, running_transactions
from ..postgres.versions import has

if TYPE_CHECKING:
    from ..postgres.connect import Connection

SEEN = "SELECT pg_catalog.txid_current_snapshot()::text"
"""The session's own snapshot as text. Every version from 10 on has this function, pg_current_snapshot() only those from 13."""

_RUNNING = """
SELECT transactionid::text::bigint FROM pg_catalog.pg_locks
 WHERE locktype = 'transactionid' AND mode = 'ExclusiveLock' AND granted
"""


@dataclass(frozen=True, slots=True)
class Xids:
    """A pg_snapshot: below ``xmin`` all is finished, from ``xmax`` on nothing is, ``running`` lists those between.

    A slot's may have an ``xmin`` above its ``xmax``, which the type's own input function refuses.
    """

    xmin: int
    xmax: int
    running: frozenset[int]

    def calls_finished(self, xid: int) -> bool:
        """Return whether a reader under it takes this transaction for finished (as pg_visible_in_snapshot() does)."""
        return xid < self.xmin or (xid < self.xmax and xid not in self.running)


def parse_snapshot(text: str) -> Xids:
    """Parse ``10:20:10,14,15`` to Xids (PostgreSQL manual, Transaction ID and Snapshot Information Functions)."""
    xmin, xmax, running = text.split(":")
    return Xids(int(xmin), int(xmax), frozenset(int(xid) for xid in running.split(",") if xid))


def has_passed(now: Xids, seen: Xids) -> bool:
    """Return whether all that ``seen`` calls finished is finished ``now``."""
    if now.xmax < max(seen.xmin, seen.xmax):
        return False
    return not any(seen.calls_finished(xid) for xid in now.running)


def all_finished(ordinary: Connection, seen: str) -> bool:
    """Return whether every transaction that ``seen`` calls finished has finished for an ordinary session now."""
    # PolarDB 11 lists other transactions than those that run (and txid_visible_in_snapshot() crashes it): of an older
    # server's snapshot only the xmax counts.
    if has(ordinary.info.server_version, "snapshots that list what runs"):
        row = ordinary.execute(SEEN).fetchone()
        return row is not None and has_passed(parse_snapshot(row[0]), parse_snapshot(seen))
    first_unseen = parse_snapshot(seen).xmax & 0xFFFFFFFF
    running = (row[0] for row in ordinary.execute(_RUNNING).fetchall())
    return not any(is_before(xid, first_unseen) for xid in running)


def is_before(xid: int, other: int) -> bool:
    """Return whether one 32-bit transaction id is older; they wrap (PostgreSQL manual, Transaction ID Wraparound)."""
    return 0 < (other - xid) & 0xFFFFFFFF < 0x80000000


def wait_finished(ordinary: Connection, seen: str, timeout: float, poll: float = 0.005) -> float:
    """Wait until nothing that the snapshot calls finished still runs. Returns the seconds it took.

    ``ordinary`` is a session outside any transaction. Raises TimeoutExpired, naming the open transactions.
    """
    began = time.monotonic()
    with explain_errors("waiting for the transactions that the snapshot calls finished at the", "source"):
        while not all_finished(ordinary, seen):
            if time.monotonic() - began > timeout:
                raise TimeoutExpired(
                    "waiting for the transactions that the snapshot calls finished at the",
                    "source",
                    f"still open after {timeout:g} s: {open_transactions(ordinary)}",
                    "Wait until they have ended (a commit may wait for a synchronous standby), then run the playbook again.",
                )
            time.sleep(poll)
    return time.monotonic() - began


def open_transactions(ordinary: Connection) -> str:
    """Return who has open transactions that have written, the oldest first, without the text of any statement.

    Raises ServerError.
    """
    found = running_transactions(ordinary)
    return named([found[xid] for xid in sorted(found, key=int)]) if found else "none that are still open"
