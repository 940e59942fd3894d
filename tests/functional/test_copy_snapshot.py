# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The snapshot of a copy run: its mark, the guard before anything is read, and what happens where it cannot be made."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from psycopg import sql
from support.harness.opened import open_migration
from support.waiting import until

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.capture import snapshot, snapshot_guard
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import ServerError, TimeoutExpired
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres.lsn import format_lsn


def read_under(end: Any, name: str, query: str) -> Any:
    with end.connect() as reader, reader.transaction():
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        reader.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(name)))
        return reader.execute(query).fetchone()[0]


@pytest.fixture
def beside() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def test_what_commits_after_the_mark_is_not_seen_and_lies_behind_it(pair: Any) -> None:
    pair.source.run("CREATE TABLE t (id int); INSERT INTO t VALUES (1)")
    with (
        open_migration(pair, register=False) as migration,
        snapshot.open_snapshot(migration) as taken,
    ):
        before = pair.source.value("SELECT pg_current_wal_insert_lsn()")
        pair.source.run("INSERT INTO t VALUES (2)")
        assert taken.form == "slot"
        assert read_under(pair.source, taken.name, "SELECT count(*) FROM t") == 1
        assert pair.source.value("SELECT %s::pg_lsn <= %s::pg_lsn", [format_lsn(taken.mark), before])
        assert pair.source.query("SELECT 1 FROM pg_replication_slots WHERE database = current_database()") == []


def test_without_changes_that_follow_no_slot_is_made(pair: Any) -> None:
    pair.source.run("CREATE TABLE t (id int); INSERT INTO t VALUES (1)")
    with (
        open_migration(pair, types=("schema", "full"), register=False) as migration,
        snapshot.open_snapshot(migration) as taken,
    ):
        pair.source.run("INSERT INTO t VALUES (2)")
        assert (taken.form, read_under(pair.source, taken.name, "SELECT count(*) FROM t")) == ("plain", 1)
        assert taken.mark > 0


def test_an_older_transaction_is_waited_for_and_named(pair: Any) -> None:
    pair.source.run("CREATE TABLE t (id int)")
    with open_migration(pair, register=False) as migration, pair.source.connect(application_name="old one") as older:
        older.execute("BEGIN; INSERT INTO t VALUES (1)")
        with pytest.raises(TimeoutExpired, match="old one"), snapshot.open_snapshot(migration, wait=0.3):
            pass
        assert pair.source.query("SELECT 1 FROM pg_replication_slots WHERE database = current_database()") == []
        older.execute("COMMIT")
        with snapshot.open_snapshot(migration, wait=5) as taken:
            assert read_under(pair.source, taken.name, "SELECT count(*) FROM t") == 1


def test_the_guard_waits_while_a_transaction_is_open_that_the_snapshot_calls_finished(pair: Any, beside: Any) -> None:
    pair.source.run("CREATE TABLE t (id int)")
    with pair.source.connect() as older, pair.source.connect() as ordinary:
        older.execute("BEGIN; INSERT INTO t VALUES (1)")
        xid = older.execute("SELECT pg_current_xact_id()::text").fetchone()[0]
        pair.source.run("INSERT INTO t VALUES (2)")
        # a snapshot made from the WAL: it has seen the commit record of xid, which has not ended yet
        seen = f"{int(xid) + 1}:{int(xid) + 1}:"
        assert not snapshot_guard.all_finished(ordinary, seen)
        assert snapshot_guard.all_finished(ordinary, f"{xid}:{int(xid) + 1}:{xid}"), (
            "it calls xid running, and so it is"
        )
        with pytest.raises(TimeoutExpired, match="pid"):
            snapshot_guard.wait_finished(ordinary, seen, 0.1)
        waiting = beside.submit(snapshot_guard.wait_finished, ordinary, seen, 20)
        time.sleep(0.3)
        assert not waiting.done()
        older.execute("COMMIT")
        assert waiting.result(10) >= 0.3
        assert not snapshot_guard.all_finished(ordinary, f"{int(xid) + 1000}:{int(xid) + 1000}:"), (
            "its end is not reached yet"
        )


def no_standby(end: Any) -> None:
    end.run("ALTER SYSTEM RESET synchronous_standby_names")
    end.run("SELECT pg_reload_conf()")


