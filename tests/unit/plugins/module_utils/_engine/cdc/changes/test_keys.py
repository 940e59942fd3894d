# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which columns are the key of a table."""

from __future__ import annotations

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes.keys import (
    UniqueIndex,
    other_uniques,
    table_key,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes.messages import (
    Relation,
    RelationColumn,
)


def relation(identity: str, flagged: str = "") -> Relation:
    columns = tuple(RelationColumn(name, 23, -1, name in flagged) for name in "abcd")
    return Relation(1, "s", "t", identity, columns)


def index(columns: str, name: str = "i", **changed: bool) -> UniqueIndex:
    flags = {"immediate": True, "partial": False, "expressions": False, "valid": True, "primary": False}
    return UniqueIndex(name, tuple(columns), **{**flags, "all_not_null": True, **changed})


@pytest.mark.parametrize("identity", ["d", "i"])
def test_the_flags_of_the_source_are_the_key(identity: str) -> None:
    both = [index("a", primary=True)]
    assert table_key(relation(identity, "bd"), both, both) == (1, 3)


def test_under_full_the_flags_say_nothing() -> None:
    assert table_key(relation("f", "abcd"), [], []) is None
    assert table_key(relation("f", "abcd"), [index("cb")], [index("bc")]) == (1, 2)


@pytest.mark.parametrize("identity", ["d", "n"])
def test_where_only_inserts_come_an_index_may_still_tell_rows_apart(identity: str) -> None:
    assert table_key(relation(identity), [], []) is None
    assert table_key(relation(identity), [index("b")], [index("b")]) == (1,)


@pytest.mark.parametrize(
    "bad",
    [
        index("a", immediate=False),
        index("a", partial=True),
        index("a", expressions=True),
        index("a", valid=False),
        index("a", all_not_null=False),
        index("az"),
        index(""),
    ],
)
def test_what_is_no_key_at_either_end(bad: UniqueIndex) -> None:
    good = index(str.join("", bad.columns) or "a")
    assert table_key(relation("f"), [bad], [good]) is None
    if "z" not in bad.columns:
        assert table_key(relation("f"), [good], [bad]) is None


def test_the_primary_key_wins_then_the_narrowest_then_the_name() -> None:
    wide, narrow = index("abc", "w", primary=True), index("b", "n")
    assert table_key(relation("f"), [narrow, wide], [narrow, wide]) == (0, 1, 2)
    assert table_key(relation("f"), [narrow, wide], [narrow]) == (1,)
    twins = [index("d", "y"), index("c", "x")]
    assert table_key(relation("f"), twins, twins) == (2,)


def test_other_unique_columns_of_the_destination() -> None:
    indexes = [
        index("a", primary=True),
        index("ba"),
        index("d", all_not_null=False),
        index("c", immediate=False),
        index("c", partial=True),
        index("cz"),
    ]
    assert other_uniques(relation("d", "a"), (0,), indexes) == ((0, 1), (3,))
    assert other_uniques(relation("f"), None, indexes) == ((0,), (0, 1), (3,))
