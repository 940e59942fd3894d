# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Forecasts of the slot guard: from samples, by hand-made clocks."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.slot import health
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.slot.health import (
    Forecast,
    LevelMeter,
    Sample,
    earlier,
    findings,
    forecast,
    kept_for,
    level_of,
    rate,
    report,
    time_left,
    unseen,
)

MB = 1 << 20
WELL = Sample(at=1000.0, position=500 * MB, found=True, wal_status="reserved", restart=490 * MB, confirmed=495 * MB)


def sample(**what: Any) -> Sample:
    return dataclasses.replace(WELL, **what)


def growing(per_second: int, **what: Any) -> list[Sample]:
    """A minute in which nothing is confirmed while the source writes so much a second; the last sample is as asked."""
    return [sample(at=940.0 + n, position=500 * MB + n * per_second, restart=500 * MB, **what) for n in range(0, 61, 3)]


def codes(samples: list[Sample], disk: int = 0) -> list[tuple[str, str]]:
    return [(f.level, f.code) for f in findings("s", samples[-1], forecast(samples, disk))]


def test_a_rate_needs_some_seconds() -> None:
    assert rate([]) is None
    assert rate([(0.0, 5.0)]) is None
    assert rate([(0.0, 0.0), (1.0, 100.0)]) is None
    assert rate([(0.0, 0.0), (3.0, 999.0), (10.0, 100.0)]) == 10


@pytest.mark.parametrize(
    ("room", "growth", "left"),
    [
        (100.0, 10.0, 10.0),
        (100.0, 0.0, None),
        (100.0, -5.0, None),
        (100.0, None, None),
        (None, 10.0, None),
        (0.0, None, 0.0),
        (-1.0, 10.0, 0.0),
    ],
)
def test_the_time_that_is_left(room: float | None, growth: float | None, left: float | None) -> None:
    assert time_left(room, growth) == left


def test_a_slot_that_keeps_up_is_never_lost() -> None:
    """The source writes a lot, and the slot moves along: what is kept does not grow."""
    samples = [sample(at=900.0 + n, position=(500 + n) * MB, restart=(490 + n) * MB, safe=MB) for n in range(60)]
    ahead = forecast(samples)
    assert ahead.wal_rate == MB and ahead.growth == 0
    assert ahead.lost_in is None
    assert ahead.reserve == 1.0  # but a pause would be short
    assert codes(samples) == []


def test_lost_soon_is_said_in_time_with_numbers() -> None:
    samples = growing(MB, safe=600 * MB, limit=1024 * MB)
    assert forecast(samples).lost_in == 600
    (found,) = findings("s", samples[-1], forecast(samples))
    assert (found.level, found.code) == ("critical", "slot_lost_soon")
    assert "lost in 10 min" in found.text and "629 MB are left of max_slot_wal_keep_size = 1.1 GB" in found.text
    assert "max_slot_wal_keep_size" in found.remedy
    assert codes(growing(MB, safe=3000 * MB, limit=4096 * MB)) == [("warning", "slot_lost_soon")]
    assert codes(growing(MB, safe=4000 * MB, limit=8192 * MB)) == []


@pytest.mark.parametrize(
    ("last", "code"),
    [
        (sample(found=False), "slot_missing"),
        (sample(wal_status="lost"), "slot_lost"),
        (sample(reason="wal_removed"), "slot_lost"),
        (sample(reason="rows_removed"), "slot_lost"),
    ],
)
def test_a_lost_slot_is_a_level_of_its_own(last: Sample, code: str) -> None:
    assert codes([last]) == [("lost", code)]
    assert forecast([WELL, last]).lost_in == 0
    assert "migrate again" in findings("s", last, Forecast())[0].remedy


def test_unreserved_is_critical_at_the_first_look() -> None:
    assert codes([sample(wal_status="unreserved", safe=0, limit=64 * MB)]) == [("critical", "slot_unreserved")]


def test_a_disk_that_fills_is_forecast_where_its_size_was_told() -> None:
    samples = [
        sample(
            at=940.0 + n, wal_bytes=(1000 + n) * MB, position=(500 + n) * MB, restart=500 * MB, wal_status="extended"
        )
        for n in range(0, 61, 3)
    ]
    assert forecast(samples).disk_full_in is None
    (said,) = findings("s", samples[-1], forecast(samples))
    assert said.code == "wal_grows" and "free space SQL does not show" in said.text
    disk = 1060 * MB + 300 * MB
    assert forecast(samples, disk).disk_full_in == 300
    found = findings("s", samples[-1], forecast(samples, disk))
    assert [(f.level, f.code) for f in found] == [("critical", "wal_disk_full_soon"), ("warning", "wal_grows")]
    assert "full in 5 min" in found[0].text
    assert "SQL does not show" not in found[1].text


