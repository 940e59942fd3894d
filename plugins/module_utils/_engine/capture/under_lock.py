# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes the source's tables under locks, without harm to the application.

A statement that waits for a lock blocks every session behind it. So it waits in pg_locks, where nothing queues behind us:
the first attempt is short, and whoever is in its way is named at once; the next comes when the lock is free, or when
only transactions hold it that are younger than one wait or of unknown age, or after a pause that is 200 times as long as
writers queued.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..errors import ServerError, TimeoutExpired
from ..postgres.connect import explain_errors
from ..postgres.locks import REMEDY, SHOWN, LockHolder, in_lock_timeout, named, observe_holders

if TYPE_CHECKING:
    from ..plan import SqlChange
    from ..postgres.connect import Connection

_BUSY = ("55P03", "40P01")  # lock_not_available, deadlock_detected

SHORT = 0.05
"""Seconds of the first attempt, and of those that are made although an old transaction holds the lock."""

_FIRST = 0.4
"""Seconds of the first attempt at a lock that only young transactions hold: most end sooner, and one may not be young but
forgotten. The next one waits as long as it may."""

_AT_ONCE = 0.01
"""Seconds of an attempt at a lock that nobody held a moment ago."""

_SHARE = 200
"""Pauses are that many times as long as the attempt before: with those at a free lock writers queue for less than 1 %."""

LOOK = 0.2
"""Seconds between two looks at who holds the locks."""

Tell = Callable[[str, Sequence[str]], None]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one attempt may wait for a lock (``timeout``, in seconds), and for how many of these is tried."""

    timeout: float
    retries: int

    @property
    def total(self) -> float:
        """Return the seconds after which busy objects are given up: each retry counts as a wait and a pause as long."""
        return self.timeout * (2 * self.retries + 1)


@dataclass(frozen=True, slots=True)
class Locked:
    """Work that needs locks on ``relations`` (OIDs): one transaction of its own. Holders of ``harmless`` lock modes do
    not block it. ``after`` is called in the transaction, after the change: what it raises takes the change back."""

    relations: tuple[int, ...]
    change: SqlChange
    harmless: tuple[str, ...] = ()
    after: Callable[[Connection], None] | None = None


@dataclass(slots=True)
class Turns:
    """When to try for a busy lock: from ``due`` on an attempt may make writers queue, from ``free`` on one at a free lock."""

    due: float = 0.0
    free: float = 0.0
    waited: bool = False
    holders: tuple[LockHolder, ...] = ()
    told: frozenset[str] = field(default_factory=frozenset)

    def next_wait(self, holders: tuple[LockHolder, ...], now: float, timeout: float) -> float:
        """Return for how many seconds to wait for the lock now; 0 for not at all. Pure but for what it remembers."""
        self.holders = holders
        if not holders:
            return min(_AT_ONCE, timeout) if now >= self.free else 0.0
        if all(one.age is None or one.age < timeout for one in holders) and (now >= self.due or not self.waited):
            # They come and go: they will have ended before we give up.
            first, self.waited = not self.waited, True
            return min(_FIRST, timeout) if first and any(one.age != 0 for one in holders) else timeout
        return min(SHORT, timeout) if now >= self.due else 0.0

    def failed(self, wait: float, took: float, now: float) -> None:
        """Note an attempt that was to wait ``wait`` seconds and made writers queue for ``took``. Pure but for that."""
        # Without jitter two migrations, or one and a cron job, would collide again and again.
        pause = _SHARE * took * random.uniform(1.0, 1.2)  # nosec: spreads attempts, guards nothing
        if wait <= _AT_ONCE:
            self.free = now + pause
        else:
            self.due = now + pause

    def news(self) -> tuple[str, ...]:
        """Return the holders where one has come that was not told; those that come and go are told once only."""
        keys = frozenset(one.key for one in self.holders if one.age is None or one.age >= 1.0 or not self.told)
        if not keys - self.told:
            return ()
        self.told |= keys
        return tuple(one.described for one in self.holders)


def each_under_lock(
    conn: Connection,
    work: Sequence[Locked],
    patience: Patience,
    doing: str,
    refused: Callable[[Locked, ServerError], None] | None = None,
    tell: Tell | None = None,
) -> None:
    """Execute every piece in a transaction of its own, in order; busy ones are postponed and retried.

    ``conn`` must be in autocommit. ``tell`` is called at once with what is waited for, and by which sessions it is held.
    Raises TimeoutExpired, which names every remaining piece and the session that blocks it (the others are done). Any
    other failure is passed to ``refused``, and the rest continues; without it, it is raised.
    """

    def done(piece: Locked, turns: Turns, wait: float) -> bool:
        began = time.monotonic()
        try:
            if _execute(conn, piece, wait, doing):
                return True
        except ServerError as exc:
            if refused is None:
                raise
            refused(piece, exc)
            return True
        now = time.monotonic()
        turns.failed(wait, now - began, now)
        return False

    deadline = time.monotonic() + patience.total
    everything = [(piece, Turns()) for piece in work]
    left = [(piece, turns) for piece, turns in everything if not done(piece, turns, min(SHORT, patience.timeout))]
    while left:
        began = time.monotonic()
        busy = []
        for piece, turns in left:
            holders = observe_holders(conn, piece.relations, piece.harmless)
            wait = turns.next_wait(holders, time.monotonic(), patience.timeout)
            if tell is not None and (names := turns.news()):
                tell(piece.change.what, names)
            if not (wait and done(piece, turns, wait)):
                busy.append((piece, turns))
        left = busy
        if left and time.monotonic() > deadline:
            raise _given_up(left, patience, doing)
        # Many busy tables: the looks themselves shall be a tenth of the time
        time.sleep(max(LOOK, 10 * (time.monotonic() - began)) if left else 0.0)


def _execute(conn: Connection, piece: Locked, wait: float, doing: str) -> bool:
    """Do a piece, waiting for its lock for ``wait`` seconds; return False if it was not granted. Raises ServerError."""
    try:
        with explain_errors(doing, piece.change.what), conn.transaction():
            in_lock_timeout(conn, wait)
            piece.change.execute(conn, doing)
            if piece.after is not None:
                piece.after(conn)
    except ServerError as exc:
        if exc.sqlstate not in _BUSY:
            raise
        return False
    return True


def _given_up(left: Sequence[tuple[Locked, Turns]], patience: Patience, doing: str) -> TimeoutExpired:
    what = [piece.change.what for piece, dummy in left]
    shown = "; ".join(
        f"{piece.change.what} (held by {named([holder.described for holder in turns.holders])})"
        for piece, turns in left[: 2 * SHOWN]
    )
    return TimeoutExpired(
        doing,
        what[0] if len(what) == 1 else f"{len(what)} tables",
        f"no lock within {patience.total:g} s, of which writers were made to queue for less than 1 %: {shown}",
        REMEDY + " To wait longer, raise lock_timeout or lock_retries.",
    )
