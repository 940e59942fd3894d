# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cutover's resolver at every interruption: a model carries its steps out, dies anywhere, and starts again."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cutover.resolver import (
    CutoverStep,
    Facts,
    next_step,
)

DONE_BY = {
    CutoverStep.CATCH_UP: "caught_up",
    CutoverStep.END_SESSIONS: "sessions_ended",
    CutoverStep.MARK: "marked",
    CutoverStep.DRAIN: "drained",
    CutoverStep.SEQUENCES: "sequences_set",
    CutoverStep.COMPARE: "compared",
    CutoverStep.DISARM: "disarmed",
    CutoverStep.TRIGGERS: "triggers_restored",
    CutoverStep.REVOKE_WRITER: "writer_revoked",
}
WAY = [
    *(
        CutoverStep.CATCH_UP,
        CutoverStep.FENCE,
        CutoverStep.END_SESSIONS,
        CutoverStep.MARK,
        CutoverStep.DRAIN,
        CutoverStep.SEQUENCES,
        CutoverStep.COMPARE,
        CutoverStep.CLOSE,
    ),
    *(CutoverStep.DISARM, CutoverStep.TRIGGERS, CutoverStep.REVOKE_WRITER, CutoverStep.OPEN),
]


def carry_out(step: CutoverStep, facts: Facts) -> Facts:
    """What a step makes true."""
    if step is CutoverStep.FENCE:
        return dataclasses.replace(Facts(caught_up=True), fence="fenced", ours=True)
    if step is CutoverStep.CLOSE:
        return dataclasses.replace(facts, fence="closed")
    if step is CutoverStep.REOPEN:
        return dataclasses.replace(facts, fence="reopened")
    if step is CutoverStep.OPEN:
        return dataclasses.replace(facts, opened=True)
    done: dict[str, Any] = {DONE_BY[step]: True}
    return dataclasses.replace(facts, **done)


def die(facts: Facts, guard_lives: bool) -> Facts:
    """What a new process finds: only what is durable, and what the guard has given back."""
    if facts.opened:
        return facts
    fence = "reopened" if facts.fence == "fenced" and guard_lives else facts.fence
    return Facts(opened=facts.opened, fence=fence, disarmed=facts.disarmed)


def walk(facts: Facts) -> list[CutoverStep]:
    """Carry steps out until there is none; every state on the way is checked."""
    steps: list[CutoverStep] = []
    for dummy in range(40):
        check(facts)
        step = next_step(facts)
        if step is CutoverStep.DONE:
            return steps
        steps.append(step)
        facts = carry_out(step, facts)
    raise AssertionError(f"it never ends: {steps}")


def check(facts: Facts) -> None:
    """The invariants of every reachable state."""
    assert not facts.opened or facts.fence == "closed"
    assert not facts.opened or (facts.disarmed and facts.triggers_restored and facts.writer_revoked)


def test_the_straight_way() -> None:
    assert walk(Facts()) == WAY


@pytest.mark.parametrize("guard_lives", [True, False])
@pytest.mark.parametrize("steps_before", range(len(WAY) + 1))
def test_a_death_anywhere_and_another_run(steps_before: int, guard_lives: bool) -> None:
    facts = Facts()
    for dummy in range(steps_before):
        facts = carry_out(next_step(facts), facts)
    closed = facts.fence == "closed"
    again = walk(die(facts, guard_lives))
    assert (CutoverStep.FENCE not in again) == closed
    assert CutoverStep.OPEN in again or facts.opened
    if not closed:
        assert again[again.index(CutoverStep.FENCE) :] == WAY[1:], "what a dead process proved proves nothing"


@pytest.mark.parametrize("trouble", ["failed", "late"])
@pytest.mark.parametrize("steps_before", range(len(WAY)))
def test_trouble_before_the_close_gives_back_and_after_it_goes_on(steps_before: int, trouble: str) -> None:
    facts = Facts()
    for dummy in range(steps_before):
        facts = carry_out(next_step(facts), facts)
    worse: dict[str, Any] = {trouble: True}
    left = walk(dataclasses.replace(facts, **worse))
    if facts.fence == "fenced":
        assert left == [CutoverStep.REOPEN]
    elif facts.fence == "closed":
        assert left[-1] is CutoverStep.OPEN
    else:
        assert left == []


def test_no_combination_of_facts_opens_what_is_not_closed_or_closes_what_is_not_proved() -> None:
    names = [field.name for field in dataclasses.fields(Facts) if field.name != "fence"]
    for fence in ("none", "fenced", "closed", "reopened", "lost"):
        for values in itertools.product((False, True), repeat=len(names)):
            facts = Facts(fence=fence, **dict(zip(names, values, strict=True)))
            step = next_step(facts)
            if step is CutoverStep.OPEN:
                assert facts.fence == "closed"
                assert facts.disarmed
                assert facts.writer_revoked
            if step is CutoverStep.CLOSE:
                assert facts.proved
                assert facts.ours
                assert not facts.late
                assert not facts.failed
            if facts.fence == "fenced" and (facts.failed or facts.late) and not facts.opened:
                assert step is CutoverStep.REOPEN


@pytest.mark.parametrize("fence", ["none", "lost"])
@pytest.mark.parametrize("steps_before", range(2, 8))
def test_a_fence_whose_state_is_lost_is_given_back_once_and_opens_nothing(fence: str, steps_before: int) -> None:
    facts = Facts()
    for dummy in range(steps_before):
        facts = carry_out(next_step(facts), facts)
    facts = dataclasses.replace(facts, fence=fence)
    assert next_step(facts) is CutoverStep.REOPEN
    assert next_step(dataclasses.replace(facts, given_back=True)) is CutoverStep.DONE


def test_a_comment_of_another_session_stops_no_cutover_that_has_not_begun() -> None:
    assert walk(Facts(fence="lost"))[:2] == WAY[:2]
