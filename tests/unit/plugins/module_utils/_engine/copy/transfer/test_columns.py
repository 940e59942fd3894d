# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import dataclasses

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.copy.transfer import columns
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.copy.transfer.table_fingerprint import (
    SeenColumn,
    read,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import MismatchError
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.objects.mapping import (
    IDENTITY,
    ColumnMapping,
    ObjectMapping,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres.catalog import Column, Table
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres.key_ranges import Part

ID = Column(1, "id", 23, -1, "integer", 23, "integer", True, "", "", True)
NAME = dataclasses.replace(ID, number=2, name='Na"me', type_name="text")
TWICE = dataclasses.replace(ID, number=3, name="twice", generated="s", binary_safe=False)


def table(*given: Column) -> Table:
    return Table(1, "Sü d", "t", "r", "p", "me", "d", "", (), False, 0, -1, 0, given, ())


def seen(*given: Column) -> tuple[SeenColumn, ...]:
    return tuple(SeenColumn(column.name, column.type_name) for column in given)


def test_generated_columns_are_left_to_the_destination() -> None:
    columns.check_columns(IDENTITY.table(("s", "t")), seen(ID, NAME), table(NAME, TWICE, ID))
    assert columns.format_of(table(ID, TWICE), 140000, 180000) == "binary"


@pytest.mark.parametrize(
    ("here", "there", "why"),
    [
        ((ID, NAME), (ID,), 'Na"me (text) is missing at the destination'),
        ((ID,), (ID, NAME), 'Na"me (text) exists at the destination only'),
        ((ID,), (dataclasses.replace(ID, type_name="bigint"),), "id is integer at the source and bigint at the"),
        ((ID, TWICE), (ID, TWICE), "twice (integer) is missing"),
    ],
)
def test_what_differs_is_named(here: tuple[Column, ...], there: tuple[Column, ...], why: str) -> None:
    with pytest.raises(MismatchError) as caught:
        columns.check_columns(IDENTITY.table(("s", "t")), seen(*here), table(*there))
    assert caught.value.what == "s.t"
    assert why in caught.value.why


def test_a_column_is_looked_for_under_the_name_and_type_that_it_is_mapped_to() -> None:
    mapping = ObjectMapping(
        relations={("s", "t"): ("d", "u")}, columns={("s", "t"): {"id": ColumnMapping("key", "bigint")}}
    )
    there = dataclasses.replace(ID, name="key", type_name="bigint")
    columns.check_columns(mapping.table(("s", "t")), seen(ID, NAME), table(there, NAME))
    with pytest.raises(MismatchError, match="key is bigint at the source and integer at the destination") as caught:
        columns.check_columns(mapping.table(("s", "t")), seen(ID), table(dataclasses.replace(ID, name="key")))
    assert caught.value.what == "s.t (d.u at the destination)"


@pytest.mark.parametrize(
    ("safe", "source", "destination", "form"),
    [
        (True, 140000, 180000, "binary"),
        (True, 130012, 180000, "text"),
        (True, 170000, 110009, "text"),
        (False, 170000, 170000, "text"),
    ],
)
def test_binary_only_where_it_means_the_same(safe: bool, source: int, destination: int, form: str) -> None:
    assert columns.format_of(table(dataclasses.replace(ID, binary_safe=safe)), source, destination) == form


def test_statements_quote_names_and_read_only_the_table_itself() -> None:
    out = columns.copy_out_statement("Sü d", 't"x', ["id", 'Na"me'], Part(1, 5, 9), "binary").as_string(None)
    assert out == (
        'COPY (SELECT "id", "Na""me" FROM ONLY "Sü d"."t""x"'
        " WHERE \"ctid\" >= '(5,0)'::tid AND \"ctid\" < '(9,0)'::tid) TO STDOUT (FORMAT binary)"
    )
    whole = columns.copy_out_statement("s", "t", ["id"], Part(0), "text").as_string(None)
    assert whole == 'COPY (SELECT "id" FROM ONLY "s"."t") TO STDOUT (FORMAT text)'
    assert columns.copy_in_statement("s", "t", [], "text").as_string(None) == 'COPY "s"."t" FROM STDIN (FORMAT text)'


ROWS = [
    (0, "t", "s", "", "false", "(1,2,3,r)"),
    (1, "id", "integer", "", "false", "(23,-1,7)"),
    (2, "........pg.dropped.2........", "", "", "true", "(0,-1,8)"),
    (3, "twice", "integer", "s", "false", "(23,-1,7)"),
]


def test_a_fingerprint_knows_its_name_and_the_columns_that_are_read() -> None:
    assert read(ROWS).name == ("s", "t")
    assert read(ROWS).columns == (SeenColumn("id", "integer"),)
    assert read([]).name is None
    assert read(ROWS) == read([tuple(str(value) for value in row) for row in ROWS]), "drivers differ in types"


@pytest.mark.parametrize("row", range(4))
def test_any_difference_makes_another_fingerprint(row: int) -> None:
    other = [list(line) for line in ROWS]
    other[row][5] = "(24,-1,9)"
    assert read(other) != read(ROWS)
