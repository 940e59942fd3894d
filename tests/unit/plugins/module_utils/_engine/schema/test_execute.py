# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What lost a deadlock, or did not get a lock, is tried again."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import (
    EngineError,
    ServerError,
    TimeoutExpired,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.schema import execute


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the seconds that were slept, without sleeping."""
    seconds: list[float] = []
    # the module's own name only: threads of other tests may still sleep
    monkeypatch.setattr(execute, "time", SimpleNamespace(sleep=seconds.append))
    return seconds


def failing(calls: list[str], *states: str) -> Callable[[], None]:
    """Return work that fails with these SQLSTATEs, one a call, and then succeeds."""

    def work() -> None:
        calls.append("called")
        if len(calls) <= len(states):
            raise ServerError("doing", "it", "no", "", sqlstate=states[len(calls) - 1])

    return work


def test_what_succeeds_is_done_once(slept: list[float]) -> None:
    calls: list[str] = []
    execute.retry_deadlocks(failing(calls))
    assert (len(calls), slept) == (1, [])


def test_it_waits_longer_each_time(slept: list[float]) -> None:
    calls: list[str] = []
    execute.retry_deadlocks(failing(calls, "40P01", "55P03", "40P01", "55P03"))
    assert (len(calls), slept) == (5, [1, 2, 3, 4])


def test_the_fifth_failure_is_raised(slept: list[float]) -> None:
    calls: list[str] = []
    with pytest.raises(ServerError) as caught:
        execute.retry_deadlocks(failing(calls, "40P01", "40P01", "40P01", "40P01", "55P03"))
    assert caught.value.sqlstate == "55P03"
    assert (len(calls), slept) == (5, [1, 2, 3, 4])


@pytest.mark.parametrize("state", ["23505", "40001", ""])
def test_another_refusal_is_raised_at_once(slept: list[float], state: str) -> None:
    calls: list[str] = []
    with pytest.raises(ServerError):
        execute.retry_deadlocks(failing(calls, "40P01", state))
    assert (len(calls), slept) == (2, [1])


def test_an_error_that_is_no_servers_is_raised_at_once(slept: list[float]) -> None:
    def work() -> None:
        raise TimeoutExpired("waiting", "", "no", "", sqlstate="55P03")

    with pytest.raises(EngineError):
        execute.retry_deadlocks(work)
    assert slept == []
