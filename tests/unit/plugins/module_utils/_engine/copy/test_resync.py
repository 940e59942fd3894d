# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A partitioned table that is to be copied again stands for all its partitions."""

from __future__ import annotations

from unit.plugins.module_utils._engine.catalog_values import table

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.copy.resync import _with_all_below

WHOLE = table(1, kind="p")
HALF = table(2, kind="p", parents=(1,), is_partition=True)
LEAF, LEAF_OF_HALF = table(3, parents=(1,), is_partition=True), table(4, parents=(2,), is_partition=True)
PARENT, CHILD = table(5), table(6, parents=(5,))
CHILDREN = {1: [HALF, LEAF], 2: [LEAF_OF_HALF], 5: [CHILD]}


def test_partitions_of_every_level_belong_to_it() -> None:
    assert sorted(_with_all_below([WHOLE], CHILDREN)) == [1, 2, 3, 4]
    assert sorted(_with_all_below([HALF, CHILD], CHILDREN)) == [2, 4, 6]


def test_a_partitioned_table_may_have_no_partitions() -> None:
    assert _with_all_below([WHOLE], {}) == [1]


def test_what_inherits_from_an_ordinary_table_does_not_belong_to_it() -> None:
    assert _with_all_below([PARENT], CHILDREN) == [5]


def test_nothing_has_nothing_below() -> None:
    assert _with_all_below([], CHILDREN) == []
