# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a task does next, at every combination of what is wanted and what went wrong."""

from __future__ import annotations

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.control.lifecycle import (
    RetryLimits,
    WorkerStep,
    after_failure,
    kind_of,
    next_step,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import (
    ConnectError,
    EngineError,
    LossError,
    MismatchError,
    ServerError,
    StateError,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres.sqlstates import Retry

LIMITS = RetryLimits(connection=600.0, other=60.0)


@pytest.mark.parametrize(
    ("wanted", "told", "step"),
    [
        ("started", False, WorkerStep.APPLY),
        ("started", True, WorkerStep.STOP),
        ("paused", False, WorkerStep.REST),
        ("paused", True, WorkerStep.STOP),
        ("stopped", False, WorkerStep.STOP),
        ("stopped", True, WorkerStep.STOP),
        ("disarmed", False, WorkerStep.DISARM),
        ("disarmed", True, WorkerStep.DISARM),
        (None, False, WorkerStep.LEAVE),
        (None, True, WorkerStep.LEAVE),
    ],
)
def test_next_step(wanted: str | None, told: bool, step: WorkerStep) -> None:
    assert next_step(wanted, told) is step


def test_waits_double_up_to_half_a_minute() -> None:
    trouble, waits, now = None, [], 0.0
    for dummy in range(10):
        verdict = after_failure(trouble, Retry.CONNECTION, now, LIMITS)
        assert verdict.again
        trouble = verdict.trouble
        waits.append(verdict.wait)
        now += verdict.wait
    assert waits == [0.25, 0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert trouble is not None
    assert trouble.since == 0
    assert trouble.attempts == 10


@pytest.mark.parametrize(("kind", "limit"), [(Retry.CONNECTION, 600.0), (Retry.OTHER, 60.0)])
def test_it_gives_up_after_its_time_and_never_waits_beyond(kind: Retry, limit: float) -> None:
    trouble, now = None, 1000.0
    while True:
        verdict = after_failure(trouble, kind, now, LIMITS)
        if not verdict.again:
            break
        trouble = verdict.trouble
        now += verdict.wait + 0.01
        assert now <= 1000 + limit + 0.2
    assert now >= 1000 + limit


def test_another_kind_of_failure_begins_its_own_time() -> None:
    first = after_failure(None, Retry.OTHER, 0, LIMITS).trouble
    second = after_failure(first, Retry.CONNECTION, 59, LIMITS)
    assert second.again
    assert second.trouble.since == 59
    assert second.trouble.attempts == 1


def test_what_is_not_on_the_list_stops_at_once() -> None:
    assert not after_failure(None, Retry.NEVER, 0, LIMITS).again


def server(sqlstate: str) -> ServerError:
    return ServerError("a", "b", "c", "d", sqlstate=sqlstate)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ConnectError("a", "b", "server closed the connection unexpectedly", "d"), Retry.CONNECTION),
        (ConnectError("a", "b", 'FATAL: password authentication failed for user "x"', "d"), Retry.OTHER),
        (server("57P01"), Retry.CONNECTION),
        (server("55006"), Retry.OTHER),
        (server("23505"), Retry.NEVER),
        (server("42703"), Retry.NEVER),
        (LossError("a", "b", "c", "d"), Retry.NEVER),
        (MismatchError("a", "b", "c", "d"), Retry.NEVER),
        (StateError("a", "b", "c", "d"), Retry.NEVER),
        (EngineError("a", "b", "c", "d"), Retry.NEVER),
        (ValueError("a bug"), Retry.NEVER),
    ],
)
def test_kinds_of_failure(error: BaseException, kind: Retry) -> None:
    assert kind_of(error) is kind
