# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pace of a running worker, as a third session sees it at the destination: kept within a tenth, changed at once."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from support.clusters.pairs import End
from support.harness.modules import Migration
from support.harness.streaming import MakeStreaming, Streaming
from support.loads.repeated import Repeated
from support.waiting import until
from support.witness import assert_identical

DDL = "CREATE TABLE t (id int PRIMARY KEY, v text)"
# Counts rows as they are written, in whatever transaction: what a sequence has given is seen at once.
COUNTED = "CREATE SEQUENCE written; ALTER TABLE t ADD COLUMN number bigint DEFAULT nextval('written')"
VISIBLE = "SELECT extract(epoch FROM clock_timestamp())::float8, (SELECT count(*) FROM t)"
WRITTEN = (
    "SELECT extract(epoch FROM clock_timestamp())::float8, CASE WHEN is_called THEN last_value ELSE 0 END FROM written"
)


class Sampler:
    """Looks at the destination over a session of its own, ten times a second."""

    def __init__(self, end: End, query: str) -> None:
        self.seen: list[tuple[float, int]] = []
        self._query = query
        self._conn = end.connect()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.wait(0.1):
            row: Any = self._conn.execute(self._query).fetchone()
            self.seen.append((float(row[0]), int(row[1])))

    def close(self) -> None:
        self._ended.set()
        self._thread.join(10)
        self._conn.close()

    def rows(self) -> int:
        return self.seen[-1][1] if self.seen else 0

    def most(self, seconds: float = 5.0, since: float = 0.0) -> int:
        """The most rows of any stretch of so many seconds, from ``since`` on by the server's clock."""
        seen = [one for one in self.seen if one[0] >= since]
        return max(
            (after[1] - before[1] for before in seen for after in seen if before[0] <= after[0] <= before[0] + seconds),
            default=0,
        )

    def wait(self, rows: int, timeout: float = 60) -> float:
        """Until so many rows are seen; the seconds that took."""
        began = time.monotonic()
        while self.rows() < rows:
            assert time.monotonic() - began < timeout, f"{self.rows()} rows, not {rows}"
            time.sleep(0.02)
        return time.monotonic() - began


@contextmanager
def sampled(end: End, query: str) -> Iterator[Sampler]:
    sampler = Sampler(end, query)
    try:
        yield sampler
    finally:
        sampler.close()


def writes(end: End, first: int) -> Repeated:
    """Small transactions, far more than the pace lets through, until told to stop."""
    starts = itertools.count(first, 20)

    def write(session: psycopg.Connection[Any], _number: int) -> None:
        at = next(starts)
        session.execute(
            "INSERT INTO t SELECT n, repeat('x', 500) FROM generate_series(%s::int, %s::int) n", [at, at + 19]
        )

    return Repeated(end, write, between=0.01)


def tune(streaming: Streaming, **settings: object) -> float:
    """Give new settings; the seconds until the worker has taken them, by the destination's clock."""
    streaming.want("started", settings)
    query = """SELECT extract(epoch FROM e.at - t.changed_at)::float8
                 FROM causeway.cdc_task t JOIN causeway.event e ON e.migration = t.migration AND e.at >= t.changed_at
                WHERE t.migration = %s AND e.what = 'CDC worker settings changed'"""
    deadline = time.monotonic() + 20
    while (took := streaming.pair.destination.value(query, [streaming.name])) is None:
        assert time.monotonic() < deadline, streaming.log()[-2000:]
        time.sleep(0.02)
    print(f"{settings} taken after {took:.3f} s")
    return float(took)


