# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Exact through kills and crashes: the same modules again, and every answered commit is there once; and positions that
do not fit stop the task."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import subprocess
import time
from typing import Any

import pytest
from psycopg import sql
from support.faults.durability import held_to, sampled
from support.harness.exactness import Journey, MakeJourney
from support.harness.modules import ModuleFailed
from support.loads.clients import Clients
from support.waiting import until

LAZY = {"synchronous_commit": "off", "wal_writer_delay": "2s", "fsync": "on"}
"""A commit is answered two seconds before it is safe, unless the session asks for more."""
SAFE = "SET synchronous_commit = on"


@pytest.mark.faults
def test_the_worker_is_killed_again_and_again(make_journey: MakeJourney) -> None:
    journey = make_journey()
    journey.prepare()
    with Clients(journey.pair.source) as clients:
        journey.copy()
        with sampled(journey):
            for turn in range(3):
                journey.task()
                time.sleep(0.3 + 0.17 * turn)
                journey.kill_worker()
                time.sleep(0.1)
                held_to(journey)  # nothing moves now: what it was told is held to what stands, exactly
            journey.task()
    journey.drained()
    journey.exactly_once(clients)


@pytest.mark.faults_heavy
def test_the_worker_loses_its_sessions_and_goes_on(make_journey: MakeJourney) -> None:
    journey = make_journey()
    journey.prepare()
    journey.copy()
    journey.task()
    ended = 0
    with Clients(journey.pair.source) as clients, sampled(journey):
        for turn in range(6):
            time.sleep(0.8)
            end = journey.pair.ends[turn % 2]
            ended += end.value(
                "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name LIKE 'causeway%'"
            )
        assert ended > 3
        until(lambda: journey.progress("state") == "running", "the worker does not come back", 60)
    journey.drained()
    journey.exactly_once(clients)


@pytest.mark.faults
def test_the_copy_is_killed_in_mid_table_under_load(make_journey: MakeJourney) -> None:
    journey = make_journey()
    destination = journey.pair.destination
    journey.pair.source.run(
        "INSERT INTO entry (account, delta, paper) SELECT n, n, repeat('x', 500) FROM generate_series(1, 20000) n"
    )
    journey.prepare()
    with Clients(journey.pair.source) as clients:
        for turn in range(3):
            process = journey.migration.start("pg_full_copy", parallel=2, part_size=1 << 20)
            until(
                lambda: destination.value("SELECT count(*) FROM pg_stat_progress_copy"),
                "nothing is copied",
            )
            time.sleep(0.02 * turn)
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        done = "SELECT count(*) FILTER (WHERE state = 'complete') FROM causeway.table_copy"
        before = destination.value(done)
        assert before < 8, "the kill came too late"
        with pytest.raises(ModuleFailed, match="not copied completely"):
            journey.task()
        journey.copy(part_size=1 << 20)
        assert destination.value(done) == 8
    journey.drained()
    journey.exactly_once(clients)
    assert len(set(journey.marks().values())) > 1 or before == 0


def crash(journey: Journey, role: str) -> None:
    """An immediate stop and start of one server; the sessions of both ends are made anew."""
    getattr(journey.pair, role).server.restart("immediate")
    journey.reconnect()
    journey.migration.source = journey.pair.source.endpoint
    journey.migration.destination = journey.pair.destination.endpoint


def lazy(make_journey: MakeJourney, role: str) -> Journey:
    settings: dict[str, Any] = {f"{role}_settings": LAZY}
    return make_journey(**settings)


@pytest.mark.faults
@pytest.mark.parametrize("role", ["source", "destination"])
def test_a_server_crashes_that_answers_before_it_is_safe(make_journey: MakeJourney, role: str) -> None:
    """Under the copy, under the worker, and with the worker frozen; the clients ask for safe commits."""
    journey = lazy(make_journey, role)
    journey.prepare()
    with Clients(journey.pair.source, settings=SAFE) as clients:
        process = journey.migration.start("pg_full_copy", parallel=2)
        until(
            lambda: journey.pair.destination.value("SELECT count(*) FROM causeway.table_copy WHERE state = 'complete'"),
            "no table is copied",
        )
        crash(journey, role)
        with contextlib.suppress(ModuleFailed):
            journey.migration.finish("pg_full_copy", process)
        journey.copy()
        journey.task()
        with sampled(journey):
            time.sleep(1)
            crash(journey, role)
            until(lambda: journey.progress("state") == "running", "the worker does not come back", 60)
            time.sleep(0.7)
            worker = journey.worker()
            os.kill(worker, signal.SIGSTOP)
            try:
                crash(journey, role)
                held_to(journey)
            finally:
                os.kill(worker, signal.SIGKILL)
            journey.task()
    journey.drained()
    journey.exactly_once(clients)


@pytest.mark.faults
def test_commits_that_a_crash_of_the_source_takes_back(make_journey: MakeJourney) -> None:
    """With lazy clients the source forgets answered commits: neither the copy nor the stream may have seen them."""
    journey = lazy(make_journey, "source")
    journey.prepare()
    with Clients(journey.pair.source) as clients:
        process = journey.migration.start("pg_full_copy", parallel=2)
        until(
            lambda: journey.pair.destination.value("SELECT count(*) FROM causeway.table_copy WHERE state = 'complete'"),
            "no table is copied",
        )
        crash(journey, "source")
        with contextlib.suppress(ModuleFailed):
            journey.migration.finish("pg_full_copy", process)
        journey.copy()
        journey.task()
        for dummy in range(2):
            time.sleep(1)
            crash(journey, "source")
            held_to(journey)
    assert not clients.errors
    journey.drained()


