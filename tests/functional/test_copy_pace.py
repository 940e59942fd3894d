# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pace of a copy while it runs: limits of two hosts together, changes, what holds it up, and what is told of it."""

from __future__ import annotations

import contextlib
import json
import pathlib
import time
from collections.abc import Callable
from typing import Any

import pytest
from support import witness
from support.clusters.local import Clusters
from support.clusters.standby import standby_of
from support.harness.modules import Migration
from support.waiting import until

ROWS = 70_000
FILL = f"INSERT INTO wide SELECT n, repeat(md5(n::text), 30) FROM generate_series(1, {ROWS}) n"
# What the destination's server says that it has taken in: of the parts that are done, and of those that come in now.
TAKEN = """
SELECT (SELECT coalesce(sum(bytes), 0) FROM causeway.copy_part WHERE state = 'done')
     + (SELECT coalesce(sum(bytes_processed), 0) FROM pg_stat_progress_copy WHERE datname = current_database())
"""
LIMITS: dict[str, Any] = {"max_queries": 0, "max_rows": 0, "max_megabytes": 0, "max_source_lag": 0, "max_active": 0}


@pytest.fixture
def wide(pair: Any) -> Migration:
    """A table of some 70 MB, and the migration that moves it."""
    pair.run("CREATE TABLE wide (id int PRIMARY KEY, t text); ALTER TABLE wide ALTER t SET STORAGE PLAIN")
    pair.source.run(FILL)
    objects = [{"schema": "public"}]
    found = Migration("pace", pair.source.endpoint, pair.destination.endpoint, objects, {"types": ["full"]})
    found.run("pg_full_copy", tune=True, max_rows=1)  # before the first copy, too; and then the state tables stand
    return found


def rate(end: Any, seconds: float) -> float:
    """Bytes a second that arrive, over some seconds by the clock."""
    began, before = time.monotonic(), int(end.value(TAKEN))
    time.sleep(seconds)
    return (int(end.value(TAKEN)) - before) / (time.monotonic() - began)


@pytest.mark.faults_heavy
def test_a_limit_holds_for_two_hosts_together_and_changes_while_they_copy(pair: Any, wide: Migration) -> None:
    first = wide.start("pg_full_copy", parallel=2, part_size=1_000_000, max_megabytes=1.5)
    until(lambda: pair.destination.value("SELECT count(*) FROM causeway.copy_part WHERE state = 'done'") > 1)
    second = wide.start("pg_full_copy", parallel=1, part_size=1_000_000, assist=True)
    until(lambda: pair.destination.value("SELECT count(DISTINCT pid) FROM causeway.copy_host WHERE active > 0") == 2)
    time.sleep(2)
    assert rate(pair.destination, 10) == pytest.approx(1.5e6, rel=0.1)
    assert wide.run("pg_full_copy", tune=True, **{**LIMITS, "max_megabytes": 3})["changed"]
    time.sleep(2)
    assert rate(pair.destination, 10) == pytest.approx(3e6, rel=0.1)
    wide.run("pg_full_copy", tune=True, **LIMITS)
    done = [wide.finish("pg_full_copy", process) for process in (first, second)]
    assert all(result["parts"] > 3 for result in done), "both copied, as long as there was a limit"
    assert sum(result["parts"] for result in done) == pair.destination.value("SELECT count(*) FROM causeway.copy_part")
    assert witness.assert_identical(pair) == ROWS


def test_limits_are_set_in_four_beats(wide: Migration) -> None:
    results = wide.four_beats("pg_full_copy", tune=True, **{**LIMITS, "max_megabytes": 5})
    assert '"bytes": 5000000' in results[1]["diff"][-1]["after"]


@pytest.mark.parametrize("limit", [{"max_rows": 5000}, {"max_queries": 14}])
def test_rows_and_statements_are_limited_too(pair: Any, wide: Migration, limit: dict[str, Any]) -> None:
    process = wide.start("pg_full_copy", part_size=1_000_000, **limit)
    done = "SELECT coalesce(sum(rows), 0), count(*) FILTER (WHERE state = 'done') FROM causeway.copy_part"
    until(lambda: pair.destination.query(done)[0][1] > 1)
    (rows, parts), began = map(int, pair.destination.query(done)[0]), time.monotonic()
    time.sleep(4)
    (rows_then, parts_then), seconds = map(int, pair.destination.query(done)[0]), time.monotonic() - began
    # parts are whole: one more or less lies between two looks
    if "max_rows" in limit:
        assert abs((rows_then - rows) - 5000 * seconds) < 0.1 * 5000 * seconds + 2000
    else:
        assert abs((parts_then - parts) - 2 * seconds) <= 3
    wide.run("pg_full_copy", tune=True, **LIMITS)
    wide.finish("pg_full_copy", process)
    assert witness.assert_identical(pair) == ROWS


