# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.objects.mapping import (
    IDENTITY,
    ColumnMapping,
    DestinationName,
    ObjectMapping,
    TableMapping,
)

SWAPPED = ObjectMapping(
    schemas={"shop": "store"},
    relations={("shop", "a"): ("store", "b"), ("shop", "b"): ("store", "a")},
    columns={("shop", "a"): {"x": ColumnMapping("y"), "y": ColumnMapping("x", "bigint")}},
)


def test_every_object_keeps_its_name_today() -> None:
    table = IDENTITY.table(("shop", "a"))
    assert IDENTITY.is_identity and not SWAPPED.is_identity
    assert (table.destination, table.column("x"), table.source_column("x")) == (("shop", "a"), "x", "x")
    assert table.type_name("x", "text") == "text"
    assert str(table) == "shop.a"


def test_names_that_are_exchanged_are_found_in_both_directions() -> None:
    for here, there in (
        (("shop", "a"), ("store", "b")),
        (("shop", "b"), ("store", "a")),
        (("shop", "c"), ("store", "c")),
    ):
        assert SWAPPED.there(here) == there
        assert SWAPPED.back(DestinationName(there)) == here
    assert SWAPPED.there(("other", "a")) == ("other", "a")
    table = SWAPPED.table(("shop", "a"))
    assert [table.column(name) for name in ("x", "y", "z")] == ["y", "x", "z"]
    assert [table.source_column(name) for name in ("x", "y", "z")] == ["y", "x", "z"]
    assert (table.type_name("x", "integer"), table.type_name("y", "integer")) == ("integer", "bigint")


def test_a_column_of_the_destination_s_own_is_not_taken_for_one_that_is_mapped_away() -> None:
    table = TableMapping(("s", "t"), DestinationName(("s", "t")), {"id": ColumnMapping("key")})
    assert [table.source_column(name) for name in ("key", "id", "other")] == ["id", "", "other"]


def test_an_index_goes_with_its_table_and_keeps_its_name() -> None:
    assert SWAPPED.index(("shop", "a"), "a_pkey") == ("store", "a_pkey")


def test_a_person_reads_the_source_s_name_first() -> None:
    table = TableMapping(("shop", "Order"), DestinationName(("store", "orders")))
    assert str(table) == 'shop."Order" (store.orders at the destination)'
