# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast changes may be applied: a token bucket for rows and one for bytes. Pure; the caller passes the time.

Over any five seconds no more than 1.1 times the limit is applied. A batch waits until the bucket holds all of it, the
bucket holds what a fifth of a second gives, and batches are cut so small that one whose commit takes long, and the
bucket that fills meanwhile, stay within that tenth. What cannot be cut, one huge row, leaves a debt, and nothing is
applied until it is paid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ...flow.token_bucket import TokenBucket
from ..changes.batch_limits import BatchLimits

_PIECE: Final = 0.1
"""Seconds of the rate that a batch may be worth; whole transactions are gathered up to twice that."""


@dataclass(frozen=True, slots=True)
class Pace:
    """The limits, 0 for none: rows a second, and bytes of changes a second as the source sends them."""

    rows: float = 0.0
    bytes: float = 0.0

    def narrowed(self, limits: BatchLimits) -> BatchLimits:
        """Return batch limits small enough to hold the pace: many small batches instead of one large."""
        rows = max(1, int(self.rows * _PIECE)) if self.rows else limits.max_changes
        size = max(1, int(self.bytes * _PIECE)) if self.bytes else limits.max_bytes
        return BatchLimits(
            min(limits.max_bytes, size), min(limits.max_changes, rows), limits.max_age, limits.max_weight
        )


class Throttle:
    """Both buckets. Without a limit nothing waits."""

    def __init__(self) -> None:
        self.pace = Pace()
        self._rows: TokenBucket | None = None
        self._bytes: TokenBucket | None = None

    def set(self, pace: Pace, now: float) -> None:
        """Apply these limits from now on."""
        self._rows = _changed(self._rows, pace.rows, now)
        self._bytes = _changed(self._bytes, pace.bytes, now)
        self.pace = pace

    def wait(self, rows: int, size: int, now: float) -> float:
        """Return the seconds until a batch of so many rows and bytes may be applied."""
        left = self._rows.wait(rows, now) if self._rows and rows else 0.0
        return max(left, self._bytes.wait(size, now)) if self._bytes and size else left

    def take(self, rows: int, size: int, now: float) -> None:
        """Take a batch of so many rows and bytes out of the buckets."""
        if self._rows:
            self._rows.take(rows, now)
        if self._bytes:
            self._bytes.take(size, now)


def _changed(bucket: TokenBucket | None, rate: float, now: float) -> TokenBucket | None:
    if not rate:
        return None
    if bucket is None:
        return TokenBucket(rate, now)
    bucket.change(rate, now)
    return bucket
