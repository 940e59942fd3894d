# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Conflicts come out the same, and as many, however the stream is cut: as if each change were judged by itself."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.plugins.module_utils._engine.cdc.changes.table_model import (
    OID,
    Destination,
    Source,
    UniqueViolation,
    Values,
    whole,
)
from unit.plugins.module_utils._engine.cdc.changes.test_compaction import destination_of, row_values, shape_of, sources

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.apply.conflicts import (
    Expectation,
    UnexpectedRow,
    expectations,
    split_conflicting,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes.compaction import (
    TableShape,
    compact,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes.messages import (
    Change,
    Delete,
    Insert,
    Row,
    Update,
)

policies = st.sampled_from(["overwrite", "keep"])


def written_in_one(table: Destination, changes: Sequence[Change], shape: TableShape, policy: str) -> int:
    """As the applier does it: as a whole; where that meets anything, without the families that are in conflict."""
    before = copy.deepcopy(table.rows)
    try:
        table.apply(compact(changes, shape))
    except (UnexpectedRow, UniqueViolation):
        table.rows = before
    else:
        return 0
    there = Counter(table.key_of(row) for row in table.rows)
    wrong = [key for key, expected in expectations(changes, shape).items() if not expected.holds(there[key])]
    tangled: list[Change] = []
    rest = split_conflicting(changes, shape, wrong, tangled)
    assert len(rest) + len(tangled) == len(changes)
    assert tangled
    table.apply(compact(rest, shape))  # nothing of it may surprise
    return table.judged(tangled, policy)


@pytest.mark.fuzz
@given(
    sources(unique_column=False),
    st.lists(row_values, max_size=4),
    st.sets(st.integers(0, 5), max_size=3),
    policies,
    st.lists(st.integers(0, 14), max_size=3),
    st.integers(0, 3),
)
def test_conflicts_do_not_depend_on_where_the_stream_is_cut(
    case: tuple[Source, Source, bool], strays: list[Values], missing: set[int], policy: str, cuts: list[int], seed: int
) -> None:
    before, after, own = case
    start = destination_of(before, seed)
    start.rows = [row for at, row in enumerate(start.rows) if at not in missing]
    for stray in strays:
        if not any(start.key_of(row) == start.key_of(stray) for row in start.rows):
            start.rows.append([*stray, b"stray"])
    one_by_one, together, in_pieces = copy.deepcopy(start), copy.deepcopy(start), copy.deepcopy(start)
    shape = shape_of(before, own)
    conflicts = one_by_one.judged(after.stream, policy)
    assert written_in_one(together, after.stream, shape, policy) == conflicts
    assert known(together, own) == known(one_by_one, own)
    borders = sorted({0, *(min(cut, len(after.stream)) for cut in cuts), len(after.stream)})
    pieces = [after.stream[first:last] for first, last in pairwise(borders)]
    assert sum(written_in_one(in_pieces, piece, shape, policy) for piece in pieces) == conflicts
    assert known(in_pieces, own) == known(one_by_one, own)


def known(table: Destination, own: bool) -> list[Values]:
    """The destination's own column is followed where there is one: without it a row may have been made anew."""
    return [row if own else row[:-1] for row in table.contents()]


keyless_row = st.tuples(st.sampled_from([b"1", b"2", b"3"]))
keyless_changes = st.lists(
    st.one_of(
        st.tuples(st.just("insert"), keyless_row),
        st.tuples(st.just("delete"), keyless_row),
        st.tuples(st.just("update"), keyless_row, keyless_row),
    ),
    max_size=10,
)
BAG = TableShape(OID, 1, None)


class Bag:
    """A keyless table at the destination: rows by their text, and how often they stand there."""

    def __init__(self, rows: list[tuple[bytes, ...]]) -> None:
        self.rows = Counter(rows)

    def judged(self, changes: Sequence[Change], policy: str) -> int:
        conflicts = 0
        for change in changes:
            missed = False
            if not isinstance(change, Insert):
                old = tuple(change.old.values)
                missed = self.rows[old] == 0
                self.rows[old] -= 0 if missed else 1
            if not isinstance(change, Delete) and not (missed and policy == "keep"):
                self.rows[tuple(change.new.values)] += 1
            conflicts += missed
        return conflicts

    def written_in_one(self, changes: Sequence[Change], policy: str) -> int:
        net = compact(changes, BAG)
        if all(self.rows[tuple(row.values)] >= count for row, count in [*net.removed, *net.needed]):
            self.apply(changes)
            return 0
        expected = expectations(changes, BAG)
        wrong = [key for key, expectation in expected.items() if not expectation.holds(self.rows[key])]
        tangled: list[Change] = []
        rest = split_conflicting(changes, BAG, wrong, tangled)
        assert tangled
        self.apply(rest)
        return self.judged(tangled, policy)

    def apply(self, changes: Sequence[Change]) -> None:
        net = compact(changes, BAG)
        for row, count in net.removed:
            self.rows[tuple(row.values)] -= count
            assert self.rows[tuple(row.values)] >= 0
        self.rows.update(tuple(row.values) for row in net.inserts)


@pytest.mark.fuzz
@given(st.lists(keyless_row, max_size=4), keyless_changes, policies, st.integers(0, 10))
def test_conflicts_in_keyless_tables_do_not_depend_on_it_either(
    start: list[tuple[bytes, ...]], script: list[tuple], policy: str, cut: int
) -> None:
    changes: list[Change] = []
    for name, *rows in script:
        if name == "insert":
            changes.append(Insert(OID, whole(rows[0])))
        elif name == "delete":
            changes.append(Delete(OID, "O", whole(rows[0])))
        else:
            changes.append(Update(OID, "O", whole(rows[0]), whole(rows[1])))
    one_by_one, together, in_pieces = Bag(start), Bag(start), Bag(start)
    conflicts = one_by_one.judged(changes, policy)
    assert together.written_in_one(changes, policy) == conflicts
    assert +together.rows == +one_by_one.rows
    pieces = [changes[:cut], changes[cut:]]
    assert sum(in_pieces.written_in_one(piece, policy) for piece in pieces) == conflicts
    assert +in_pieces.rows == +one_by_one.rows


def row(*values: bytes) -> Row:
    return whole(values)


def test_what_a_run_expects_of_its_keys() -> None:
    shape = TableShape(OID, 2, (0,))
    changes: list[Change] = [
        Update(OID, "K", row(b"1", b"x"), row(b"2", b"x")),
        Insert(OID, row(b"1", b"y")),
        Delete(OID, "K", row(b"3", b"")),
    ]
    found = {key: (one.least, one.most) for key, one in expectations(changes, shape).items()}
    assert found == {(b"1",): (1, 1), (b"2",): (0, 0), (b"3",): (1, 1)}
    assert Expectation(row(b"1"), 1, 1).holds(1)
    assert not Expectation(row(b"1"), 1, 1).holds(0)


def test_only_the_family_of_a_row_in_conflict_is_tangled() -> None:
    shape = TableShape(OID, 2, (0,))
    moved = Update(OID, "K", row(b"1", b"x"), row(b"2", b"x"))
    later = Delete(OID, "K", row(b"2", b"x"))
    other = Insert(OID, row(b"5", b"y"))
    tangled: list[Change] = []
    assert split_conflicting([moved, other, later], shape, [(b"2",)], tangled) == [other]
    assert tangled == [moved, later]