def test_it_waits_while_too_many_sessions_are_active_and_says_so(pair: Any, wide: Migration, tmp_path: Any) -> None:
    path = tmp_path / "progress"
    process = None
    with contextlib.closing(pair.source.connect()) as one, contextlib.closing(pair.source.connect()) as two:
        for session in (one, two):
            session.pgconn.send_query(b"SELECT pg_sleep(600)")
        try:
            process = wide.start(
                "pg_full_copy", max_active=1, part_size=1_000_000, progress_file=str(path), progress_interval=0.2
            )
            until(lambda: path.exists() and "max_active 1" in path.read_text())
            assert pair.destination.value(TAKEN) < 2_000_000
            assert "sessions are active" in wide.run("pg_migration_info")["full_copy"]["held"]
        finally:
            one.cancel()
            two.cancel()
    wide.finish("pg_full_copy", process)
    assert witness.assert_identical(pair) == ROWS


def test_it_waits_while_a_standby_of_the_source_lags(
    make_pair: Callable[..., Any], clusters: Clusters, tmp_path: Any
) -> None:
    """A standby that replays nothing for a while, and then goes on: so does the copy."""
    pair = make_pair(source_settings={"max_wal_senders": "10"})
    pair.run("CREATE TABLE wide (id int PRIMARY KEY, t text); ALTER TABLE wide ALTER t SET STORAGE PLAIN")
    pair.source.run(FILL)
    migration = Migration(
        "pace", pair.source.endpoint, pair.destination.endpoint, [{"schema": "public"}], {"types": ["full"]}
    )
    path = tmp_path / "progress"
    with standby_of(clusters, pair.source.server, pair.source.dbname) as standby, standby.connect() as replaying:
        replaying.execute("SELECT pg_wal_replay_pause()")
        until(lambda: replaying.execute("SELECT pg_get_wal_replay_pause_state()").fetchone() == ("paused",))
        pair.source.run("CREATE SCHEMA other; CREATE TABLE other.more AS SELECT 1 AS n")
        process = migration.start(
            "pg_full_copy",
            max_source_lag=0.5,
            max_megabytes=2,
            part_size=1_000_000,
            progress_file=str(path),
            progress_interval=0.2,
        )
        until(lambda: path.exists() and "max_source_lag 0.5" in path.read_text())
        assert pair.destination.value(TAKEN) < ROWS * 960 / 2
        assert "a standby of the source lags" in migration.run("pg_migration_info")["full_copy"]["held"]
        migration.run("pg_full_copy", tune=True, **{**LIMITS, "max_source_lag": 0.5})
        replaying.execute("SELECT pg_wal_replay_resume()")
        migration.finish("pg_full_copy", process)
    assert witness.assert_identical(pair, ["public"]) == ROWS


def test_progress_is_told_in_lines_and_by_pg_migration_info(pair: Any, wide: Migration, tmp_path: Any) -> None:
    path = tmp_path / "progress"
    process = wide.start(
        "pg_full_copy", part_size=2_000_000, max_megabytes=8, progress_file=str(path), progress_interval=0.5
    )
    until(lambda: lines(path) and 20 < lines(path)[-1]["percent"] < 90)
    seen = wide.run("pg_migration_info")["full_copy"]
    assert seen.keys() == lines(path)[-1].keys()
    assert (seen["tables"], seen["complete"], seen["hosts"], seen["workers"]) == (1, 0, 1, 2)
    assert 10 < seen["percent"] < 100 and seen["rows"] > 0 and seen["eta"] > 0
    assert seen["bytes_per_second"] == pytest.approx(8e6, rel=0.5)
    wide.finish("pg_full_copy", process)
    last = lines(path)[-1]
    assert (last["percent"], last["complete"], last["rows"], last["eta"]) == (100.0, 1, ROWS, 0.0)
    percents = [line["percent"] for line in lines(path)]
    assert percents == sorted(percents)
    assert wide.run("pg_migration_info")["full_copy"]["percent"] == 100.0


def test_without_an_interval_nothing_is_written(pair: Any, wide: Migration, tmp_path: Any) -> None:
    wide.run("pg_full_copy", progress_file=str(tmp_path / "progress"))
    assert not (tmp_path / "progress").exists()
    assert witness.assert_identical(pair) == ROWS


def lines(path: pathlib.Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    found = path.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in found if line.endswith("\n") and "percent" in line]
