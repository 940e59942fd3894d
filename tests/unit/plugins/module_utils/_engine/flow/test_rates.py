# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rates, and whether and when the destination catches up."""

from __future__ import annotations

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.flow.rates import (
    Forecast,
    RateMeter,
    Rates,
    forecast,
)

MB = 1_000_000


def test_rates_need_a_few_seconds_and_forget_after_a_minute() -> None:
    meter = RateMeter()
    assert meter.sample(0.0, 0, 0) is None
    assert meter.sample(1.0, MB, 0) is None
    assert meter.sample(5.0, 5 * MB, 10) == Rates(MB, 2)
    for second in range(6, 300):
        found = meter.sample(float(second), 5 * MB, 10 + (second - 5) * 100)
    assert found is not None
    assert found.source == 0
    assert found.apply == pytest.approx(100, rel=0.05)


def test_a_position_that_goes_back_and_another_setting_begin_anew() -> None:
    meter = RateMeter()
    meter.sample(0.0, 100, 100)
    assert meter.sample(10.0, 50, 50) is None
    assert meter.sample(20.0, 60, 60) is not None
    meter.begin_anew()
    assert meter.sample(21.0, 70, 70) is None


@pytest.mark.parametrize(
    ("state", "size", "seconds", "rates", "expected"),
    [
        ("running", 0, 0.0, None, Forecast("caught_up", 0.0)),
        ("running", 900, 1.5, Rates(5, 1), Forecast("caught_up", 0.0)),
        ("running", 100 * MB, 60.0, Rates(1 * MB, 5 * MB), Forecast("catching_up", 25.0)),
        ("running", 100 * MB, 60.0, Rates(0, 5 * MB), Forecast("catching_up", 20.0)),
        # pgcopydb 1054, 414: nobody says so
        ("running", 100 * MB, 60.0, Rates(5 * MB, 5 * MB), Forecast("never")),
        ("running", 100 * MB, 60.0, Rates(5 * MB, 1 * MB), Forecast("never")),
        ("running", 100 * MB, 60.0, Rates(5 * MB, 0), Forecast("stalled")),
        ("running", 100 * MB, 60.0, Rates(0, 0), Forecast("stalled")),
        ("running", 100 * MB, 60.0, None, Forecast("unknown")),
        ("running", None, None, Rates(1, 1), Forecast("unknown")),
        ("paused", 100 * MB, 60.0, Rates(5 * MB, 1 * MB), Forecast("unknown")),
        ("", 0, 0.0, None, Forecast("unknown")),
    ],
)
def test_the_forecast(
    state: str, size: int | None, seconds: float | None, rates: Rates | None, expected: Forecast
) -> None:
    assert forecast(state, size, seconds, rates) == expected


def test_it_says_so_in_words() -> None:
    rates = Rates(5 * MB, 1 * MB)
    assert forecast("running", 9 * MB, 60.0, rates).sentence(rates) == (
        "it will never catch up: the source writes 5.0 MB/s, and 1.0 MB/s of that are applied"
    )
    assert Forecast("catching_up", 200.0).sentence(rates) == "caught up in about 3 min 20 s"
    assert Forecast("unknown").sentence(None) == ""