def test_an_idle_database_is_confirmed_and_nothing_counts_as_applied(make_journey: MakeJourney) -> None:
    journey = make_journey("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    journey.prepare()
    journey.copy()
    journey.task(wait="caught_up", wait_timeout=60)
    source = journey.pair.source
    source.run("CREATE SCHEMA unpublished; CREATE TABLE unpublished.noise (v text)")
    time.sleep(0.5)
    applied, before = journey.progress("applied"), journey.confirmed()

    def confirmed() -> Any:
        source.run("INSERT INTO unpublished.noise SELECT repeat('x', 100) FROM generate_series(1, 1000)")
        written = source.value("SELECT pg_current_wal_flush_lsn()")
        until(
            lambda: source.value(
                "SELECT confirmed_flush_lsn >= %s FROM pg_replication_slots WHERE slot_name = %s",
                [written, journey.slot],
            ),
            "an idle slot is not confirmed",
        )
        return written

    first = confirmed()
    second = confirmed()
    assert source.value("SELECT %s::pg_lsn < %s::pg_lsn AND %s::pg_lsn < %s::pg_lsn", [before, first, first, second])
    held_to(journey)
    assert journey.progress("applied") == applied
    assert journey.progress("inserts") == 0
    source.run("INSERT INTO t VALUES (2)")
    assert journey.drained() == 2


@pytest.fixture
def standing(make_journey: MakeJourney) -> Journey:
    """A small migration whose task has stopped in good order."""
    journey = make_journey("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    journey.prepare()
    journey.copy()
    journey.task(wait="caught_up", wait_timeout=60)
    return journey


def refused(journey: Journey) -> dict[str, Any]:
    """The error with which the task does not start; nothing was applied."""
    before = journey.pair.destination.query("SELECT * FROM t ORDER BY 1")
    with pytest.raises(ModuleFailed) as stopped:
        journey.task(wait="caught_up", wait_timeout=30)
    assert journey.pair.destination.query("SELECT * FROM t ORDER BY 1") == before
    error: dict[str, Any] = stopped.value.result["error"]
    assert error["remedy"]
    return error


def test_a_slot_that_was_moved_on_stops_the_task(standing: Journey) -> None:
    standing.task("stopped")
    source = standing.pair.source
    source.run("INSERT INTO t VALUES (2)")
    source.run("SELECT pg_replication_slot_advance(%s, pg_current_wal_lsn())", [standing.slot])
    source.run("INSERT INTO t VALUES (3)")
    assert standing.slot in str(refused(standing))


def test_a_slot_that_was_made_anew_stops_the_task(standing: Journey) -> None:
    standing.task("stopped")
    source = standing.pair.source
    source.run("SELECT pg_drop_replication_slot(%s)", [standing.slot])
    source.run("INSERT INTO t VALUES (2)")
    assert "no longer exists" in refused(standing)["why"]
    source.run("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [standing.slot])
    source.run("INSERT INTO t VALUES (3)")
    assert standing.slot in str(refused(standing))


def test_a_destination_from_an_older_copy_stops_the_task(standing: Journey) -> None:
    standing.task("stopped")
    destination = standing.pair.destination
    older = sql.Identifier(f"{destination.dbname}_older")
    present = sql.Identifier(destination.dbname)
    destination.sql.close()
    with destination.server.connect() as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(older, present))
    standing.reconnect()
    source = standing.pair.source
    standing.task()
    source.run("INSERT INTO t VALUES (2)")
    assert standing.drained() == 2
    applied = standing.progress("applied")
    until(
        lambda: source.value(
            "SELECT confirmed_flush_lsn >= %s FROM pg_replication_slots WHERE slot_name = %s", [applied, standing.slot]
        ),
        "it is not confirmed",
    )
    standing.task("stopped")
    standing.pair.destination.sql.close()
    with destination.server.connect() as admin:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(present))
        admin.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(older, present))
    standing.reconnect()
    assert standing.slot in str(refused(standing))


def test_a_source_from_an_older_copy_stops_the_task(make_journey: MakeJourney, tmp_path: pathlib.Path) -> None:
    """Its timeline is the same, its slot is only behind; but its new commits lie where old ones were applied."""
    journey = make_journey("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)", source_settings={})
    journey.prepare()
    journey.copy()
    journey.task("stopped")
    server = journey.pair.source.server
    data = pathlib.Path(server.cluster.data_dir)
    server.stop()
    subprocess.run(["cp", "-a", data, f"{data}.older"], check=True)  # with its owner, who is another one under root
    server.start()
    journey.reconnect()
    journey.pair.source.run("INSERT INTO t SELECT generate_series(2, 500)")
    assert journey.drained() == 500
    journey.task("stopped")
    server.stop()
    data.rename(f"{data}.newer")
    pathlib.Path(f"{data}.older").rename(data)
    server.start()
    journey.reconnect()
    journey.pair.source.run("INSERT INTO t VALUES (600)")
    assert "older copy" in refused(journey)["why"]
