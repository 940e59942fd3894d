# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The slot guard on real servers: forecasts before the slot is lost, the loss itself, and bookkeeping that is dropped."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest
from support.clusters.pairs import End
from support.harness.exactness import Journey, MakeJourney
from support.harness.modules import ModuleFailed
from support.harness.streaming import MakeStreaming, Streaming
from support.loads.repeated import Repeated
from support.waiting import until

SMALL = {"max_slot_wal_keep_size": "160MB", "max_wal_size": "64MB", "min_wal_size": "32MB"}


def wal_written(source: End, pause: float) -> Repeated:
    """A source that fills a segment of WAL after the other until told to stop; none of it is ours."""

    def write(session: psycopg.Connection[Any], _number: int) -> None:
        session.execute("SELECT pg_logical_emit_message(false, 'other', 'x')")
        session.execute("SELECT pg_switch_wal()")

    return Repeated(source, write, between=pause)


def guard(streaming: Streaming) -> dict[str, Any]:
    found: dict[str, Any] = streaming.progress("slot_guard") or {}
    return found


def told(streaming: Streaming) -> list[str]:
    """The levels of the timeline, in order."""
    events = "SELECT what FROM causeway.event WHERE migration = %s AND what LIKE 'slot guard%%' ORDER BY id"
    return [row[0] for row in streaming.pair.destination.query(events, [streaming.name])]


@pytest.mark.faults
def test_a_pause_that_costs_the_slot_is_forecast_and_its_loss_stops_the_task(make_streaming: MakeStreaming) -> None:
    streaming = make_streaming("CREATE TABLE t (id int PRIMARY KEY)", private=True, source_settings=SMALL)
    streaming.begin()
    streaming.start()
    streaming.wait_state("running")
    until(lambda: guard(streaming).get("level") == "ok", "the guard has seen nothing")
    seen = guard(streaming)
    assert seen["wal_status"] == "reserved" and seen["wal_bytes"] > 0
    assert seen["max_slot_wal_keep_size"] == 160 << 20
    assert seen["catalog_xmin_age"] is not None and seen["datfrozenxid_age"] > 0
    streaming.want("paused")
    streaming.wait_state("paused")
    source = streaming.pair.source
    with wal_written(source, 1.0) as writer:
        until(lambda: guard(streaming)["level"] == "critical", "nothing is forecast", 60)
        first = guard(streaming)
        writer.stop()
    codes = [finding["code"] for finding in first["findings"]]
    assert codes[0] in ("slot_lost_soon", "slot_unreserved")
    assert first["wal_status"] != "lost"
    assert first["retained_bytes"] > 32 << 20 and first["wal_rate"] > 0 and first["retained_growth"] > 0
    until(lambda: "slot guard: replication slot" in streaming.log(), "the log says nothing")
    with wal_written(source, 0.05):
        until(lambda: (guard(streaming)["safe_wal_size"] or 0) <= 0, "the limit is not reached", 60)
    source.run("CHECKPOINT")
    assert streaming.wait_exit(30) == 1
    error = streaming.progress("last_error")
    assert error["code"] == "would_lose_rows" and streaming.slot in error["object"]
    assert "release it and migrate again" in error["remedy"]
    assert guard(streaming)["level"] == "lost"
    said = told(streaming)
    assert said[-1].startswith("slot guard: lost") and said.count(said[-1]) == 1
    assert len(said) <= 4, said  # each change once, not each sample
    streaming.want("started")
    streaming.start()
    assert streaming.wait_exit() == 1
    assert "wal_status = lost" in streaming.progress("last_error")["why"]


@pytest.mark.faults_heavy
def test_a_guard_that_sees_nothing_says_so(make_streaming: MakeStreaming) -> None:
    """The source goes away: that is no lag of 0, and no calm."""
    streaming = make_streaming("CREATE TABLE t (id int PRIMARY KEY)", private=True)
    streaming.begin()
    streaming.start()
    until(lambda: guard(streaming).get("level") == "ok", "the guard has seen nothing")
    streaming.pair.source.server.stop()
    until(lambda: guard(streaming)["level"] == "unknown", "it is taken for well", 60)
    assert guard(streaming)["findings"][0]["code"] == "slot_unseen"
    streaming.pair.source.server.start()
    streaming.reconnect()
    until(lambda: guard(streaming)["level"] == "ok", "the guard does not come back", 60)
    assert told(streaming) == ["slot guard: unknown, was ok", "slot guard: ok, was unknown"]


