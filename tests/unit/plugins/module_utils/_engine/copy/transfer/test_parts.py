# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.copy.transfer.parts import (
    cut,
    cut_by_key,
    in_order,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres.key_order import (
    DATE,
    INT4,
    INT8,
    TIMESTAMP,
    UUID,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres.key_ranges import WHOLE, Part

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


SAMPLES = {
    INT4: st.integers(-(2**31), 2**31 - 1),
    INT8: st.integers(-(2**63), 2**63 - 1),
    UUID: st.integers(0, 2**128 - 1),
    DATE: st.integers(-(2**31), 2**31 - 1),
    TIMESTAMP: st.integers(-(2**63), 2**63 - 1),
}


@given(st.data(), st.sampled_from(sorted(SAMPLES)), st.integers(1, 40))
def test_ranges_of_a_key_follow_each_other_from_end_to_end(data: st.DataObject, type_oid: int, count: int) -> None:
    values = data.draw(st.lists(SAMPLES[type_oid], max_size=60))
    parts = cut_by_key(values, count, "k", type_oid)
    assert 1 <= len(parts) <= count
    assert [part.number for part in parts] == list(range(len(parts)))
    keys = [part.key for part in parts]
    assert keys[0].low is None and keys[-1].high is None
    for one, following in pairwise(keys):
        assert one.high is not None and one.high == following.low
        assert one.low is None or one.low < one.high
    for value in values:
        assert sum((k.low is None or k.low <= value) and (k.high is None or value < k.high) for k in keys) == 1


def test_ranges_of_a_key_hold_about_as_many_rows_each() -> None:
    for values in (range(100_000), [n * n for n in range(-300, 100_000)], [7 + 1000 * n for n in range(5000)]):
        parts = cut_by_key(list(values), 10, "k", INT8)
        held = [
            sum((k.low is None or k.low <= v) and (k.high is None or v < k.high) for v in values)
            for k in (part.key for part in parts)
        ]
        assert len(parts) == 10
        assert max(held) <= 1.3 * len(values) / 10 and min(held) >= 0.7 * len(values) / 10


def test_a_cut_is_a_round_number_and_no_value_of_a_row() -> None:
    values = [987_654_321 * n + 12_345 for n in range(1000)]
    cuts = [part.key.low for part in cut_by_key(values, 8, "k", INT8)[1:]]
    assert not set(cuts) & set(values)
    assert all(cut % (1 << 30) == 0 for cut in cuts)


def test_how_far_rows_lie_in_the_order_of_the_key() -> None:
    assert in_order(range(1000)) == pytest.approx(1)
    assert in_order(range(1000, 0, -1)) == pytest.approx(-1)
    assert abs(in_order([hash((n, "x")) % 2**32 for n in range(5000)])) < 0.2
    assert in_order([]) == in_order([3]) == 1
