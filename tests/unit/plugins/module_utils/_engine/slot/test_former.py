# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The slot on servers that were the source before: which is dropped, which is left and why."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import ConnectError, SpecError
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.plan import Plan
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres.connect import Endpoint
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres.server import System
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.slot import former
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.slot.former import (
    FormerPrimary,
    former_endpoint,
    former_slots,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.slot.identity import Slot

SOURCE = Endpoint("source", host="a", port=5432)
MADE = {
    "name": "s",
    "plugin": "pgoutput",
    "database": "db",
    "consistent_point": "0/1F4",
    "system_identifier": "7",
    "timeline": 1,
    "failover": True,
}
SLOT = Slot("s", "pgoutput", "logical", "db", False, 0, 1000, 900, "reserved", True)
NOW = System("7", 2, 5000)


def given(host: str, **more: Any) -> dict[str, Any]:
    return {"login_host": host, **more}


def test_a_former_source_is_the_same_account_elsewhere() -> None:
    assert former_endpoint(SOURCE, given("b")) == dataclasses.replace(SOURCE, host="b")
    assert former_endpoint(SOURCE, given("a", login_port=5433)) == dataclasses.replace(SOURCE, port=5433)
    with pytest.raises(SpecError, match="this is the source itself"):
        former_endpoint(SOURCE, given("a"))


@pytest.mark.parametrize(
    ("found", "server", "timeline", "left"),
    [
        (None, {}, 1, (False, "")),
        (SLOT, {}, 1, (True, "")),
        (SLOT, {"system_identifier": "8"}, 1, (True, "its system identifier is 8, and it was 7")),
        (SLOT, {"system_identifier": ""}, 1, (True, "its system identifier is unknown")),
        (dataclasses.replace(SLOT, plugin="wal2json"), {}, 1, (True, "its plugin is wal2json")),
        (dataclasses.replace(SLOT, synced=True), {"in_recovery": True}, 2, (False, "")),
        (SLOT, {"in_recovery": True}, 2, (True, "")),
        (SLOT, {}, 2, (True, "that server is itself a primary, on timeline 2")),
        (SLOT, {}, None, (True, "that server is itself a primary, on timeline unknown")),
        (dataclasses.replace(SLOT, active_pid=9), {}, 1, (True, "pid 9 there reads it")),
    ],
)
def test_what_is_left_over_there(
    monkeypatch: pytest.MonkeyPatch,
    found: Slot | None,
    server: dict[str, Any],
    timeline: int | None,
    left: tuple[bool, str],
) -> None:
    seen = SimpleNamespace(**{"system_identifier": "7", "in_recovery": False, **server})
    monkeypatch.setattr(former, "observe_server", lambda *dummy: seen)
    monkeypatch.setattr(former, "observe_slot", lambda *dummy: found)
    row = None if timeline is None else (timeline,)
    conn: Any = SimpleNamespace(execute=lambda dummy: SimpleNamespace(fetchone=lambda: row))
    exists, why = former._left_over(conn, MADE, NOW)
    assert exists is left[0]
    assert why.startswith(left[1]) and bool(why) is bool(left[1])


def test_what_cannot_be_looked_at_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*dummy: object) -> Any:
        raise ConnectError("connecting to", "b", "no route", "")

    monkeypatch.setattr(former, "connect", refuse)
    assert former.observe_former(SOURCE, "m", MADE, NOW).why == "it could not be checked (no route)"


def planned(
    monkeypatch: pytest.MonkeyPatch,
    recorded: dict[str, Any] | None,
    found: dict[str, tuple[bool, str]],
    dropped: list[str],
) -> Plan:
    migration: Any = SimpleNamespace(
        name="m", spec=SimpleNamespace(source=SOURCE), state=lambda: SimpleNamespace(slot=recorded)
    )
    monkeypatch.setattr(former, "observe_system", lambda dummy: NOW)
    monkeypatch.setattr(former, "observe_former", lambda end, *dummy: FormerPrimary(end, *found[end.host]))
    monkeypatch.setattr(former, "drop_former", lambda dummy, one, dummy2: dropped.append(one.place))
    return former_slots(migration, "s", {"former_sources": [given(host) for host in found]})


def test_what_is_ours_is_dropped_and_what_is_not_is_left_with_its_statement(monkeypatch: pytest.MonkeyPatch) -> None:
    dropped: list[str] = []
    found = {"b": (True, ""), "c": (True, "pid 9 there reads it"), "d": (False, "")}
    plan = planned(monkeypatch, MADE, found, dropped)
    assert [change.what for change in plan.changes] == ["replication slot s at b:5432"]
    left: Any = plan.carry_out()["left_behind"]
    assert [one["what"] for one in left] == ["replication slot s at c:5432"]
    assert dropped == ["b:5432"]
    assert len(plan.warnings) == 1 and plan.notes == ()


def test_after_a_promotion_the_former_source_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "promoted after the slot was created" in planned(monkeypatch, MADE, {}, []).notes[0]
    assert planned(monkeypatch, {**MADE, "timeline": 2}, {}, []).notes == ()
    for nothing in (None, {**MADE, "consistent_point": None}):
        assert planned(monkeypatch, nothing, {"b": (True, "")}, []) == Plan()
