# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies taken while clients write: each table holds exactly what was committed before its mark.

The judge is a slot of the server's own test_decoding, which tells where each transaction's commit lies in the WAL.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from support import witness
from support.harness.opened import open_migration
from support.waiting import until

from ansible_collections.causeway.postgresql.plugins.module_utils._engine import names
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.capture import snapshot
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.copy import runs as copy_run
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.copy import workers
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.copy.enqueue import enqueue
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.copy.job import Job
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.copy.layout import lay_out
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.copy.limits import Layout, Limits
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.copy.runs import copy_tables
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import StateError
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.objects.mapping import tables_there
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres.async_connect import open_session
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres.key_ranges import Part
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.state.claims import Claims
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.state.copy_queue import begin_run
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.state.task import read_control, set_wanted

from .test_copy_snapshot import too_large_for_a_slot
from .test_full_copy import ROWS, TYPES, held_up, waits_at_the_gate

TABLES = ("one", "two", "three")
CLIENTS = 8


def write(end: Any, client: int, stop: threading.Event) -> None:
    """Inserts with numbers that no other client uses; transactions overlap, and some take a part of theirs back."""
    dice = random.Random(client)
    number = client
    with end.connect() as session:
        session.execute("SET synchronous_commit = off")
        while not stop.is_set():
            session.execute("BEGIN")
            for dummy in range(dice.randrange(1, 4)):
                session.execute(f"INSERT INTO {dice.choice(TABLES)} VALUES ({number})")
                number += CLIENTS
            if dice.random() < 0.3:
                session.execute("SAVEPOINT s")
                session.execute(f"INSERT INTO {dice.choice(TABLES)} VALUES ({number})")
                session.execute("ROLLBACK TO s" if dice.random() < 0.5 else "RELEASE s")
                number += CLIENTS
            time.sleep(dice.random() * 0.02)
            session.execute("ROLLBACK" if dice.random() < 0.1 else "COMMIT")


@contextlib.contextmanager
def writers(end: Any) -> Iterator[None]:
    stop = threading.Event()
    with ThreadPoolExecutor(CLIENTS) as pool:
        running = [pool.submit(write, end, client, stop) for client in range(CLIENTS)]
        try:
            yield
        finally:
            stop.set()
    for one in running:
        one.result()


@pytest.fixture
def judged(pair: Any) -> Iterator[Any]:
    """The pair with three keyless tables of some rows, and a slot that sees every later change."""
    for table in TABLES:
        pair.run(f"CREATE TABLE {table} (id bigint)")
        pair.source.run(f"INSERT INTO {table} SELECT -n FROM generate_series(1, 3000) n")
    judge = f"judge_{pair.source.dbname}"
    pair.source.run(f"SELECT pg_create_logical_replication_slot('{judge}', 'test_decoding')")
    yield pair
    pair.source.run(f"SELECT pg_drop_replication_slot('{judge}')")


def numbers(end: Any, table: str) -> Counter[int]:
    return Counter(row[0] for row in end.query(f"SELECT id FROM {table}"))


def changes(end: Any) -> list[tuple[str, str, int]]:
    """(end of the commit record, table, number) of every insert that was committed since the judge began."""
    pending: list[tuple[str, int]] = []
    found = []
    end.run("SELECT pg_logical_emit_message(true, 'judge', '')")  # decoding reads what is flushed, and no further
    query = f"SELECT lsn::text, data FROM pg_logical_slot_peek_changes('judge_{end.dbname}', NULL, NULL)"
    for lsn, data in end.query(query):
        if insert := re.match(r"table public\.(\w+): INSERT: id\[bigint\]:(-?\d+)", data):
            pending.append((insert[1], int(insert[2])))
        elif data.startswith("COMMIT"):
            found += [(lsn, table, number) for table, number in pending]
            pending = []
    return found


def assert_exact(pair: Any) -> dict[str, str]:
    """Every table's copy and the changes at or after its mark make what the source holds; returns the marks."""
    marks = dict(
        pair.destination.query("SELECT table_name, mark::text FROM causeway.table_copy WHERE state = 'complete'")
    )
    later = changes(pair.source)
    assert len(later) > 100, "the clients wrote too little to prove anything"
    positions = {lsn: pair.source.query("SELECT %s::pg_lsn - '0/0'", [lsn])[0][0] for lsn, *dummy in later}
    for table in TABLES:
        mark = pair.source.value("SELECT %s::pg_lsn - '0/0'", [marks[table]])
        # test_decoding tells the end of the commit record: past the mark exactly when its start is not below it
        behind = Counter(number for lsn, name, number in later if name == table and positions[lsn] > mark)
        before = Counter(number for lsn, name, number in later if name == table and positions[lsn] <= mark)
        copied = numbers(pair.destination, table)
        assert copied + behind == numbers(pair.source, table), table
        assert behind and before, f"nothing of {table} was committed on one side of its mark"
        assert not copied & behind
    return marks


