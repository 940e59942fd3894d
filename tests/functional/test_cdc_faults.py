# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The CDC worker among faults: killed, servers crashed, positions that do not fit; nothing lost, nothing twice."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import time

import pytest
from support.faults.durability import sampled
from support.harness.streaming import MakeStreaming, Streaming, slot_position
from support.loads.accounts import LOADED, AccountLoad, identical
from support.witness import assert_identical


@pytest.mark.faults
def test_killed_again_and_again_under_load(make_streaming: MakeStreaming) -> None:
    streaming = make_streaming(LOADED)
    streaming.begin(batch_age=0.05)
    with AccountLoad(streaming.pair) as load, sampled(streaming):
        for turn in range(12):
            streaming.start()
            time.sleep(0.7 + (turn * 0.13) % 0.6)
            streaming.kill()
        streaming.start()
        time.sleep(1)
    assert load.transactions > 500
    identical(streaming)
    assert streaming.progress("conflicts") == 0
    assert streaming.stop() == 0


@pytest.mark.faults
def test_killed_in_the_middle_of_a_large_transaction(make_streaming: MakeStreaming) -> None:
    streaming = make_streaming("CREATE TABLE t (id int PRIMARY KEY, v int)")
    streaming.begin(batch_size=2000)
    source = streaming.pair.source
    with source.connect() as connection, connection.transaction():
        connection.execute("INSERT INTO t SELECT n, 0 FROM generate_series(1, 60000) n")
        connection.execute("UPDATE t SET v = v + 1")
        connection.execute("DELETE FROM t WHERE id % 3 = 0")
    applied = streaming.progress("applied")
    for turn in range(5):
        streaming.start()
        streaming.wait_state("running")
        time.sleep(0.1 + turn * 0.15)
        streaming.kill()
        if streaming.progress("applied") == applied:
            assert streaming.pair.destination.value("SELECT count(*) FROM t") == 0
    streaming.start()
    streaming.drain()
    assert assert_identical(streaming.pair, ["public"]) == 40000
    assert streaming.progress("conflicts") == 0


@pytest.mark.faults
@pytest.mark.parametrize("end", ["source", "destination"])
def test_a_server_that_crashes_with_lazy_commits(make_streaming: MakeStreaming, end: str) -> None:
    lazy = {"synchronous_commit": "off", "wal_writer_delay": "1s", "fsync": "on", "full_page_writes": "on"}
    settings = {f"{end}_settings": lazy}
    streaming = make_streaming(LOADED, private=True, **settings)
    streaming.begin()
    streaming.start()
    with AccountLoad(streaming.pair) as load, sampled(streaming):
        for dummy in range(3):
            time.sleep(2)
            getattr(streaming.pair, end).server.restart("immediate")
        time.sleep(1)
    assert load.transactions > 100
    streaming.reconnect()
    streaming.wait_state("running")
    identical(streaming)
    assert "retrying" in streaming.log()
    assert streaming.stop() == 0


def test_a_position_is_confirmed_although_nothing_of_ours_is_written(make_streaming: MakeStreaming) -> None:
    streaming = make_streaming("CREATE TABLE t (id int PRIMARY KEY)")
    streaming.begin()
    source = streaming.pair.source
    source.run("CREATE SCHEMA aside")
    streaming.start()
    streaming.wait_state("running")
    before, applied = slot_position(source, streaming.slot), streaming.progress("applied")
    source.run("CREATE TABLE aside.t AS SELECT repeat('x', 1000) FROM generate_series(1, 10000)")
    written = source.value("SELECT pg_current_wal_lsn()::text")
    deadline = time.monotonic() + 30
    with sampled(streaming):
        while source.value("SELECT %s::pg_lsn > %s::pg_lsn", [written, slot_position(source, streaming.slot)]):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        time.sleep(0.3)
    assert slot_position(source, streaming.slot) != before
    assert streaming.progress("applied") == applied