def test_an_open_transaction_is_named_while_wal_piles_up() -> None:
    samples = growing(MB, oldest=("pid 4711", 1000.0))
    assert codes(samples) == [("warning", "transaction_open")]
    assert (
        "pid 4711 at the source has been open for 16 min 40 s" in findings("s", samples[-1], forecast(samples))[0].text
    )
    assert codes([sample(oldest=("pid 4711", 1000.0))]) == []  # nothing grows
    assert codes(growing(MB, oldest=("pid 4711", 10.0))) == []


def test_xids_that_are_held_back() -> None:
    assert codes([sample(catalog_age=199_999_999)]) == []
    assert codes([sample(catalog_age=200_000_000)]) == [("warning", "xid_held_back")]
    assert codes([sample(catalog_age=1_600_000_000)]) == [("critical", "xid_held_back")]


def test_what_of_ours_is_gone_at_the_source_is_named() -> None:
    last = sample(missing=("publication causeway_s", "table causeway.heartbeat"))
    (found,) = findings("s", last, Forecast())
    assert (found.level, found.code) == ("critical", "bookkeeping_missing")
    assert "publication causeway_s, table causeway.heartbeat" in found.text


def test_for_how_long_wal_is_kept() -> None:
    samples = [sample(at=float(n), position=n * MB, restart=0) for n in range(100)]
    inside = [*samples, sample(at=100.0, position=100 * MB, restart=40 * MB)]
    assert kept_for(inside, MB) == 100.0 - 41.0
    beyond = [sample(at=90.0, position=90 * MB, restart=MB), sample(at=100.0, position=100 * MB, restart=MB)]
    assert kept_for(beyond, MB) == 99.0
    assert kept_for(beyond, None) is None
    assert kept_for([sample(position=MB, restart=MB)], None) == 0.0
    assert kept_for([sample(restart=0)], MB) is None


def test_rates_look_back_five_minutes_only() -> None:
    old = sample(at=0.0, position=0, restart=0)
    new = [sample(at=10_000.0 + n, position=500 * MB, restart=490 * MB) for n in (0, 10)]
    assert forecast([old, *new]).wal_rate == 0


def test_a_level_rises_at_once_and_falls_slowly_and_each_is_told_once() -> None:
    meter = LevelMeter()
    assert [meter.take(level) for level in ("ok", "warning", "warning", "critical")] == [False, True, False, True]
    assert [meter.take(level) for level in ("ok", "ok", "critical", "ok", "warning", "ok")] == [*[False] * 5, True]
    assert meter.level == "warning"
    assert [meter.take("ok") for dummy in range(4)] == [False, False, True, False]
    assert meter.level == "ok"


def test_the_worst_comes_first_and_nothing_is_ok() -> None:
    both = findings("s", sample(wal_status="lost", catalog_age=300_000_000), Forecast())
    assert [f.level for f in both] == ["lost", "warning"]
    assert level_of(both) == "lost"
    assert level_of([]) == "ok"


def test_what_cannot_be_seen_is_not_taken_for_well() -> None:
    last = report("s", growing(MB, safe=600 * MB, limit=1024 * MB))
    blind = unseen("connection refused", last)
    assert blind["level"] == "unknown" and blind["slot_lost_in"] is None
    assert blind["retained_bytes"] == last["retained_bytes"]
    assert "connection refused" in blind["findings"][0]["text"]
    assert unseen("x", {})["level"] == "unknown"


def test_a_report_is_enough_to_go_on_from() -> None:
    samples = growing(MB, wal_bytes=7)
    before = earlier(report("s", samples))
    assert before is not None
    assert (before.at, before.position, before.kept, before.wal_bytes) == (1000.0, 560 * MB, 60 * MB, 7)
    assert earlier({}) is None
    later = sample(at=1010.0, position=580 * MB, restart=500 * MB)
    assert forecast([before, later]).growth == 2 * MB


def test_a_report_holds_data_only() -> None:
    allowed = (str, int, float, list, dict, type(None))
    for value in report("s", growing(MB, oldest=("pid 1", 1.0))).values():
        assert isinstance(value, allowed)
    assert health.LEVELS[0] == "ok"
