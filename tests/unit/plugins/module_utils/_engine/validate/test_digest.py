# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One table under two names is compared by one digest."""

from __future__ import annotations

import dataclasses

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.objects.mapping import (
    IDENTITY,
    ColumnMapping,
    ObjectMapping,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres.catalog import (
    Column,
    Table,
    UniqueIndex,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.validate import digest

ID = Column(1, "id", 23, -1, "integer", 23, "integer", True, "", "", True)
NOTE = dataclasses.replace(ID, number=2, name="note", base_type_name="text")
KEY = UniqueIndex("t_pkey", ("id",), True, True, False, True, True)
TABLE = Table(1, "s", "t", "r", "p", "me", "d", "", (), False, 0, -1, 0, (ID, NOTE), (KEY,))
MAPPING = ObjectMapping(
    relations={("s", "t"): ("d", "u")}, columns={("s", "t"): {"id": ColumnMapping("key", "bigint")}}
)


def shape(mapping: ObjectMapping) -> digest.Shape:
    return digest.shape_of(TABLE, mapping.table(TABLE.qualified_name), 1, portable=False)


def test_both_sides_are_one_where_nothing_is_mapped() -> None:
    found = shape(IDENTITY)
    assert found.source == found.destination


def test_each_end_is_read_under_its_own_names() -> None:
    found = shape(MAPPING)
    row = 'hashtextextended(ROW(t."{}", t."note")::text COLLATE "C", 0)'
    for side, table, column in ((found.source, '"s"."t"', "id"), (found.destination, '"d"."u"', "key")):
        text = digest.table_digest(found, side).as_string(None)
        assert row.format(column) in text
        assert f"FROM ONLY {table} AS t" in text
    keyed = digest.keyed_rows(found, found.destination, [("1",)]).as_string(None)
    assert 'ON t."key" = "k0"."w"' not in keyed
    assert "::bigint" in keyed
    assert 'FROM ONLY "d"."u" AS t WHERE' in digest.finder(found, found.destination, 7).as_string(None)
