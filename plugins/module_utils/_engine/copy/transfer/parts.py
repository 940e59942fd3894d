# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cuts tables into parts. Pure.

By pages: a part is a range of ctid, read by a TID range scan, which PostgreSQL has from version 14 on. The last part is
open-ended: the table may have grown since its size was read, and the snapshot may see those rows.

By keys: a part is a range of the leading column of a key, and all parts together reach from minus to plus infinity. A
row belongs to a part by its key alone, so parts that were copied at different moments make one table together
with the changes in between (`cdc.part_marks`). A cut is a round number, not a value of a row.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...postgres.key_order import literal
from ...postgres.key_ranges import WHOLE, KeyRange, Part
from ...postgres.versions import has


def cut(heap_bytes: int, block_size: int, part_size: int, source_version: int) -> tuple[Part, ...]:
    """Return a table of ``heap_bytes`` cut into parts of about ``part_size`` bytes, all of the same number of pages."""
    if not has(source_version, "scan of a range of ctid") or heap_bytes <= part_size:
        return WHOLE
    pages = -(-heap_bytes // block_size)
    count = -(-heap_bytes // part_size)
    step = -(-pages // count)
    firsts = range(0, pages, step)
    last = len(firsts) - 1
    return tuple(Part(n, first, None if n == last else first + step) for n, first in enumerate(firsts))


def cut_by_key(sample: Sequence[int], count: int, column: str, type_oid: int) -> tuple[Part, ...]:
    """Return a table cut into about ``count`` ranges of a key with about as many rows each, as far as a sample of its
    values shows. One part less for every cut that would coincide with another."""
    cuts = [at for at in _cuts(sorted(sample), count) if literal(type_oid, at) is not None]
    lows, highs = [None, *cuts], [*cuts, None]
    ranges = enumerate(zip(lows, highs, strict=True))
    return tuple(Part(number, key=KeyRange(column, type_oid, low, high)) for number, (low, high) in ranges)


def _cuts(values: Sequence[int], count: int) -> list[int]:
    """Return ascending cuts between the values, each at a round number close to where it should be."""
    cuts: list[int] = []
    if not values:
        return cuts
    below = values[0]
    for number in range(1, count):
        here = values[number * len(values) // count]
        if here > below:
            below = _roundest(here - (here - below - 1) // 8 - 1, here)
            cuts.append(below)
    return cuts


def _roundest(low: int, high: int) -> int:
    """Return the number above ``low``, up to ``high``, that ends in the most zero bits."""
    for zeros in range((high - low).bit_length(), 0, -1):
        number = high >> zeros << zeros
        if number > low:
            return number
    return high


def in_order(sample: Sequence[int]) -> float:
    """Return how far values that were read in heap order are in ascending (1) or descending (-1) order: the correlation
    of place and rank. A range of a key whose rows lie all over the heap is expensive to read."""
    count = len(sample)
    if count < 2:
        return 1.0
    places = sorted(range(count), key=lambda at: sample[at])
    middle = (count - 1) / 2
    together = sum((rank - middle) * (place - middle) for rank, place in enumerate(places))
    return together / sum((rank - middle) ** 2 for rank in range(count))