FORMS = [None, "share", "own_slot"]


@pytest.mark.parametrize("form", FORMS)
def test_each_table_holds_what_was_committed_before_its_mark(judged: Any, form: Any) -> None:
    with writers(judged.source):
        time.sleep(0.5)
        for tables in (("one",), ("one", "two", "three")):
            with open_migration(judged, tables=tables) as migration:
                assert copy_tables(migration, Limits(parallel=2, layout=Layout(part_size=50_000)), form).runs == 1
            time.sleep(0.4)
    marks = assert_exact(judged)
    assert marks["one"] != marks["two"]
    if form is None:
        assert marks["two"] == marks["three"]
    forms = {row[0] for row in judged.destination.query("SELECT form FROM causeway.copy_run")}
    assert forms == {form or "slot"}


def test_where_a_slot_cannot_make_a_snapshot_tables_are_locked_for_a_moment(judged: Any) -> None:
    with (
        open_migration(judged, tables=TABLES) as migration,
        ThreadPoolExecutor(1) as beside,
        writers(judged.source),
    ):
        time.sleep(0.5)
        with too_large_for_a_slot(judged.source, beside, lambda: copy_tables(migration, Limits())) as copying:
            assert copying.result(60).runs == 1
        time.sleep(0.4)
    assert judged.destination.value("SELECT form FROM causeway.copy_run") == "share"
    assert_exact(judged)


def subtransactions(end: Any, stop: threading.Event) -> None:
    """A client with a hundred exception blocks in every transaction."""
    block = (
        "BEGIN INSERT INTO busy VALUES (1); PERFORM pg_catalog.pg_sleep(0.001); EXCEPTION WHEN others THEN NULL; END;"
    )
    with end.connect() as session:
        while not stop.is_set():
            session.execute("DO $$ BEGIN " + 100 * block + " END $$")


@contextlib.contextmanager
def many_subtransactions(end: Any, clients: int = 16) -> Iterator[None]:
    stop = threading.Event()
    end.run("CREATE UNLOGGED TABLE busy (id int)")
    with ThreadPoolExecutor(clients) as pool:
        running = [pool.submit(subtransactions, end, stop) for dummy in range(clients)]
        try:
            yield
        finally:
            stop.set()
    for one in running:
        one.result()


def test_sixteen_clients_with_a_hundred_exception_blocks(judged: Any) -> None:
    """Whichever form the moment leads to."""
    with (
        open_migration(judged, tables=TABLES) as migration,
        many_subtransactions(judged.source),
        writers(judged.source),
    ):
        time.sleep(0.5)
        copy_tables(migration, Limits())
        time.sleep(0.5)
    assert_exact(judged)


