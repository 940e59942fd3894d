# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections of which one leg is dead and the other seems to live: what is silent is looked for, and begun again."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from support.faults.proxy import Proxy, before
from support.harness.modules import Migration, ModuleFailed
from support.harness.streaming import MakeStreaming, Streaming
from support.witness import assert_identical

from ansible_collections.causeway.postgresql.plugins.module_utils._engine import names

pytestmark = pytest.mark.faults

DDL = "CREATE TABLE t (id int PRIMARY KEY, v text)"
PATIENCE = 3
"""Seconds after which a silent server is looked for, instead of 60."""

HOLDER = """
SELECT l.pid FROM pg_locks l WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
   AND l.classid::bigint = %s AND l.objid::bigint = %s
"""


def impatient(endpoint: Mapping[str, Any], seconds: float = PATIENCE) -> dict[str, Any]:
    params = {**endpoint.get("connect_params", {}), "tcp_user_timeout": str(int(seconds * 1000))}
    return {**endpoint, "connect_params": params}


def applying(streaming: Streaming) -> int | None:
    """The session that holds the worker's lock."""
    pid: int | None = streaming.pair.destination.value(
        HOLDER, names.lock_halves(names.lock_key(streaming.name, "worker"))
    )
    return pid


def reading(streaming: Streaming) -> int | None:
    """The session that reads the slot."""
    pid: int | None = streaming.pair.source.value(
        "SELECT active_pid FROM pg_replication_slots WHERE slot_name = %s", [streaming.slot]
    )
    return pid


