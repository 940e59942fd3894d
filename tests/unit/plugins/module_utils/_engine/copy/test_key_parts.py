# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The column whose ranges a table may be cut by."""

from __future__ import annotations

from unit.plugins.module_utils._engine.catalog_values import column, table, unique_index

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.copy.key_parts import range_column
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres.catalog import Column, UniqueIndex

ID, DAY, NAME = column("id"), column("day", 1082, "date"), column("größe", 25, "text")
COMPUTED = column("computed", generated="s")


def found(columns: tuple[Column, ...], *indexes: UniqueIndex) -> str | None:
    chosen = range_column(table(columns=columns, unique_indexes=indexes))
    return chosen.name if chosen else None


def test_it_is_the_first_one_of_the_primary_key() -> None:
    assert found((DAY, ID), unique_index("pk", "id", "day", primary=True)) == "id"
    assert found((DAY, ID), unique_index("pk", "day", "id", primary=True)) == "day"


def test_the_primary_key_comes_first_however_many_columns_it_has() -> None:
    assert found((ID, DAY), unique_index("a", "id"), unique_index("pk", "day", "id", primary=True)) == "day"


def test_without_a_primary_key_the_shortest_comes_first_and_then_the_name() -> None:
    assert found((ID, DAY), unique_index("a", "id", "day"), unique_index("b", "day")) == "day"
    assert found((ID, DAY), unique_index("b", "id"), unique_index("a", "day")) == "day"


def test_a_table_without_a_key_has_none() -> None:
    assert found((ID,)) is None


def test_a_key_whose_type_has_no_such_order_gives_none() -> None:
    assert found((NAME,), unique_index("pk", "größe", primary=True)) is None
    assert found((NAME, ID), unique_index("pk", "größe", primary=True), unique_index("u", "id")) is None


def test_the_key_is_not_one_with_a_generated_column() -> None:
    assert found((COMPUTED,), unique_index("pk", "computed", primary=True)) is None
    assert found((COMPUTED, DAY), unique_index("pk", "computed", primary=True), unique_index("u", "day")) == "day"
