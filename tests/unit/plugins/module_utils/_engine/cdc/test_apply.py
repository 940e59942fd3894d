# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the applier reads out of changes and errors: markers, hashes of keys, words without values."""

from __future__ import annotations

import psycopg
import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.apply import apply_error, marker_of
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.batch import SystemChange
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.destination_table import (
    DestinationTable,
    FoundColumn,
    FoundTable,
    fit,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.messages import (
    Change,
    Delete,
    Insert,
    Relation,
    RelationColumn,
    Row,
    Update,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.rowwise import key_hash

HEARTBEAT = Relation(
    1,
    "causeway",
    "heartbeat",
    "d",
    (
        RelationColumn("migration", 25, -1, True),
        RelationColumn("marker", 20, -1, False),
        RelationColumn("written_at", 1184, -1, False),
    ),
)


def beat(name: bytes, marker: bytes, kind: bytes) -> Row:
    return Row(kind * 3, [name, marker, b"now"])


@pytest.mark.parametrize(
    ("change", "marker"),
    [
        (Insert(1, beat(b"ours", b"17", b"t")), 17),
        (Insert(1, beat(b"ours", (300).to_bytes(8, "big"), b"b")), 300),
        (Update(1, "", None, beat(b"ours", b"18", b"t")), 18),
        (Insert(1, beat(b"another", b"19", b"t")), 0),
        (Delete(1, "K", beat(b"ours", b"20", b"t")), 0),
    ],
)
def test_a_marker_is_read_in_either_format_and_only_ours(change: Change, marker: int) -> None:
    assert marker_of(SystemChange(HEARTBEAT, change, 5), "ours") == marker


def column(name: str) -> FoundColumn:
    return FoundColumn(name, 25, -1, 25, "pg_catalog", "text", "text", False, False, "pg_catalog")


def table(name: str = "t") -> DestinationTable:
    relation = Relation(
        2,
        "s",
        name,
        "d",
        (RelationColumn("a", 25, -1, True), RelationColumn("b", 25, -1, True), RelationColumn("c", 25, -1, False)),
    )
    return fit(relation, {}, FoundTable(3, "r", (column("a"), column("b"), column("c")), ()), ())


def test_a_key_hash_tells_rows_apart_by_their_key_alone() -> None:
    row = Row(b"ttt", [b"x", b"yz", b"1"])
    same = Row(b"ttt", [b"x", b"yz", b"2"])
    shifted = Row(b"ttt", [b"xy", b"z", b"1"])
    known = key_hash(Insert(2, row), table())
    assert len(known) == 16
    assert key_hash(Delete(2, "K", row), table()) == known
    assert key_hash(Update(2, "", None, same), table()) == known
    assert key_hash(Update(2, "K", row, shifted), table()) == known  # the row as the destination has it
    assert key_hash(Insert(2, shifted), table()) != known
    assert key_hash(Insert(2, row), table("u")) != known


def test_an_error_about_a_value_does_not_quote_it() -> None:
    error = apply_error(psycopg.errors.InvalidTextRepresentation('invalid input syntax: "secret"'), "applying", "s.t")
    assert error.sqlstate == "22P02"
    assert "secret" not in str(error)
    assert error.why == "invalid text representation"
    violation = apply_error(psycopg.errors.UniqueViolation("secret"), "applying", "s.t")
    assert violation.sqlstate == "23505"
    assert "secret" not in str(violation)