def until(condition: Callable[[], Any], seconds: float, streaming: Streaming) -> float:
    """Wait for it; the seconds it took."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise AssertionError(f"not within {seconds} s: {streaming.progress('state')}\n{streaming.log()[-3000:]}")
        time.sleep(0.05)
    return time.monotonic() - began


@contextlib.contextmanager
def through(streaming: Streaming, end: str, seconds: float = PATIENCE) -> Iterator[Proxy]:
    """A worker that runs, with one end behind a proxy; it must have applied all that was written when the body ends."""
    with before(getattr(streaming.pair, end)) as (proxy, endpoint):
        streaming.configure(**{end: impatient(endpoint, seconds)})
        streaming.start()
        streaming.wait_state("running")
        streaming.pair.source.run("INSERT INTO t SELECT n, 'first' FROM generate_series(1, 100) n")
        streaming.drain()
        yield proxy
        streaming.pair.source.run("INSERT INTO t SELECT n, 'last' FROM generate_series(1001, 1100) n")
        streaming.drain()
        assert assert_identical(streaming.pair, ["public"]) >= 200
        assert streaming.progress("conflicts") == 0
        assert streaming.stop() == 0


@pytest.fixture
def streaming(make_streaming: MakeStreaming) -> Streaming:
    made = make_streaming(DDL)
    made.begin()
    return made


@pytest.mark.parametrize("version", ["14", "17", "18"])
@pytest.mark.parametrize("how", ["silence", "drop_server"])
def test_a_half_open_connection_to_the_source_is_noticed(make_streaming: MakeStreaming, how: str, version: str) -> None:
    streaming = make_streaming(DDL, source=version)
    streaming.begin()
    with through(streaming, "source") as proxy:
        former = reading(streaming)
        getattr(proxy, how)()
        streaming.pair.source.run("INSERT INTO t SELECT n, 'unheard' FROM generate_series(201, 300) n")
        until(lambda: reading(streaming) not in (None, former), 30, streaming)
    assert "the source has not answered session 'stream" in streaming.log()


def test_while_the_source_cannot_be_seen_the_lag_is_unknown(streaming: Streaming) -> None:
    migration = Migration(
        streaming.name,
        streaming.pair.source.endpoint,
        streaming.pair.destination.endpoint,
        [{"schema": "public"}],
    )
    with through(streaming, "source", 60) as proxy:
        until(lambda: streaming.progress("lag_bytes") == 0, 10, streaming)
        proxy.deaf = True
        proxy.silence()
        streaming.pair.source.run("INSERT INTO t SELECT n, repeat('x', 1000) FROM generate_series(401, 900) n")
        until(lambda: streaming.progress("lag_bytes") is None, 15, streaming)
        info = migration.run("pg_migration_info")
        assert info["cdc"]["lag_bytes"] is None and info["cdc"]["lag_seconds"] is None
        assert "how far it is behind is unknown" in info["msg"]
        assert info["msg"].count("behind") == 1
        proxy.deaf = False
        proxy.drop_client()
        until(lambda: streaming.progress("lag_bytes") is not None, 30, streaming)


def test_a_source_that_answers_nothing_is_tried_with_growing_pauses(streaming: Streaming) -> None:
    with through(streaming, "source", 1) as proxy:
        proxy.deaf = True
        proxy.silence()
        until(lambda: streaming.progress("state") == "retrying", 30, streaming)
        assert "no new session" in json.dumps(streaming.progress("last_error"))
        proxy.deaf = False
        streaming.wait_state("running", 60)


def test_a_long_decoding_and_a_long_apply_are_not_taken_for_death(make_streaming: MakeStreaming) -> None:
    """The walsender says nothing for longer than the limit: first it decodes what we do not get, then we are slow."""
    streaming = make_streaming(f"{DDL}; CREATE SCHEMA other; CREATE TABLE other.u (id int, v text)")
    streaming.begin()
    with through(streaming, "source", 1):
        former = reading(streaming)
        streaming.pair.source.run("INSERT INTO other.u SELECT n, repeat('x', 500) FROM generate_series(1, 300000) n")
        streaming.drain()
        assert reading(streaming) == former
        with streaming.pair.destination.connect() as holder, holder.transaction():
            holder.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
            streaming.pair.source.run("INSERT INTO t SELECT n, repeat('x', 9000) FROM generate_series(301, 999) n")
            time.sleep(6)
            assert applying(streaming) is not None
        streaming.drain()
        assert reading(streaming) == former
    assert "given up" not in streaming.log()


@pytest.mark.parametrize("how", ["silence", "drop_server"])
def test_a_half_open_connection_to_the_destination_is_noticed(streaming: Streaming, how: str) -> None:
    with through(streaming, "destination") as proxy:
        former = applying(streaming)
        getattr(proxy, how)()
        streaming.pair.source.run("INSERT INTO t SELECT n, 'unheard' FROM generate_series(201, 300) n")
        until(lambda: applying(streaming) not in (None, former), 40, streaming)
    assert "the destination has not answered session" in streaming.log()


def test_its_own_former_session_is_ended(streaming: Streaming) -> None:
    """Lost packets end our leg, and something in between keeps the server's: the lock stays with a session of ours."""
    with through(streaming, "destination", 60) as proxy:
        former = applying(streaming)
        proxy.drop_client()
        took = until(lambda: applying(streaming) not in (None, former), 20, streaming)
        streaming.wait_state("running")
    assert took < 15
    assert '"level": "error", "message": "failed' not in streaming.log()


def test_the_session_of_a_killed_predecessor_is_ended(streaming: Streaming) -> None:
    with through(streaming, "destination", 60) as proxy:
        former = applying(streaming)
        proxy.silence()
        streaming.kill()
        assert applying(streaming) == former
        streaming.start()
        until(lambda: applying(streaming) not in (None, former), 20, streaming)
        streaming.wait_state("running")


def test_its_own_former_walsender_is_ended(make_streaming: MakeStreaming) -> None:
    """Without a wal_sender_timeout the source never notices."""
    streaming = make_streaming(DDL, source_settings={"wal_sender_timeout": 0})
    streaming.begin()
    with through(streaming, "source", 60) as proxy:
        former = reading(streaming)
        proxy.drop_client()
        until(lambda: reading(streaming) not in (None, former), 20, streaming)
        streaming.wait_state("running")


def test_a_session_of_another_worker_is_waited_for(streaming: Streaming) -> None:
    """Nobody ends what may be alive: it is tried again until the other has gone, or is heard of."""
    key = names.lock_key(streaming.name, "worker")
    with streaming.pair.destination.connect() as other:
        other.execute("SELECT pg_advisory_lock(%s)", [key])
        streaming.start()
        time.sleep(6)
        assert other.execute("SELECT 1").fetchone() == (1,)
        assert streaming.process is not None and streaming.process.poll() is None
    streaming.wait_state("running")
    assert streaming.stop() == 0


