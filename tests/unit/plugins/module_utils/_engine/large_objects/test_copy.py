# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which large objects are read and written together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.large_objects.copy import packed
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.large_objects.rights import SourceObject


def groups(*sizes: int) -> list[list[int]]:
    objects = [SourceObject(oid, "", None, None) for oid in range(len(sizes))]
    return [[sizes[one.oid] for one in group] for group in packed(objects, dict(enumerate(sizes)), 10)]


def test_neighbours_share_what_fits() -> None:
    assert groups() == []
    assert groups(0, 3, 7, 0, 1) == [[0, 3, 7, 0], [1]]
    assert groups(10, 10) == [[10], [10]]


def test_a_larger_one_is_alone_and_an_empty_one_does_not_join_it() -> None:
    assert groups(1, 11, 0, 2) == [[1], [11], [0, 2]]


@given(st.lists(st.integers(0, 15)))
def test_nothing_is_lost_and_nothing_is_too_much(sizes: list[int]) -> None:
    found = groups(*sizes)
    assert [size for group in found for size in group] == sizes
    assert all(len(group) == 1 or sum(group) <= 10 for group in found)
