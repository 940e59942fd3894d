# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a change waits for a lock, and for how long: what writers queue for, and what the operator is told."""

from __future__ import annotations

import math
from typing import Any

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.capture.under_lock import (
    Patience,
    Turns,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres.locks import LockHolder

TIMEOUT = 2.0


def holder(age: float | None, key: str = "1") -> LockHolder:
    return LockHolder(f"pid {key}", key, age)


def queued(holders_at: Any, seconds: float) -> float:
    """The share of the time for which writers queue when every attempt fails at its limit."""
    one, now, stalled = Turns(), 0.0, 0.05
    one.failed(0.05, 0.05, now)
    while now < seconds:
        wait = one.next_wait(holders_at(now), now, TIMEOUT)
        if wait:
            stalled += wait
            now += wait
            one.failed(wait, wait, now)
        now += 0.2
    return stalled / now


@pytest.mark.parametrize(
    ("holders", "most"),
    [
        (lambda now: (holder(100 + now),), 0.01),
        (lambda now: (holder(0.5 + now),), 0.01),
        (lambda now: (holder(math.inf),), 0.01),
        (lambda now: (), 0.01),
        # once in full: 2 s, which transactions so young would have let end
        (lambda now: (holder(0.5),), 0.02),
        (lambda now: (holder(None),), 0.02),
        (lambda now: (holder(0.5), holder(300.0, "2")), 0.01),
        (lambda now: (holder(300.0),) if int(now) % 2 else (), 0.01),
    ],
    ids=[
        "an old transaction",
        "one that has just begun and stays",
        "a prepared one",
        "gone at each look",
        "young ones",
        "of unknown age",
        "young and old",
        "on and off",
    ],
)
def test_writers_queue_for_a_small_share_of_the_time(holders: Any, most: float) -> None:
    assert queued(holders, 240) < most


def test_a_lock_that_is_free_again_is_taken_at_the_next_look() -> None:
    one = Turns()
    one.failed(0.05, 0.05, 10.0)
    assert one.next_wait((holder(60.0),), 10.2, TIMEOUT) == 0
    assert one.next_wait((), 10.4, TIMEOUT) > 0


def test_young_transactions_are_waited_for_in_full_once() -> None:
    one = Turns()
    one.failed(0.05, 0.05, 10.0)
    assert one.next_wait((holder(0.3),), 10.2, TIMEOUT) == 0.4
    one.failed(0.4, 0.4, 10.6)
    assert one.next_wait((holder(0.3, "2"),), 10.8, TIMEOUT) == 0
    assert one.next_wait((holder(0.3, "3"),), 120.0, TIMEOUT) == TIMEOUT


def test_autovacuum_gives_way_to_who_waits_for_a_second() -> None:
    one = Turns()
    one.failed(0.05, 0.05, 10.0)
    assert one.next_wait((holder(0.0),), 10.2, TIMEOUT) == TIMEOUT


def test_a_holder_is_told_at_once_and_once() -> None:
    one = Turns()
    one.next_wait((holder(0.1, "1"),), 0.0, TIMEOUT)
    assert one.news() == ("pid 1",)
    one.next_wait((holder(0.1, "2"),), 1.0, TIMEOUT)
    assert one.news() == ()
    one.next_wait((holder(30.0, "3"),), 2.0, TIMEOUT)
    assert one.news() == ("pid 3",)
    assert one.news() == ()


def test_the_whole_wait_is_bounded() -> None:
    assert Patience(2.0, 60).total == 242.0
    assert Patience(1.0, 0).total == 1.0
