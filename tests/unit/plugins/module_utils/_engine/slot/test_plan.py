# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run does about the slot, over everything that it may find."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import (
    LossError,
    MismatchError,
    StateError,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres.lsn import parse_lsn
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres.server import System
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.slot import plan
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.slot.creation import creation_statement
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.slot.identity import Slot
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.slot.plan import SlotStep, decide

NAME = "dts_sync_orders"
SYSTEM = System("742", 1, parse_lsn("0/900"))
RECORD = {
    "name": NAME,
    "plugin": "pgoutput",
    "database": "shop",
    "consistent_point": "0/100",
    "system_identifier": "742",
    "timeline": 1,
    "failover": False,
}
INTENT = {**RECORD, "consistent_point": None}
SLOT = Slot(NAME, "pgoutput", "logical", "shop", False, 0, 0x100, 0x80, "reserved", False)


def asked(
    recorded: dict[str, Any] | None, found: Slot | None, *, confirmable: int = 0, copied: bool = False, **more: Any
) -> SlotStep:
    return decide(NAME, recorded, found, more.get("system", SYSTEM), confirmable, 1, copied)


def changed(**what: Any) -> Slot:
    return dataclasses.replace(SLOT, **what)


def test_what_is_safe() -> None:
    assert asked(None, None) is SlotStep.MAKE
    assert asked(INTENT, None) is SlotStep.MAKE
    assert asked(INTENT, SLOT) is SlotStep.REMAKE
    assert asked(RECORD, SLOT) is SlotStep.KEEP
    assert asked(RECORD, SLOT, copied=True, confirmable=0x500) is SlotStep.KEEP  # behind us: read again, skipped
    assert asked(RECORD, changed(confirmed=0x500), copied=True, confirmable=0x500) is SlotStep.KEEP
    assert asked(RECORD, changed(active_pid=7, wal_status="unreserved")) is SlotStep.KEEP


@pytest.mark.parametrize("recorded", [None, INTENT])
@pytest.mark.parametrize("found", [None, SLOT])
def test_no_slot_is_made_behind_copied_rows(recorded: Any, found: Any) -> None:
    with pytest.raises(LossError):
        asked(recorded, found, copied=True)


@pytest.mark.parametrize(
    ("recorded", "found"),
    [
        (None, SLOT),
        (INTENT, changed(plugin="wal2json")),
        (INTENT, changed(plugin="", kind="physical", database="")),
        (RECORD, changed(plugin="wal2json")),
        (RECORD, changed(database="other")),
        (RECORD, changed(kind="physical")),
        (RECORD, changed(temporary=True)),
        (RECORD, changed(failover=True)),
        (RECORD, changed(confirmed=0x99)),
    ],
)
def test_another_slot_of_our_name_is_a_mismatch(recorded: Any, found: Slot) -> None:
    with pytest.raises(MismatchError):
        asked(recorded, found)


def test_one_that_an_earlier_run_still_makes_is_waited_for_by_a_person() -> None:
    with pytest.raises(StateError, match="pid 7"):
        asked(INTENT, changed(active_pid=7))


def test_another_system_is_a_mismatch() -> None:
    with pytest.raises(MismatchError, match="system identifier"):
        asked(RECORD, SLOT, system=System("743", 1, 0))


@pytest.mark.parametrize(
    ("found", "confirmable"),
    [
        (None, 0),
        (changed(wal_status="lost", confirmed=0x100), 0),
        (changed(confirmed=0x101), 0),
        (changed(confirmed=0x501), 0x500),
    ],
)
def test_missing_changes_are_a_loss(found: Slot | None, confirmable: int) -> None:
    with pytest.raises(LossError):
        asked(RECORD, found, confirmable=confirmable)


def test_a_promotion_before_any_change_was_applied_is_a_loss_and_later_the_workers_to_judge() -> None:
    promoted = System("742", 2, 0)
    with pytest.raises(LossError, match="timeline 2"):
        asked(RECORD, SLOT, system=promoted)
    assert asked(RECORD, SLOT, system=promoted, confirmable=0x500) is SlotStep.KEEP


@pytest.mark.parametrize(
    ("version", "failover", "ending"),
    [
        (100000, False, "NOEXPORT_SNAPSHOT"),
        (140000, False, "NOEXPORT_SNAPSHOT"),
        (150000, False, "(SNAPSHOT 'nothing')"),
        (170000, True, "(SNAPSHOT 'nothing', FAILOVER true)"),
    ],
)
def test_the_statement_speaks_the_servers_words(version: int, failover: bool, ending: str) -> None:
    made = creation_statement(NAME, plan.PLUGIN, failover, version)
    assert made == f'CREATE_REPLICATION_SLOT "{NAME}" LOGICAL pgoutput {ending}'
