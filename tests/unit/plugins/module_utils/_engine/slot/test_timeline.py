# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When the stream may be taken up: slot, system, timeline, each of them wrong once."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import LossError, MismatchError
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres.server import System
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.slot.plan import Slot
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.slot.timeline import (
    check_slot,
    copied_too_late,
    position_after_switch,
    switch_point,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.state.copies import TableCopy
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.state.progress import Progress

MADE = {"name": "s", "plugin": "pgoutput", "database": "db", "system_identifier": "7", "timeline": 1}
SYSTEM = System("7", 1, 5000)
SLOT = Slot("s", "pgoutput", "logical", "db", False, 0, 1000, 900, "reserved", False)
HISTORY = "1\t0/3E8\tno recovery target specified\n2\t0/7D0\tno recovery target specified\n"
PROGRESS = Progress("running", "t", 900, 950, "7", 1, 0)


def check(slot: Slot | None = SLOT, system: System = SYSTEM, confirmable: int = 1000, **made: Any) -> None:
    check_slot("s", slot, {**MADE, **made}, system, confirmable)


def test_our_slot_at_or_behind_our_position_is_taken_up() -> None:
    check()
    check(confirmable=2000)


def test_a_slot_one_byte_ahead_is_a_loss() -> None:
    with pytest.raises(LossError, match=r"0/3E8, ahead of 0/3E7"):
        check(confirmable=999)


def test_a_source_whose_wal_ends_before_our_position_has_gone_back() -> None:
    check(system=System("7", 1, 2000), confirmable=2000)
    with pytest.raises(LossError, match="ends at 0/7CF"):
        check(system=System("7", 1, 1999), confirmable=2000)


@pytest.mark.parametrize(
    "slot",
    [dataclasses.replace(SLOT, plugin="wal2json"), dataclasses.replace(SLOT, database="other")],
    ids=["another plugin", "another database"],
)
def test_a_slot_that_is_not_ours(slot: Slot) -> None:
    with pytest.raises(MismatchError, match="another slot of that name"):
        check(slot)


def test_another_system() -> None:
    with pytest.raises(MismatchError, match="system 8"):
        check(system=System("8", 1, 5000))


@pytest.mark.parametrize(
    "slot", [None, dataclasses.replace(SLOT, wal_status="lost"), dataclasses.replace(SLOT, confirmed=0)]
)
def test_a_slot_that_is_gone_or_lost(slot: Slot | None) -> None:
    with pytest.raises(LossError):
        check(slot)


def test_where_a_timeline_ended() -> None:
    assert switch_point(HISTORY, 1) == 1000
    assert switch_point(HISTORY, 2) == 2000
    assert switch_point(HISTORY, 3) is None
    assert switch_point("", 1) is None


@pytest.mark.parametrize(
    ("applied", "confirmable", "position"), [(900, 950, 950), (1000, 1000, 1000), (900, 1500, 1000)]
)
def test_up_to_the_switch_both_timelines_have_the_same_past(applied: int, confirmable: int, position: int) -> None:
    progress = dataclasses.replace(PROGRESS, applied=applied, confirmable=confirmable)
    assert position_after_switch(progress, System("7", 3, 9000), HISTORY) == position


def test_applied_past_the_switch_is_a_loss() -> None:
    progress = dataclasses.replace(PROGRESS, applied=1001, confirmable=1001)
    with pytest.raises(LossError, match="never happened there"):
        position_after_switch(progress, System("7", 3, 9000), HISTORY)


def copy(mark: int, timeline: int, state: str = "complete") -> TableCopy:
    return TableCopy(mark, ("public", f"t{mark}"), state, True, 1, mark, 0, 0, timeline)


@pytest.mark.parametrize(
    ("one", "late"),
    [
        (copy(1000, 1), False),  # up to the switch both timelines have the same past
        (copy(1001, 1), True),
        (copy(1500, 2), False),
        (copy(2001, 2), True),
        (copy(9000, 3), False),  # taken where the source is now
        (copy(1001, 0), True),  # not known: as the progress
        (copy(1000, 0), False),
        (copy(5, 4), True),  # a timeline that this source has never been on
        (copy(1001, 1, "copying"), False),  # is copied again anyway
    ],
)
def test_a_mark_counts_on_the_timeline_on_which_it_was_taken(one: TableCopy, late: bool) -> None:
    assert copied_too_late([one], 1, 3, HISTORY)[0] == ([one] if late else [])


def test_where_the_source_left_is_the_last_point_that_matters() -> None:
    found, point = copied_too_late([copy(1001, 1), copy(2001, 2), copy(100, 1)], 1, 3, HISTORY)
    assert [one.mark for one in found] == [1001, 2001]
    assert point == 2000


def test_a_timeline_that_is_no_ancestor_is_a_loss() -> None:
    with pytest.raises(LossError, match="no part of its past"):
        position_after_switch(dataclasses.replace(PROGRESS, timeline=5), System("7", 3, 9000), HISTORY)
