# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which tables and sequences a selection means, over a catalog that no server has."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.objects.rules import compile_rules
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.objects.selection import select
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres.catalog import (
    Catalog,
    Sequence,
    Table,
)


def table(oid: int, schema: str, name: str) -> Table:
    return Table(oid, schema, name, "r", "p", "app", "d", "", (), False, 0, 0.0, 0, (), ())


TABLES = (table(1, "sales", "orders"), table(2, "sales", "tmp_orders"), table(3, "logs", "lines"))
SEQUENCES = (
    Sequence(11, "sales", "orders_id_seq", "app", 1, "id", False),
    Sequence(12, "sales", "tmp_orders_id_seq", "app", 2, "id", False, (2,)),
    Sequence(13, "sales", "alone", "app", 0, "", False),
    Sequence(14, "sales", "tmp_alone", "app", 0, "", False),
    Sequence(15, "sales", "drawn", "app", 0, "", False, (1, 2)),
    Sequence(16, "sales", "lent", "app", 2, "id", False, (1,)),
    Sequence(17, "logs", "tmp_alone", "app", 0, "", False),
)
CATALOG = Catalog(
    "source",
    {entry.oid: entry for entry in TABLES},
    {entry.oid: entry for entry in SEQUENCES},
    {"sales": "app", "logs": "app"},
)


def sequences(*objects: dict[str, Any]) -> set[str]:
    found = select(compile_rules(objects), CATALOG)
    assert found.problems == ()
    return {f"{entry.schema}.{entry.name}" for entry in found.sequences}


@pytest.mark.parametrize(
    ("objects", "wanted"),
    [
        ([{"schema": "sales", "tables": [{"name": "orders"}]}], {"orders_id_seq", "drawn", "lent"}),
        ([{"schema": "sales", "tables": [{"name": "orders"}], "exclude": ["drawn"]}], {"orders_id_seq", "lent"}),
        ([{"schema": "sales", "exclude": ["tmp_*"]}], {"orders_id_seq", "alone", "drawn", "lent"}),
    ],
)
def test_a_sequence_goes_with_its_table_its_schema_and_the_defaults_that_draw_from_it(
    objects: list[dict[str, Any]], wanted: set[str]
) -> None:
    assert sequences(*objects) == {f"sales.{name}" for name in wanted}


def test_what_one_schema_leaves_out_another_does_not() -> None:
    assert "logs.tmp_alone" in sequences({"schema": "sales", "exclude": ["tmp_*"]}, {"schema": "logs"})


def test_tables_are_named_or_matched_and_what_matches_nothing_is_said() -> None:
    wanted = [{"name": name} for name in ("orders", "?[1]*", "it*", "gone", "g?ne", "Orders")]
    names = ("orders", "items", "x[1]y", "x1y", "other")
    tables = {number: table(number, "sales", name) for number, name in enumerate(names, 1)}
    catalog = Catalog("source", tables, {}, {"sales": "app"})
    found = select(compile_rules([{"schema": "sales", "tables": wanted, "exclude": ["i?ems"]}]), catalog)
    assert [entry.name for entry in found.tables] == ["orders", "x[1]y"]
    assert [problem.what for problem in found.problems] == ["sales.gone", 'sales."g?ne"', 'sales."Orders"']
