# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a Relation of the stream fits a table of the destination, and which statements write it."""

from __future__ import annotations

import dataclasses

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.apply.destination_table import (
    DestinationTable,
    FoundColumn,
    FoundTable,
    fit,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.apply.statements import TableStatements
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes.keys import UniqueIndex
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes.messages import (
    Relation,
    RelationColumn,
    Type,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import MismatchError
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.objects.mapping import (
    IDENTITY,
    ColumnMapping,
    ObjectMapping,
)

INT = FoundColumn("id", 23, -1, 23, "pg_catalog", "int4", "integer", False, False, "pg_catalog")
TEXT = FoundColumn("v", 1043, 14, 1043, "pg_catalog", "varchar", "character varying", False, False, "")
MOOD = FoundColumn("m", 70000, -1, 70000, "s", "mood", "s.mood", False, False, "")
PRIMARY = UniqueIndex("t_pkey", ("id",), True, False, False, True, True, True)
FOUND = FoundTable(5, "r", (TEXT, INT, MOOD), (PRIMARY,))
RELATION = Relation(
    9,
    "s",
    "t",
    "d",
    (RelationColumn("id", 23, -1, True), RelationColumn("v", 1043, 14, False), RelationColumn("m", 60000, -1, False)),
)
TYPES = {60000: Type(60000, "s", "mood")}


def fitted(
    found: FoundTable | None = FOUND, relation: Relation = RELATION, mapping: ObjectMapping = IDENTITY
) -> DestinationTable:
    return fit(relation, TYPES, found, (PRIMARY,), mapping)


def changed(column: FoundColumn, **changes: object) -> FoundTable:
    new = dataclasses.replace(column, **changes)  # type: ignore[arg-type]
    return dataclasses.replace(FOUND, columns=tuple(new if c is column else c for c in FOUND.columns))


def test_columns_are_matched_by_name_in_the_relation_s_order() -> None:
    table = fitted()
    assert [column.name for column in table.columns] == ["id", "v", "m"]
    assert table.key == (0,)
    assert table.kept == ()
    assert not table.shape.destination_has_own_columns


def test_rows_are_looked_up_where_an_index_has_the_column_s_own_collation() -> None:
    other = dataclasses.replace(PRIMARY, collations_as_columns=False)
    table = fitted(dataclasses.replace(FOUND, uniques=(other,)))
    assert (fitted().enforced, fitted().indexed) == (True, True)
    assert (table.enforced, table.indexed) == (True, False)


def test_more_columns_at_the_destination_are_its_own_unless_generated() -> None:
    extra = dataclasses.replace(INT, name="own")
    generated = dataclasses.replace(INT, name="g", generated=True)
    table = fitted(dataclasses.replace(FOUND, columns=(*FOUND.columns, extra, generated)))
    assert table.kept == ("own",)
    assert table.shape.destination_has_own_columns


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (None, "no table of that name"),
        (dataclasses.replace(FOUND, kind="v"), "not a plain table"),
        (dataclasses.replace(FOUND, columns=(INT,)), "no column v, m"),
        (changed(INT, base_oid=20, base_type="int8", base_name="bigint"), "column id"),
        (changed(TEXT, typmod=9), "another length"),
        (changed(MOOD, base_schema="public"), r"s\.mood at the source"),
    ],
)
def test_what_does_not_fit_is_named(found: FoundTable | None, words: str) -> None:
    with pytest.raises(MismatchError, match=words) as failure:
        fitted(found)
    assert failure.value.what == "s.t"


@pytest.mark.parametrize("typmod", [-1, 14, 100])
def test_a_longer_varchar_takes_what_comes(typmod: int) -> None:
    fitted(changed(TEXT, typmod=typmod))


def test_without_a_key_at_both_ends_full_identity_means_the_whole_row() -> None:
    full = dataclasses.replace(RELATION, identity="f")
    assert fitted(relation=full).key == (0,)
    keyless = fitted(dataclasses.replace(FOUND, uniques=()), full)
    assert keyless.shape.key is None
    assert keyless.key == (0, 1, 2)


