# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.copy.parts import WHOLE, Part, cut

PAGE = 8192


def pages_of(part: Part, pages: int) -> range:
    return range(part.first_page, pages if part.end_page is None else part.end_page)


@given(pages=st.integers(0, 5000), part_pages=st.integers(1, 700), rest=st.integers(0, PAGE - 1))
def test_parts_cover_every_page_once_and_the_last_has_no_end(pages: int, part_pages: int, rest: int) -> None:
    parts = cut(pages * PAGE, PAGE, part_pages * PAGE + rest, 140000)
    covered = [page for part in parts for page in pages_of(part, max(pages, 1))]
    assert covered == list(range(max(pages, 1)))
    assert [part.number for part in parts] == list(range(len(parts)))
    assert [part.end_page is None for part in parts] == [False] * (len(parts) - 1) + [True]


@given(pages=st.integers(1, 5000), part_pages=st.integers(1, 700))
def test_parts_are_no_larger_than_asked_for_and_about_equal(pages: int, part_pages: int) -> None:
    sizes = [len(pages_of(part, pages)) for part in cut(pages * PAGE, PAGE, part_pages * PAGE, 170000)]
    assert max(sizes) <= part_pages
    assert len({*sizes[:-1]}) <= 1


def test_servers_without_tid_range_scans_read_tables_whole() -> None:
    assert cut(10**9, PAGE, 10**6, 130012) == WHOLE


@pytest.mark.parametrize("size", [0, 1, PAGE, 10 * PAGE])
def test_a_table_that_fits_is_not_cut(size: int) -> None:
    assert cut(size, PAGE, 10 * PAGE, 170000) == WHOLE


def test_bounds_are_tids_and_open_where_nothing_limits_them() -> None:
    assert Part(0).bounds == (None, None)
    assert Part(0, 0, 7).bounds == (None, "(7,0)")
    assert Part(3, 7, 9).bounds == ("(7,0)", "(9,0)")
    assert (Part(0).whole, Part(0, 0, 1).whole, Part(1, 1).whole) == (True, False, False)
