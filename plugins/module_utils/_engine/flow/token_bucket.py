# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A token bucket, which limits a rate. Pure; the clock is passed in."""

from __future__ import annotations

from typing import Final

_HOLDS: Final = 0.2
"""The bucket's size, in seconds of its rate."""


class TokenBucket:
    """Fills by ``rate`` tokens a second, up to a fifth of it. It begins empty: no burst when a limit is set.

    An amount larger than the bucket may pass when that is full, and leaves a debt: nothing passes until it is paid.
    """

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._tokens = 0.0
        self._at = now

    @property
    def _most(self) -> float:
        return max(1.0, self._rate * _HOLDS)

    def _fill(self, now: float) -> None:
        self._tokens = min(self._most, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = now

    def wait(self, amount: float, now: float) -> float:
        """Return the seconds until ``amount`` may pass; for more than the bucket holds, until it is full."""
        self._fill(now)
        missing = min(amount, self._most) - self._tokens
        return max(0.0, missing / self._rate)

    def take(self, amount: float, now: float) -> None:
        """Take ``amount`` now; what the bucket lacks becomes a debt."""
        self._fill(now)
        self._tokens -= amount

    def change(self, rate: float, now: float) -> None:
        """Change the rate from now on. A debt remains."""
        self._fill(now)
        self._rate = rate
        self._tokens = min(self._tokens, self._most)
