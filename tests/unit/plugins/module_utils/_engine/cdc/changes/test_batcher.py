# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stream is cut where it may be, nothing is lost or doubled by the cuts, and marks decide what is ours."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes import messages as m
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes.batch_limits import BatchLimits
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes.batcher import (
    Batch,
    Batcher,
    RelationStep,
    Segment,
    TruncateStep,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import MismatchError, ProtocolError

COLUMNS = (m.RelationColumn("id", 23, -1, True),)
RELATIONS = {oid: m.Relation(oid, "s", f"t{oid}", "d", COLUMNS) for oid in (1, 2, 3, 9)}
WIDER = m.Relation(1, "s", "t1", "d", (*COLUMNS, m.RelationColumn("x", 25, -1, False)))
MARKS = {1: 0, 2: 0, 3: 0}
LIMITS = BatchLimits(max_bytes=10**6, max_changes=10**6, max_age=3600)


def row(value: int, width: int = 1) -> m.Row:
    return m.Row(b"t" * width, [b"%d" % value] * width)


def insert(oid: int, value: int = 0, width: int = 1) -> m.Insert:
    return m.Insert(oid, row(value, width))


def transaction(commit_lsn: int, *content: m.Message) -> list[m.Message]:
    return [m.Begin(commit_lsn, 7, 1), *content, m.Commit(0, commit_lsn, commit_lsn + 5, commit_lsn * 10)]


def run(batcher: Batcher, messages: list[m.Message], size: int = 10) -> list[Batch]:
    batches = [batch for message in messages for batch in batcher.add(message, size)]
    rest = batcher.flush()
    return batches if rest is None else [*batches, rest]


def announced(*oids: int) -> list[m.Message]:
    return [RELATIONS[oid] for oid in oids]


def changes_of(batches: list[Batch]) -> list[m.Change]:
    return [change for batch in batches for step in batch.steps if isinstance(step, Segment) for change in step.changes]


def test_whole_transactions_wait_for_each_other() -> None:
    batcher = Batcher(MARKS, limits=LIMITS)
    assert not batcher.pending
    stream = transaction(100, *announced(1, 2), insert(1, 1), insert(2, 2)) + transaction(200, insert(1, 3))
    (batch,) = run(batcher, stream)
    assert batch.steps == [
        RelationStep(RELATIONS[1], None),
        Segment([insert(1, 1)]),
        RelationStep(RELATIONS[2], None),
        Segment([insert(2, 2), insert(1, 3)]),
    ]
    assert (batch.end_lsn, batch.last_of_transaction, batch.transactions) == (205, True, 2)
    assert (batch.inserts, batch.changes, batch.size, batch.commit_time_us) == (3, 3, 30, 2000)
    assert not batcher.pending and batcher.flush() is None


def test_an_open_transaction_is_pending_and_is_not_flushed() -> None:
    batcher = Batcher(MARKS, limits=LIMITS)
    for message in transaction(100, *announced(1), insert(1))[:-1]:
        assert batcher.add(message, 10) == ()
    assert batcher.pending and batcher.flush() is None


def test_a_batch_is_full_by_bytes_or_rows_at_a_commit() -> None:
    stream = [*announced(1), *(m for n in range(1, 7) for m in transaction(100 * n, insert(1, n)))]
    for limits in (BatchLimits(max_bytes=20, max_age=3600), BatchLimits(max_changes=2, max_age=3600)):
        batches = run(Batcher(MARKS, limits=limits), stream)
        assert [batch.end_lsn for batch in batches] == [205, 405, 605]
        assert all(batch.last_of_transaction for batch in batches)


def test_a_batch_is_full_by_age() -> None:
    now = [0.0]
    batcher = Batcher(MARKS, limits=BatchLimits(max_age=5), clock=lambda: now[0])
    assert not [batch for message in [*announced(1), *transaction(100, insert(1))] for batch in batcher.add(message, 1)]
    now[0] = 4.9
    assert not batcher.due()
    now[0] = 5.0
    assert batcher.due()
    (batch,) = run(batcher, transaction(200, insert(1)))
    assert batch.transactions == 2 and not batcher.due()


def test_a_transaction_larger_than_a_batch_comes_in_pieces() -> None:
    limits = BatchLimits(max_bytes=30, max_age=3600)
    large = transaction(200, *(insert(1, n) for n in range(7)))
    batches = run(Batcher(MARKS, limits=limits), announced(1) + transaction(100, insert(1, 99)) + large)
    assert [(batch.end_lsn, batch.last_of_transaction, batch.changes) for batch in batches] == [
        (105, True, 1),
        (0, False, 3),
        (0, False, 3),
        (205, True, 1),
    ]


def test_a_large_transaction_that_ends_with_a_full_piece_still_gets_its_commit() -> None:
    limits = BatchLimits(max_bytes=20, max_age=3600)
    batches = run(Batcher(MARKS, limits=limits), announced(1) + transaction(100, insert(1), insert(1)))
    assert [(batch.end_lsn, batch.last_of_transaction, batch.steps == []) for batch in batches] == [
        (0, False, False),
        (105, True, True),
    ]


def test_the_mark_decides_by_the_commit_position() -> None:
    batcher = Batcher({1: 200, 2: 0}, limits=LIMITS)
    stream = announced(1, 2)
    for commit_lsn in (199, 200, 300):
        stream += transaction(commit_lsn, insert(1, commit_lsn), insert(2, commit_lsn)) if commit_lsn != 199 else []
        if commit_lsn == 199:
            stream += transaction(190, insert(1, 190), insert(2, 190), m.Truncate((1, 2), False, False))
    (batch,) = run(batcher, stream)
    assert changes_of([batch]) == [
        insert(2, 190),
        insert(1, 200),
        insert(2, 200),
        insert(1, 300),
        insert(2, 300),
    ]
    assert batch.filtered == 2
    assert [step.relations for step in batch.steps if isinstance(step, TruncateStep)] == [(RELATIONS[2],)]


def test_what_a_table_looked_like_before_its_mark_is_not_told() -> None:
    old = m.Relation(1, "s", "t1", "d", ())
    stream = [*transaction(100, old, m.Insert(1, m.Row(b"", []))), *transaction(200, RELATIONS[1], insert(1))]
    (batch,) = run(Batcher({1: 150}, limits=LIMITS), stream)
    assert batch.steps == [RelationStep(RELATIONS[1], None), Segment([insert(1)])]


def test_a_changed_relation_and_a_truncate_are_barriers() -> None:
    truncate = m.Truncate((1, 2), True, True)
    content = [*announced(1, 2), insert(1, 1), RELATIONS[1], insert(1, 2), truncate, insert(1, 3)]
    (batch,) = run(Batcher(MARKS, limits=LIMITS), transaction(100, *content, WIDER, insert(1, 4, 2)))
    assert batch.steps == [
        RelationStep(RELATIONS[1], None),
        Segment([insert(1, 1), insert(1, 2)]),
        RelationStep(RELATIONS[2], None),
        TruncateStep((RELATIONS[1], RELATIONS[2]), True),
        Segment([insert(1, 3)]),
        RelationStep(WIDER, RELATIONS[1]),
        Segment([insert(1, 4, 2)]),
    ]
    assert batch.truncates == 2


def test_segments_know_their_tables() -> None:
    segment = Segment([insert(1, 1), insert(2, 2), insert(1, 3)])
    assert segment.by_table() == {1: [insert(1, 1), insert(1, 3)], 2: [insert(2, 2)]}


def test_our_own_tables_go_aside() -> None:
    stream = transaction(100, *announced(1, 9), insert(9, 5), insert(1), m.Truncate((9,), False, False))
    (batch,) = run(Batcher(MARKS, system={9}, limits=LIMITS), stream)
    assert changes_of([batch]) == [insert(1)]
    ((relation, change, lsn),) = [(found.relation, found.change, found.final_lsn) for found in batch.system]
    assert (relation, change, lsn) == (RELATIONS[9], insert(9, 5), 100)
    assert (batch.inserts, batch.truncates) == (1, 0)


def test_transactions_that_we_have_applied_are_skipped() -> None:
    stream = announced(1) + transaction(100, insert(1, 1)) + transaction(105, insert(1, 2))
    batches = run(Batcher(MARKS, limits=LIMITS, applied=105), stream)
    assert changes_of(batches) == [insert(1, 2)]
    assert batches[0].transactions == 1


def test_transactions_without_our_rows_still_move_the_position() -> None:
    (batch,) = run(Batcher(MARKS, limits=LIMITS), transaction(100) + transaction(200, m.Origin(1, "x")))
    assert (batch.steps, batch.end_lsn) == ([], 205)


def test_types_are_remembered_and_logical_messages_ignored() -> None:
    batcher = Batcher(MARKS, limits=LIMITS)
    mood = m.Type(77, "s", "mood")
    assert run(batcher, [m.LogicalMessage(False, 1, "p", b""), mood]) == []
    assert batcher.types == {77: mood}


@pytest.mark.parametrize(
    "stream",
    [
        [m.Begin(100, 0, 1), m.Begin(200, 0, 2)],
        [m.Commit(0, 100, 105, 0)],
        [m.Begin(100, 0, 1), m.Commit(0, 101, 105, 0)],
        [m.Begin(100, 0, 1), m.Commit(0, 100, 100, 0)],
        transaction(200) + transaction(100),
        transaction(100, insert(1)),
        transaction(100, m.Truncate((1,), False, False)),
        [RELATIONS[1], insert(1)],
        transaction(100, RELATIONS[1], insert(1, 1, width=2)),
        transaction(100, RELATIONS[1], m.Delete(1, "K", row(1, 2))),
    ],
)
def test_a_stream_that_contradicts_itself(stream: list[m.Message]) -> None:
    with pytest.raises(ProtocolError):
        run(Batcher(MARKS, limits=LIMITS), stream)


@pytest.mark.parametrize("change", [insert(9), m.Truncate((9,), False, False)])
def test_a_table_that_is_not_ours_stops_the_task_by_name(change: m.Message) -> None:
    with pytest.raises(MismatchError, match=r"s\.t9"):
        run(Batcher(MARKS, limits=LIMITS), transaction(100, RELATIONS[9], change))


contents = st.lists(
    st.one_of(
        st.builds(insert, st.sampled_from([1, 2, 3]), st.integers(0, 99)),
        st.builds(m.Delete, st.sampled_from([1, 2, 3]), st.just("K"), st.builds(row, st.integers(0, 99))),
        st.just(m.Truncate((1, 3), False, False)),
    ),
    max_size=12,
)


@pytest.mark.fuzz
@given(
    st.lists(contents, max_size=8),
    st.builds(BatchLimits, st.integers(1, 80), st.integers(1, 8), st.just(3600.0)),
    st.fixed_dictionaries({1: st.integers(0, 900), 2: st.integers(0, 900), 3: st.integers(0, 900)}),
    st.integers(0, 900),
    st.sets(st.integers(0, 120)),
)
def test_cuts_lose_and_double_nothing(
    transactions: list[list[m.Message]], limits: BatchLimits, marks: dict[int, int], applied: int, idle: set[int]
) -> None:
    """Whatever the limits and whenever the stream is idle: the same changes in the same order, ends only at commits."""
    batcher = Batcher(marks, limits=limits, applied=applied)
    stream: list[m.Message] = announced(1, 2, 3)
    expected: list[object] = []
    ends = []
    for number, content in enumerate(transactions, 1):
        commit_lsn = 100 * number
        stream += transaction(commit_lsn, *content)
        if commit_lsn < applied:
            continue
        ends.append(commit_lsn + 5)
        for message in content:
            if isinstance(message, m.Truncate):
                names = [RELATIONS[oid].name for oid in message.relation_oids if commit_lsn >= marks[oid]]
                expected += [names] if names else []
            elif commit_lsn >= marks[message.relation_oid]:  # type: ignore[union-attr]
                expected.append(message)
    batches: list[Batch] = []
    for at, message in enumerate(stream):
        batches += batcher.add(message, 10)
        if at in idle and (flushed := batcher.flush()) is not None:
            batches.append(flushed)
    if (flushed := batcher.flush()) is not None:
        batches.append(flushed)
    seen: list[object] = []
    for step in [step for batch in batches for step in batch.steps]:
        if isinstance(step, Segment):
            seen += step.changes
        elif isinstance(step, TruncateStep):
            seen.append([relation.name for relation in step.relations])
    assert seen == expected
    assert sum(batch.transactions for batch in batches) == len(ends)
    assert all((batch.end_lsn in ends) == batch.last_of_transaction for batch in batches)
    assert [batch.end_lsn for batch in batches if batch.end_lsn] == sorted({p.end_lsn for p in batches if p.end_lsn})
    assert not batches or batches[-1].end_lsn == ends[-1]
    assert all(batch.changes < limits.max_changes + 12 for batch in batches)
    assert not batcher.pending


def test_what_lies_before_a_changed_relation_is_committed_before_it() -> None:
    batcher = Batcher(MARKS, limits=LIMITS)
    stream = (
        transaction(100, *announced(1), insert(1, 1))
        + transaction(200, insert(1, 2))
        + transaction(300, WIDER, insert(1, 3, 2))
        + transaction(400, insert(1, 4, 2))
    )
    before, behind = run(batcher, stream)
    assert (before.end_lsn, before.transactions, before.last_of_transaction) == (205, 2, True)
    assert behind.steps == [RelationStep(WIDER, RELATIONS[1]), Segment([insert(1, 3, 2), insert(1, 4, 2)])]
    assert (behind.end_lsn, behind.transactions) == (405, 2)
