# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from decimal import Decimal

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres.key_order import INT8
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres.key_ranges import KeyRange, Part
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.state.copy_queue import (
    LeftParts,
    left_parts,
    part_of,
)


def test_a_row_of_the_queue_is_a_part_of_pages_or_of_a_key() -> None:
    assert part_of((2, 7, None, None, None, None, None)) == Part(2, 7, None)
    assert part_of((0, 0, None, "id", INT8, None, Decimal(2**62))) == Part(0, key=KeyRange("id", INT8, None, 2**62))


def test_parts_that_are_left_are_gathered_by_table() -> None:
    first, second = (Part(number, key=KeyRange("id", INT8, number, number + 1)) for number in (1, 2))
    other = Part(3, key=KeyRange("k", INT8, 3, None))
    assert left_parts([(7, "abc", first), (7, "abc", second), (8, "def", other), (9, "ghi", Part(0))]) == {
        7: LeftParts("abc", KeyRange("id", INT8), (first, second)),
        8: LeftParts("def", KeyRange("k", INT8), (other,)),
    }
