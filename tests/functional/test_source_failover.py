# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A failover of the source to a physical standby that has the slot (PostgreSQL 17): the migration goes on from there."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
from support.clusters.local import Clusters, Server
from support.clusters.pairs import Pair
from support.clusters.standby import end_on, pause_replay, promote, standby_of, wait_replayed, wait_synced
from support.faults.durability import held_to, sampled
from support.harness.exactness import Journey, MakeJourney
from support.harness.modules import ModuleFailed
from support.loads.clients import Clients
from support.waiting import until

SAFE = "SET synchronous_commit = on"
PRIMARY: dict[str, Any] = {"synchronous_standby_names": ""}


def move_to(journey: Journey, server: Server) -> None:
    """The endpoint as an operator changes it in the inventory."""
    pair: Pair = journey.pair
    journey.pair = dataclasses.replace(pair, source=end_on(server, pair.source.dbname))
    journey.migration.source = journey.pair.source.endpoint


@contextlib.contextmanager
def with_standby(clusters: Clusters, journey: Journey) -> Iterator[Server]:
    """A standby of the source; what a journey tidies up in the end it tidies up at the old primary."""
    old = journey.pair.source.server
    try:
        with standby_of(clusters, old, journey.pair.source.dbname) as standby:
            yield standby
    finally:
        old.start()
        move_to(journey, old)


def left_over(server: Server, slot: str) -> Any:
    with server.connect() as conn:
        row = conn.execute("SELECT count(*) FROM pg_replication_slots WHERE slot_name = %s", [slot]).fetchone()
    return row and row[0]


@pytest.mark.faults
def test_the_migration_goes_on_from_the_promoted_standby(make_journey: MakeJourney, clusters: Clusters) -> None:
    journey = make_journey(source_settings=PRIMARY)
    old = journey.pair.source.server
    journey.prepare()
    slot = journey.pair.destination.value("SELECT slot FROM causeway.migration")
    assert slot["failover"] is True and slot["timeline"] == 1
    journey.copy()
    journey.task(wait="caught_up", wait_timeout=60)
    with with_standby(clusters, journey) as standby:
        with Clients(journey.pair.source, settings=SAFE) as clients, sampled(journey):
            wait_synced(standby, journey.slot, journey.pair.source)
            until(lambda: len(clients.told) > 300, "the clients write nothing")
        wait_replayed(old, standby)  # what was answered to a client is on the standby: none of it may be missing
        old.stop("immediate")
        promote(standby)
        move_to(journey, standby)
        with Clients(journey.pair.source) as later:
            journey.task()
            with sampled(journey, least=20):
                before = len(later.told)
                until(lambda: len(later.told) > before + 300, "the clients write nothing")
        journey.drained()
        for end in journey.pair.ends:
            assert clients.told | later.told <= set(end.query("SELECT client, number FROM told"))
        assert journey.progress("timeline") == 2
        held_to(journey)
        assert "promoted after the slot was created" in " ".join(journey.migration.run("pg_repl_slot")["notes"])
        old.start()
        _the_slot_that_was_left(journey, old)
        journey.task("absent")


def _the_slot_that_was_left(journey: Journey, old: Server) -> None:
    """The old primary comes back by itself, with the slot that nobody reads any more."""
    former = [{"login_host": "127.0.0.1", "login_port": old.cluster.port}]
    present = journey.migration.source["login_port"]
    with pytest.raises(ModuleFailed, match="this is the source itself"):
        journey.migration.run("pg_repl_slot", former_sources=[{"login_host": "127.0.0.1", "login_port": present}])
    assert left_over(old, journey.slot) == 1
    results = journey.migration.four_beats("pg_repl_slot", former_sources=former)
    assert results[1]["left_behind"] == []
    assert left_over(old, journey.slot) == 0
    assert left_over(journey.pair.source.server, journey.slot) == 1
    old.stop()
    away = journey.migration.run("pg_repl_slot", former_sources=former)
    assert "could not be checked" in away["left_behind"][0]["why"]
    assert "pg_drop_replication_slot" in away["left_behind"][0]["statements"][0]
    old.start()


@pytest.mark.faults
@pytest.mark.parametrize("by", ["worker", pytest.param("module", marks=pytest.mark.faults_heavy)])
def test_what_was_copied_past_the_switch_is_copied_again(
    make_journey: MakeJourney, clusters: Clusters, by: str
) -> None:
    """Table u is copied anew under a mark that the standby never saw: it alone is copied again after the promotion."""
    ddl = "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY)"
    journey = make_journey(ddl, "INSERT INTO t VALUES (1); INSERT INTO u VALUES (1)", source_settings=PRIMARY)
    old = journey.pair.source.server
    destination = journey.pair.destination
    journey.prepare()
    journey.copy()
    journey.task(wait="caught_up", wait_timeout=60)
    with with_standby(clusters, journey) as standby:
        wait_synced(standby, journey.slot, journey.pair.source)
        wait_replayed(old, standby)
        journey.task("stopped")
        journey.pair.source.run("ALTER SYSTEM RESET synchronized_standby_slots")
        journey.pair.source.run("SELECT pg_reload_conf()")
        pause_replay(standby)
        journey.pair.source.run("INSERT INTO u VALUES (666)")  # which the standby never has
        journey.forget("u")
        journey.copy()
        assert destination.query("SELECT id FROM u ORDER BY 1") == [(1,), (666,)]
        marks = journey.marks()
        old.stop("immediate")
        promote(standby)
        move_to(journey, standby)
        journey.pair.source.run("INSERT INTO u VALUES (2); INSERT INTO t VALUES (2)")
        if by == "worker":
            with pytest.raises(ModuleFailed, match=r"public\.u.*copies just these tables again"):
                journey.task()
        else:
            plan = journey.migration.run("pg_repl_slot")
            assert plan["changed"]
        states = dict(destination.query("SELECT table_name, state FROM causeway.table_copy"))
        assert states == {"t": "complete", "u": "copying"}
        journey.copy()
        assert journey.drained() == 4
        assert destination.query("SELECT id FROM u ORDER BY 1") == [(1,), (2,)]
        after = journey.marks()
        assert after["t"] == marks["t"] and after["u"] != marks["u"]
        assert not journey.migration.run("pg_repl_slot")["changed"]
        journey.task("absent")
