# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for the worker ends: with the marker, with the task, with the worker, or with the time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import StateError, TimeoutExpired
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.task import caught_up


class Task:
    """A migration whose clock moves a second with each look; what is looked at may depend on that."""

    name = "shop"
    source = None

    def __init__(self, **seen: Any) -> None:
        self.now = 0.0
        self.markers = 0
        self.known = True
        self.wanted: dict[float, str] = {0: "started"}
        self.lives_until = self.applied_at = 1e9
        self.__dict__.update(seen)
        self.store = SimpleNamespace(conn=None, name=self.name)

    def state(self) -> object:
        return self if self.known else None

    def control(self, dummy_store: object) -> object:
        at = max((at for at in self.wanted if at <= self.now), default=None)
        return None if at is None else SimpleNamespace(wanted=self.wanted[at])

    def write(self, *dummy: object) -> int:
        self.markers += 1
        return self.markers

    def wait(self, dummy_store: object, dummy_marker: object, timeout: float) -> None:
        self.now += timeout
        if self.now < self.applied_at:
            raise TimeoutExpired("waiting in migration", self.name, "not within this second", "Look.")


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> Any:
    def run(task: Task, timeout: float = 600) -> float:
        monkeypatch.setattr(caught_up, "time", SimpleNamespace(monotonic=lambda: task.now))
        monkeypatch.setattr(caught_up, "read_control", task.control)
        monkeypatch.setattr(caught_up, "write_marker", task.write)
        monkeypatch.setattr(caught_up, "wait_applied", task.wait)
        monkeypatch.setattr(caught_up, "_lives", lambda dummy: task.now <= task.lives_until)
        return caught_up.wait_caught_up(task, timeout)  # type: ignore[arg-type]

    return run


def test_one_marker_is_written_and_waited_for(waited: Any) -> None:
    task = Task(applied_at=90)
    assert 90 <= waited(task) < 92
    assert task.markers == 1


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        ({"known": False}, "has no CDC task yet"),
        ({"wanted": {}}, "has no CDC task yet"),
        ({"wanted": {0: "stopped"}}, "the CDC task is stopped"),
        ({"wanted": {0: "paused"}}, "the CDC task is paused. Run the resume playbook"),
        ({"wanted": {0: "disarmed"}}, "the CDC task is disarmed"),
    ],
)
def test_nothing_is_written_where_no_task_is_started(waited: Any, seen: dict[str, Any], why: str) -> None:
    task = Task(**seen)
    with pytest.raises(StateError, match=why):
        waited(task)
    assert (task.markers, task.now) == (0, 0)


def test_a_task_that_is_paused_meanwhile_ends_the_wait(waited: Any) -> None:
    task = Task(wanted={0: "started", 20: "paused"})
    with pytest.raises(StateError, match="is paused"):
        waited(task)
    assert task.now < 22


def test_a_worker_that_stays_away_ends_the_wait(waited: Any) -> None:
    task = Task(lives_until=10)
    with pytest.raises(StateError, match="no worker has applied changes for 30 s"):
        waited(task)
    assert 40 <= task.now < 43
    restarted = Task(lives_until=10, applied_at=35)
    assert waited(restarted) < 37


@pytest.mark.parametrize("timeout", [1, 20.5])
def test_the_time_is_the_one_that_was_given(waited: Any, timeout: float) -> None:
    task = Task()
    with pytest.raises(TimeoutExpired, match=rf"not applied within {timeout:g} s\. Look\."):
        waited(task, timeout)
    assert task.now == pytest.approx(timeout)
