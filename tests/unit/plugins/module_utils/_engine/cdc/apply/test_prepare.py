# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is worked out ahead is what would have been worked out in its turn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.apply.destination_table import (
    FoundColumn,
    FoundTable,
    fit,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.apply.prepare import Preparer
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.apply.statements import TableStatements
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.apply.target_table import TargetTable
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes.batches import Batch, Segment
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes.compaction import compact
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes.keys import UniqueIndex
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes.messages import (
    Change,
    Delete,
    Insert,
    Relation,
    RelationColumn,
    Row,
    Update,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import ProtocolError
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.objects.mapping import IDENTITY


def table(oid: int, names: str, key: str) -> TargetTable:
    """A table of integers."""
    columns = tuple(
        FoundColumn(name, 23, -1, 23, "pg_catalog", "int4", "integer", False, False, "pg_catalog") for name in names
    )
    relation = Relation(oid, "s", f"t{oid}", "d", tuple(RelationColumn(name, 23, -1, name == key) for name in names))
    primary = UniqueIndex(f"t{oid}_pkey", (key,), True, False, False, True, True, True)
    fitted = fit(relation, {}, FoundTable(oid, "r", columns, (primary,)), (primary,), IDENTITY)
    return TargetTable(fitted, TableStatements(fitted, 170000), False)


def row(*values: bytes) -> Row:
    return Row(b"t" * len(values), values)


def piece_of(*changes: Change) -> tuple[Batch, Segment]:
    batch, segment = Batch(), Segment(list(changes))
    batch.steps.append(segment)
    return batch, segment


CHANGES = (
    Insert(1, row(b"1", b"a")),
    Update(2, "", None, row(b"7", b"b")),
    Update(1, "", None, row(b"1", b"c")),
    Delete(2, "K", row(b"8", b"")),
)


def test_it_is_what_it_would_have_been_in_its_turn() -> None:
    tables = {1: table(1, "ab", "a"), 2: table(2, "ab", "a")}
    ahead = Preparer(tables)
    batch, segment = piece_of(*CHANGES)
    in_turn = ahead.work(segment)
    ahead.prepare(batch)
    assert ahead.work(segment) == in_turn
    assert [(written.table.relation.oid, len(effect.changes)) for written, effect in in_turn] == [(1, 2), (2, 2)]


def test_what_has_been_prepared_is_not_worked_out_again(monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = Preparer({1: table(1, "ab", "a"), 2: table(2, "ab", "a")})
    batch, segment = piece_of(*CHANGES)
    ahead.prepare(batch)
    monkeypatch.setattr(f"{Preparer.__module__}.compact", None)
    assert len(ahead.work(segment)) == 2


def test_a_table_that_was_not_known_yet_is_worked_out_in_its_turn() -> None:
    tables = {1: table(1, "ab", "a")}
    ahead = Preparer(tables)
    batch, segment = piece_of(*CHANGES)
    ahead.prepare(batch)
    tables[2] = table(2, "ab", "a")
    assert ahead.work(segment)[1][1] == compact([CHANGES[1], CHANGES[3]], tables[2].table.shape)


def test_a_table_that_has_another_key_by_then_is_worked_out_by_that() -> None:
    tables = {1: table(1, "ab", "a")}
    ahead = Preparer(tables)
    moved = Update(1, "O", row(b"1", b"x"), row(b"2", b"x"))
    batch, segment = piece_of(moved)
    ahead.prepare(batch)
    tables[1] = table(1, "ab", "b")
    (effect,) = [effect for dummy, effect in ahead.work(segment)]
    assert effect.shape == tables[1].table.shape
    assert effect.updates[0].keys == [(b"x",)] and not effect.deletes


def test_a_change_without_its_key_is_said_in_its_turn_by_the_name_of_its_table() -> None:
    tables: Mapping[int, Any] = {1: table(1, "ab", "a")}
    ahead = Preparer(tables)
    batch, segment = piece_of(Delete(1, "K", Row(b"nn", [None, None])))
    ahead.prepare(batch)
    with pytest.raises(ProtocolError) as caught:
        ahead.work(segment)
    assert caught.value.what == "s.t1"


@pytest.mark.parametrize("change", [Insert(1, row(b"1", b"a")), Delete(1, "O", row(b"1", b"a"))])
def test_rows_that_have_lost_a_column_wait_for_their_turn(change: Change) -> None:
    """Before theirs comes that of the Relation that says so."""
    tables = {1: table(1, "abc", "c")}
    ahead = Preparer(tables)
    batch, segment = piece_of(*[change] * 5)
    ahead.prepare(batch)
    tables[1] = table(1, "ab", "a")
    assert [effect.shape.columns for dummy, effect in ahead.work(segment)] == [2]


def test_another_segment_is_never_taken_for_one_that_was_prepared() -> None:
    ahead = Preparer({1: table(1, "ab", "a")})
    for number in range(200):
        batch, dummy = piece_of(Insert(1, row(b"%d" % number, b"x")))
        ahead.prepare(batch)
        del batch, dummy
        dummy2, segment = piece_of(Insert(1, row(b"-%d" % number, b"x")))
        (effect,) = [effect for dummy, effect in ahead.work(segment)]
        assert [one.values[0] for one in effect.inserts] == [b"-%d" % number]


@pytest.mark.parametrize(("size", "encoded"), [(0, True), (100 * 1024 * 1024, False)])
def test_a_huge_value_is_not_encoded_ahead(size: int, encoded: bool) -> None:
    ahead = Preparer({1: table(1, "ab", "a")})
    batch, segment = piece_of(*[Insert(1, row(b"%d" % number, b"x")) for number in range(10)])
    batch.size = size
    ahead.prepare(batch)
    (effect,) = [effect for dummy, effect in ahead.work(segment)]
    assert bool(effect.payload) is encoded and len(effect.inserts) == 10
