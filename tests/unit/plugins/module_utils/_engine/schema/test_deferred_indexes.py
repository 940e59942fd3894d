# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which objects may be built only when all changes since the copy have been applied."""

from __future__ import annotations

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.schema.deferred_indexes import must_wait
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.schema.inventory import DatabaseObject
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.schema.toc import Entry

HELD = {("s", "t"): frozenset({"safe", "größe"})}


def waits(kind: str, detail: str, own_name: str = "other", table: str = "t") -> bool:
    thing = DatabaseObject(1, 2, own_name, ("s", table), own_name, detail, ("", ""))
    return must_wait(Entry(1, 1, 2, (), kind, "s", own_name, "o", ""), thing, HELD)


@pytest.mark.parametrize(
    ("kind", "detail", "expected"),
    [
        ("CONSTRAINT", "p valid", True),
        ("CONSTRAINT", "u valid", True),
        ("CONSTRAINT", "x valid partitioned", True),
        ("CONSTRAINT", "c valid", False),
        ("CONSTRAINT", "", False),
        ("INDEX", "unique", True),
        ("INDEX", "", False),
        ("FK CONSTRAINT", "f valid", False),
        ("TABLE", "p", False),
    ],
)
def test_what_refuses_a_row_that_is_there_twice_waits(kind: str, detail: str, expected: bool) -> None:
    assert waits(kind, detail) is expected


@pytest.mark.parametrize(("kind", "detail"), [("CONSTRAINT", "p valid"), ("INDEX", "unique")])
def test_an_index_with_the_column_that_tells_parts_apart_need_not_wait(kind: str, detail: str) -> None:
    assert not waits(kind, detail, own_name="safe")
    assert not waits(kind, detail, own_name="größe")


def test_other_tables_need_not_wait() -> None:
    assert not waits("CONSTRAINT", "p valid", table="u")
    assert not must_wait(Entry(1, 0, 0, (), "CONSTRAINT", "s", "c", "o", ""), None, HELD)
