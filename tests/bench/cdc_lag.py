# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""C(cdc_lag): from a commit at the source to its row at the destination, under 500 transactions a second."""

from __future__ import annotations

import statistics
import threading
import time
from typing import Any

from bench.cdc import SCALE, Drains, Workload, drains
from bench.harness import ROUNDS, report

RATE = 500
SECONDS = max(20 * SCALE, 4)
ACCOUNTS = 1000
TABLES = f"""
CREATE TABLE tick (id bigint PRIMARY KEY, note text);
CREATE TABLE account (id int PRIMARY KEY, n bigint NOT NULL);
INSERT INTO account SELECT n, 0 FROM generate_series(0, {ACCOUNTS - 1}) n;
"""
_SETTLE = 1.5
"""Seconds of load that are not counted: everything is warm then."""


class Load:
    """Commits at a steady rate, and when each was answered."""

    def __init__(self, conn: Any, first: int) -> None:
        self._conn = conn
        self._first = first
        self.answered: dict[int, float] = {}
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *dummy: object) -> None:
        self._thread.join()

    def _run(self) -> None:
        began = time.perf_counter()
        for number in range(int((SECONDS + _SETTLE) * RATE)):
            left = began + number / RATE - time.perf_counter()
            if left > 0:
                time.sleep(left)
            key = self._first + number
            with self._conn.transaction():
                self._conn.execute("INSERT INTO tick VALUES (%s, 'tick')", (key,))
                self._conn.execute("UPDATE account SET n = n + 1 WHERE id = %s", (key % ACCOUNTS,))
            self.answered[key] = time.perf_counter()


def measure(made: Drains, dbname: str) -> list[float]:
    """The seconds that each row of a load took to be seen, less those of the beginning."""
    with made.connect_source() as source, made.connect_destination(dbname) as destination:
        first = (source.execute("SELECT coalesce(max(id), 0) FROM tick").fetchone() or (0,))[0] + 1
        last = first + int((SECONDS + _SETTLE) * RATE) - 1
        seen: dict[int, float] = {}
        reached = first - 1
        with Load(source, first) as load:
            deadline = time.perf_counter() + SECONDS * 3 + 30
            while reached < last:
                found = (destination.execute("SELECT coalesce(max(id), 0) FROM tick").fetchone() or (0,))[0]
                now = time.perf_counter()
                seen.update(dict.fromkeys(range(reached + 1, found + 1), now))
                reached = max(reached, found)
                if now > deadline:
                    raise TimeoutError(f"{last - reached} rows were never seen in {dbname}")
                time.sleep(0.0005)
        counted = range(first + int(_SETTLE * RATE), last + 1)
        return [max(seen[key] - load.answered[key], 0.0) for key in counted]


def percentile(values: list[float], part: int) -> float:
    """In milliseconds."""
    return round(statistics.quantiles(values, n=100)[part - 1] * 1000, 2)


def main() -> None:
    """Three rounds in turn; the longest common way of both is the source's own."""
    nothing = Workload(
        "cdc_lag", lambda conn, dsn: conn.execute(TABLES), lambda conn, dsn: None, ("tick", "account"), 0
    )
    found: dict[str, list[list[float]]] = {"ours": [], "subscription": []}
    with drains(nothing) as made:
        for number in range(1, ROUNDS + 1):
            with made.running_worker() as dbname:
                found["ours"].append(measure(made, dbname))
            with made.running_subscription() as dbname:
                found["subscription"].append(measure(made, dbname))
            told = ", ".join(
                f"{who} p50 {percentile(rounds[-1], 50)} ms, p99 {percentile(rounds[-1], 99)} ms"
                for who, rounds in found.items()
            )
            print(f"round {number}: {told}", flush=True)
        p50 = {who: [percentile(values, 50) for values in rounds] for who, rounds in found.items()}
        p99 = {who: [percentile(values, 99) for values in rounds] for who, rounds in found.items()}
        report(
            "cdc_lag",
            [value / 1000 for value in p99["ours"]],
            {"subscription": [value / 1000 for value in p99["subscription"]]},
            int(SECONDS * RATE),
            peak_rss_mb=made.seen.peak_rss_mb,
            p50_ms=p50,
            p99_ms=p99,
            p99_over_peer_ms=round(statistics.median(p99["ours"]) - statistics.median(p99["subscription"]), 2),
            scale=SCALE,
        )
