# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What counts after a failover: our position up to the switch, and each mark on its own timeline."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import LossError
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.plan import Plan
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres.server import System
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.slot import timeline
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.slot.timeline import (
    copied_too_late,
    following,
    position_after_switch,
    switch_point,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.state.copies import TableCopy

HISTORY = "1\t0/3E8\tno recovery target specified\n2\t0/7D0\tno recovery target specified\n"


def test_where_a_timeline_ended() -> None:
    assert switch_point(HISTORY, 1) == 1000
    assert switch_point(HISTORY, 2) == 2000
    assert switch_point(HISTORY, 3) is None
    assert switch_point("", 1) is None


@pytest.mark.parametrize(
    ("applied", "confirmable", "position"), [(900, 950, 950), (1000, 1000, 1000), (900, 1500, 1000)]
)
def test_up_to_the_switch_both_timelines_have_the_same_past(applied: int, confirmable: int, position: int) -> None:
    assert position_after_switch(applied, confirmable, 1, 3, HISTORY) == position


def test_applied_past_the_switch_is_a_loss() -> None:
    with pytest.raises(LossError, match="never happened there"):
        position_after_switch(1001, 1001, 1, 3, HISTORY)


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
    with pytest.raises(LossError, match="not part of its history"):
        position_after_switch(900, 950, 5, 3, HISTORY)


def follow(monkeypatch: pytest.MonkeyPatch, copies: list[TableCopy], asked: list[Any]) -> Plan:
    """The plan of a migration whose slot was made on timeline 1, and whose source is on timeline 3 now."""
    migration: Any = SimpleNamespace(
        name="m",
        spec=SimpleNamespace(source=None),
        store="store",
        state=lambda: SimpleNamespace(slot={"timeline": 1}),
        copies=lambda: dict(enumerate(copies)),
    )
    monkeypatch.setattr(timeline, "connect", lambda *dummy, **dummy2: SimpleNamespace(close=list))

    def history(*dummy: object) -> str:
        asked.append("history")
        return HISTORY

    monkeypatch.setattr(timeline, "read_history", history)
    monkeypatch.setattr(timeline, "copy_again", lambda *given: asked.append(given))
    return following(migration, System("7", 3, 9000))


def test_nothing_is_asked_while_all_was_copied_on_the_present_timeline(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    assert follow(monkeypatch, [copy(9000, 3)], asked) == Plan()
    assert asked == []
    assert follow(monkeypatch, [copy(1000, 0)], asked) == Plan()
    assert asked == ["history"]


def test_a_table_that_was_copied_too_late_is_a_change_and_taken_back_when_that_is_applied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Any] = []
    late = copy(1001, 1)
    plan = follow(monkeypatch, [copy(1000, 1), late], asked)
    assert [change.what for change in plan.changes] == ["copy of public.t1001"]
    assert asked == ["history"]
    assert plan.carry_out() == {}
    assert asked[1:] == [("store", [late], 3, 1000)]
