# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What follows where a role could write after a REVOKE from it, without a server."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import psycopg
import pytest
from unit.plugins.module_utils._engine.catalog_values import table

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import ServerError
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.writers import attempts, revoke
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.writers.grants import Grant
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.writers.situation import Situation

OWN = Grant("table", "s", "a", "", "owner", "mover", "INSERT", grantable=False, by_owner=True)
TABLES = (table(1, "a"), table(2, "b"))
MOVER = Situation("destination", "mover", "shop", "mover", "mover", TABLES, TABLES, None, (OWN,), (), None)
REFUSED = {"verified": True, "refused": 2, "writable": [], "read_only_sessions": None}
WRITES = {"verified": False, "refused": 1, "writable": ["s.a"], "read_only_sessions": False}
BRAKED = {**WRITES, "verified": True, "read_only_sessions": True}


class End:
    """A connection that keeps what it is told to execute."""

    def __init__(self) -> None:
        self.executed: list[str] = []

    def execute(self, statement: Any) -> None:
        self.executed.append(statement.as_string(None))

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        yield

    connection = None
    adapters = psycopg.adapters


class Ends:
    """A migration whose account answers the attempts to write with ``outcomes``, one after the other."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, *outcomes: dict[str, Any], kept: tuple[Grant, ...] = ()
    ) -> None:
        self.destination = End()
        self.remembered: list[bool] = []
        left = list(outcomes)
        monkeypatch.setattr(revoke, "_tried", lambda *dummy: left.pop(0))
        monkeypatch.setattr(revoke, "observe_grants", lambda *dummy: kept)
        monkeypatch.setattr(revoke, "_refuse_after_release", lambda *dummy: None)
        monkeypatch.setattr(revoke, "_remember", lambda dummy, other, braking: self.remembered.append(braking))

    @property
    def brakes(self) -> int:
        return sum("default_transaction_read_only" in statement for statement in self.destination.executed)


def carried_out(ends: Any, situation: Situation) -> dict[str, Any]:
    return dict(revoke._plan_revoked(ends, situation).carry_out())


def test_a_role_that_is_refused_gets_no_brake(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = Ends(monkeypatch, REFUSED)
    result = carried_out(ends, MOVER)
    assert (ends.brakes, ends.remembered) == (0, [False])
    assert (result["verified"], result["remaining"], result["warnings"]) == (True, [], [])


def test_one_that_could_write_gets_it_and_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = Ends(monkeypatch, WRITES, BRAKED)
    result = carried_out(ends, MOVER)
    assert (ends.brakes, ends.remembered) == (1, [False, True])
    assert ends.destination.executed[0].startswith("REVOKE INSERT")
    assert result["verified"] and result["read_only_sessions"]
    assert [way["path"] for way in result["remaining"]] == ["unknown"]
    (warning,) = result["warnings"]
    assert "can still write at the destination" in warning


def test_a_right_that_was_not_revoked_after_all_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    other = replace(OWN, grantee="app")
    result: Any = carried_out(Ends(monkeypatch, WRITES, BRAKED, kept=(replace(OWN, grantee="mover"), other)), MOVER)
    (way,) = result["remaining"]
    assert (way["path"], way["via"], way["tables"]) == ("grant", "owner", 1)
    assert way["remedy"] == ("REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON s.a … FROM mover, as owner: mover may not.")


def test_a_brake_that_does_not_hold_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    result = carried_out(Ends(monkeypatch, WRITES, WRITES), MOVER)
    assert not result["verified"]
    assert "can write at the destination in new sessions too" in result["warnings"][-1]


def test_a_brake_that_is_set_is_not_set_again(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = Ends(monkeypatch, BRAKED, kept=(replace(OWN, grantee="mover"),))
    result: Any = carried_out(ends, replace(MOVER, setting="on"))
    assert result["verified"] and ends.brakes == 0
    assert [way["path"] for way in result["remaining"]] == ["grant"], "what was not revoked is named again"
    (warning,) = result["warnings"]
    assert "grant (owner)" in warning


def test_a_table_that_is_locked_is_not_called_writable(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = {"s.a": attempts.BUSY}
    monkeypatch.setattr(revoke, "try_to_write", lambda *dummy: busy)
    tried = revoke._tried(cast("Any", SimpleNamespace(source=None, destination=None)), MOVER)
    assert (tried["writable"], tried["verified"], tried["refused"]) == ([], False, 0)
    assert "s.a is locked" in str(revoke._reported(MOVER, tried)["warnings"])


def test_a_refused_brake_does_not_keep_the_destination_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    ends: Any = Ends(monkeypatch, WRITES, WRITES)

    def refuse(*dummy: object) -> None:
        raise ServerError("setting", "mover", "permission denied", "Grant it.", sqlstate="42501")

    monkeypatch.setattr(revoke.SqlChange, "execute", refuse)
    monkeypatch.setattr(revoke, "observe_situation", lambda *dummy: MOVER)
    result: Any = revoke.revoke_own(ends)
    assert not result["verified"]
    assert "could not be revoked from role mover: permission denied" in result["warnings"][0]


def test_a_cutover_that_is_run_again_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    again = replace(MOVER, grants=(), setting="on")
    for outcome, told in ((BRAKED, 1), (REFUSED, 0)):
        ends: Any = Ends(monkeypatch, outcome)
        monkeypatch.setattr(revoke, "observe_situation", lambda *dummy: again)
        result: Any = revoke.revoke_own(ends)
        assert result["verified"] and len(result["warnings"]) == told
        assert ends.brakes == 0


@pytest.mark.parametrize(("setting", "brakes"), [(None, 1), ("off", 1), ("on", 0)])
def test_where_nothing_is_revoked_the_plan_has_the_brake(
    setting: str | None, brakes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends: Any = Ends(monkeypatch, WRITES, BRAKED)
    plan = revoke._plan_revoked(ends, replace(MOVER, grants=(), setting=setting))
    assert len(plan.changes) == brakes
    assert "unknown (mover)" in plan.warnings[0]
    assert plan.carry_out()["verified"] is bool(brakes)
    assert ends.brakes == brakes


@pytest.mark.parametrize(
    ("value", "statement"),
    [
        ("on", """ALTER ROLE "App" IN DATABASE "gr""ö" SET default_transaction_read_only = 'on'"""),
        (None, 'ALTER ROLE "App" IN DATABASE "gr""ö" RESET default_transaction_read_only'),
    ],
)
def test_the_brake_is_set_in_one_database(value: str | None, statement: str) -> None:
    assert revoke._brake(replace(MOVER, role="App", database='gr"ö'), value).as_string(None) == statement