@pytest.mark.faults_heavy
def test_a_worker_of_another_place_that_is_not_heard_of_is_tried_again(streaming: Streaming) -> None:
    key = names.lock_key(streaming.name, "worker")
    with streaming.pair.destination.connect() as other:
        other.execute("SELECT pg_advisory_lock(%s)", [key])
        streaming.start()
        until(lambda: "has not been heard of" in streaming.log(), 60, streaming)
        assert streaming.process is not None and streaming.process.poll() is None
    streaming.wait_state("running", 60)
    assert streaming.stop() == 0


@pytest.mark.faults_heavy
@pytest.mark.parametrize("end", ["source", "destination"])
def test_the_limit_of_a_minute(streaming: Streaming, end: str) -> None:
    look = reading if end == "source" else applying
    with through(streaming, end, 60) as proxy:
        former = look(streaming)
        proxy.silence()
        streaming.pair.source.run("INSERT INTO t SELECT n, 'unheard' FROM generate_series(201, 300) n")
        took = until(lambda: look(streaming) not in (None, former), 150, streaming)
    assert took > 30


def test_a_module_that_waits_for_a_missing_standby_says_so(make_pair: Any) -> None:
    pair = make_pair(private=True)
    pair.source.run(DDL)
    migration = Migration(
        "waits", pair.source.endpoint, impatient(pair.destination.endpoint, 2), [{"schema": "public"}]
    )
    pair.destination.run("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    pair.destination.run("SELECT pg_reload_conf()")
    steps: list[tuple[str, dict[str, Any]]] = [("pg_replica_identity", {"identity": "full"}), ("pg_publication", {})]
    for module, options in steps:
        began = time.monotonic()
        with pytest.raises(ModuleFailed, match="waits for a synchronous standby that is not there") as failed:
            migration.run(module, **options)
        assert time.monotonic() - began < 30
        assert "synchronous_standby_names" in failed.value.result["error"]["remedy"]
    assert not pair.destination.value("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
    pair.destination.run("ALTER SYSTEM RESET synchronous_standby_names")
    pair.destination.run("SELECT pg_reload_conf()")
    migration.run("pg_replica_identity", identity="full")
    migration.run("pg_publication")


def test_a_worker_whose_standby_goes_says_so_and_goes_on(make_streaming: MakeStreaming) -> None:
    streaming = make_streaming(DDL, private=True)
    streaming.begin()
    streaming.configure(destination=impatient(streaming.pair.destination.endpoint, 2))
    streaming.start()
    streaming.wait_state("running")
    destination = streaming.pair.destination
    destination.run("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    destination.run("SELECT pg_reload_conf()")
    streaming.pair.source.run("INSERT INTO t SELECT n, 'v' FROM generate_series(1, 100) n")
    until(lambda: "waits for a synchronous standby that is not there" in streaming.log(), 30, streaming)
    until(lambda: streaming.progress("state") == "retrying", 30, streaming)
    destination.run("ALTER SYSTEM RESET synchronous_standby_names")
    destination.run("SELECT pg_reload_conf()")
    streaming.wait_state("running", 60)
    streaming.drain()
    assert assert_identical(streaming.pair, ["public"]) == 100
    assert streaming.stop() == 0


@pytest.mark.parametrize("end", ["source", "destination"])
def test_a_module_behind_a_half_open_connection_ends(pair: Any, end: str) -> None:
    pair.source.run(DDL)
    ends = {"source": pair.source.endpoint, "destination": pair.destination.endpoint}
    with before(getattr(pair, end)) as (proxy, endpoint):
        ends[end] = impatient(endpoint, 2)
        migration = Migration("half_open", ends["source"], ends["destination"], [{"schema": "public"}])
        silent = threading.Timer(0.4, proxy.silence)
        silent.start()
        began = time.monotonic()
        with contextlib.suppress(ModuleFailed):
            for dummy in range(40):
                migration.run("pg_migration_info")
        silent.join()
        assert time.monotonic() - began < 60
