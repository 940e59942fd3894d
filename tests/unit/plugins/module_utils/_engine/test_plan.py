# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans behind one another: changes, applies and records in order, and the results of both."""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.plan import Change, Plan


class Called:
    """What is called, in order."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def plan(self, name: str, *changes: str, done: Mapping[str, object] | None = None, **result: object) -> Plan:
        def apply() -> Mapping[str, object]:
            self.names.append(f"apply {name}")
            return done or {}

        def record() -> Mapping[str, object]:
            self.names.append(f"record {name}")
            return {f"recorded {name}": True}

        made = tuple(Change("source", what, None, "there") for what in changes)
        return Plan(made, result, apply, (f"note {name}",), (f"warning {name}",), record)


def test_changes_notes_and_warnings_are_added_and_nothing_is_called_for_it() -> None:
    called = Called()
    both = called.plan("a", "x", "y").then(called.plan("b", "z"))
    assert [change.what for change in both.changes] == ["x", "y", "z"]
    assert both.notes == ("note a", "note b")
    assert both.warnings == ("warning a", "warning b")
    assert both.changed
    assert called.names == []


def test_each_is_applied_and_recorded_in_order() -> None:
    called = Called()
    three = called.plan("a", "x").then(called.plan("b", "y")).then(called.plan("c", "z"))
    three.apply()
    assert three.record() == {"recorded a": True, "recorded b": True, "recorded c": True}
    assert called.names == ["apply a", "apply b", "apply c", "record a", "record b", "record c"]


def test_a_plan_without_changes_is_not_applied_and_its_result_counts() -> None:
    called = Called()
    plan = called.plan("a", seen="before").then(called.plan("b", "y", done={"made": 1}))
    assert plan.apply() == {"seen": "before", "made": 1}
    assert called.names == ["apply b"]
    assert not called.plan("a").then(called.plan("b")).changed


def test_results_of_both_are_told_of_a_dry_run_too() -> None:
    called = Called()
    first = called.plan("a", "x", done={"slot": "made", "left_behind": [3]}, slot="seen", left_behind=[1])
    plan = first.then(called.plan("b", slot="told", left_behind=[2]))
    assert plan.result == {"slot": "told", "left_behind": [1, 2]}
    assert plan.apply() == {"slot": "told", "left_behind": [3, 2]}
    assert plan.then(Plan()).apply() == {"slot": "told", "left_behind": [3, 2]}
    assert Plan().then(plan).carry_out() == {"slot": "told", "left_behind": [3, 2]}


def test_what_the_doing_tells_counts_over_what_was_observed() -> None:
    called = Called()
    assert called.plan("a", "x", done={"slot": "made"}, slot="seen", place="s").carry_out() == {
        "slot": "made",
        "place": "s",
    }
    assert called.plan("a", slot="seen").carry_out() == {"slot": "seen"}
    assert called.names == ["apply a"]