MAPPED = ObjectMapping(
    schemas={"s": "d"}, relations={("s", "t"): ("d", "u")}, columns={("s", "t"): {"id": ColumnMapping("key")}}
)
MAPPED_FOUND = FoundTable(
    5,
    "r",
    (
        TEXT,
        dataclasses.replace(INT, name="key"),
        dataclasses.replace(MOOD, base_schema="d", base_name="d.mood"),
        dataclasses.replace(INT, name="id"),
    ),
    (dataclasses.replace(PRIMARY, columns=("key",)),),
)


def test_a_mapped_table_is_written_under_its_destination_s_names() -> None:
    table = fitted(MAPPED_FOUND, mapping=MAPPED)
    assert [column.name for column in table.columns] == ["key", "v", "m"]
    assert table.kept == ("id",)
    assert (table.key, table.enforced, table.indexed) == ((0,), True, True)
    assert fitted(MAPPED_FOUND, dataclasses.replace(RELATION, identity="f"), MAPPED).shape.key == (0,)
    made = statements(table)
    assert made.delete_one() == 'DELETE FROM ONLY "d"."u" AS t WHERE t."key" OPERATOR("pg_catalog".=) $1::integer'
    assert made.copy_in(False) == 'COPY "d"."u" ("key", "v", "m") FROM STDIN'
    assert str(table) == "s.t (d.u at the destination)"


def test_an_index_of_the_destination_s_own_column_is_no_key_of_a_mapped_one() -> None:
    own = dataclasses.replace(MAPPED_FOUND, uniques=(PRIMARY,))
    table = fitted(own, dataclasses.replace(RELATION, identity="f"), MAPPED)
    assert (table.shape.key, table.shape.other_uniques) == (None, ())


def test_what_does_not_fit_a_mapped_table_names_the_source_first() -> None:
    with pytest.raises(MismatchError, match="no column key, m") as failure:
        fitted(dataclasses.replace(FOUND, columns=(TEXT, INT)), mapping=MAPPED)
    assert failure.value.what == "s.t (d.u at the destination)"
    with pytest.raises(MismatchError, match=r"s\.mood at the source, s\.mood at the destination"):
        fitted(dataclasses.replace(MAPPED_FOUND, columns=(*MAPPED_FOUND.columns[:2], MOOD)), mapping=MAPPED)


def statements(table: DestinationTable) -> TableStatements:
    return TableStatements(table, 170000)


def test_statements_name_only_and_operators_of_extensions() -> None:
    table = fitted(changed(INT, base_name="ext.citext", equality_schema="ext"))
    made = statements(table)
    assert made.delete_one() == 'DELETE FROM ONLY "s"."t" AS t WHERE t."id" OPERATOR("ext".=) $1::ext.citext'
    assert made.update_staged((1,), "stage") == (
        'UPDATE ONLY "s"."t" AS t SET "v" = "s"."v1" FROM "pg_temp"."stage" AS s'
        ' WHERE t."id" OPERATOR("ext".=) "s"."k0"'
    )


def test_generated_and_identity_always_columns_are_never_set() -> None:
    made = statements(fitted(changed(TEXT, generated=True)))
    assert made.insert_one() == (
        'INSERT INTO "s"."t" ("id", "m") OVERRIDING SYSTEM VALUE VALUES ($1::integer, $2::s.mood)'
    )
    assert made.settable((0, 1, 2)) == (0, 2)
    identity = statements(fitted(changed(INT, identity_always=True)))
    assert identity.settable((0, 1)) == (1,)
    assert identity.copy_in(True) == 'COPY "s"."t" ("id", "v", "m") FROM STDIN (FORMAT binary)'
    assert identity.update_one((0,)) == (
        'SELECT FROM ONLY "s"."t" AS t WHERE t."id" OPERATOR("pg_catalog".=) $1::integer'
    )


def test_another_row_with_the_new_key_is_told_from_the_row_itself() -> None:
    assert statements(fitted()).key_taken() == (
        'SELECT FROM ONLY "s"."t" AS t WHERE t."id" OPERATOR("pg_catalog".=) $1::integer'
        ' AND NOT (t."id" OPERATOR("pg_catalog".=) $2::integer)'
    )