def test_an_altered_table_stops_the_task_and_names_it(make_streaming: MakeStreaming) -> None:
    streaming = make_streaming("CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE u (id int PRIMARY KEY)")
    streaming.begin()
    streaming.start()
    source, destination = streaming.pair.ends
    source.run("INSERT INTO t VALUES (1, 'a'); INSERT INTO u VALUES (1)")
    streaming.drain()
    source.run('INSERT INTO u VALUES (2); ALTER TABLE t ADD COLUMN "new One" int')
    source.run("INSERT INTO t VALUES (2, 'b', 2)")
    source.run("INSERT INTO u VALUES (3)")
    assert streaming.wait_exit() == 1
    error = streaming.progress("last_error")
    assert streaming.progress("state") == "failed"
    assert error["object"] == "public.t"
    assert '"new One"' in error["why"]
    assert destination.value("SELECT count(*) FROM t") == 1
    assert destination.value("SELECT count(*) FROM u") < 3
    destination.run('ALTER TABLE t ADD COLUMN "new One" int')
    streaming.start()
    streaming.wait_state("running")
    streaming.drain()
    assert_identical(streaming.pair, ["public"])


@pytest.mark.parametrize(
    ("ddl", "words"),
    [
        ("ALTER TABLE t ALTER v TYPE int USING 1", "the type differs in column v"),
        ("ALTER TABLE t ALTER v TYPE varchar(20)", "the type differs in column v"),
        ("ALTER TABLE t RENAME v TO w", "no column w"),
        ("ALTER TABLE t RENAME TO s", "no table of that name"),
    ],
)
def test_what_no_longer_fits_stops_the_task(make_streaming: MakeStreaming, ddl: str, words: str) -> None:
    streaming = make_streaming("CREATE TABLE t (id int PRIMARY KEY, v varchar(10)); INSERT INTO t VALUES (1, 'a')")
    streaming.begin()
    streaming.start()
    streaming.wait_state("running")
    source = streaming.pair.source
    source.run(ddl)
    source.run("DELETE FROM s" if "TO s" in ddl else "DELETE FROM t")
    assert streaming.wait_exit() == 1
    assert words in streaming.progress("last_error")["why"]
    assert streaming.pair.destination.value("SELECT count(*) FROM t") == 1


def test_a_row_that_cannot_be_applied_is_named_by_the_hash_of_its_key(make_streaming: MakeStreaming) -> None:
    streaming = make_streaming("CREATE TABLE t (id int PRIMARY KEY, u text)")
    streaming.begin()
    streaming.pair.destination.run("ALTER TABLE t ADD CHECK (u <> 'secret word')")
    streaming.start()
    source = streaming.pair.source
    source.run("INSERT INTO t SELECT n, 'fine' FROM generate_series(1, 100) n")
    source.run("INSERT INTO t VALUES (4711, 'secret word'), (4712, 'fine')")
    assert streaming.wait_exit() == 1
    error = streaming.progress("last_error")
    assert "public.t, row with key hash " in error["object"]
    assert "t_u_check" in error["why"]
    everything = (
        f"{error} {streaming.log()} {streaming.pair.destination.query('SELECT detail::text FROM causeway.event')}"
    )
    assert "secret" not in everything
    assert "4711" not in everything
    assert streaming.pair.destination.value("SELECT count(*) FROM t WHERE id > 100") == 0


def test_a_slot_ahead_of_us_is_a_loss(make_streaming: MakeStreaming) -> None:
    streaming = make_streaming("CREATE TABLE t (id int PRIMARY KEY)")
    streaming.begin()
    source = streaming.pair.source
    source.run("INSERT INTO t VALUES (1)")
    source.run("SELECT pg_replication_slot_advance(%s, pg_current_wal_lsn())", [streaming.slot])
    streaming.start()
    assert streaming.wait_exit() == 1
    assert streaming.progress("last_error")["code"] == "would_lose_rows"
    assert "ahead of" in streaming.progress("last_error")["why"]
    source.run("SELECT pg_drop_replication_slot(%s)", [streaming.slot])
    streaming.start()
    assert streaming.wait_exit() == 1
    assert "no longer exists" in streaming.progress("last_error")["why"]


