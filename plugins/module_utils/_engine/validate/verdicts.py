# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verdict on one table from readings at both ends. Pure: digests and hashes in, a verdict out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

BucketDigest = tuple[int, int]
"""How many rows a bucket holds, and the sum of their hashes: a sum, since XOR hides pairs of duplicates."""

RowHashes = tuple[int, ...]
"""The hashes of all rows that share a key hash, sorted: a multiset, so that keyless tables need no rule of their own."""

CONFIRMATIONS = 3
"""A row that was unchanged at the source over this many readings and still differs is a difference. One is not enough:
it may have changed and changed back between two of them."""


def bucket_count(rows: float) -> int:
    """Return the number of buckets for a table of about ``rows`` rows: a power of two, 64 rows a bucket, 1 to 65536."""
    count = 1
    while count < 65536 and count * 64 < rows:
        count *= 2
    return count


def differing_buckets(source: Mapping[int, BucketDigest], destination: Mapping[int, BucketDigest]) -> tuple[int, ...]:
    """Return the buckets that are not the same at both ends, in order."""
    numbers = source.keys() | destination.keys()
    return tuple(sorted(number for number in numbers if source.get(number) != destination.get(number)))


def by_key(rows: Iterable[tuple[int, int]]) -> dict[int, RowHashes]:
    """Return (key hash, row hash) pairs as one multiset for each key hash."""
    groups: dict[int, list[int]] = {}
    for key, row in rows:
        groups.setdefault(key, []).append(row)
    return {key: tuple(sorted(hashes)) for key, hashes in groups.items()}


def suspects(source: Mapping[int, RowHashes], destination: Mapping[int, RowHashes]) -> set[int]:
    """Return the key hashes whose rows are not the same at both ends."""
    keys = source.keys() | destination.keys()
    return {key for key in keys if source.get(key, ()) != destination.get(key, ())}


@dataclass(slots=True)
class Suspicion:
    """The rows of one table, by key hash, that are suspected while it is written, and those confirmed as different.

    ``watched`` counts for each key hash how often it was unchanged at the source and differed all the same.
    """

    watched: dict[int, int] = field(default_factory=dict)
    different: set[int] = field(default_factory=set)

    def judge(
        self,
        before: Mapping[int, RowHashes],
        destination: Mapping[int, RowHashes],
        after: Mapping[int, RowHashes],
    ) -> None:
        """Judge one round: the source's rows, then the destination's once it had passed them, the source's again."""
        for key in list(self.watched):
            first, there, last = before.get(key, ()), destination.get(key, ()), after.get(key, ())
            if there in (first, last):
                del self.watched[key]
            elif first == last:
                self.watched[key] += 1
                if self.watched[key] >= CONFIRMATIONS:
                    del self.watched[key]
                    self.different.add(key)
            else:
                self.watched[key] = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict on one table: ``identical``, ``different``, or ``unsettled`` (rows that kept changing).

    ``find`` is SQL that finds the first differing row at either end without printing it here.
    """

    verdict: str
    source_rows: int
    destination_rows: int
    differing: int = 0
    unsettled: int = 0
    find: str = ""
