# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the applier reads out of changes and errors: markers, hashes of keys, words without values."""

from __future__ import annotations

import psycopg
import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.apply.applier import (
    apply_error,
    marker_of,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.apply.destination_table import (
    FoundColumn,
    FoundTable,
    fit,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.apply.statements import TableStatements
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes.batcher import SystemChange
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


def test_the_query_that_finds_a_row_by_its_key_hash_names_the_key_alone() -> None:
    columns = (
        RelationColumn("a", 25, -1, True),
        RelationColumn("b", 25, -1, True),
        RelationColumn("c", 25, -1, False),
    )
    found = FoundTable(3, "r", (column("a"), column("b"), column("c")), ())
    statements = TableStatements(fit(Relation(2, "s", "t", "d", columns), {}, found, (), IDENTITY))
    assert statements.find_by_hash("00ff") == (
        'SELECT * FROM ONLY "s"."t" WHERE pg_catalog.left(pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to('
        "ROW(\"a\", \"b\")::pg_catalog.text, 'UTF8')), 'hex'), 16) = '00ff'"
    )


def test_an_error_about_a_value_does_not_quote_it() -> None:
    error = apply_error(psycopg.errors.InvalidTextRepresentation('invalid input syntax: "secret"'), "applying", "s.t")
    assert error.sqlstate == "22P02"
    assert "secret" not in str(error)
    assert error.why == "invalid text representation"
    violation = apply_error(psycopg.errors.UniqueViolation("secret"), "applying", "s.t")
    assert violation.sqlstate == "23505"
    assert "secret" not in str(violation)
