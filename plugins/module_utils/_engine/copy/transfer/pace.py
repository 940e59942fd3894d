# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rate limits of a copy at the source, the share of one host in them, and the wait of its workers for them."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from ...flow.token_bucket import TokenBucket

MEGABYTE: Final = 1_000_000

_LOOK: Final = 0.2
"""Seconds after which a worker that waits looks again: the limit may have changed."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Limits of all hosts together, 0 for none: statements, rows and bytes of COPY data a second at the source; and
    what pauses the copy: seconds by which a standby of the source lags, and sessions that are active there."""

    queries: float = 0.0
    rows: float = 0.0
    bytes: float = 0.0
    source_lag: float = 0.0
    active: int = 0

    def stored(self) -> dict[str, Any]:
        """Return it as the control row stores it."""
        return asdict(self)


def pace_of(settings: Mapping[str, Any]) -> Pace:
    """Return the Pace that the control row holds; what it does not name is not limited."""
    known = Pace()
    found = {name: type(value)(settings.get(name) or 0) for name, value in known.stored().items()}
    return Pace(**found)


class Throttle:
    """The limiter that the workers of one host ask before they read on. Until a pace is set it lets nothing through.

    ``tell`` may be called from another thread: it replaces one value.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pace: Pace | None = None
        self._share = 1.0
        self._held = ""
        self._seen: tuple[Pace | None, float] = (None, 0.0)
        self._buckets: dict[str, TokenBucket] = {}
        self._turn: asyncio.Lock | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def tell(self, pace: Pace, share: float, held: str = "") -> None:
        """Set the limits of all hosts, this host's share in them (0 to 1), and what pauses the copy altogether."""
        self._share, self._held, self._pace = share, held, pace

    @property
    def counts_rows(self) -> bool:
        """Return whether rows have to be counted, which costs time."""
        return self._pace is not None and self._pace.rows > 0

    @property
    def held(self) -> str:
        """Return what pauses the copy at this moment, for display; empty if nothing does."""
        return self._held

    async def spend(self, **amounts: float) -> None:
        """Wait until so many ``queries``, ``rows`` and ``bytes`` may go. Workers take turns: all get the same."""
        async with self._own_turn():
            while True:
                left = self._wait(amounts)
                if left <= 0:
                    break
                await asyncio.sleep(min(max(left, 0.001), _LOOK))
            now = self._clock()
            for name, amount in amounts.items():
                if name in self._buckets:
                    self._buckets[name].take(amount, now)

    def _own_turn(self) -> asyncio.Lock:
        """Return the lock of the running event loop: a lock belongs to one loop, and each run of a copy has its own."""
        loop = asyncio.get_running_loop()
        if self._turn is None or self._loop is not loop:
            self._turn, self._loop = asyncio.Lock(), loop
        return self._turn

    def _wait(self, amounts: Mapping[str, float]) -> float:
        """Return the seconds until these may go, with the limits as they are now."""
        pace, share, now = self._pace, self._share, self._clock()
        if pace is None or self._held:
            return _LOOK
        if self._seen != (pace, share):
            self._seen = (pace, share)
            for name in ("queries", "rows", "bytes"):
                self._change(name, getattr(pace, name) * share, now)
        waits = [self._buckets[name].wait(amount, now) for name, amount in amounts.items() if name in self._buckets]
        return max(waits, default=0.0)

    def _change(self, name: str, rate: float, now: float) -> None:
        if not rate:
            self._buckets.pop(name, None)
        elif name in self._buckets:
            self._buckets[name].change(rate, now)
        else:
            self._buckets[name] = TokenBucket(rate, now)


_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\x00"
_SHORT, _LONG = struct.Struct(">h"), struct.Struct(">i")


def rows_in(piece: bytes, form: str) -> int:
    """Return the rows in a piece of COPY data, which begins and ends between rows (PostgreSQL manual, COPY)."""
    if form == "text":
        return piece.count(b"\n")
    at, end, rows = 0, len(piece), 0
    if piece.startswith(_SIGNATURE):
        at = len(_SIGNATURE) + 8 + _LONG.unpack_from(piece, len(_SIGNATURE) + 4)[0]
    while at + 2 <= end:
        fields = _SHORT.unpack_from(piece, at)[0]
        at += 2
        if fields < 0:
            break
        for dummy in range(fields):
            if at + 4 > end:
                return rows
            at += 4 + max(0, _LONG.unpack_from(piece, at)[0])
        rows += 1
    return rows