@pytest.fixture
def standing(make_journey: MakeJourney) -> Journey:
    journey = make_journey("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    journey.prepare()
    journey.copy()
    journey.task(wait="caught_up", wait_timeout=60)
    return journey


def test_the_status_looks_itself_while_no_worker_runs(standing: Journey) -> None:
    running = standing.migration.run("pg_migration_info")["slot"]["guard"]
    assert running["level"] == "ok"
    standing.task("stopped")
    source = standing.pair.source
    source.run("INSERT INTO t SELECT generate_series(2, 20000)")
    until(lambda: standing.migration.run("pg_migration_info")["slot"]["guard"]["wal_rate"], "no rate is known", 30)
    disk = int(source.value("SELECT sum(size) FROM pg_ls_waldir()")) + (1 << 20)
    standing.migration.four_beats("pg_repl_slot", wal_disk_size=disk)
    seen = standing.migration.run("pg_migration_info")["slot"]["guard"]
    assert seen["wal_disk_size"] == disk
    assert seen["unconfirmed_bytes"] > 1_000_000
    assert seen["retained_bytes"] >= seen["unconfirmed_bytes"]
    source.run("SELECT pg_drop_replication_slot(%s)", [standing.slot])
    result = standing.migration.run("pg_migration_info")
    assert result["slot"]["guard"]["level"] == "lost"
    assert "no replication slot" in result["msg"]


def refused(journey: Journey, module: str = "pg_cdc_task") -> str:
    """What the next run is told; the table stays as it is."""
    before = journey.pair.destination.query("SELECT * FROM t ORDER BY 1")
    with pytest.raises(ModuleFailed) as stopped:
        journey.task() if module == "pg_cdc_task" else journey.migration.run(module)
    assert journey.pair.destination.query("SELECT * FROM t ORDER BY 1") == before
    error: dict[str, str] = stopped.value.result["error"]
    assert error["remedy"]
    return json.dumps(error)


def gone(journey: Journey) -> None:
    """Until the worker has ended by itself."""
    until(
        lambda: (
            not journey.pair.destination.value(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'causeway%'"
            )
        ),
        "the worker goes on",
        30,
    )


@pytest.mark.parametrize("table", ["cdc_progress", "cdc_task", "migration"])
def test_a_bookkeeping_table_that_is_dropped_stops_the_task_and_is_named(standing: Journey, table: str) -> None:
    source, destination = standing.pair.ends
    destination.run(f"DROP TABLE causeway.{table} CASCADE")
    source.run("INSERT INTO t VALUES (2)")
    gone(standing)
    assert f"causeway.{table}" in refused(standing)
    assert f"causeway.{table}" in refused(standing, "pg_full_copy")


def test_a_progress_row_that_is_deleted_is_not_made_again(standing: Journey) -> None:
    source, destination = standing.pair.ends
    destination.run("DELETE FROM causeway.cdc_progress")
    source.run("INSERT INTO t VALUES (2)")
    gone(standing)
    assert "causeway.cdc_progress is missing" in refused(standing)
    assert destination.query("SELECT id FROM t") == [(1,)]


def test_copies_that_were_forgotten_are_not_taken_for_made(standing: Journey) -> None:
    standing.task("stopped")
    standing.pair.destination.run("DELETE FROM causeway.table_copy")
    assert "not copied completely: public.t" in refused(standing)
    assert "did not copy" in refused(standing, "pg_full_copy")


@pytest.mark.parametrize("back", ["", "; ALTER PUBLICATION {} ADD TABLE t"], ids=["taken out", "and put back"])
def test_a_table_that_leaves_the_publication_stops_the_task(standing: Journey, back: str) -> None:
    """What is written to it meanwhile is in no stream: without a word, were it not looked for."""
    source = standing.pair.source
    (publication,) = source.query("SELECT pubname FROM pg_publication")[0]
    source.run(f"ALTER PUBLICATION {publication} DROP TABLE t; INSERT INTO t VALUES (2){back.format(publication)}")
    source.run("INSERT INTO t VALUES (3)")
    until(lambda: standing.progress("state") == "failed", "the worker goes on")
    assert "public.t was removed from it" in str(standing.progress("last_error"))
    assert "public.t was removed from it" in refused(standing)
    (warning,) = standing.migration.run("pg_publication")["warnings"]
    assert "public.t was not published for a while" in warning
    source.run("INSERT INTO t VALUES (4)")
    standing.copy()
    standing.task(wait="caught_up", wait_timeout=60)
    assert standing.drained() == source.value("SELECT count(*) FROM t")


def test_what_is_dropped_at_the_source_is_named(standing: Journey) -> None:
    source, destination = standing.pair.ends
    (publication,) = source.query("SELECT pubname FROM pg_publication")[0]
    source.run(f"DROP PUBLICATION {publication}")
    until(
        lambda: (
            f"publication {publication}"
            in json.dumps(destination.value("SELECT slot_guard FROM causeway.cdc_progress"))
        ),
        "it is not noticed",
    )
    assert f"publication {publication}" in standing.migration.run("pg_migration_info")["msg"]