def test_where_a_slot_s_snapshot_cannot_be_imported_each_connection_makes_its_own(
    judged: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ordinary snapshot can be imported, the slot's is refused: stock servers do not do that, so the probe answers."""
    answers = iter([True, False])
    monkeypatch.setattr(snapshot, "can_import", lambda *dummy: next(answers))
    with open_migration(judged, tables=TABLES) as migration, writers(judged.source):
        time.sleep(0.4)
        copy_tables(migration, Limits())
        time.sleep(0.4)
    assert judged.destination.value("SELECT form FROM causeway.copy_run") == "own_slot"
    assert_exact(judged)
    assert (
        judged.source.query(
            "SELECT 1 FROM pg_replication_slots WHERE plugin = 'pgoutput' AND database = current_database()"
        )
        == []
    )


def test_every_type_in_every_form(pair: Any) -> None:
    pair.run(TYPES.replace('"Süd".', "public."))
    pair.source.run(ROWS.replace('"Süd".', "public."))
    for form in ("share", "own_slot"):
        with open_migration(pair) as migration:
            copy_tables(migration, Limits(), form)
        witness.assert_identical(pair)
        pair.destination.run("DROP SCHEMA causeway CASCADE")
        for table in witness.tables(pair.destination.sql):
            pair.destination.sql.execute(
                psycopg.sql.SQL("TRUNCATE {} CASCADE").format(psycopg.sql.Identifier(*table.split(".", 1)))
            )


def test_who_is_left_over_from_an_earlier_run_claims_nothing(pair: Any) -> None:
    pair.run("CREATE TABLE t (id int PRIMARY KEY)")
    pair.source.run("INSERT INTO t SELECT generate_series(1, 100)")

    async def claims(migration: Any, number: int) -> Any:
        session = await open_session(migration.destination, migration.spec.destination, "test")
        try:
            async with session.transaction():
                return await Claims(migration.store, number).claim(session, ())
        finally:
            await session.close()

    with open_migration(pair) as migration:
        tables = list(migration.selected().leaves)
        jobs = [job for job in lay_out(migration, tables, Layout(), migration.destination_catalog()).values() if job]
        first, second = begin_run(migration.store, "slot"), begin_run(migration.store, "slot")
        enqueue(migration.store, first, 16, jobs, migration.mapping, keep_foreign_rows=False)
        assert asyncio.run(claims(migration, first)) == (tables[0].oid, Part(0))
        enqueue(migration.store, second, 17, jobs, migration.mapping, keep_foreign_rows=False)
        assert asyncio.run(claims(migration, first)) is None
        assert asyncio.run(claims(migration, second)) == (tables[0].oid, Part(0))


def test_a_part_that_a_dead_worker_lets_go_of_is_claimed_by_who_is_already_behind_it(pair: Any) -> None:
    pair.run("CREATE TABLE t (id int PRIMARY KEY)")

    async def claimed(migration: Any, number: int) -> list[int | None]:
        dead, alive = [await open_session(migration.destination, migration.spec.destination, "test") for dummy in "ab"]
        first, second = Claims(migration.store, number), Claims(migration.store, number)
        for session in (dead, alive):
            await session.execute("BEGIN")
        found = [await first.claim(dead, ()), await second.claim(alive, ())]
        dead.terminate()
        for _attempt in range(100):
            if not await alive.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '%test' AND"
                " datname = current_database() AND pid <> pg_backend_pid()"
            ):
                break
            await asyncio.sleep(0.05)
        found += [await second.claim(alive, ()) for dummy in range(2)]
        await alive.close()
        return [None if one is None else one[1].number for one in found]

    with open_migration(pair) as migration:
        (table,) = migration.selected().leaves
        parts = (Part(0, 0, 9), Part(1, 9, 18), Part(2, 18))
        job = Job(table, tables_there(migration.destination_catalog())[migration.mapping.there(("public", "t"))], parts)
        number = begin_run(migration.store, "slot")
        enqueue(migration.store, number, 16, [job], migration.mapping, keep_foreign_rows=False)
        assert asyncio.run(claimed(migration, number)) == [0, 1, 2, 0]


def test_two_that_finish_the_last_two_parts_at_once(pair: Any) -> None:
    """Each sees the other's part undone, so the table's row decides who is last."""
    pair.run("CREATE TABLE t (id int PRIMARY KEY)")

    async def both(migration: Any, number: int, oid: int) -> list[bool]:
        a, b = [await open_session(migration.destination, migration.spec.destination, "test") for dummy in range(2)]
        claims = Claims(migration.store, number)
        for session in (a, b):
            await session.execute("BEGIN")
        parts = [(await claims.claim(session, ()))[1] for session in (a, b)]
        assert [part.number for part in parts] == [0, 1]
        first = await claims.finish(a, oid, parts[0], 10, 100, mark=0, seconds=1.0)
        second = asyncio.ensure_future(claims.finish(b, oid, parts[1], 5, 50, mark=0, seconds=1.0))
        await asyncio.sleep(0.3)
        assert not second.done()
        await a.execute("COMMIT")
        answers = [first, await second]
        await b.execute("COMMIT")
        for session in (a, b):
            await session.close()
        return answers

    with open_migration(pair) as migration:
        (table,) = migration.selected().leaves
        job = Job(
            table,
            tables_there(migration.destination_catalog())[migration.mapping.there(("public", "t"))],
            (Part(0, 0, 9), Part(1, 9)),
        )
        number = begin_run(migration.store, "slot")
        enqueue(migration.store, number, 16, [job], migration.mapping, keep_foreign_rows=False)
        assert asyncio.run(both(migration, number, table.oid)) == [False, True]
        copied = migration.copies()[table.oid]
        assert (copied.state, copied.rows, copied.bytes, copied.mark) == ("complete", 15, 150, 16)


