# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""C(cdc_memory): the worker's peak memory in a transaction of five million rows, and with one huge value."""

from __future__ import annotations

import statistics
from typing import Any

from bench.cdc import SCALE, Drains, Workload, drains, scaled
from bench.harness import ROUNDS, report

ROWS = scaled(5_000_000)
VALUE_MB = scaled(200)
TABLES = """
CREATE TABLE many (id int PRIMARY KEY, n bigint, note text);
CREATE TABLE huge (id int PRIMARY KEY, data bytea);
ALTER TABLE huge ALTER data SET STORAGE EXTERNAL;
"""


def many(conn: Any, dsn: str) -> None:
    conn.execute("INSERT INTO many SELECT n, n * 3, 'note ' || n FROM generate_series(1, %s::int) n", (ROWS,))


def huge(conn: Any, dsn: str) -> None:
    conn.execute("INSERT INTO huge VALUES (1, convert_to(repeat('x', %s * 1024 * 1024), 'UTF8'))", (VALUE_MB,))


def load(conn: Any, dsn: str) -> None:
    conn.execute(TABLES)


def rounds(made: Drains) -> tuple[list[float], list[int]]:
    """Seconds and peak megabytes of each."""
    seconds: list[float] = []
    peaks: list[int] = []
    for number in range(1, ROUNDS + 1):
        made.seen.peak_rss_mb = 0
        seconds.append(round(made.ours(), 3))
        peaks.append(made.seen.peak_rss_mb)
        print(f"{made.workload.name}, round {number}: {seconds[-1]} s, {peaks[-1]} MB", flush=True)
    return seconds, peaks


def main() -> None:
    """Three rounds of each."""
    with drains(Workload("cdc_memory", load, many, ("many",), ROWS)) as made:
        seconds, peaks = rounds(made)
    with drains(Workload("cdc_memory_huge", load, huge, ("huge",), 1)) as made:
        huge_seconds, huge_peaks = rounds(made)
    report(
        "cdc_memory",
        seconds,
        {},
        ROWS,
        peak_rss_mb=max(peaks),
        peak_rss_mb_rounds=peaks,
        huge_value_s=statistics.median(huge_seconds),
        peak_rss_huge_value_mb=max(huge_peaks),
        peak_rss_huge_value_mb_rounds=huge_peaks,
        message_mb=VALUE_MB,
        scale=SCALE,
    )
