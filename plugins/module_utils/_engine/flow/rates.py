# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast the source writes and the destination applies, and the forecast from both. Pure; the clock is passed in.

Both rates are bytes of the source's WAL a second, over the last minute: apply's is how fast the position moves up to
which everything has been applied.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from ..postgres.lsn import Lsn
from ..units import duration, size

WINDOW: Final = 60.0
_LEAST: Final = 4.0
"""Seconds that the samples have to span before a rate is computed."""

CAUGHT_UP: Final = 5.0
"""Seconds of lag up to which the destination counts as caught up."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Bytes of the source's WAL a second: written by the source, and applied at the destination."""

    source: float
    apply: float


class RateMeter:
    """Computes rates from samples of both positions, taken by one clock."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, Lsn, Lsn]] = deque(maxlen=1000)

    def sample(self, now: float, source: Lsn, done: Lsn) -> Rates | None:
        """Add a sample; return the rates, None while the samples span too little. A position that goes back resets."""
        if self._samples and (source < self._samples[-1][1] or done < self._samples[-1][2]):
            self._samples.clear()
        self._samples.append((now, source, done))
        while len(self._samples) > 2 and self._samples[1][0] <= now - WINDOW:
            self._samples.popleft()
        began, source_then, done_then = self._samples[0]
        seen = now - began
        if seen < _LEAST:
            return None
        return Rates((source - source_then) / seen, (done - done_then) / seen)

    def begin_anew(self) -> None:
        """Discard all samples: those measured under other settings no longer count."""
        self._samples.clear()


@dataclass(frozen=True, slots=True)
class Forecast:
    """``verdict`` is caught_up, catching_up (in ``seconds``), never, stalled or unknown."""

    verdict: str
    seconds: float | None = None

    def sentence(self, rates: Rates | None) -> str:
        """Return the forecast as a sentence for the operator; empty where there is nothing to say."""
        if self.verdict == "catching_up" and self.seconds is not None:
            return f"caught up in about {duration(self.seconds)}"
        if self.verdict == "never" and rates is not None:
            return (
                f"it will never catch up: the source writes {size(rates.source)}/s, and {size(rates.apply)}/s of that"
                " are applied"
            )
        if self.verdict == "stalled":
            return "nothing was committed in the last minute: a large transaction, a lock, or a rate limit"
        return "caught up" if self.verdict == "caught_up" else ""


def forecast(state: str, lag_bytes: int | None, lag_seconds: float | None, rates: Rates | None) -> Forecast:
    """Return whether and when the destination catches up, from what the worker measured while it runs in ``state``."""
    if state != "running" or lag_bytes is None:
        return Forecast("unknown")
    if lag_bytes == 0 or (lag_seconds is not None and lag_seconds < CAUGHT_UP):
        return Forecast("caught_up", 0.0)
    if rates is None:
        return Forecast("unknown")
    if rates.apply <= 0:
        return Forecast("stalled")
    gain = rates.apply - rates.source
    return Forecast("catching_up", lag_bytes / gain) if gain > 0 else Forecast("never")
