# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of a batch go to their handlers in order, what our own tables say after them; markers are read."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.apply.applier import (
    Applier,
    marker_of,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes.batches import (
    Batch,
    EmptyStep,
    RelationStep,
    SystemChange,
    TruncateStep,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes.messages import (
    Change,
    Delete,
    Insert,
    Relation,
    RelationColumn,
    Row,
    Update,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.objects.mapping import IDENTITY
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.state.store import StateStore

HEARTBEAT = Relation(
    1,
    "causeway",
    "heartbeat",
    "d",
    (
        RelationColumn("migration", 25, -1, True),
        RelationColumn("marker", 25, -1, False),
        RelationColumn("written_at", 1184, -1, False),
    ),
)


def beat(name: bytes, marker: bytes, kind: bytes) -> Row:
    return Row(kind * 3, [name, marker, b"now"])


@pytest.mark.parametrize(
    ("change", "marker"),
    [
        (Insert(1, beat(b"ours", b"17", b"t")), "17"),
        (Insert(1, beat(b"ours", b"17", b"b")), "17"),
        (Update(1, "", None, beat(b"ours", b"18", b"t")), "18"),
        (Insert(1, beat(b"another", b"19", b"t")), ""),
        (Delete(1, "K", beat(b"ours", b"20", b"t")), ""),
    ],
)
def test_a_marker_is_read_in_either_format_and_only_ours(change: Change, marker: str) -> None:
    assert marker_of(SystemChange(HEARTBEAT, change, 5), "ours") == marker


class Ends:
    """Destination, progress and tables of an applier: what they are asked, in order."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        adapters = SimpleNamespace(register_dumper=lambda dummy, dummy2: None)
        self.conn = SimpleNamespace(execute=self._execute, adapters=adapters)
        self.progress = SimpleNamespace(
            store=StateStore(cast("Any", self.conn), "causeway", "ours"),
            advance=lambda end, tally, dummy, dummy2: self.asked.append(
                f"advance {end} foreign {tally.foreign_markers}"
            ),
            commit=lambda: self.asked.append("commit"),
            settle=lambda end: self.asked.append(f"settle {end}"),
        )
        self.tables = SimpleNamespace(
            known={}, mapping=IDENTITY, learn=lambda relation, dummy: self.asked.append(f"learn {relation.name}")
        )
        self.applier = Applier(cast("Any", self.conn), cast("Any", self.progress), "ours", cast("Any", self.tables))
        self.asked.clear()

    def _execute(self, statement: Any, values: Any = (), **dummy: Any) -> Any:
        text = statement if isinstance(statement, str) else statement.as_string(None)
        self.asked.append(f"markers {values[1]}" if '"marker" SET applied_at' in text else text)
        return SimpleNamespace(fetchall=list, rowcount=1)


def piece(*, last: bool = True) -> Batch:
    batch = Batch()
    batch.steps = [
        RelationStep(HEARTBEAT, None),
        TruncateStep((HEARTBEAT,), False),
        EmptyStep(HEARTBEAT, "fence", 20, ((None, 5),)),
    ]
    batch.system = [SystemChange(HEARTBEAT, Insert(1, beat(b"ours", b"17", b"t")), 5)]
    batch.markers = ["0f", "0e", "0f"]
    batch.end_lsn, batch.last_of_transaction = 99, last
    return batch


def test_steps_go_to_their_handlers_in_order_and_our_own_tables_after_them() -> None:
    ends = Ends()
    assert ends.applier.apply(piece(), 0, 0)
    assert ends.asked == [
        "BEGIN",
        "learn heartbeat",
        "SAVEPOINT causeway_segment",
        'TRUNCATE ONLY "causeway"."heartbeat"',
        'DELETE FROM ONLY "causeway"."heartbeat" WHERE "fence" < \'5\'::bigint',
        "markers ['0e', '0f', '17']",
        *("advance 99 foreign 2", "commit", "settle 99"),
    ]
    assert not ends.applier.open


def test_a_savepoint_is_released_before_the_next_one_and_forgotten_with_its_transaction() -> None:
    ends = Ends()
    assert not ends.applier.apply(piece(last=False), 0, 0)
    assert ends.applier.open
    ends.applier.apply(piece(), 0, 0)
    ends.applier.apply(piece(), 0, 0)
    assert ends.asked.count("RELEASE SAVEPOINT causeway_segment") == 1
    assert ends.asked.count("BEGIN") == 2


def test_what_is_abandoned_is_not_counted() -> None:
    ends = Ends()
    ends.applier.apply(piece(last=False), 0, 0)
    ends.applier.abandon()
    assert ends.asked[-1] == "ROLLBACK"
    assert not ends.applier.open
    empty = Batch()
    empty.end_lsn = 100
    ends.applier.apply(empty, 0, 0)
    assert "advance 100 foreign 0" in ends.asked
