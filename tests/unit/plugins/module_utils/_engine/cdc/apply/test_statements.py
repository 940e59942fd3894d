# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The statements of a table: composed once for each set of arguments, and what a person gets to find a row."""

from __future__ import annotations

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.apply.destination_table import (
    FoundColumn,
    FoundTable,
    fit,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.apply.statements import TableStatements
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes.messages import (
    Relation,
    RelationColumn,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.objects.mapping import IDENTITY


def column(name: str) -> FoundColumn:
    return FoundColumn(name, 25, -1, 25, "pg_catalog", "text", "text", False, False, "pg_catalog")


def test_the_query_that_finds_a_row_by_its_key_hash_names_the_key_alone() -> None:
    columns = (
        RelationColumn("a", 25, -1, True),
        RelationColumn("b", 25, -1, True),
        RelationColumn("c", 25, -1, False),
    )
    found = FoundTable(3, "r", (column("a"), column("b"), column("c")), ())
    statements = TableStatements(fit(Relation(2, "s", "t", "d", columns), {}, found, (), IDENTITY), 170000)
    assert statements.find_by_hash("00ff") == (
        'SELECT * FROM ONLY "s"."t" WHERE pg_catalog.left(pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to('
        "ROW(\"a\", \"b\")::pg_catalog.text, 'UTF8')), 'hex'), 16) = '00ff'"
    )


def test_a_statement_is_composed_once_for_each_set_of_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = (RelationColumn("a", 25, -1, True), RelationColumn("b", 25, -1, False))
    found = FoundTable(3, "r", (column("a"), column("b")), ())
    statements = TableStatements(fit(Relation(2, "s", "t", "d", columns), {}, found, (), IDENTITY), 170000)
    first = statements.update_one((1,))
    assert first == 'UPDATE ONLY "s"."t" AS t SET "b" = $1::text WHERE t."a" OPERATOR("pg_catalog".=) $2::text'
    assert statements.update_one(()) == 'SELECT FROM ONLY "s"."t" AS t WHERE t."a" OPERATOR("pg_catalog".=) $1::text'
    assert statements.copy_in(True) != statements.copy_in(False)
    assert statements.delete_staged("one") != statements.delete_staged("two")
    assert len(statements.known) == 6
    monkeypatch.setattr(statements, "_table", None)
    assert statements.update_one((1,)) is first
    assert statements.update_one.__doc__
