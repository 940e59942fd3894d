# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes the source's tables under locks, without harm to the application.

A statement that waits for a lock blocks every session behind it. So it waits only shortly and is retried later, and busy
tables come last.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import ServerError, TimeoutExpired
from ..postgres.connect import explain_errors
from ..postgres.locks import REMEDY, SHOWN, in_lock_timeout, lock_holders, named

if TYPE_CHECKING:
    from ..plan import SqlChange
    from ..postgres.connect import Connection

_BUSY = ("55P03", "40P01")  # lock_not_available, deadlock_detected


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for one lock (``timeout``, in seconds), and how often to retry."""

    timeout: float
    retries: int


@dataclass(frozen=True, slots=True)
class Locked:
    """Work that needs locks on ``relations`` (OIDs): one transaction of its own. Holders of ``harmless`` lock modes do
    not block it. ``after`` is called in the transaction, after the change: what it raises takes the change back."""

    relations: tuple[int, ...]
    change: SqlChange
    harmless: tuple[str, ...] = ()
    after: Callable[[Connection], None] | None = None


def each_under_lock(
    conn: Connection,
    work: Sequence[Locked],
    patience: Patience,
    doing: str,
    refused: Callable[[Locked, ServerError], None] | None = None,
) -> None:
    """Execute every piece in a transaction of its own, in order; busy ones are postponed and retried.

    ``conn`` must be in autocommit. Raises TimeoutExpired, which names every remaining piece and the session that blocks
    it (the others are done). Any other failure is passed to ``refused``, and the rest continues; without it, it is raised.
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
                    if piece.after is not None:
                        piece.after(conn)
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
        f"{piece.change.what} (held by {named(holders[piece.change.what])})" for piece in left[: 2 * SHOWN]
    )
    raise TimeoutExpired(
        doing,
        left[0].change.what if len(left) == 1 else f"{len(left)} tables",
        f"no lock within {patience.timeout:g} s in {patience.retries + 1} attempts: {shown}",
        REMEDY + " To wait longer, raise lock_timeout or lock_retries.",
    )
