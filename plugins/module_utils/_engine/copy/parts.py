# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a table is cut into parts. Pure.

A part is a range of heap pages, read by a TID range scan, which PostgreSQL has from version 14 on. The last part is
open-ended: the table may have grown since its size was read, and the snapshot may see those rows.
"""

from __future__ import annotations

from dataclasses import dataclass

TID_RANGE_SCAN = 140000
"""Before this server version a range of ctid reads the whole table."""


@dataclass(frozen=True, slots=True)
class Part:
    """Heap pages ``first_page`` up to but not including ``end_page``; None means to the end. ``number`` counts from 0."""

    number: int
    first_page: int = 0
    end_page: int | None = None

    @property
    def whole(self) -> bool:
        """Whether it is all of its table."""
        return self.first_page == 0 and self.end_page is None

    @property
    def bounds(self) -> tuple[str | None, str | None]:
        """First ctid that belongs to it and first one that no longer does, as tid literals; None is unbounded."""
        first = f"({self.first_page},0)" if self.first_page else None
        end = f"({self.end_page},0)" if self.end_page is not None else None
        return first, end


WHOLE = (Part(0),)
"""A table that is not cut."""


def cut(heap_bytes: int, block_size: int, part_size: int, source_version: int) -> tuple[Part, ...]:
    """Cut a table of ``heap_bytes`` into parts of about ``part_size`` bytes, all of the same number of pages."""
    if source_version < TID_RANGE_SCAN or heap_bytes <= part_size:
        return WHOLE
    pages = -(-heap_bytes // block_size)
    count = -(-heap_bytes // part_size)
    step = -(-pages // count)
    firsts = range(0, pages, step)
    last = len(firsts) - 1
    return tuple(Part(n, first, None if n == last else first + step) for n, first in enumerate(firsts))
