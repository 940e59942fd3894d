# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parts copied at any moments, and the changes of the stream, make the table that the source has in the end.

The model copies each part when it likes, between transactions that insert, change, move, delete and truncate. What the
batcher lets through is applied by hand: an insert that meets a row or a delete that meets none is an error there.
"""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes import messages as m
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes.batch_limits import BatchLimits
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes.batcher import (
    Batcher,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes.batches import (
    EmptyStep,
    RelationStep,
    Segment,
    TruncateStep,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes.part_marks import (
    PartMarks,
    part_marks,
    routed,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes.row_tracking import overlay
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import MismatchError, ProtocolError
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres.key_order import INT4

OID = 7
KEYS = st.integers(-3, 3)
RELATION = m.Relation(
    OID,
    "s",
    "t",
    "f",
    tuple(m.RelationColumn(name, oid, -1, True) for name, oid in (("plain", 25), ("id", INT4), ("large", 25))),
)
Values = tuple[bytes, bytes]


@dataclasses.dataclass
class Model:
    """The source, what was copied of it, and its stream. ``binary``: the format of the key."""

    binary: bool
    rows: dict[int, Values] = dataclasses.field(default_factory=dict)
    copied: dict[int, Values] = dataclasses.field(default_factory=dict)
    marks: dict[int, int] = dataclasses.field(default_factory=dict)
    stream: list[m.Message] = dataclasses.field(default_factory=lambda: [RELATION])
    lsn: int = 100

    def row(self, key: int, values: Values, *, unchanged: bool = False) -> m.Row:
        sent = key.to_bytes(4, "big", signed=True) if self.binary else b"%d" % key
        kinds = b"t" + (b"b" if self.binary else b"t") + (b"u" if unchanged else b"t")
        return m.Row(kinds, [values[0], sent, None if unchanged else values[1]])

    def change(self, kind: str, key: int, other: int, number: int) -> None:
        """One statement, if the source would take it."""
        fresh = (b"p%d" % number, b"l%d" % number)
        old = self.rows.get(key)
        if kind == "insert" and old is None:
            self.rows[key] = fresh
            self.stream.append(m.Insert(OID, self.row(key, fresh)))
        elif kind == "delete" and old is not None:
            del self.rows[key]
            self.stream.append(m.Delete(OID, "O", self.row(key, old)))
        elif kind == "truncate":
            self.rows.clear()
            self.stream.append(m.Truncate((OID,), False, False))
        elif kind in ("update", "move", "toast") and old is not None:
            after = key if kind == "update" else other
            if after != key and after in self.rows:
                return
            kept = (fresh[0], old[1]) if kind == "toast" else fresh
            del self.rows[key]
            self.rows[after] = kept
            new = self.row(after, kept, unchanged=kind == "toast")
            self.stream.append(m.Update(OID, "O", self.row(key, old), new))

    def commit(self, changes: list[tuple[str, int, int]]) -> None:
        self.lsn += 10
        self.stream.append(m.Begin(self.lsn, 0, 1))
        for number, (kind, key, other) in enumerate(changes):
            self.change(kind, key, other, self.lsn * 100 + number)
        self.stream.append(m.Commit(0, self.lsn, self.lsn + 5, 0))

    def copy(self, part: int, low: int | None, high: int | None) -> None:
        self.marks[part] = self.lsn + 1
        inside = {k: v for k, v in self.rows.items() if (low is None or k >= low) and (high is None or k < high)}
        self.copied.update(inside)


def key_of(row: m.Row) -> int:
    data = row.values[1]
    assert data is not None
    return int.from_bytes(data, "big", signed=True) if row.kinds[1] == m.BINARY else int(data)


def values_of(row: m.Row) -> Values:
    plain, dummy, large = row.values
    assert plain is not None and large is not None
    return plain, large


def apply(rows: dict[int, Values], change: m.Change) -> None:
    if isinstance(change, (m.Delete, m.Update)):
        assert change.old is not None
        assert rows.pop(key_of(change.old)) == values_of(change.old)
    if isinstance(change, (m.Insert, m.Update)):
        new = change.new if isinstance(change, m.Insert) else overlay(change.new, change.old or change.new, None)
        assert key_of(new) not in rows
        rows[key_of(new)] = values_of(new)


KINDS = ["insert", "insert", "update", "move", "move", "toast", "delete"]
CHANGES = st.lists(st.tuples(st.sampled_from(KINDS), KEYS, KEYS), min_size=1, max_size=6)
EVENTS = st.lists(st.one_of(CHANGES, CHANGES, CHANGES, st.integers(0, 3)), min_size=4, max_size=24)
TRUNCATE = [("truncate", 0, 0)]


@settings(max_examples=400)
@given(
    cuts=st.sets(KEYS, min_size=1, max_size=3),
    first=st.sets(KEYS, max_size=7),
    events=EVENTS,
    binary=st.booleans(),
    truncate_at=st.none() | st.integers(0, 24),
)
def test_parts_copied_at_any_moment_and_the_changes_make_the_table(
    cuts: set[int],
    first: set[int],
    events: list[list[tuple[str, int, int]] | int],
    binary: bool,
    truncate_at: int | None,
) -> None:
    bounds = [None, *sorted(cuts), None]
    model = Model(binary, {key: (b"first", b"%d" % key) for key in first})
    if truncate_at is not None:
        events.insert(truncate_at, TRUNCATE)
    for event in [*events, *range(len(bounds) - 1)]:
        if isinstance(event, int):
            if event < len(bounds) - 1 and event not in model.marks:
                model.copy(event, bounds[event], bounds[event + 1])
        else:
            model.commit(event)
    model.commit([("insert", 3, 0), ("move", 3, -3)])
    ranges = [(bounds[n], bounds[n + 1], model.marks[n]) for n in range(len(bounds) - 1)]
    parts = part_marks("id", INT4, ranges)
    batcher = Batcher(
        {OID: max(model.marks.values())},
        limits=BatchLimits(max_age=3600, max_changes=3),
        clock=lambda: 0.0,
        parts={OID: parts} if parts else None,
    )
    batches = [batch for message in model.stream for batch in batcher.add(message, 1)]
    rest = batcher.flush()
    for step in [step for batch in (*batches, *([rest] if rest else [])) for step in batch.steps]:
        if isinstance(step, Segment):
            for change in step.changes:
                apply(model.copied, change)
        elif isinstance(step, TruncateStep):
            model.copied.clear()
        elif isinstance(step, EmptyStep):
            for low, high in step.ranges:
                for key in [k for k in model.copied if (low is None or k >= low) and (high is None or k < high)]:
                    del model.copied[key]
        else:
            assert isinstance(step, RelationStep)
    assert model.copied == model.rows


def test_parts_of_one_mark_are_one_range() -> None:
    ranges = [(None, 0, 5), (0, 7, 5), (7, 9, 6), (9, None, 6)]
    assert part_marks("id", INT4, ranges) == PartMarks("id", INT4, (7,), (5, 6))
    assert part_marks("id", INT4, [(None, 3, 5), (3, None, 5)]) is None


@pytest.mark.parametrize(
    "ranges", [[], [(None, 3, 1)], [(3, None, 1)], [(None, 3, 1), (4, None, 2)], [(None, 3, 1), (3, 5, 2)]]
)
def test_a_gap_between_parts_is_never_read_over(ranges: list[tuple[int | None, int | None, int]]) -> None:
    with pytest.raises(ValueError, match="parts"):
        part_marks("id", INT4, ranges)


PARTS = PartMarks("id", INT4, (0,), (100, 200))


def test_a_row_that_moves_without_all_of_its_columns_stops_the_stream() -> None:
    model = Model(binary=False)
    for old_kind in "K":
        change = m.Update(OID, old_kind, model.row(5, (b"a", b"b")), model.row(-5, (b"a", b""), unchanged=True))
        with pytest.raises(MismatchError, match="not every column"):
            routed(change, RELATION, PARTS, 150)


def test_a_key_that_is_missing_or_another_stops_the_stream() -> None:
    with pytest.raises(ProtocolError, match="without a value"):
        routed(m.Insert(OID, m.Row(b"tnt", [b"", None, b""])), RELATION, PARTS, 150)
    other = dataclasses.replace(RELATION, columns=(m.RelationColumn("id", 25, -1, True),))
    with pytest.raises(MismatchError, match="has changed"):
        routed(m.Insert(OID, m.Row(b"t", [b"1"])), other, PARTS, 150)


def test_an_update_whose_key_did_not_change_asks_its_part() -> None:
    model = Model(binary=True)
    for key, kept in ((-5, True), (5, False)):
        change = m.Update(OID, "", None, model.row(key, (b"a", b"b")))
        assert routed(change, RELATION, PARTS, 150) == (change if kept else None)
