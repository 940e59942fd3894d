# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a slot is ours and has all that is needed: every part of its identity wrong once, and every loss."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import LossError, MismatchError
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres.server import System
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.slot.identity import (
    Slot,
    check_slot,
    difference,
)

MADE = {
    "name": "s",
    "plugin": "pgoutput",
    "database": "db",
    "consistent_point": "0/1F4",
    "system_identifier": "7",
    "timeline": 1,
    "failover": False,
}
SYSTEM = System("7", 1, 5000)
SLOT = Slot("s", "pgoutput", "logical", "db", False, 0, 1000, 900, "reserved", False)


def changed(**what: Any) -> Slot:
    return dataclasses.replace(SLOT, **what)


def check(slot: Slot | None = SLOT, system: System = SYSTEM, confirmable: int = 1000, timeline: int = 1) -> None:
    check_slot(MADE, slot, system, confirmable, timeline)


def test_our_slot_at_or_behind_our_position_is_resumed() -> None:
    check()
    check(confirmable=2000)
    check(changed(active_pid=7, wal_status="unreserved", restart=1))


def test_before_anything_is_recorded_the_consistent_point_counts() -> None:
    check(changed(confirmed=500), confirmable=0, timeline=0)
    with pytest.raises(LossError, match=r"0/1F5, ahead of 0/1F4"):
        check(changed(confirmed=501), confirmable=0, timeline=0)


def test_a_slot_one_byte_ahead_is_a_loss() -> None:
    with pytest.raises(LossError, match=r"0/3E8, ahead of 0/3E7"):
        check(confirmable=999)


def test_a_slot_before_its_own_consistent_point_is_another_one() -> None:
    with pytest.raises(MismatchError, match="before its own consistent point 0/1F4"):
        check(changed(confirmed=499))


def test_a_source_whose_wal_ends_before_our_position_has_gone_back() -> None:
    check(system=System("7", 1, 2000), confirmable=2000)
    with pytest.raises(LossError, match="ends at 0/7CF"):
        check(system=System("7", 1, 1999), confirmable=2000)


@pytest.mark.parametrize(
    ("what", "slot"),
    [
        ("name", changed(name="other")),
        ("plugin", changed(plugin="wal2json")),
        ("database", changed(database="other")),
        ("type", changed(kind="physical")),
        ("temporary", changed(temporary=True)),
        ("failover", changed(failover=True)),
    ],
)
def test_a_slot_that_is_not_ours(what: str, slot: Slot) -> None:
    with pytest.raises(MismatchError, match=f"its {what} is .*, and it was .* when this migration created it"):
        check(slot)


def test_another_system_is_named_before_its_missing_slot() -> None:
    for slot in (SLOT, None):
        with pytest.raises(MismatchError, match="its system identifier is 8, and it was 7"):
            check(slot, System("8", 1, 5000))


def test_a_system_that_does_not_say_who_it_is_is_another_one() -> None:
    assert difference(MADE, SLOT, "7") == ""
    assert "system identifier is unknown" in difference(MADE, SLOT, "")


@pytest.mark.parametrize("slot", [None, changed(wal_status="lost"), changed(confirmed=0)])
def test_a_slot_that_is_gone_or_lost(slot: Slot | None) -> None:
    with pytest.raises(LossError):
        check(slot)


def test_a_promotion_is_a_loss_until_changes_were_applied_and_then_the_worker_s_to_judge() -> None:
    promoted = System("7", 2, 900)
    with pytest.raises(LossError, match="on timeline 2, the slot was created on 1"):
        check(changed(confirmed=500), promoted, confirmable=0, timeline=0)
    check(SLOT, promoted)  # its WAL may end before what the old primary had sent
    check(SLOT, System("7", 2, 1000), timeline=2)  # the worker has followed it
    with pytest.raises(LossError, match="WAL ends"):
        check(SLOT, promoted, timeline=2)