def test_the_pace_is_kept_and_another_one_taken_while_it_runs(make_streaming: MakeStreaming) -> None:
    rate = 200
    streaming = make_streaming(DDL)
    source, destination = streaming.pair.ends
    streaming.begin()
    streaming.start()
    streaming.wait_state("running")
    source.run("INSERT INTO t SELECT n, 'x' FROM generate_series(1, 1000) n")
    streaming.drain()
    with writes(source, 10_000), sampled(destination, VISIBLE) as sampler:
        sampler.wait(2000)
        assert tune(streaming, rows_per_second=rate) < 3
        set_at = destination.value("SELECT extract(epoch FROM clock_timestamp())::float8")
        time.sleep(9)
        most = sampler.most(since=set_at + 1.0)
        assert 0.5 * 5 * rate < most <= 1.1 * 5 * rate
        # the source writes faster than that is applied, and somebody says so
        one = Migration(streaming.name, source.endpoint, destination.endpoint, [{"schema": "public"}])
        cdc = one.run("pg_migration_info")["cdc"]
        assert cdc["catch_up"]["verdict"] == "never" and 0 < cdc["apply_rate"] < cdc["source_rate"]
        assert "it will never catch up" in cdc["catch_up"]["sentence"]
        behind = sampler.rows()
        assert tune(streaming, rows_per_second=0) < 3
        # 20 seconds' worth by the old pace
        assert sampler.wait(behind + 20 * rate, 10) < 4
    streaming.drain()
    assert assert_identical(streaming.pair, ["public"]) > 2000
    changed = destination.query(
        "SELECT detail FROM causeway.event WHERE what = 'CDC worker settings changed' ORDER BY id"
    )
    assert changed == [({"rows_per_second": [0, rate]},), ({"rows_per_second": [rate, 0]},)]


def same(streaming: Streaming) -> int:
    """Both ends hold the same but for the destination's own column; the number of rows."""
    source, destination = (end.query("SELECT id, v FROM t ORDER BY id") for end in streaming.pair.ends)
    assert source == destination
    return len(source)


def test_a_transaction_larger_than_a_batch_keeps_it_too_and_is_paused_promptly(make_streaming: MakeStreaming) -> None:
    rate, rows = 300, 2400
    streaming = make_streaming(DDL)
    source, destination = streaming.pair.ends
    destination.run(COUNTED)
    # feedback that came late would end the walsender
    source.run(f"ALTER DATABASE {source.dbname} SET wal_sender_timeout = '4s'")
    streaming.begin(batch_size=1000, rows_per_second=rate)
    streaming.start()
    streaming.wait_state("running")
    sender = "SELECT active_pid FROM pg_replication_slots WHERE slot_name = %s"
    first = until(lambda: source.value(sender, [streaming.slot]))
    with sampled(destination, WRITTEN) as sampler:
        source.run(f"INSERT INTO t SELECT n, 'x' FROM generate_series(1, {rows}) n")
        took = sampler.wait(rows, 60)
        streaming.drain()
        assert sampler.most() <= 1.1 * 5 * rate
        assert took > rows / rate / 1.1 - 0.5
        assert source.value(sender, [streaming.slot]) == first, streaming.log()[-3000:]
        assert same(streaming) == rows
        # a command does not wait for its turn: nothing of the transaction stands, and it comes again
        source.run(f"INSERT INTO t SELECT n, 'y' FROM generate_series({rows + 1}, {3 * rows}) n")
        sampler.wait(rows + rate)
        began = time.monotonic()
        streaming.want("paused")
        streaming.wait_state("paused", 10)
        assert time.monotonic() - began < 5
    assert destination.value("SELECT count(*) FROM t") == rows
    heartbeat = destination.value("SELECT extract(epoch FROM clock_timestamp() - heartbeat) FROM causeway.cdc_progress")
    assert heartbeat < 3
    streaming.want("started", {"rows_per_second": 0})
    streaming.drain()
    assert same(streaming) == 3 * rows


@pytest.mark.parametrize("limit", [0.5])
def test_bytes_are_paced_as_well(make_streaming: MakeStreaming, limit: float) -> None:
    streaming = make_streaming(DDL)
    source, destination = streaming.pair.ends
    streaming.begin(mb_per_second=limit)
    for n in range(30):
        source.run(
            "INSERT INTO t SELECT n, repeat('x', 1000) FROM generate_series(%s::int, %s::int) n",
            [n * 100, n * 100 + 99],
        )
    with sampled(destination, VISIBLE) as sampler:
        streaming.start()
        took = sampler.wait(3000)
        # a row is some thirty bytes more than its text
        assert sampler.most() * 1030 <= 1.1 * 5 * limit * 1e6
    assert took > 3000 * 1000 / (limit * 1e6) / 1.1
    streaming.drain()
    assert assert_identical(streaming.pair, ["public"]) == 3000