def test_a_commit_that_its_backend_has_not_finished_is_seen_only_behind_the_guard(make_pair: Any, beside: Any) -> None:
    """The real thing: its commit record is in the WAL while the backend still waits for a standby that never comes."""
    pair = make_pair(private=True, source_settings={"synchronous_standby_names": ""})
    source = pair.source
    source.run("CREATE TABLE t (id text)")
    with contextlib.ExitStack() as stack:
        first, second, late = (stack.enter_context(source.connect()) for dummy in range(3))
        for session in (first, second):
            session.execute("SET synchronous_commit = local")
        late.execute("SET synchronous_commit = on")
        migration = stack.enter_context(open_migration(pair, register=False))
        first.execute("BEGIN; INSERT INTO t VALUES ('first')")
        holding = beside.submit(stack.enter_context, snapshot.open_snapshot(migration, wait=30))
        waits = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'transactionid' AND backend_type = 'walsender'"
        )
        until(lambda: source.value(waits))
        second.execute("BEGIN; INSERT INTO t VALUES ('second')")
        first.execute("COMMIT")  # the slot goes on to its second wait, which is for the second transaction
        until(lambda: source.value("SELECT count(*) FROM pg_locks WHERE NOT granted AND transactionid IS NOT NULL"))
        time.sleep(0.3)
        stack.callback(no_standby, source)
        source.run("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        source.run("SELECT pg_reload_conf()")
        time.sleep(0.3)
        committing = beside.submit(late.execute, "INSERT INTO t VALUES ('late')")
        until(lambda: source.value("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"))
        second.execute("COMMIT")
        time.sleep(0.5)
        assert not holding.done(), "the snapshot was given away while a transaction that it shows is still open"
        assert not committing.done()
        no_standby(source)
        taken = holding.result(20)
        committing.result(20)
        assert read_under(source, taken.name, "SELECT array_agg(id ORDER BY id) FROM t") == ["first", "late", "second"]


@contextlib.contextmanager
def too_large_for_a_slot(end: Any, beside: ThreadPoolExecutor, work: Callable[[], Any]) -> Iterator[Any]:
    """Start C(work), and lead the slot that it makes to a moment in which 600 subtransactions run; gives its Future.

    The slot waits for the transactions that it finds, twice; what begins during the second wait it has to list.
    """

    def begin(session: psycopg.Connection[Any]) -> str:
        session.execute("BEGIN; INSERT INTO busy VALUES (1)")
        return str(session.execute("SELECT pg_current_xact_id()::xid::text").fetchone()[0])

    def waited_for(xid: str) -> None:
        until(lambda: end.query("SELECT 1 FROM pg_locks WHERE NOT granted AND transactionid = %s::xid", [xid]))

    end.run("CREATE TABLE IF NOT EXISTS busy (id int)")
    with end.connect() as first, end.connect() as second, end.connect() as many:
        xid = begin(first)
        working = beside.submit(work)
        waited_for(xid)
        xid = begin(second)
        first.execute("COMMIT")
        waited_for(xid)
        many.execute("BEGIN")
        block = "BEGIN INSERT INTO busy VALUES (1); EXCEPTION WHEN division_by_zero THEN NULL; END;"
        many.execute("DO $$ BEGIN " + 600 * block + " END $$")
        end.run("INSERT INTO busy VALUES (2)")
        second.execute("COMMIT")
        yield working
        many.execute("COMMIT")


def test_many_running_subtransactions_make_a_slot_snapshot_impossible(pair: Any, beside: Any) -> None:
    pair.source.run("CREATE TABLE t (id int); INSERT INTO t VALUES (1)")
    with open_migration(pair, register=False) as migration, contextlib.ExitStack() as stack:
        table = migration.selected().tables[0]

        def taking(**how: Any) -> Any:
            return stack.enter_context(snapshot.open_snapshot(migration, wait=30, **how))

        with too_large_for_a_slot(pair.source, beside, taking) as taken, pytest.raises(snapshot.SnapshotTooLarge):
            taken.result(20)
        with too_large_for_a_slot(pair.source, beside, lambda: taking(plain_instead=True)) as taken:
            name, form = taken.result(20).name, taken.result().form
            assert (form, read_under(pair.source, name, "SELECT count(*) FROM t")) == ("plain", 1)
            with snapshot.writers_excluded(migration, table, 2), pair.source.connect() as writer:
                writer.execute("SET lock_timeout = '300ms'")
                with pytest.raises(psycopg.errors.LockNotAvailable):
                    writer.execute("INSERT INTO t VALUES (2)")
            pair.source.run("INSERT INTO t VALUES (2)")


def test_the_lock_against_writers_is_not_waited_for_longer_than_it_is_told(pair: Any) -> None:
    pair.source.run("CREATE TABLE t (id int)")
    with open_migration(pair, register=False) as migration, pair.source.connect() as writer:
        writer.execute("BEGIN; INSERT INTO t VALUES (1)")
        table = migration.selected().tables[0]
        began = time.monotonic()
        with pytest.raises(ServerError) as caught, snapshot.writers_excluded(migration, table, 0.3):
            pass
        assert caught.value.sqlstate == psycopg.errors.LockNotAvailable.sqlstate
        assert time.monotonic() - began < 2
