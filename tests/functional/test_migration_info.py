# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pg_migration_info on real servers, at every moment of a migration's life."""

from __future__ import annotations

import pathlib
import socket
from typing import Any

import pytest
from support import witness
from support.clusters.local import Clusters
from support.clusters.pairs import Pair
from support.harness.modules import Migration, ModuleFailed
from support.harness.streaming import unpack_engine

from ansible_collections.causeway.postgresql.plugins.module_utils._engine import names

MODULE = "pg_migration_info"
SHOP = """
CREATE SCHEMA shop;
CREATE TABLE shop.customer (id bigint PRIMARY KEY, name text);
CREATE TABLE shop."Ordered" (id bigint PRIMARY KEY);
"""


def migration(pair: Pair, name: str) -> Migration:
    return Migration(name, pair.source.endpoint, pair.destination.endpoint, [{"schema": "shop"}])


def test_before_anything_exists(pair: Pair) -> None:
    pair.source.run(SHOP)
    before = [witness.fingerprint(end.sql) for end in pair.ends]
    result = migration(pair, "unborn").run(MODULE)
    assert result["phase"] == "none" and result["opened_at"] == "" and result["changed"] is False
    assert result["tables"] == [] and result["cdc"] == {} and result["events"] == [] and result["certificate"] == {}
    assert result["selected"]["tables"] == 2
    assert result["slot"] == {"name": "dts_sync_unborn", "exists": False}
    assert "ansible_facts" not in result
    assert [witness.fingerprint(end.sql) for end in pair.ends] == before


def test_what_the_phases_left(pair: Pair) -> None:
    pair.source.run(SHOP)
    one = migration(pair, "alive")
    one.run("pg_replica_identity")
    one.run("pg_publication")
    one.run("pg_repl_slot")
    result = one.run(MODULE)
    assert result["phase"] == "prepared"
    shown = pair.source.query(
        "SELECT restart_lsn::text, confirmed_flush_lsn::text, wal_status FROM pg_replication_slots"
        " WHERE slot_name = 'dts_sync_alive'"
    )
    slot = result["slot"]
    assert shown == [(slot["restart_lsn"], slot["confirmed_flush_lsn"], slot["wal_status"])]
    assert slot["exists"] and slot["active"] is False and slot["retained_bytes"] >= 0
    assert [event["phase"] for event in result["events"]].count("prepared") >= 1


def test_copy_progress_and_lag(pair: Pair) -> None:
    """The state tables are written as the copy and the worker write them; what is said of them is the matter here."""
    pair.source.run(SHOP)
    one = migration(pair, "busy")
    one.run("pg_replica_identity")
    one.run("pg_publication")
    one.run("pg_repl_slot")
    pair.destination.run("""
        INSERT INTO causeway.table_copy (migration, relation, schema_name, table_name, state, run, mark, rows, bytes,
                                         started_at, finished_at)
        VALUES ('busy', 1, 'shop', 'customer', 'complete', 1, '0/1', 7, 700, '2026-01-01 00:00:00Z',
                '2026-01-01 00:00:10Z'),
               ('busy', 2, 'shop', 'Ordered', 'copying', 2, NULL, 0, 0, now(), NULL);
        INSERT INTO causeway.copy_part (migration, relation, part, run, ordinal, first_page, key_column, state, rows, bytes)
        VALUES ('busy', 2, 0, 2, 0, 0, 'id', 'done', 5, 50), ('busy', 2, 1, 2, 1, 0, 'id', 'waiting', 0, 0),
               ('busy', 2, 2, 1, 2, 0, 'id', 'done', 1000, 1000);
        INSERT INTO causeway.cdc_task (migration, wanted) VALUES ('busy', 'started');
        INSERT INTO causeway.cdc_progress (migration, state, token, applied, confirmable, source_system, timeline,
                                           lag_bytes, lag_seconds, inserts, heartbeat)
        VALUES ('busy', 'running', 'secret-token', '0/1', '0/1', '', 1, 0, 0, 3, now() - interval '1 hour');
        INSERT INTO causeway.validation (migration, relation, schema_name, table_name, verdict, differing)
        VALUES ('busy', 1, 'shop', 'customer', 'identical', 0), ('busy', 2, 'shop', 'Ordered', 'different', 4);
    """)
    result = one.run(MODULE)
    copied = {table["table"]: table for table in result["tables"]}
    assert copied["shop.customer"]["seconds"] == 10 and copied["shop.customer"]["mark"] == "0/1"
    # parts that an earlier run has finished stand, and count
    assert (copied['shop."Ordered"']["rows"], copied['shop."Ordered"']["bytes"]) == (1005, 1050)
    assert result["totals"] == {"tables": 2, "waiting": 0, "copying": 1, "complete": 1, "rows": 1012, "bytes": 1750}
    cdc = result["cdc"]
    # nobody applies: what the last worker measured says nothing about now
    assert cdc["down"] and cdc["worker"] == {} and cdc["lag_bytes"] > 1_000_000 and cdc["lag_seconds"] is None
    assert cdc["counters"]["inserts"] == 3 and 3500 < cdc["heartbeat_age"] < 3700
    assert "down" in result["msg"] and "secret-token" not in str(result)
    assert result["validation"]["verdicts"] == {"identical": 1, "different": 1}
    assert result["validation"]["differing"] == [{"table": 'shop."Ordered"', "verdict": "different", "differing": 4}]


