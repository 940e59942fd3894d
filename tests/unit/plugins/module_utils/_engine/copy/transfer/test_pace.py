# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The copy's throttle by a clock of its own: rates hold, shares add up, changes come through, rows are counted."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.copy.transfer import pace as module
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.copy.transfer.pace import (
    Pace,
    Throttle,
    pace_of,
    rows_in,
)


class Clock:
    """Time goes on only while somebody sleeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 50.0
        real = asyncio.sleep

        async def sleep(seconds: float) -> None:
            self.now += seconds
            await real(0)

        monkeypatch.setattr(module.asyncio, "sleep", sleep)

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def spent_in(clock: Clock, throttle: Throttle, seconds: float, **amounts: float) -> list[int]:
    """How often each of two workers came through within some seconds."""
    end = clock.now + seconds

    async def worker() -> int:
        times = 0
        while clock.now < end:
            await throttle.spend(**amounts)
            times += 1
        return times

    async def both() -> list[int]:
        return list(await asyncio.gather(worker(), worker()))

    return asyncio.run(both())


@pytest.mark.parametrize(
    ("pace", "amounts", "rate"),
    [
        (Pace(bytes=1e6), {"bytes": 20_000.0}, 50),
        (Pace(bytes=1e6), {"bytes": 240_000.0}, 1e6 / 240_000),
        (Pace(rows=500, bytes=1e9), {"rows": 10.0, "bytes": 100.0}, 50),
        (Pace(queries=8), {"queries": 8.0}, 1),
    ],
)
def test_ten_seconds_hold_within_a_tenth_and_workers_get_as_much(
    clock: Clock, pace: Pace, amounts: dict[str, float], rate: float
) -> None:
    throttle = Throttle(clock)
    throttle.tell(pace, 1.0)
    times = spent_in(clock, throttle, 100.0, **amounts)
    assert sum(times) == pytest.approx(rate * 100, rel=0.1)
    assert abs(times[0] - times[1]) <= 1


def test_two_hosts_share_one_limit(clock: Clock) -> None:
    both = []
    for share in (0.25, 0.75):
        throttle = Throttle(clock)
        throttle.tell(Pace(bytes=1e6), share)
        both.append(sum(spent_in(clock, throttle, 20.0, bytes=10_000)))
    assert sum(both) == pytest.approx(2000, rel=0.1)
    assert both[1] == pytest.approx(3 * both[0], rel=0.1)


def test_a_change_reaches_who_waits_already(clock: Clock) -> None:
    throttle = Throttle(clock)
    throttle.tell(Pace(bytes=1.0), 1.0)

    async def wait_and_change() -> float:
        await throttle.spend(bytes=1e6)  # a debt of eleven days
        waiting = asyncio.ensure_future(throttle.spend(bytes=1e6))
        for dummy in range(20):
            await asyncio.sleep(0.1)
        assert not waiting.done()
        began = clock.now
        throttle.tell(Pace(), 1.0)
        await waiting
        return clock.now - began

    assert asyncio.run(wait_and_change()) < 1.0


@pytest.mark.parametrize("told", [lambda throttle: None, lambda throttle: throttle.tell(Pace(), 1.0, "lag")])
def test_nothing_goes_before_the_first_word_or_while_it_is_held(clock: Clock, told: Callable[[Throttle], Any]) -> None:
    throttle = Throttle(clock)
    told(throttle)

    async def blocked() -> bool:
        waiting: Awaitable[None] = asyncio.ensure_future(throttle.spend(bytes=1))
        for dummy in range(50):
            await asyncio.sleep(1)
        stuck = not waiting.done()  # type: ignore[attr-defined]
        throttle.tell(Pace(), 1.0)
        await waiting
        return stuck

    assert asyncio.run(blocked())


def test_the_control_row_is_read_with_what_it_lacks() -> None:
    pace = Pace(3, 4.5, 1e6, 2.0, 7)
    assert pace_of(pace.stored()) == pace
    assert pace_of({}) == Pace() and pace_of({"rows": None, "unknown": 1}) == Pace()


def test_rows_are_counted_in_both_formats() -> None:
    field = struct.pack(">i", 3) + b"abc"
    row = struct.pack(">h", 3) + field + struct.pack(">i", -1) + field
    header = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
    assert rows_in(header + row * 7, "binary") == 7
    assert rows_in(row * 5 + struct.pack(">h", -1), "binary") == 5
    assert rows_in(header, "binary") == rows_in(b"", "binary") == 0
    assert rows_in(row * 2 + row[:-9], "binary") == 2
    assert rows_in(struct.pack(">h", 0) * 4, "binary") == 4
    assert rows_in(b"a\\n\tb\nc\td\n", "text") == 2
