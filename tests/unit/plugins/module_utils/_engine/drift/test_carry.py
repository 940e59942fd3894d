# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is carried of that which belongs to no schema."""

from __future__ import annotations

from psycopg import sql

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.drift.carry import Carried, to_carry
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.drift.database_level import Item
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.schema.triggers import (
    enable_triggers_statements,
)

MAKE = sql.SQL("CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION f()")


def items(*some: Item) -> dict[tuple[str, str], Item]:
    return {one.key: one for one in some}


def test_what_is_missing_is_carried_and_nothing_is_taken() -> None:
    here = items(
        Item("setting", "a", "1"),
        Item("setting", "b", "1"),
        Item("setting", "c", "1"),
        Item("cast", "(x AS y)", "f"),
        Item("cast", "(x AS z)", "f"),
        Item("publication", "p", ""),
        Item("event trigger", "e", "ddl_command_end [] f() O"),
    )
    there = items(
        Item("setting", "b", "1"), Item("setting", "c", "2"), Item("cast", "(x AS z)", "g"), Item("setting", "d", "1")
    )
    assert [one.what for one in to_carry(here, there)] == [
        "cast (x AS y)",
        "event trigger e",
        "setting a",
        "setting c",
    ]
    assert "event trigger e" not in [one.what for one in to_carry(here, there, ["e"])]


def test_an_event_trigger_sleeps_until_the_opening() -> None:
    one = Carried(Item("event trigger", "e", "x A", MAKE), None)
    assert [statement.as_string(None) for statement in one.statements()][1:] == ['ALTER EVENT TRIGGER "e" DISABLE']
    said = enable_triggers_statements({"event_triggers": {"e": "A", "f": "O", "g": "D"}})
    assert [statement.as_string(None) for statement in said] == [
        'ALTER EVENT TRIGGER "e" ENABLE ALWAYS',
        'ALTER EVENT TRIGGER "f" ENABLE',
    ]