def test_a_restored_destination_is_a_loss(make_streaming: MakeStreaming) -> None:
    streaming = make_streaming("CREATE TABLE t (id int PRIMARY KEY)")
    streaming.begin()
    streaming.start()
    source, destination = streaming.pair.ends
    earlier = destination.query("SELECT applied::text, confirmable::text FROM causeway.cdc_progress")[0]
    source.run("INSERT INTO t VALUES (1)")
    streaming.drain()
    deadline = time.monotonic() + 20
    while source.value("SELECT %s::pg_lsn >= %s::pg_lsn", [earlier[1], slot_position(source, streaming.slot)]):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    streaming.stop()
    destination.run("UPDATE causeway.cdc_progress SET applied = %s, confirmable = %s", list(earlier))
    destination.run("DELETE FROM t")
    streaming.start()
    assert streaming.wait_exit() == 1
    assert streaming.progress("last_error")["code"] == "would_lose_rows"


@pytest.mark.faults
def test_a_slot_behind_us_is_normal(make_streaming: MakeStreaming) -> None:
    """What the source sends again after its own crash is skipped by commit position."""
    streaming = make_streaming("CREATE TABLE t (v int); ALTER TABLE t REPLICA IDENTITY FULL", private=True)
    streaming.begin()
    streaming.start()
    streaming.pair.source.run("INSERT INTO t SELECT generate_series(1, 50)")
    streaming.drain()
    streaming.kill()  # the slot's position was never written to disk
    streaming.pair.source.server.restart("immediate")
    streaming.reconnect()
    streaming.start()
    streaming.pair.source.run("INSERT INTO t VALUES (51)")
    streaming.drain()
    assert assert_identical(streaming.pair, ["public"]) == 51


def test_a_second_worker_is_refused_and_a_missing_row_is_left_alone(make_streaming: MakeStreaming) -> None:
    streaming = make_streaming("CREATE TABLE t (id int PRIMARY KEY)")
    streaming.begin()
    streaming.start()
    streaming.wait_state("running")
    first = streaming.process
    streaming.start()
    assert streaming.wait_exit() == 4
    streaming.process = first
    streaming.kill()
    streaming.pair.destination.run("DELETE FROM causeway.cdc_task")
    before = streaming.pair.destination.query("SELECT * FROM causeway.cdc_progress")
    streaming.start()
    assert streaming.wait_exit() == 3
    assert streaming.pair.destination.query("SELECT * FROM causeway.cdc_progress") == before
    streaming.pair.destination.run("DROP SCHEMA causeway CASCADE")
    streaming.start()
    assert streaming.wait_exit() == 3


def test_it_does_what_the_control_row_wants(make_streaming: MakeStreaming) -> None:
    streaming = make_streaming("CREATE TABLE t (id int PRIMARY KEY)")
    streaming.begin()
    streaming.start()
    streaming.wait_state("running")
    source, destination = streaming.pair.ends
    streaming.want("paused")
    streaming.wait_state("paused")
    source.run("INSERT INTO t VALUES (1)")
    time.sleep(0.5)
    assert destination.value("SELECT count(*) FROM t") == 0
    assert source.value("SELECT NOT active FROM pg_replication_slots WHERE slot_name = %s", [streaming.slot])
    streaming.want("started")
    streaming.drain()
    assert destination.value("SELECT count(*) FROM t") == 1
    streaming.want("stopped")
    assert streaming.wait_exit() == 0
    assert streaming.progress("state") == "stopped"
    streaming.want("started")
    streaming.start()
    streaming.wait_state("running")
    streaming.want("disarmed")
    assert streaming.wait_exit() == 0
    assert streaming.progress("state") == "disarmed"
    streaming.want("started")
    streaming.start()
    assert streaming.wait_exit() == 0
    assert streaming.progress("state") == "disarmed"


def test_the_wal_sender_is_answered_while_apply_waits(make_streaming: MakeStreaming) -> None:
    streaming = make_streaming(
        "CREATE TABLE t (id int PRIMARY KEY, v text)", private=True, source_settings={"wal_sender_timeout": "2s"}
    )
    streaming.begin()
    streaming.start()
    streaming.wait_state("running")
    source, destination = streaming.pair.ends
    with destination.connect() as blocker, blocker.transaction():
        blocker.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        source.run("INSERT INTO t SELECT n, repeat('x', 1000) FROM generate_series(1, 100000) n")
        time.sleep(8)
        assert source.value("SELECT active FROM pg_replication_slots WHERE slot_name = %s", [streaming.slot])
        assert streaming.progress("lag_seconds") > 3
        assert streaming.progress("lag_bytes") > 10_000_000
        age = "SELECT extract(epoch FROM clock_timestamp() - heartbeat) FROM causeway.cdc_progress"
        assert destination.value(age) < 3
    streaming.drain()
    assert_identical(streaming.pair, ["public"])
    assert "retrying" not in streaming.log()


