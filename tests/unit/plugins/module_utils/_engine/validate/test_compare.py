# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a table is compared with the one that it is mapped to, and the SQL that finds a row that differs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from unit.plugins.module_utils._engine.catalog_values import column, table, unique_index

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import MismatchError
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.objects.mapping import (
    IDENTITY,
    ColumnMapping,
    DestinationName,
    ObjectMapping,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.validate import compare
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.validate.digest import Shape, Side

HERE = table(
    name="Orders",
    columns=(column("id"), column("größe", 25, "text")),
    unique_indexes=(unique_index("pk", "id", primary=True),),
    rows=-1.0,
)
RENAMED = ObjectMapping(
    relations={("s", "Orders"): ("z", "orders")}, columns={("s", "Orders"): {"größe": ColumnMapping("size")}}
)


def test_a_table_is_compared_column_by_column_with_its_key() -> None:
    side = Side(("s", "Orders"), ("id", "größe"), (("id", "integer"),))
    present = {DestinationName(("s", "Orders")): HERE}
    assert compare._shape(HERE, present, IDENTITY, False) == Shape(side, side, 1, False)


def test_a_table_has_other_names_where_it_is_mapped_to_them() -> None:
    there = table(name="orders", schema="z", columns=(column("size", 25, "text"), column("id"), column("more")))
    shape = compare._shape(HERE, {DestinationName(("z", "orders")): there}, RENAMED, True)
    assert shape.destination == Side(DestinationName(("z", "orders")), ("id", "size"), (("id", "integer"),))
    assert shape.portable


def test_a_table_that_is_missing_is_refused() -> None:
    with pytest.raises(MismatchError) as caught:
        compare._shape(HERE, {}, IDENTITY, False)
    assert (caught.value.what, caught.value.why) == ('s."Orders"', "the destination lacks it")


def test_columns_that_are_missing_are_named_as_the_destination_calls_them() -> None:
    present = {DestinationName(("z", "orders")): table(name="orders", schema="z")}
    with pytest.raises(MismatchError) as caught:
        compare._shape(HERE, present, RENAMED, False)
    assert caught.value.what == 's."Orders" (z.orders at the destination)'
    assert caught.value.why == "columns id, size are missing at the destination"


ONE = Side(("s", "t"), ("id", 'a"b'), (("id", "integer"),))
OTHER = Side(("z", "t"), ("id", "c"), (("id", "integer"),))
HASH = 'pg_catalog.hashtextextended(ROW(t."id")::text COLLATE "C", 0)'


def finding(shape: Shape, key_hash: int) -> str:
    reading: Any = SimpleNamespace(shape=shape, ends=SimpleNamespace(source=None))
    return compare._find(cast("compare._Reading", reading), key_hash)


def test_one_statement_finds_a_row_at_both_ends_of_one_name() -> None:
    assert finding(Shape(ONE, ONE, 1, False), 42) == f'SELECT * FROM ONLY "s"."t" AS t WHERE {HASH} = 42'


def test_a_table_of_two_names_needs_two_statements() -> None:
    assert finding(Shape(ONE, OTHER, 1, False), 0) == (
        f'SELECT * FROM ONLY "s"."t" AS t WHERE {HASH} = 0'
        f' (at the destination: SELECT * FROM ONLY "z"."t" AS t WHERE {HASH} = 0)'
    )


class Ends:
    """Rows at either end, by the connection that reads them; the destination is read once it has passed the source."""

    def __init__(self, source: list[tuple[Any, ...]], destination: list[tuple[Any, ...]]) -> None:
        self.done: list[str] = []
        self.live = False
        self.source = SimpleNamespace(execute=lambda query: self._answered("source", source))
        self.destination = SimpleNamespace(execute=lambda query: self._answered("destination", destination))

    def _answered(self, end: str, rows: list[tuple[Any, ...]]) -> Any:
        self.done.append(end)
        return SimpleNamespace(fetchall=lambda: rows)

    def pass_source(self) -> None:
        self.done.append("passed")


def test_digests_are_numbers_by_bucket() -> None:
    ends = Ends([(0, 2, "-36893488147419103232"), (5, 1, "7")], [])
    reading = compare._Reading(cast("compare._Ends", ends), Shape(ONE, ONE, 8, False))
    assert reading.digests(cast("Any", ends.source), whole=False) == {0: (2, -36893488147419103232), 5: (1, 7)}


def test_suspects_are_rows_that_differ_and_their_keys_are_kept() -> None:
    ends = Ends([(1, 10, "one"), (2, 20, "two"), (3, 30, "three")], [(1, 10, "one"), (2, 21, "two"), (4, 40, "four")])
    reading = compare._Reading(cast("compare._Ends", ends), Shape(ONE, ONE, 8, False))
    suspicion = reading.first_suspects((0, 5))
    assert suspicion.watched == {2: 0, 3: 0, 4: 0}
    assert suspicion.different == set()
    assert reading.keys == {2: ("two",), 3: ("three",), 4: ("four",)}
    assert reading.buckets == [0, 5]
    assert ends.done == ["source", "passed", "destination"]
