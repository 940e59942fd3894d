# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host makes of what it sees: its share, the lag of a standby, what holds the copy up, how far it is."""

from __future__ import annotations

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.copy.progress import progress_of
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.copy.reporter import (
    LagMeter,
    held_up,
    share_of,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.copy.transfer.pace import Pace


def test_the_shares_of_all_hosts_make_one_whole() -> None:
    workers = [1, 4, 3]
    assert sum(share_of(own, sum(workers) - own) for own in workers) == pytest.approx(1)
    assert share_of(0, 0) == 1
    assert share_of(0, 3) == 0.25, "who is about to begin takes as much as one worker"


def test_a_standby_lags_since_the_source_wrote_what_it_replays() -> None:
    meter = LagMeter()
    assert meter.lag(10.0, 100, None) == 0.0, "no standby"
    assert meter.lag(11.0, 200, 200) == 0.0
    assert meter.lag(12.0, 300, 200) == 1.0, "it replays what was written at 11"
    assert meter.lag(20.0, 900, 200) == 9.0
    assert meter.lag(21.0, 950, 300) == 9.0, "what was written at 12"
    assert meter.lag(22.0, 950, 950) == 0.0


def test_what_holds_the_copy_up_lets_go_later_than_it_takes_hold() -> None:
    pace = Pace(source_lag=10, active=100)
    assert held_up(pace, 10.0, 100, "") == ""
    assert "lags 10.1 s (max_source_lag 10)" in held_up(pace, 10.1, 0, "")
    assert "101 sessions" in held_up(pace, 0, 101, "")
    assert held_up(pace, 8.1, 0, "before") and not held_up(pace, 8.0, 80, "before")
    assert held_up(Pace(), 1e9, 10**6, "") == ""


@pytest.mark.parametrize(
    ("complete", "done", "rate", "percent", "eta"),
    [(0, 0, 0, 0.0, None), (1, 500, 100, 50.0, 5.0), (1, 5000, 100, 99.9, 0.0), (2, 900, 100, 100.0, 0.0)],
)
def test_progress_in_numbers(complete: int, done: int, rate: float, percent: float, eta: float | None) -> None:
    told = progress_of(2, complete, 1000, done, rows=60, size=done, rate=rate, seconds=6.0)
    assert (told["percent"], told["eta"]) == (percent, eta)
    assert told["rows_per_second"] == (0 if complete == 2 else 10)


def test_a_copy_is_not_complete_while_large_objects_are_left() -> None:
    told = progress_of(2, 2, 1000, 990, rows=60, size=990, rate=10, seconds=6.0, left=1)
    assert (told["percent"], told["eta"], told["rows_per_second"]) == (99.0, 1.0, 10)
    told = progress_of(2, 2, 1000, 1000, rows=60, size=1000, rate=10, seconds=6.0, left=1)
    assert told["percent"] == 99.9
