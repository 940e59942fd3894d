# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one run does with a plan and with the migration: in a dry run, for each purpose, once the destination is open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils import _module
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.plan import Change, Plan
from ansible_collections.causeway.postgresql.plugins.module_utils._module import (
    LOOKS,
    MAKES,
    TAKES_BACK,
    Purpose,
    made_or_taken_back,
)


class Exited(Exception):
    """The module has answered."""


class Call:
    """One run of a module over a migration that notes what it is asked for."""

    def __init__(self, *, check: bool = False, opened: str = "", restart: bool = False, changes: bool = True) -> None:
        self.asked: list[str] = []
        self.warned: list[str] = []
        self.check = check
        self.opened = opened
        self.spec = SimpleNamespace(restart=restart)
        self.name = "orders"
        self.lifted = Plan()
        made = (Change("source", "slot", None, "there"),) if changes else ()
        self.plan = Plan(made, {"seen": 1}, self._note("apply", {"done": 2}), record=self._note("record", {"kept": 3}))

    def _note(self, what: str, answer: Mapping[str, object] | None = None) -> Any:
        def noted(*dummy: object, **dummies: object) -> Any:
            self.asked.append(what)
            return answer or ()

        return noted

    def __enter__(self) -> Any:
        return SimpleNamespace(
            name=self.name,
            spec=self.spec,
            lock=self._note("lock"),
            opened_at=lambda: self.opened,
            require_released=self._note("require released"),
            registration=self._note("registration"),
            ensure_registered=self._note("register"),
        )

    def __exit__(self, *dummy: object) -> None:
        pass

    def run(self, monkeypatch: pytest.MonkeyPatch, purpose: Purpose) -> dict[str, Any]:
        """The answer; ``asked`` says what happened on the way."""
        answers: list[dict[str, Any]] = []

        def leave(**answer: Any) -> None:
            answers.append(answer)
            raise Exited

        module = SimpleNamespace(params={}, check_mode=self.check, no_log_values=set(), exit_json=leave)
        module.warn = self.warned.append
        monkeypatch.setattr(_module, "AnsibleModule", lambda **dummy: module)
        monkeypatch.setattr(_module, "spec_of", lambda dummy: self)
        monkeypatch.setattr(_module, "Migration", lambda dummy: self)
        monkeypatch.setattr(_module, "plan_lifted", lambda dummy: self.lifted)
        with pytest.raises(Exited):
            _module.run({}, lambda *dummy: self.plan, lambda dummy: purpose)
        return answers[0]


def test_a_real_run_locks_registers_applies_and_records_in_this_order(monkeypatch: pytest.MonkeyPatch) -> None:
    call = Call()
    answer = call.run(monkeypatch, MAKES)
    assert call.asked == ["lock", "registration", "register", "apply", "record"]
    assert (answer["changed"], answer["seen"], answer["done"], answer["kept"]) == (True, 1, 2, 3)


def test_a_dry_run_says_the_same_and_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    call = Call(check=True)
    answer = call.run(monkeypatch, MAKES)
    assert call.asked == ["registration"]
    assert (answer["changed"], answer["seen"]) == (True, 1)
    assert "done" not in answer


def test_without_changes_nothing_is_registered_or_applied_and_the_work_is_recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    call = Call(changes=False)
    assert not call.run(monkeypatch, MAKES)["changed"]
    assert call.asked == ["lock", "record"]


def test_what_looks_takes_no_lock_and_what_takes_back_registers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    looks, back = Call(opened="now", changes=False), Call(opened="now")
    looks.run(monkeypatch, LOOKS)
    assert looks.asked == ["record"]
    back.run(monkeypatch, TAKES_BACK)
    assert back.asked == ["lock", "apply", "record"]


def test_an_opened_destination_ends_the_run_unless_the_migration_begins_again(monkeypatch: pytest.MonkeyPatch) -> None:
    call, again = Call(opened="yesterday"), Call(opened="yesterday", restart=True)
    answer = call.run(monkeypatch, MAKES)
    assert (answer["changed"], answer["opened_at"], call.asked) == (False, "yesterday", ["lock"])
    again.run(monkeypatch, MAKES)
    assert again.asked == ["lock", "require released", "registration", "register", "apply", "record"]


LEFT = (Change("source", "right to write", None, ["INSERT"]),)


def test_a_fence_that_was_left_is_lifted_before_anything_is_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    call = Call(changes=False)
    call.lifted = Plan(LEFT, apply=call._note("lift", {"lifted": 1}), warnings=("it was fenced",))
    answer = call.run(monkeypatch, MAKES)
    assert call.asked == ["lock", "lift", "registration", "register", "record"]
    assert answer["changed"] and call.warned == ["it was fenced"]


def test_a_run_without_the_lock_of_its_own_takes_it_to_lift(monkeypatch: pytest.MonkeyPatch) -> None:
    call = Call(changes=False)
    call.lifted = Plan(LEFT, apply=call._note("lift", {"lifted": 1}))
    call.run(monkeypatch, Purpose(writes=False))
    assert call.asked[:2] == ["lock", "lift"]


@pytest.mark.parametrize(("purpose", "check"), [(MAKES, True), (LOOKS, False), (Purpose(lifts=False), False)])
def test_a_dry_run_and_what_looks_lift_nothing(monkeypatch: pytest.MonkeyPatch, purpose: Purpose, check: bool) -> None:
    call = Call(changes=False, check=check)
    call.lifted = Plan(LEFT, apply=call._note("lift", {"lifted": 1}))
    assert call.run(monkeypatch, purpose)["changed"] is (purpose is MAKES)
    assert "lift" not in call.asked


def test_absent_takes_back() -> None:
    assert made_or_taken_back({"state": "absent"}) is TAKES_BACK
    assert made_or_taken_back({"state": "present"}) is MAKES


def test_warnings_that_are_known_only_afterwards_are_told_with_the_plan_s(monkeypatch: pytest.MonkeyPatch) -> None:
    call = Call()
    late = call._note("apply", {"done": 2, "warnings": ["found by trying", "foreseen"]})
    call.plan = replace(call.plan, apply=late, warnings=("foreseen",))
    answer = call.run(monkeypatch, MAKES)
    assert answer["done"] == 2 and "warnings" not in answer
    assert call.warned == ["foreseen", "found by trying"]