def test_a_source_that_is_down_is_reported_with_all_the_rest(pair: Pair) -> None:
    pair.source.run(SHOP)
    one = migration(pair, "half")
    one.run("pg_replica_identity", identity="full")
    one.source = {**one.source, "login_port": 1}
    result = one.run(MODULE)
    assert result["phase"] == "registered" and result["source_server"]["reachable"] is False
    assert result["source_server"]["error"]["code"] == "connect_failed"
    assert result["slot"] == {} and result["selected"] == {}
    assert "the source cannot be reached" in result["msg"]


def test_a_destination_that_is_down_is_one_clear_message(pair: Pair) -> None:
    one = migration(pair, "gone")
    one.destination = {**one.destination, "login_port": 1}
    with pytest.raises(ModuleFailed) as caught:
        one.run(MODULE)
    assert caught.value.result["error"]["code"] == "connect_failed"
    assert "exception" not in caught.value.result


def test_after_the_release(pair: Pair) -> None:
    pair.source.run(SHOP)
    pair.destination.run(
        f'COMMENT ON DATABASE "{pair.destination.dbname}"'
        " IS 'ours\n[causeway: migration done opened this database at 2026-11-01 10:00:00+00]'"
    )
    result = migration(pair, "done").run(MODULE)
    assert result["phase"] == "released" and result["opened_at"] == "2026-11-01 10:00:00+00"
    assert migration(pair, "other").run(MODULE)["phase"] == "none"


def test_while_it_runs_precheck_finds_nothing_and_info_says_who_applies(
    pair: Pair, clusters: Clusters, tmp_path: pathlib.Path
) -> None:
    pair.source.run(SHOP + "INSERT INTO shop.customer SELECT n, 'x' FROM generate_series(1, 1000) n;")
    one = migration(pair, "whole")
    tools: dict[str, Any] = {"client_bin": clusters.bin_dir("18")}
    one.run("pg_migration_precheck", **tools)
    one.run("pg_replica_identity")
    one.run("pg_publication")
    one.run("pg_repl_slot")
    one.run("pg_schema_sync", section="pre_data", **tools)
    one.run("pg_full_copy")
    one.run("pg_schema_sync", section="keys", **tools)
    unpack_engine(tmp_path)
    one.run("pg_cdc_task", state="started", worker_home=str(tmp_path), supervisor="none", wait="caught_up")
    try:
        checked = one.run(
            "pg_migration_precheck",
            worker_home=str(tmp_path),
            fail_on="warning",
            ignore_checks=["worker_supervisor"],
            **tools,
        )
        assert checked["findings"] == []
        result = one.run(MODULE)
        assert result["totals"]["complete"] == 2 and result["totals"]["rows"] == 1000
        cdc = result["cdc"]
        assert cdc["state"] == "running" and not cdc["down"] and cdc["worker"]["host"] == socket.gethostname()
        assert pathlib.Path("/proc", str(cdc["worker"]["pid"])).exists()
        assert cdc["worker"]["compiled"] is False
        assert result["slot"]["active"]
        witness.assert_identical(pair, ["shop"])
        caught_up_beside_another_run(pair, one)
    finally:
        one.run("pg_cdc_task", state="stopped", worker_home=str(tmp_path))
    stopped = one.run(MODULE)["cdc"]
    assert stopped["wanted"] == "stopped" and not stopped["down"] and stopped["worker"] == {}
    with pytest.raises(ModuleFailed, match="the CDC task is stopped"):
        one.run(MODULE, wait="caught_up")


def caught_up_beside_another_run(pair: Pair, one: Migration) -> None:
    """Waiting takes no lock and gives no setting; a dry run does not even write the marker."""
    marker = "SELECT count(*) FROM causeway.marker"
    task = pair.destination.query("SELECT generation, settings FROM causeway.cdc_task")
    before = pair.destination.value(marker)
    checked = one.run(MODULE, check=True, wait="caught_up")
    assert "caught_up" not in checked and checked["phase"] == "replicating"
    assert pair.destination.value(marker) == before
    key = names.lock_key(one.name, "run")
    pair.destination.run(f"SELECT pg_advisory_lock({key})")
    try:
        with pytest.raises(ModuleFailed, match="another run works on it"):
            one.run("pg_sequence_sync")
        pair.source.run("INSERT INTO shop.customer SELECT n, 'y' FROM generate_series(1001, 3000) n")
        result = one.run(MODULE, wait="caught_up", wait_timeout=60)
    finally:
        pair.destination.run(f"SELECT pg_advisory_unlock({key})")
    assert pair.destination.value("SELECT count(*) FROM shop.customer") == 3000
    assert result["caught_up"] is True and result["waited"] >= 0 and result["changed"] is False
    assert result["cdc"]["counters"]["inserts"] >= 2000
    assert pair.destination.value(marker) == before + 1
    assert pair.destination.query("SELECT generation, settings FROM causeway.cdc_task") == task


def test_there_is_nothing_to_wait_for(pair: Pair) -> None:
    pair.source.run(SHOP)
    with pytest.raises(ModuleFailed, match="it has no CDC task yet"):
        migration(pair, "unborn").run(MODULE, wait="caught_up")
    assert "caught_up" not in migration(pair, "unborn").run(MODULE, wait="caught_up", types=["schema", "full"])
    assert pair.source.value("SELECT to_regnamespace('causeway')") is None