def test_the_worker_is_stopped_at_a_commit_and_kept_away(pair: Any) -> None:
    pair.run("CREATE TABLE t (id int PRIMARY KEY)")
    with open_migration(pair) as migration, pair.destination.connect() as worker, ThreadPoolExecutor(1) as beside:
        set_wanted(migration.store, "started")
        key = [names.lock_key("copy", "worker")]
        worker.execute("SELECT pg_advisory_lock(%s)", key)

        def keep_away() -> bool:
            with copy_run.exclude_worker(migration):
                return bool(worker.execute("SELECT pg_try_advisory_lock(%s)", key).fetchone()[0])

        kept = beside.submit(keep_away)
        wanted = "SELECT wanted FROM causeway.cdc_task"
        until(lambda: pair.destination.value(wanted) == "stopped")
        time.sleep(0.2)
        assert not kept.done()
        worker.execute("SELECT pg_advisory_unlock(%s)", key)
        assert kept.result(10) is False, "a worker that comes back finds its lock taken"
        assert worker.execute("SELECT pg_try_advisory_lock(%s)", key).fetchone()[0]
        assert read_control(migration.store).wanted == "stopped"


def test_nothing_is_copied_behind_what_was_applied(pair: Any) -> None:
    pair.run("CREATE TABLE t (id int PRIMARY KEY)")
    with open_migration(pair) as migration:
        pair.destination.run(
            "INSERT INTO causeway.cdc_progress (migration, state, applied, confirmable, source_system, timeline)"
            " VALUES ('copy', 'stopped', 'FFFF/0', 'FFFF/0', 'x', 1)"
        )
        with pytest.raises(StateError, match="FFFF/0"):
            copy_tables(migration, Limits())


@pytest.mark.parametrize(("source", "destination"), [("14", "17"), ("17", "18")])
def test_between_versions(make_pair: Any, source: str, destination: str) -> None:
    pair = make_pair(source=source, destination=destination)
    pair.run("CREATE TABLE t (id int PRIMARY KEY, n numeric, ts timestamptz, j jsonb, i interval)")
    pair.source.run(
        "INSERT INTO t SELECT n, n / 3.0, now(), to_jsonb(n), n * interval '1 h' FROM generate_series(1, 20000) n"
    )
    with open_migration(pair) as migration:
        assert copy_tables(migration, Limits(layout=Layout(part_size=200_000))).runs == 1
    assert witness.assert_identical(pair) == 20000


def test_whoever_holds_the_snapshot_may_die(pair: Any) -> None:
    """What is left goes to a new run under a new mark; what is complete stays."""
    pair.run("CREATE TABLE a (id int PRIMARY KEY, t text); CREATE TABLE b (id int PRIMARY KEY)")
    pair.source.run("INSERT INTO a SELECT n, repeat('x', 99) FROM generate_series(1, 5000) n; INSERT INTO b VALUES (1)")
    with (
        held_up(pair.destination, "a", "NEW.id = 1") as release,
        open_migration(pair) as migration,
        ThreadPoolExecutor(1) as beside,
    ):
        copying = beside.submit(copy_tables, migration, Limits(parallel=1))
        until(lambda: waits_at_the_gate(pair.destination))
        holders = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'walsender' AND datname = %s"
        )
        assert pair.source.query(holders, [pair.source.dbname]) == [(True,)]
        release()
        assert copying.result(30).runs == 2
    assert witness.assert_identical(pair) == 5001
    (first, second) = pair.destination.query("SELECT run, mark FROM causeway.table_copy ORDER BY table_name")
    assert (first[0], second[0]) == (1, 2) and first[1] != second[1]


def test_a_table_whose_binary_form_is_refused_is_copied_as_text(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pair.run("CREATE TABLE t (id int PRIMARY KEY)")
    pair.source.run("INSERT INTO t VALUES (1)")
    pair.run(
        "CREATE TYPE parchment; CREATE FUNCTION parchment_in(cstring) RETURNS parchment LANGUAGE internal IMMUTABLE AS 'textin'"
    )
    pair.run("CREATE FUNCTION parchment_out(parchment) RETURNS cstring LANGUAGE internal IMMUTABLE AS 'textout'")
    pair.run("CREATE TYPE parchment (INPUT = parchment_in, OUTPUT = parchment_out, LIKE = text)")
    pair.run("CREATE TABLE only_text (id int PRIMARY KEY, s parchment)")
    pair.source.run("INSERT INTO only_text SELECT n, ('value ' || n)::parchment FROM generate_series(1, 1000) n")
    monkeypatch.setattr(workers, "format_of", lambda *dummy: "binary")
    with open_migration(pair) as migration:
        copy_tables(migration, Limits())
    assert witness.assert_identical(pair) == 1001
