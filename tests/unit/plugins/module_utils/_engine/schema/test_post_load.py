# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which foreign keys are validated later, and the statement that gathers statistics."""

from __future__ import annotations

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.objects.mapping import DestinationName
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.schema import post_load
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.schema.inventory import (
    DatabaseObject,
    Inventory,
)


def inventory(version: int) -> Inventory:
    return Inventory("destination", version, "me", {}, {}, {}, frozenset(), {})


def key(detail: str) -> DatabaseObject:
    return DatabaseObject(2606, 1, "fk on s.t", ("s", "t"), "fk", detail, ("s", "other"))


@pytest.mark.parametrize(
    ("detail", "version", "later"),
    [
        ("f valid", 100000, True),
        ("f", 100000, True),
        ("f valid partitioned", 170009, False),
        ("f partitioned", 170009, False),
        ("f valid partitioned", 180000, True),
        (None, 100000, True),
    ],
)
def test_before_18_the_key_of_a_partitioned_table_is_checked_at_once(
    detail: str | None, version: int, later: bool
) -> None:
    thing = None if detail is None else key(detail)
    assert post_load.may_be_not_valid(thing, inventory(version)) is later


@pytest.mark.parametrize(
    ("name", "statement"),
    [
        (("public", "orders"), 'ANALYZE "public"."orders"'),
        (('größe "1"', "a.b"), 'ANALYZE "größe ""1"""."a.b"'),
        (("s", "ä" * 31 + "x"), 'ANALYZE "s"."' + "ä" * 31 + 'x"'),
    ],
)
def test_one_table_is_analyzed(name: tuple[str, str], statement: str) -> None:
    assert post_load.analyze_statement(DestinationName(name)).as_string(None) == statement
