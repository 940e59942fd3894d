# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A change with huge values is decoded as any other, and takes the memory of what is in it once."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.plugins.module_utils._engine.cdc.changes.pgoutput_encoder import encode
from unit.plugins.module_utils._engine.cdc.changes.test_pgoutput import any_message, mutated

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes import messages as m
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes.batcher import Batcher
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes.batches import Batch, Segment
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes.compaction import (
    TableShape,
    compact,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes.copy_format import (
    insert_pieces,
    update_pieces,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes.large_changes import decode_large
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes.pgoutput import decode
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes.receiver import Receiver
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import ProtocolError

SIZE = 4 * 1024 * 1024
HUGE = random.Random(1).randbytes(SIZE)
OTHER = random.Random(2).randbytes(SIZE)
RELATION = m.Relation(7, "s", "t", "f", tuple([m.RelationColumn(name, 17, -1, True) for name in ("id", "v", "n")]))


@pytest.mark.fuzz
@settings(max_examples=settings().max_examples * 10)
@given(any_message, st.integers(0, 9), st.data())
def test_it_says_what_the_other_decoder_says(message: m.Message, huge: int, data: st.DataObject) -> None:
    payload = encode(message)
    assert decode_large(memoryview(b"xx" + payload), 2, huge) == message
    payload = mutated(payload, data)
    try:
        expected = decode(payload)
    except ProtocolError as error:
        with pytest.raises(ProtocolError, match=r".*") as raised:
            decode_large(memoryview(payload), 0, huge)
        assert str(raised.value) == str(error)
    else:
        assert decode_large(memoryview(payload), 0, huge) == expected


def row(key: bytes, value: bytes | None, number: bytes, kind: bytes = b"b") -> m.Row:
    return m.Row(kind + (b"u" if value is None else kind) + kind, [key, value, number])


def test_what_old_and_new_row_share_is_one_object() -> None:
    same = m.Update(7, "O", row(b"1", HUGE, b"1"), row(b"1", HUGE, b"2"))
    found = decode_large(memoryview(encode(same)), 0)
    assert found == same and isinstance(found, m.Update) and found.old is not None
    assert found.old.value(1) is found.new.value(1)
    nearly = m.Update(7, "O", row(b"1", HUGE, b"1"), row(b"1", HUGE[:-1] + b"?", b"2"))
    assert decode_large(memoryview(encode(nearly)), 0) == nearly


def read(change: m.Change) -> Callable[[], Batch]:
    """What reads a transaction of this change and gives the batch; the driver's own copies count for nothing."""
    stream = [
        b"w" + bytes(24) + encode(message) for message in (m.Begin(9, 0, 1), RELATION, change, m.Commit(0, 9, 10, 0))
    ]

    def reading() -> Batch:
        receiver = Receiver(Batcher({7: 0}), 0)
        come: Iterator[tuple[int, memoryview]] = iter([(len(one), memoryview(one)) for one in stream])
        receiver.read(lambda dummy: next(come, (0, memoryview(b""))), 1 << 40)
        batch = receiver.take() or receiver.batcher.flush()
        assert batch is not None
        return batch

    return reading


def peak(work: Callable[[], object]) -> tuple[int, object]:
    """The bytes that were allocated at most during the work, and what it gives."""
    tracemalloc.start()
    try:
        result = work()
        return tracemalloc.get_traced_memory()[1], result
    finally:
        tracemalloc.stop()


CHANGES: dict[str, tuple[m.Change, int]] = {
    "updated in another column": (m.Update(7, "O", row(b"1", HUGE, b"1"), row(b"1", None, b"2")), 1),
    "written again": (m.Update(7, "O", row(b"1", HUGE, b"1"), row(b"1", HUGE, b"2")), 1),
    "updated": (m.Update(7, "O", row(b"1", HUGE, b"1"), row(b"1", OTHER, b"1")), 2),
    "inserted": (m.Insert(7, row(b"1", HUGE, b"1")), 1),
    "deleted": (m.Delete(7, "O", row(b"1", HUGE, b"1")), 1),
}


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize("key", [(0,), (0, 2), None], ids=["one key column", "two", "keyless"])
@pytest.mark.parametrize("binary", [True, False], ids=["binary", "text"])
def test_a_huge_value_is_in_memory_once(what: str, key: tuple[int, ...] | None, binary: bool) -> None:
    """From the driver's buffer to the pieces of COPY; only an update with two values takes the memory of two."""
    change, values = CHANGES[what]

    reading = read(change if binary else as_text(change))

    def work() -> int:
        (segment,) = [step for step in reading().steps if isinstance(step, Segment)]
        net = compact(segment.changes, TableShape(7, 3, key))
        sent = 0
        for group in net.updates:
            sent += sum(map(len, update_pieces(group.keys, group.rows, group.assigned, binary)))
        return sent + sum(map(len, insert_pieces(net.inserts, (0, 1, 2), binary)))

    used, sent = peak(work)
    assert used < (values + 0.25) * SIZE
    assert isinstance(sent, int)
    if what in ("inserted", "updated", "written again"):
        assert sent > SIZE


def as_text(change: m.Change) -> m.Change:
    """The same bytes, come as text."""

    def text(one: m.Row) -> m.Row:
        return m.Row(one.kinds.replace(b"b", b"t"), one.values)

    if isinstance(change, m.Insert):
        return m.Insert(change.relation_oid, text(change.new))
    if isinstance(change, m.Delete):
        return m.Delete(change.relation_oid, change.old_kind, text(change.old))
    old = None if change.old is None else text(change.old)
    return m.Update(change.relation_oid, change.old_kind, old, text(change.new))
