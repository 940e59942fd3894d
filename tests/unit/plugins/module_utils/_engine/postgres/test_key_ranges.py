# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres.key_order import DATE, INT4, UUID
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres.key_ranges import (
    KeyRange,
    Part,
    where,
)


def test_bounds_are_tids_and_open_where_nothing_limits_them() -> None:
    assert Part(0).limits == ()
    assert Part(0, 0, 7).limits == (("ctid", "<", "(7,0)", "tid"),)
    assert Part(3, 7, 9).limits == (("ctid", ">=", "(7,0)", "tid"), ("ctid", "<", "(9,0)", "tid"))
    assert (Part(0).whole, Part(0, 0, 1).whole, Part(1, 1).whole) == (True, False, False)


def test_limits_of_a_key_range_are_literals_of_its_type() -> None:
    assert Part(0, key=KeyRange("k", INT4, None, -5)).limits == (("k", "<", "-5", "integer"),)
    assert Part(1, key=KeyRange("d", DATE, 0, 366)).limits == (
        ("d", ">=", "2000-01-01", "date"),
        ("d", "<", "2001-01-01", "date"),
    )
    assert Part(1, key=KeyRange("u", UUID, 255, None)).limits == (
        ("u", ">=", "00000000-0000-0000-0000-0000000000ff", "uuid"),
    )
    assert Part(0, key=KeyRange("k", INT4)).whole and not Part(0, key=KeyRange("k", INT4, 1)).whole


def test_a_clause_quotes_column_and_literal() -> None:
    assert where(Part(0)).as_string(None) == ""
    assert where(KeyRange("k", INT4)).as_string(None) == ""
    assert where(KeyRange('k"x', DATE, 0, 366)).as_string(None) == (
        ' WHERE "k""x" >= \'2000-01-01\'::date AND "k""x" < \'2001-01-01\'::date'
    )
    assert where(Part(1, 5, 9)).as_string(None) == " WHERE \"ctid\" >= '(5,0)'::tid AND \"ctid\" < '(9,0)'::tid"
