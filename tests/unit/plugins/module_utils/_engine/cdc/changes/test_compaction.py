# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compaction brings a destination to the same rows as a replay of every change in source order."""

from __future__ import annotations

import copy
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.plugins.module_utils._engine.cdc.changes.table_model import (
    OID,
    UNIQUE,
    WIDTH,
    Destination,
    Source,
    UniqueViolation,
    whole,
)

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes.compaction import (
    TableShape,
    compact,
    delete_then_insert,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes.messages import (
    Change,
    Delete,
    Insert,
    Row,
    Update,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import ProtocolError

small = st.sampled_from([b"1", b"2", b"3", b"4", b"5", b"6"])
unique = st.one_of(st.none(), small)
plain = st.sampled_from([b"a", b"b"])
large = st.sampled_from([b"s", b"B1", b"B2"])
row_values = st.tuples(small, unique, plain, large).map(list)
row_at = st.integers(0, 5)
assignments = st.fixed_dictionaries({}, optional={0: small, 1: unique, 2: plain, 3: large})
operations = st.one_of(
    st.tuples(st.just("insert"), row_values),
    st.tuples(st.just("delete"), row_at),
    st.tuples(st.just("update"), row_at, assignments),
    st.tuples(st.just("exchange"), row_at, row_at, st.sampled_from([0, UNIQUE]), st.sampled_from([b"8", b"9"])),
)


@st.composite
def sources(draw: st.DrawFn, unique_column: bool | None = None) -> tuple[Source, Source, bool]:
    """The source before the run, the same after it, and whether the destination has a column of its own."""
    with_unique = draw(st.booleans()) if unique_column is None else unique_column
    key = draw(st.sampled_from([(0,), (0,), (0, 2), (2, 0), (0, 3)]))
    before = Source(key, draw(st.booleans()), with_unique)
    for values in draw(st.lists(row_values, max_size=5)):
        before.insert(values)
    before.stream.clear()
    after = copy.deepcopy(before)
    for name, *arguments in draw(st.lists(operations, max_size=14)):
        getattr(after, name)(*arguments)
    return before, after, draw(st.booleans())


def shape_of(source: Source, own: bool) -> TableShape:
    return TableShape(OID, WIDTH, source.key, own, tuple(source.uniques[1:]))


@pytest.mark.fuzz
@given(sources(), st.integers(0, 3))
def test_compaction_equals_row_by_row_replay(case: tuple[Source, Source, bool], seed: int) -> None:
    before, after, own = case
    expected = destination_of(before, seed)
    expected.replay(after.stream)
    assert [row[:WIDTH] for row in expected.contents()] == sorted(after.rows, key=repr)

    net = compact(after.stream, shape_of(before, own))
    touched = net.deletes + [key for group in net.updates for key in group.keys]
    assert len(touched) == len(set(touched)), "one statement row for any first key"
    for group in net.updates:
        assert group.key_changed == any(c in before.key for c in group.assigned)

    attempts = [net, delete_then_insert(net)]
    for attempt in attempts:
        if attempt is None:
            continue
        reached = destination_of(before, seed)
        try:
            reached.apply(attempt)
        except UniqueViolation:
            assert len(before.uniques) > 1, "without another unique value no statement may fail"
            continue
        assert contents(reached, own) == contents(expected, own)


def destination_of(source: Source, seed: int) -> Destination:
    return Destination(source, [b"own 1", b"own 2"], random.Random(seed))


def contents(table: Destination, own: bool) -> list[list[bytes | None]]:
    return [row if own else row[:WIDTH] for row in table.contents()]


keyless_row = st.tuples(st.sampled_from([b"1", b"2", None]), st.sampled_from([b"s", b"B1"]))


@pytest.mark.fuzz
@given(
    st.lists(keyless_row, max_size=4),
    st.lists(
        st.one_of(
            st.tuples(st.just("insert"), keyless_row),
            st.tuples(st.just("delete"), row_at),
            st.tuples(st.just("update"), row_at, keyless_row),
        ),
        max_size=12,
    ),
)
def test_keyless_tables_are_multisets(start: list[tuple[bytes | None, ...]], script: list[tuple]) -> None:
    rows = list(start)
    stream: list[Change] = []
    for name, *arguments in script:
        if name == "insert":
            rows.append(arguments[0])
            stream.append(Insert(OID, whole(arguments[0])))
        elif rows:
            old = rows.pop(arguments[0] % len(rows))
            if name == "delete":
                stream.append(Delete(OID, "O", whole(old)))
                continue
            new = arguments[1]
            rows.append(new)
            kinds = bytearray(whole(new).kinds)
            if old[1] == new[1] == b"B1":
                kinds[1] = ord("u")
            sent = [None if kind == ord("u") else value for kind, value in zip(kinds, new, strict=True)]
            stream.append(Update(OID, "O", whole(old), Row(bytes(kinds), sent)))
    net = compact(stream, TableShape(OID, 2, None))
    reached = Counter(start)
    for row, count in net.needed:
        assert reached[tuple(row.values)] >= count
    for row, count in net.removed:
        reached[tuple(row.values)] -= count
        assert reached[tuple(row.values)] >= 0, "removed before anything is added"
    reached.update(tuple(row.values) for row in net.inserts)
    assert +reached == Counter(rows)
    assert not set(map(hash, net.inserts)) & {hash(row) for row, dummy in net.removed}


KEYED = TableShape(OID, 2, (0,))


def text(*values: bytes | None) -> Row:
    return whole(values)


def test_unchanged_toast_keeps_the_earlier_value() -> None:
    changes: list[Change] = [
        Update(OID, "", None, text(b"1", b"big")),
        Update(OID, "", None, Row(b"tu", [b"1", None])),
    ]
    (group,) = compact(changes, KEYED).updates
    assert (group.assigned, group.keys, group.rows) == ((1,), [(b"1",)], [text(b"1", b"big")])


def test_a_moved_row_with_an_unknown_column_stays_in_place() -> None:
    moved = Update(OID, "K", text(b"1", None), Row(b"tu", [b"2", None]))
    net = compact([moved], KEYED)
    assert (net.deletes, net.inserts) == ([], [])
    assert [(group.assigned, group.key_changed, group.keys) for group in net.updates] == [((0,), True, [(b"1",)])]


def test_a_moved_row_known_whole_is_replaced_unless_the_destination_has_more_columns() -> None:
    moved = Update(OID, "K", text(b"1", None), text(b"2", b"x"))
    net = compact([moved], KEYED)
    assert (net.deletes, net.inserts, net.updates) == ([(b"1",)], [text(b"2", b"x")], [])
    kept = compact([moved], TableShape(OID, 2, (0,), destination_has_own_columns=True))
    assert kept.deletes == [] and kept.updates[0].key_changed


def test_rows_that_exchange_keys_in_place_go_row_by_row_and_others_do_not() -> None:
    swap: list[Change] = [
        Update(OID, "K", text(old, None), Row(b"tu", [new, None]))
        for old, new in [(b"1", b"9"), (b"2", b"1"), (b"9", b"2")]
    ]
    apart: list[Change] = [Delete(OID, "K", text(b"5", None)), Insert(OID, text(b"6", b"x"))]
    net = compact([swap[0], apart[0], swap[1], apart[1], swap[2]], KEYED)
    assert net.rowwise == swap
    assert (net.deletes, net.inserts, net.updates) == ([(b"5",)], [text(b"6", b"x")], [])


def test_unique_values_that_change_hands_under_full_go_row_by_row() -> None:
    def update(key: bytes, old: bytes, new: bytes) -> Update:
        return Update(OID, "O", text(key, old), text(key, new))

    swap: list[Change] = [update(b"1", b"x", b"z"), update(b"2", b"y", b"x"), update(b"1", b"z", b"y")]
    other = update(b"3", b"p", b"q")
    net = compact([*swap, other], TableShape(OID, 2, (0,), other_uniques=((1,),)))
    assert net.rowwise == swap
    assert [group.keys for group in net.updates] == [[(b"3",)]]


def test_under_full_the_old_row_completes_a_moved_one() -> None:
    moved = Update(OID, "O", text(b"1", b"big"), Row(b"tu", [b"2", None]))
    net = compact([moved], KEYED)
    assert (net.deletes, net.inserts, net.updates) == ([(b"1",)], [text(b"2", b"big")], [])


def test_passing_keys_are_those_that_nobody_had_before_or_has_after() -> None:
    changes: list[Change] = [
        Update(OID, "K", text(b"1", None), text(b"3", b"x")),
        Update(OID, "K", text(b"3", None), text(b"4", b"x")),
        Insert(OID, text(b"5", b"x")),
        Update(OID, "K", text(b"5", None), text(b"6", b"x")),
        Insert(OID, text(b"7", b"x")),
        Delete(OID, "K", text(b"7", None)),
        Insert(OID, text(b"7", b"y")),
    ]
    assert compact(changes, KEYED).passing == [(b"3",), (b"5",)]


def test_born_and_gone_leaves_only_its_key() -> None:
    net = compact([Insert(OID, text(b"1", b"x")), Delete(OID, "K", text(b"1", None))], KEYED)
    assert (net.deletes, net.updates, net.inserts, net.passing) == ([], [], [], [(b"1",)])


@pytest.mark.parametrize(
    "changes",
    [
        [Insert(OID, text(b"1", b"x")), Insert(OID, text(b"1", b"y")), Delete(OID, "K", text(b"1", None))],
        [Delete(OID, "K", text(b"1", None)), Delete(OID, "K", text(b"1", None))],
        [Delete(OID, "K", text(b"1", None)), Update(OID, "", None, text(b"1", b"x"))],
        [Insert(OID, text(b"2", b"x")), Update(OID, "K", text(b"1", None), text(b"2", b"x"))],
    ],
)
def test_changes_that_contradict_each_other_are_not_compacted(changes: list[Change]) -> None:
    net = compact(changes, KEYED)
    assert net.rowwise == changes
    assert not (net.deletes or net.updates or net.inserts or net.passing)


def test_keyless_updates_keep_the_destinations_own_columns() -> None:
    changes: list[Change] = [Update(OID, "O", text(b"1", b"x"), text(b"1", b"y"))]
    net = compact(changes, TableShape(OID, 2, None, destination_has_own_columns=True))
    assert net.rowwise == changes and not net.removed and not net.inserts


@pytest.mark.parametrize(
    ("changes", "shape"),
    [
        ([Delete(OID, "K", text(None, None))], KEYED),
        ([Update(OID, "", None, Row(b"ut", [None, b"x"]))], KEYED),
        ([Delete(OID, "K", text(b"1", None))], TableShape(OID, 2, None)),
        ([Update(OID, "", None, text(b"1", b"x"))], TableShape(OID, 2, None)),
    ],
)
def test_a_change_without_its_key_is_refused_without_its_values(changes: list[Change], shape: TableShape) -> None:
    with pytest.raises(ProtocolError):
        compact(changes, shape)


def test_many_updates_of_one_row_are_one() -> None:
    changes: list[Change] = [Update(OID, "", None, text(b"1", b"%d" % n)) for n in range(1000)]
    (group,) = compact(changes, KEYED).updates
    assert group.rows == [text(b"1", b"999")]
