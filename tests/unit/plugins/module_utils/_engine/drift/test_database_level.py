# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What belongs to no schema: which differences there are, and that no secret is shown."""

from __future__ import annotations

from typing import Any

import pytest
from psycopg import sql

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.drift.database_level import (
    Item,
    setting_value,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.drift.difference import Difference
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.drift.judge_items import judge_items

MAKE, TAKE = sql.SQL("ALTER DATABASE d SET x TO 'geheim'"), sql.SQL("ALTER DATABASE d RESET x")


def judged(here: Item | None, there: Item | None, asleep: tuple[str, ...] = ()) -> list[Difference]:
    conn: Any = None
    source, destination = ({item.key: item} if item else {} for item in (here, there))
    return list(judge_items(source, destination, conn, asleep))


def test_what_is_missing_or_differs_is_named_with_its_statement() -> None:
    here, there = Item("setting", "x", "1", MAKE, TAKE), Item("setting", "x", "2", MAKE, TAKE)
    assert [(one.object, one.severity, one.fix) for one in judged(here, None)] == [
        ("setting x", "warning", "ALTER DATABASE d SET x TO 'geheim';")
    ]
    assert [one.cause for one in judged(here, there)] == ["the destination has another"]
    assert [one.fix for one in judged(None, there)] == ["ALTER DATABASE d RESET x;"]
    assert judged(here, here) == []


def test_the_value_of_an_unknown_setting_is_shown_nowhere() -> None:
    for there in (None, Item("setting", "x", "other", MAKE, TAKE, shown=False)):
        (found,) = judged(Item("setting", "x", "geheim", MAKE, TAKE, shown=False), there)
        assert "geheim" not in repr(found)
    assert "geheim" not in repr(Item("setting", "x", "geheim", MAKE, TAKE))


def test_a_subscription_at_the_source_is_an_error_wherever_else_it_is() -> None:
    one = Item("subscription", "feed", "")
    for there in (None, one):
        assert [(found.id, found.severity) for found in judged(one, there)] == [("subscription_at_source", "error")]


def test_an_event_trigger_that_sleeps_until_the_opening_is_no_difference() -> None:
    here, there = (
        Item("event trigger", "e", "ddl_command_end [] s.f() A"),
        Item("event trigger", "e", "ddl_command_end [] s.f() D"),
    )
    assert len(judged(here, there)) == 1
    assert judged(here, there, ("e",)) == []


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("work_mem", "64MB", "'64MB'"),
        ("search_path", '"$user", public', "'$user', 'public'"),
        ("search_path", 'a, "B, ""c"""', "'a', 'B, \"c\"'"),
        ("search_path", '""', "''"),
        ("search_path", "", "''"),
        ("app.motto", "a, b", "'a, b'"),
    ],
)
def test_the_elements_of_a_list_are_set_one_by_one(name: str, value: str, expected: str) -> None:
    assert setting_value(name, value).as_string(None) == expected
