# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a slot is asked for, and what is said meanwhile."""

from __future__ import annotations

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.capture.snapshot import attempts, patiently
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import ServerError, TimeoutExpired


def test_short_attempts_come_first_and_all_of_them_have_an_end() -> None:
    waits = list(attempts(120))
    assert waits == sorted(waits) and waits[0] <= 15 and waits[-1] == 120
    assert 240 < sum(waits) < 1200


class Slot:
    """Can be created at the nth attempt."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.waited: list[float] = []

    def create(self, seconds: float) -> str:
        self.waited.append(seconds)
        if len(self.waited) < self.at:
            raise TimeoutExpired("taking", "it", f"pid {len(self.waited)} is open", "End it.", sqlstate="55P03")
        return "a snapshot"


def test_at_once() -> None:
    slot, told = Slot(1), list[str]()
    assert patiently(slot.create, 8, told.append) == "a snapshot"
    assert (slot.waited, told) == ([1], [])


def test_who_is_waited_for_is_told_until_the_wait_is_over() -> None:
    slot, told = Slot(3), list[str]()
    assert patiently(slot.create, 8, told.append) == "a snapshot"
    assert (slot.waited, told) == ([1, 2, 4], ["pid 1 is open", "pid 2 is open", ""])


def test_in_vain() -> None:
    slot, told = Slot(99), list[str]()
    with pytest.raises(TimeoutExpired, match=r"7 attempts in \d+ s failed: pid 7 is open") as failure:
        patiently(slot.create, 0, told.append)
    assert (failure.value.remedy, failure.value.sqlstate) == ("End it.", "55P03")
    assert told[-2:] == ["pid 7 is open", ""]


def test_nothing_else_is_tried_again() -> None:
    calls, told = list[float](), list[str]()

    def refused(seconds: float) -> None:
        calls.append(seconds)
        raise ServerError("taking", "it", "no", "")

    with pytest.raises(ServerError):
        patiently(refused, 8, told.append)
    assert (calls, told) == ([1], [])
