# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judging a table by two readings of it: what differs, what only moves, what has been confirmed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.validate import verdicts

ROWS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=12)


@pytest.mark.parametrize(("rows", "buckets"), [(-1, 1), (0, 1), (64, 1), (65, 2), (64 * 1024, 1024), (1e12, 65536)])
def test_buckets_follow_the_size(rows: float, buckets: int) -> None:
    assert verdicts.bucket_count(rows) == buckets


@given(ROWS, st.randoms())
def test_order_makes_no_difference(rows: list[tuple[int, int]], random: object) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert not verdicts.suspects(verdicts.by_key(rows), verdicts.by_key(shuffled))


@given(ROWS, ROWS)
def test_unequal_multisets_are_suspected(here: list[tuple[int, int]], there: list[tuple[int, int]]) -> None:
    found = verdicts.suspects(verdicts.by_key(here), verdicts.by_key(there))
    assert bool(found) == (sorted(here) != sorted(there))


def test_pairs_of_duplicates_are_not_hidden() -> None:
    assert verdicts.differing_buckets({0: (2, 14)}, {0: (2, 10)}) == (0,)
    assert verdicts.differing_buckets({0: (2, 14)}, {0: (2, 14)}) == ()
    assert verdicts.differing_buckets({0: (2, 14)}, {}) == (0,)


def test_a_row_that_arrives_is_settled() -> None:
    suspicion = verdicts.Suspicion({1: 0, 2: 0})
    suspicion.judge({1: (5,), 2: (6,)}, {1: (5,), 2: (7,)}, {1: (5,), 2: (7,)})
    assert not suspicion.watched
    assert not suspicion.different


def test_a_row_that_stands_still_and_differs_is_confirmed_and_not_before() -> None:
    suspicion = verdicts.Suspicion({1: 0})
    for dummy in range(verdicts.CONFIRMATIONS - 1):
        suspicion.judge({1: (5,)}, {}, {1: (5,)})
        assert not suspicion.different
    suspicion.judge({1: (5,)}, {}, {1: (5,)})
    assert suspicion.different == {1}
    assert not suspicion.watched


def test_a_row_that_moves_is_never_confirmed() -> None:
    suspicion = verdicts.Suspicion({1: 0})
    for number in range(20):
        suspicion.judge({1: (number,)}, {1: (-1,)}, {1: (number + 1,)})
    assert suspicion.watched == {1: 0}
    assert not suspicion.different


def test_an_extra_row_at_the_destination_is_a_difference() -> None:
    suspicion = verdicts.Suspicion({9: 0})
    for dummy in range(verdicts.CONFIRMATIONS):
        suspicion.judge({}, {9: (1,)}, {})
    assert suspicion.different == {9}