def test_an_account_without_the_privilege_is_told_what_to_grant(make_role, make_streaming: MakeStreaming) -> None:
    streaming = make_streaming("CREATE TABLE t (id int PRIMARY KEY)")
    streaming.begin()
    pair = streaming.pair
    name, password = make_role(pair, ends=(pair.destination,))
    pair.destination.run(
        f"GRANT ALL ON SCHEMA causeway, public TO {name}; GRANT ALL ON ALL TABLES IN SCHEMA causeway TO {name}"
    )
    path = streaming.folder / "config.json"
    values = json.loads(path.read_text())
    values["destination"].update(user=name, password=password)
    path.write_text(json.dumps(values))
    streaming.start()
    assert streaming.wait_exit() == 1
    error = streaming.progress("last_error")
    assert "session_replication_role" in error["why"]
    assert "GRANT SET ON PARAMETER" in error["remedy"]


def promote(streaming: Streaming, older: pathlib.Path | None = None) -> None:
    """The source goes on on a new timeline; from an older copy of it, as a standby that had not heard all.

    The worker meets it before it is promoted, and must not judge by what a standby has.
    """
    server = streaming.pair.source.server
    data = pathlib.Path(server.cluster.data_dir)
    server.stop()
    if older is not None:
        shutil.rmtree(data)
        shutil.copytree(older, data)
        for entry in [data, *data.rglob("*")]:
            os.chown(entry, older.stat().st_uid, older.stat().st_gid)
    signal_file = data / "standby.signal"
    signal_file.touch()
    os.chown(signal_file, data.stat().st_uid, data.stat().st_gid)
    server.start()
    streaming.reconnect()
    waits = time.monotonic() + 60
    while "is in recovery" not in streaming.log():
        assert time.monotonic() < waits, streaming.log()[-3000:]
        time.sleep(0.05)
    streaming.pair.source.value("SELECT pg_promote()")


def copied(streaming: Streaming) -> pathlib.Path:
    """A copy of the source's folder as it is now, kept beside it."""
    server = streaming.pair.source.server
    data = pathlib.Path(server.cluster.data_dir)
    server.stop()
    older = data.with_name("older")
    shutil.copytree(data, older)
    os.chown(older, data.stat().st_uid, data.stat().st_gid)
    server.start()
    streaming.reconnect()
    return older


@pytest.mark.faults
def test_it_follows_a_promotion(make_streaming: MakeStreaming) -> None:
    streaming = make_streaming("CREATE TABLE t (id int PRIMARY KEY)", private=True)
    streaming.begin()
    streaming.start()
    streaming.pair.source.run("INSERT INTO t VALUES (1)")
    streaming.drain()
    promote(streaming)
    streaming.pair.source.run("INSERT INTO t VALUES (2)")
    streaming.drain()
    assert assert_identical(streaming.pair, ["public"]) == 2
    assert streaming.progress("timeline") == 2
    assert "is on timeline 2 now" in streaming.log()


@pytest.mark.faults
def test_changes_that_the_promoted_source_never_had_are_a_loss(make_streaming: MakeStreaming) -> None:
    streaming = make_streaming("CREATE TABLE t (id int PRIMARY KEY)", private=True)
    streaming.begin()
    streaming.start()
    streaming.pair.source.run("INSERT INTO t VALUES (1)")
    streaming.drain()
    older = copied(streaming)
    streaming.pair.source.run("INSERT INTO t VALUES (2)")
    streaming.drain()
    promote(streaming, older)
    streaming.pair.source.run("INSERT INTO t SELECT generate_series(3, 5000)")
    assert streaming.wait_exit(60) == 1
    error = streaming.progress("last_error")
    assert error["code"] == "would_lose_rows"
    assert "never happened there" in error["why"]
    assert streaming.pair.destination.query("SELECT id FROM t ORDER BY 1") == [(1,), (2,)]
