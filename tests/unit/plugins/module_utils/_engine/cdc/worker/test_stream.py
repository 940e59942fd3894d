# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When the stream is read on while a batch is applied, and when it is not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from unit.plugins.module_utils._engine.cdc.changes.pgoutput_encoder import encode

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes import messages as m
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes.batcher import Batcher
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.worker.stream import (
    OUTSIZED,
    QUEUE_BYTES,
    ReplicationStream,
)

RELATION = m.Relation(7, "s", "t", "f", (m.RelationColumn("v", 17, -1, True),))


class Walsender:
    """A connection that nothing is read from."""

    def close(self) -> None:
        pass


@pytest.fixture
def stream() -> Iterator[ReplicationStream]:
    walsender: Any = Walsender()
    made = ReplicationStream(walsender, 0, Batcher({7: 0}), 0)
    yield made
    made.close()


def come(stream: ReplicationStream, commit_lsn: int, size: int) -> None:
    """A transaction that inserts a value of so many bytes."""
    content: list[m.Message] = [m.Begin(commit_lsn, 0, 1), RELATION, m.Insert(7, m.Row(b"b", [bytes(size)]))]
    for message in (*content, m.Commit(0, commit_lsn, commit_lsn + 1, 0)):
        stream._receiver.accept(b"w" + bytes(24) + encode(message))


def test_nothing_is_read_while_a_batch_with_a_huge_value_is_applied(stream: ReplicationStream) -> None:
    come(stream, 10, OUTSIZED)
    batch = stream.take(0)
    assert batch is not None and batch.size > OUTSIZED
    assert stream._full()
    # the rest of its transaction is wanted, or the next one
    while stream.take(0) is not None:
        pass
    assert not stream._full()


def test_a_batch_of_the_usual_size_is_applied_while_more_is_read(stream: ReplicationStream) -> None:
    come(stream, 10, OUTSIZED // 2)
    assert stream.take(0) is not None
    assert not stream._full()


def test_a_full_queue_is_not_read_into(stream: ReplicationStream) -> None:
    for number in range(QUEUE_BYTES // OUTSIZED + 1):
        come(stream, 10 * (number + 1), OUTSIZED)
    assert stream._full()
