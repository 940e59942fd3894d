# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A token bucket: how fast something may go. Pure; the clock is handed in."""

from __future__ import annotations

from typing import Final

_HOLDS: Final = 0.2
"""Seconds of the rate that a bucket holds."""


class TokenBucket:
    """Tokens come at ``rate`` a second, up to a fifth of it. It begins empty: no burst when a limit is set.

    What is larger than the bucket goes when the bucket is full, and leaves a debt: nothing goes until it is paid.
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
        """Seconds until ``amount`` may go; for more than the bucket holds, until it is full."""
        self._fill(now)
        missing = min(amount, self._most) - self._tokens
        return max(0.0, missing / self._rate)

    def take(self, amount: float, now: float) -> None:
        """It goes now; what was not there is owed."""
        self._fill(now)
        self._tokens -= amount

    def change(self, rate: float, now: float) -> None:
        """From now on another rate. What is owed stays owed."""
        self._fill(now)
        self._rate = rate
        self._tokens = min(self._tokens, self._most)
