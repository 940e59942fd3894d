# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pace: over any five seconds no more than a tenth above the limit, whatever the pieces are and however long they take."""

from __future__ import annotations

import dataclasses
import random

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes.batch_limits import BatchLimits
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.control.pace import (
    Pace,
    Throttle,
    TokenBucket,
)


@dataclasses.dataclass
class Clock:
    now: float = 1000.0


def applied(throttle: Throttle, pieces: list[tuple[int, int, float]], clock: Clock) -> list[tuple[float, int, int]]:
    """When each piece stands at the destination: it waits for its turn, and then takes as long as its third value."""
    done = []
    for rows, size, takes in pieces:
        clock.now += throttle.wait(rows, size, clock.now)
        throttle.take(rows, size, clock.now)
        clock.now += takes
        done.append((clock.now, rows, size))
    return done


def most_in_five_seconds(done: list[tuple[float, int, int]], what: int) -> float:
    return max(sum(one[what] for one in done[at:] if one[0] < done[at][0] + 5) for at in range(len(done)))


@pytest.mark.parametrize("rate", [10, 50, 1000, 250_000])
@pytest.mark.parametrize("seed", range(5))
def test_rows_stay_within_a_tenth(rate: int, seed: int) -> None:
    chance, clock, throttle = random.Random(seed), Clock(), Throttle()
    throttle.set(Pace(rows=rate), clock.now)
    most = throttle.pace.narrowed(BatchLimits()).max_changes
    # whole transactions are gathered up to twice the size of a piece; now and then a commit takes seconds
    pieces = [
        (chance.randint(1, max(1, 2 * most - 1)), 0, chance.choice([0, 0.001, 0.02, 0.3, 3.0])) for dummy in range(400)
    ]
    done = applied(throttle, pieces, clock)
    assert most_in_five_seconds(done, 1) <= 1.1 * rate * 5


def test_it_also_reaches_its_limit() -> None:
    clock, throttle = Clock(), Throttle()
    throttle.set(Pace(rows=1000, bytes=1e9), clock.now)
    began = clock.now
    done = applied(throttle, [(100, 10, 0.01)] * 100, clock)
    assert 0.95 * 1000 <= sum(rows for dummy, rows, dummy2 in done) / (clock.now - began) <= 1000


def test_bytes_are_limited_by_themselves() -> None:
    clock, throttle = Clock(), Throttle()
    throttle.set(Pace(bytes=1e6), clock.now)
    limits = throttle.pace.narrowed(BatchLimits())
    assert (limits.max_bytes, limits.max_changes) == (100_000, BatchLimits().max_changes)
    done = applied(throttle, [(1, 100_000, 0.0)] * 200, clock)
    assert most_in_five_seconds(done, 2) <= 1.1e6 * 5


def test_what_cannot_be_cut_leaves_a_debt_that_is_paid() -> None:
    clock, throttle = Clock(), Throttle()
    throttle.set(Pace(rows=100), clock.now)
    clock.now += 10
    assert throttle.wait(100_000, 0, clock.now) == 0
    throttle.take(100_000, 0, clock.now)
    assert throttle.wait(1, 0, clock.now) == pytest.approx((100_000 - 20 + 1) / 100)
    # a higher limit pays it faster, and without one there is none
    throttle.set(Pace(rows=100_000), clock.now)
    assert throttle.wait(1, 0, clock.now) < 1.1
    throttle.set(Pace(), clock.now)
    assert throttle.wait(1, 0, clock.now) == 0


def test_a_limit_begins_without_a_burst_and_a_lower_one_keeps_none() -> None:
    bucket = TokenBucket(1000, 0.0)
    assert bucket.wait(100, 0.0) == pytest.approx(0.1)
    assert bucket.wait(100, 50.0) == 0
    bucket.change(10, 50.0)
    bucket.take(2, 50.0)
    assert bucket.wait(1, 50.0) == pytest.approx(0.1)


def test_a_clock_that_stands_still_or_goes_back_gives_nothing() -> None:
    bucket = TokenBucket(100, 10.0)
    assert bucket.wait(10, 5.0) == pytest.approx(0.1)


def test_without_a_limit_batches_are_as_large_as_ever() -> None:
    for name in BatchLimits.__slots__:
        assert getattr(Pace().narrowed(BatchLimits()), name) == getattr(BatchLimits(), name)
    assert Pace(rows=10).narrowed(BatchLimits()).max_changes == 1
    assert Pace(rows=1e9).narrowed(BatchLimits(max_changes=5)).max_changes == 5
