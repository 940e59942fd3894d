# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.causeway.postgresql.plugins.plugin_utils import _table

words = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Zl", "Zp")), max_size=40)


def test_columns_stand_below_each_other_and_the_last_one_wraps() -> None:
    rows = [("no_key", "sales.log", "one two three four five six seven"), ("x", "y", "z")]
    assert _table.table(("id", "object", "fix"), rows, 44) == [
        "  id      object     fix",
        "  no_key  sales.log  one two three four five",
        "                     six seven",
        "  x       y          z",
    ]


def test_numbers_are_set_to_the_right() -> None:
    rows = [("a", "1 000", "7"), ("bb", "2", "1 234")]
    assert _table.table(("table", "rows", "size"), rows, 80, right=(1, 2)) == [
        "  table   rows   size",
        "  a      1 000      7",
        "  bb         2  1 234",
    ]


def test_no_rows_is_no_table() -> None:
    assert _table.table(("a",), [], 80) == []


def test_wide_characters_take_two_columns() -> None:
    assert _table.table(("t", "n"), [("表", "1"), ("ab", "2")], 80) == ["  t   n", "  表  1", "  ab  2"]


def test_line_ends_are_kept() -> None:
    assert _table.table(("a", "b"), [("x", "seen\nfix: it")], 80)[1:] == ["  x  seen", "     fix: it"]


def test_facts_without_a_value_are_left_out() -> None:
    assert _table.facts([("why", "it is so"), ("detail", ""), ("what", "a table")], 80) == [
        "  why   it is so",
        "  what  a table",
    ]
    assert _table.facts([("why", "")], 80) == []


@given(st.lists(st.tuples(words, words), min_size=1, max_size=5), st.integers(60, 120))
def test_no_word_is_lost_by_wrapping(rows: list[tuple[str, str]], width: int) -> None:
    lines = _table.table(("a", "b"), rows, width)
    shown = "".join("".join(lines).split())
    for row in rows:
        for cell in row:
            for word in cell.split():
                assert word in shown
