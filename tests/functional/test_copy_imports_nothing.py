# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A source where a session that imports a snapshot sees another past than its holder: nothing is imported there.

Stock servers are made such ones in two ways: the engine is handed the name of an older snapshot, which is wrong in just
this way, and the server's own answer to the probe is made another (`support.faults.snapshots`).
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from support import witness
from support.faults.gate import held_up, ours, waits_at_the_gate
from support.faults.snapshots import LOGGED, importers, list_nobody, refuse_imports, slots_made
from support.harness.exactness import MakeJourney
from support.harness.modules import Migration
from support.harness.opened import open_migration
from support.loads.clients import Clients
from support.waiting import until

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.capture import snapshot
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.capture.under_lock import Patience
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.copy.leader import run_copy
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.copy.limits import Layout, Limits
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.copy.runs import copy_tables
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import (
    ConnectError,
    ServerError,
    StateError,
    TimeoutExpired,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.migration import (
    Migration as EngineMigration,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.runner import Outcome
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.schema.plan import plan as plan_schema
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.spec import spec_of

from .test_copy_snapshot import too_large_for_a_slot
from .test_copy_under_load import TABLES, assert_exact, judged, writers

__all__ = ["judged"]

FULL = {"types": ["full"], "allow_keyless": True}
SMALL_PARTS = Limits(parallel=3, layout=Layout(part_size=50_000))
OBJECTS = "SELECT count(lo_from_bytea(n::oid, convert_to('object ' || n, 'UTF8'))) FROM generate_series({}, {}) n"


def objects(end: Any) -> list[Any]:
    return end.query("SELECT oid::bigint, md5(lo_get(oid)) FROM pg_largeobject_metadata ORDER BY 1")


@pytest.fixture
def older(pair: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """C(older()): every ordinary snapshot that the engine exports from now on is one of this very moment."""
    with pair.source.connect() as holder:

        def keep() -> None:
            holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            (name,) = holder.execute("SELECT pg_export_snapshot()").fetchone()
            plain = snapshot._plain
            monkeypatch.setattr(snapshot, "_plain", lambda *how: replace(plain(*how), name=name))

        yield keep


@pytest.mark.parametrize("form", [None, "share"])
@pytest.mark.parametrize("types", [("full",), ("full", "incremental")])
def test_rows_that_an_importer_does_not_see_are_copied(pair: Any, older: Any, types: Any, form: Any) -> None:
    pair.run("CREATE TABLE t (id int PRIMARY KEY, t text); CREATE TABLE u (id int PRIMARY KEY)")
    pair.source.run("INSERT INTO t SELECT n, repeat('x', 100) FROM generate_series(1, 1000) n")
    older()
    pair.source.run("INSERT INTO t SELECT n, repeat('x', 100) FROM generate_series(1001, 5000) n")
    pair.source.run("INSERT INTO u SELECT generate_series(1, 10)")
    with open_migration(pair, types=types) as migration:
        assert copy_tables(migration, SMALL_PARTS, form).runs == 1
    assert witness.assert_identical(pair) == 5010
    wanted = form or ("own_slot" if "incremental" in types else "plain")
    assert pair.destination.query("SELECT form, coalesce(snapshot, '') FROM causeway.copy_run") == [(wanted, "")]
    assert pair.destination.query("SELECT count(*), count(DISTINCT relation) FROM causeway.copy_part") == [(2, 2)]


def test_an_older_snapshot_is_refused_though_nothing_was_written_since(pair: Any, older: Any) -> None:
    """The lists of an idle source are empty in both sessions: only a transaction of our own tells them apart."""
    pair.run("CREATE TABLE t (id int PRIMARY KEY)")
    pair.source.run("INSERT INTO t SELECT generate_series(1, 1000)")
    older()
    with open_migration(pair, types=("full",)) as migration:
        assert copy_tables(migration, Limits()).apart is False
    assert witness.assert_identical(pair) == 1000
    assert pair.destination.value("SELECT snapshot FROM causeway.copy_run") == ""


def test_what_both_sessions_say_alike_of_nobody_is_no_proof(make_pair: Any) -> None:
    pair = make_pair(private=True, source_settings=LOGGED)
    list_nobody(pair.source)
    pair.run("CREATE TABLE t (id int PRIMARY KEY)")
    pair.source.run("INSERT INTO t SELECT generate_series(1, 1000)")
    with open_migration(pair, types=("full",)) as migration:
        copy_tables(migration, Limits())
    assert witness.assert_identical(pair) == 1000
    assert pair.destination.value("SELECT snapshot FROM causeway.copy_run") == ""
    assert importers(pair.source) == []


def test_tables_that_an_earlier_run_has_copied_are_of_another_moment(pair: Any) -> None:
    pair.run("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY)")
    pair.source.run("INSERT INTO t SELECT generate_series(1, 100); INSERT INTO u VALUES (1)")
    full = Migration("copy", pair.source.endpoint, pair.destination.endpoint, [{"schema": "public"}], FULL)
    assert not any("more than one moment" in note for note in full.run("pg_full_copy")["notes"])
    pair.source.run("INSERT INTO t VALUES (0)")
    again = full.run("pg_full_copy", resync=["public.t"])
    assert any("more than one moment" in note for note in again["notes"])
    assert not any("more than one moment" in note for note in full.run("pg_full_copy")["notes"])
    whole = full.run("pg_full_copy", resync=["public.t", "public.u"])
    assert not any("more than one moment" in note for note in whole["notes"]), "what the note tells to do"


def test_on_an_idle_source_a_snapshot_is_imported(pair: Any) -> None:
    pair.run("CREATE TABLE t (id int PRIMARY KEY)")
    pair.source.run("INSERT INTO t SELECT generate_series(1, 1000)")
    with open_migration(pair, types=("full",)) as migration:
        assert copy_tables(migration, Limits()).apart is False
    assert witness.assert_identical(pair) == 1000
    assert pair.destination.value("SELECT snapshot <> '' FROM causeway.copy_run")
    assert pair.source.query("SELECT query FROM pg_stat_activity WHERE backend_xid IS NOT NULL") == []


def test_large_objects_that_an_importer_does_not_see_are_copied(pair: Any, older: Any) -> None:
    pair.run("CREATE TABLE t (id int PRIMARY KEY)")
    pair.source.run(OBJECTS.format(1000, 1099))
    older()
    pair.source.run(OBJECTS.format(2000, 2099))
    pair.source.run("INSERT INTO t VALUES (1)")
    with open_migration(pair, types=("full",)) as migration:
        assert run_copy(migration, Limits()).objects == 200
    assert objects(pair.source) == objects(pair.destination)
    assert witness.assert_identical(pair) == 1


class Programs:
    """Runs client programs, remembers what for, and does ``before`` each dump."""

    def __init__(self, folder: str, before: Callable[[], Any] = lambda: None) -> None:
        self.folder, self.before = folder, before
        self.dumps: list[Sequence[str]] = []

    def run(self, argv: Sequence[str], environment: Mapping[str, str]) -> Outcome:
        if argv[0].endswith("pg_dump") and "--schema-only" in argv:
            self.dumps.append(argv)
            self.before()
        run = subprocess.run(argv, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
        return Outcome(run.returncode, run.stdout, run.stderr)

    def find(self, program: str, folder: str) -> str:
        return str(pathlib.Path(self.folder) / program)


def make_schema(pair: Any, programs: Programs, types: Sequence[str]) -> Mapping[str, Any]:
    """The first section of schema s, in this process; what it answered."""
    made = Migration("copy", pair.source.endpoint, pair.destination.endpoint, [{"schema": "s"}], {"types": list(types)})
    options = json.loads(made.arguments({}))["ANSIBLE_MODULE_ARGS"]
    shared = {"state_schema": "causeway", "allow_keyless": False, "conflicting_tables": "report", "restart": False}
    with EngineMigration(spec_of({**shared, **options})) as opened:
        planned = plan_schema(opened, {"section": "pre_data"}, programs)
        opened.ensure_registered()
        return planned.apply()


def columns(end: Any) -> list[str]:
    found = end.query(
        "SELECT attname FROM pg_attribute WHERE attrelid = 's.a'::regclass AND attnum > 0 AND NOT attisdropped"
    )
    return [row[0] for row in found]


@pytest.mark.parametrize("types", [["schema", "full"], ["schema", "full", "incremental"]])
def test_a_schema_is_dumped_under_pg_dump_s_own_snapshot(pair: Any, clusters: Any, older: Any, types: Any) -> None:
    """Between two equal fingerprints: a column that comes in between makes another dump."""
    pair.source.run("CREATE SCHEMA s; CREATE TABLE s.a (id int PRIMARY KEY)")
    older()
    pair.source.run("ALTER TABLE s.a ADD COLUMN later int")
    changes = iter(["SELECT 1", "ALTER TABLE s.a ADD COLUMN meanwhile int"])
    programs = Programs(clusters.bin_dir("17"), lambda: pair.source.run(next(changes, "SELECT 1")))
    answer = make_schema(pair, programs, types)
    assert columns(pair.destination) == columns(pair.source) == ["id", "later", "meanwhile"]
    assert len(programs.dumps) == 3, "one for the plan, one that was overtaken, one that holds"
    assert not [argv for argv in programs.dumps if any(argument.startswith("--snapshot") for argument in argv)]
    assert answer["notes"]


def test_a_schema_that_always_changes_is_an_error(
    pair: Any, clusters: Any, older: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.source.run("CREATE SCHEMA s; CREATE TABLE s.a (id int PRIMARY KEY)")
    older()
    pair.source.run("INSERT INTO s.a VALUES (1)")
    names = iter(range(100))
    change: Callable[[], Any] = lambda: pair.source.run(f"ALTER TABLE s.a ADD COLUMN c{next(names)} int")  # noqa: E731
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with pytest.raises(StateError, match="it changed during each of 5 dumps"):
        make_schema(pair, Programs(clusters.bin_dir("17"), change), ["schema", "full"])
    assert pair.destination.value("SELECT to_regclass('s.a')") is None


ROWS = 20_000


ENOUGH = 500


def transfer(end: Any, client: int, stop: threading.Event, moved: list[int]) -> None:
    """Move amounts between rows that lie far apart, so that what all rows of a table sum up to never changes; C(moved)
    counts how often."""
    dice = random.Random(client)
    with end.connect() as session:
        session.execute("SET synchronous_commit = off")
        while not stop.is_set():
            less, more = sorted(dice.sample(range(1, ROWS + 1), 2))
            for table in ("near", "far"):
                with session.transaction():
                    session.execute(f"UPDATE {table} SET v = v - 1 WHERE id = %s", [less])
                    session.execute(f"UPDATE {table} SET v = v + 1 WHERE id = %s", [more])
                moved[client] += 1
            time.sleep(0.002)  # what is left of the machine copies


@contextlib.contextmanager
def transfers(end: Any, clients: int = 3) -> Iterator[None]:
    stop, moved = threading.Event(), [0] * clients
    with ThreadPoolExecutor(clients) as pool:
        running = [pool.submit(transfer, end, client, stop, moved) for client in range(clients)]
        until(lambda: sum(moved) > ENOUGH or any(one.done() for one in running))
        before = sum(moved)
        try:
            yield
            meanwhile = sum(moved) - before
        finally:
            stop.set()
    for one in running:
        one.result()
    assert before > ENOUGH and meanwhile > 0, "too little was moved to prove anything"


def test_every_table_is_of_one_moment_though_not_all_of_the_same(make_pair: Any) -> None:
    pair = make_pair(private=True, source_settings=LOGGED)
    refuse_imports(pair.source)
    for table in ("near", "far"):
        # updates find room in their pages: a table that grows would be cut otherwise in the dry run and in the real one
        pair.run(f"CREATE TABLE {table} (id int PRIMARY KEY, v int, t text) WITH (fillfactor = 50)")
        pair.source.run(f"INSERT INTO {table} SELECT n, 0, repeat('x', 200) FROM generate_series(1, {ROWS}) n")
    pair.source.run(OBJECTS.format(1000, 1099))
    full = Migration("copy", pair.source.endpoint, pair.destination.endpoint, [{"schema": "public"}], FULL)
    with transfers(pair.source):
        results = full.four_beats("pg_full_copy", part_size=200_000, parallel=4)
    for table in ("near", "far"):
        assert pair.destination.query(f"SELECT count(*), sum(v) FROM {table}") == [(ROWS, 0)]
        assert pair.destination.value(f"SELECT count(*) FROM {table} WHERE v <> 0") > 0
    assert objects(pair.source) == objects(pair.destination) and len(objects(pair.source)) == 100
    assert any("more than one moment" in note for note in results[1]["notes"]), results[1]["notes"]
    detail = pair.destination.value("SELECT detail FROM causeway.event WHERE what = 'copy run 1 (plain)'")
    assert detail["one_moment"] is False
    assert (importers(pair.source), slots_made(pair.source)) == ([], 0)


def kill(process: Any) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def leave_the_gate(end: Any) -> None:
    """End who waits there for a client that has gone: the server would notice that only behind the gate."""
    end.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'advisory'")
    until(lambda: not ours(end))


@pytest.mark.faults
@pytest.mark.parametrize("types", [["full"], ["full", "incremental"]])
def test_killed_in_mid_table_the_next_run_imports_nothing_either(make_pair: Any, types: Any) -> None:
    """A part that an earlier run copied under an exported snapshot is not continued under another session's own."""
    pair = make_pair(private=True, source_settings=LOGGED)
    pair.run("CREATE TABLE large (id int PRIMARY KEY, t text); CREATE TABLE small (id int PRIMARY KEY)")
    pair.source.run("INSERT INTO large SELECT n, repeat('x', 100) FROM generate_series(1, 20000) n")
    pair.source.run("INSERT INTO small SELECT generate_series(1, 100)")
    pair.source.run(OBJECTS.format(1000, 1099))
    one = Migration(
        "copy", pair.source.endpoint, pair.destination.endpoint, [{"schema": "public"}], {**FULL, "types": types}
    )
    for module in ("pg_replica_identity", "pg_publication", "pg_repl_slot") if "incremental" in types else ():
        one.run(module)
    cut: dict[str, Any] = {"part_size": 300_000, "part_by": "key", "parallel": 1}
    done = "SELECT count(*) FROM causeway.copy_part WHERE state = 'done'"
    with held_up(pair.destination, "large", "NEW.id = 19999") as release:
        first = one.start("pg_full_copy", **cut)
        until(lambda: waits_at_the_gate(pair.destination))
        assert pair.destination.value(done) > 5 and importers(pair.source)
        kill(first)
        leave_the_gate(pair.destination)
        refuse_imports(pair.source)
        before = len(importers(pair.source))
        second = one.start("pg_full_copy", **cut)
        until(lambda: waits_at_the_gate(pair.destination))
        kill(second)
        leave_the_gate(pair.destination)
        pair.source.run("UPDATE large SET t = 'changed' WHERE id % 2 = 0; DELETE FROM small WHERE id > 50")
        release()
        result = one.run("pg_full_copy", **cut)
    assert witness.assert_identical(pair, ["public"]) == 20050
    assert objects(pair.source) == objects(pair.destination)
    assert {entry["state"] for entry in result["tables"]} == {"complete"}
    assert len(importers(pair.source)) == before, importers(pair.source)[before:]
    forms = [row[0] for row in pair.destination.query("SELECT form FROM causeway.copy_run ORDER BY run")]
    assert forms == (["slot", "own_slot", "own_slot"] if "incremental" in types else ["plain"] * 3)


@pytest.mark.faults
def test_the_whole_way_beside_clients_that_write(make_journey: MakeJourney, clusters: Any) -> None:
    journey = make_journey(private=True, source_settings=LOGGED)
    source = journey.pair.source
    refuse_imports(source)
    source.run("INSERT INTO entry (account, delta) SELECT n, n FROM generate_series(1, 20000) n")
    source.run(OBJECTS.format(1000, 1099))
    journey.prepare()
    with Clients(source) as clients:
        killed = journey.migration.start("pg_full_copy", parallel=2)
        until(lambda: journey.pair.destination.value("SELECT count(*) FROM pg_stat_progress_copy"))
        kill(killed)
        helper = journey.migration.start("pg_full_copy", assist=True, assist_timeout=20)
        result = journey.copy()
        journey.migration.finish("pg_full_copy", helper)
        journey.task()
        time.sleep(0.5)
    journey.drained()
    journey.exactly_once(clients)
    assert objects(source) == objects(journey.pair.destination)
    assert not any("more than one moment" in note for note in result["notes"]), "changes make up for it"
    forms = journey.pair.destination.query("SELECT DISTINCT form, snapshot FROM causeway.copy_run WHERE mark IS NULL")
    assert {form for form, snapshot in forms if not snapshot} == {"own_slot"}
    assert importers(source) == []


@pytest.mark.parametrize("types", [("full",), ("full", "incremental")])
def test_where_the_probe_says_no_nothing_at_all_is_imported(
    make_pair: Any, clusters: Any, monkeypatch: pytest.MonkeyPatch, types: tuple[str, ...]
) -> None:
    pair = make_pair(private=True, source_settings=LOGGED)
    pair.source.run("CREATE SCHEMA s; CREATE TABLE s.a (id int PRIMARY KEY, before int)")
    pair.run("CREATE TABLE t (id int PRIMARY KEY, t text); CREATE TABLE u (id int PRIMARY KEY)")
    pair.source.run("INSERT INTO t SELECT n, repeat('x', 100) FROM generate_series(1, 5000) n")
    pair.source.run("INSERT INTO u SELECT generate_series(1, 10)")
    pair.source.run(OBJECTS.format(1000, 1099))
    monkeypatch.setattr(snapshot, "can_import", lambda *dummy: False)
    make_schema(pair, Programs(clusters.bin_dir("17")), ["schema", *types])
    pair.destination.run("DROP SCHEMA causeway CASCADE")
    with open_migration(pair, types=types) as migration:
        share = run_copy(migration, SMALL_PARTS)
    assert (share.objects, share.apart) == (100, types == ("full",))
    assert columns(pair.destination) == ["id", "before"]
    assert witness.assert_identical(pair, ["public"]) == 5010
    assert objects(pair.source) == objects(pair.destination)
    log = pathlib.Path(pair.source.server.cluster.log_file).read_text(encoding="utf-8")
    assert "pg_export_snapshot" in log and "SET TRANSACTION SNAPSHOT '" not in log
    assert slots_made(pair.source) in ([0] if types == ("full",) else [1, 2]), "one for each session, none to try"


# One slot for all tables of a session


def test_a_session_creates_one_slot_and_holds_no_lock_on_a_table_that_is_done(make_pair: Any) -> None:
    pair = make_pair(private=True, source_settings=LOGGED)
    tables = ("first", "second", "third", "fourth")
    sizes = dict(zip(tables, (4000, 3000, 2000, 1000), strict=True))
    for table, rows in sizes.items():
        pair.run(f"CREATE TABLE {table} (id int PRIMARY KEY, t text)")
        pair.source.run(f"INSERT INTO {table} SELECT n, repeat('x', 100) FROM generate_series(1, {rows}) n")
    with (
        held_up(pair.destination, "second", "NEW.id = 1") as release,
        open_migration(pair) as migration,
        ThreadPoolExecutor(1) as beside,
    ):
        copying = beside.submit(copy_tables, migration, Limits(parallel=1), "own_slot")
        until(lambda: waits_at_the_gate(pair.destination))
        with pair.source.connect() as ddl:
            ddl.execute("SET lock_timeout = '1s'")
            ddl.execute("ALTER TABLE first ADD COLUMN later int")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                ddl.execute("ALTER TABLE second ADD COLUMN later int")
            ddl.execute("ALTER TABLE first DROP COLUMN later")
        # what is written now is in the stream; what is truncated now is no longer what the snapshot sees
        pair.source.run("TRUNCATE third; INSERT INTO third SELECT n, 'new' FROM generate_series(1, 7) n")
        assert slots_made(pair.source) == 1
        release()
        share = copying.result(60)
    assert share.runs == 2, "the table that was truncated went to a run of its own"
    assert witness.assert_identical(pair) == 4000 + 3000 + 7 + 1000
    assert slots_made(pair.source) == 2
    marks = dict(pair.destination.query("SELECT table_name, mark::text FROM causeway.table_copy"))
    assert marks["first"] == marks["second"] == marks["fourth"] != marks["third"]
    assert pair.source.query("SELECT 1 FROM pg_replication_slots WHERE temporary") == []


def test_a_worker_without_a_walsender_leaves_its_tables_to_the_others(make_pair: Any) -> None:
    pair = make_pair(private=True, source_settings={**LOGGED, "max_wal_senders": "2"})
    tables = [f"t{number}" for number in range(6)]
    for table in tables:
        pair.run(f"CREATE TABLE {table} (id int PRIMARY KEY, t text)")
        pair.source.run(f"INSERT INTO {table} SELECT n, repeat('x', 100) FROM generate_series(1, 3000) n")
    with open_migration(pair) as migration:
        assert copy_tables(migration, Limits(parallel=4), "own_slot").runs == 1
    assert witness.assert_identical(pair) == 18_000
    assert 1 <= slots_made(pair.source) <= 2


def test_where_there_is_no_walsender_at_all_the_copy_says_so(make_pair: Any) -> None:
    pair = make_pair(private=True, source_settings={"max_wal_senders": "0"})
    pair.run("CREATE TABLE t (id int PRIMARY KEY)")
    with open_migration(pair) as migration, pytest.raises(ConnectError, match=r"wal.?sender"):
        copy_tables(migration, Limits(parallel=4), "own_slot")


@pytest.mark.faults
def test_a_session_that_loses_its_slot_is_an_error_and_the_next_call_resumes(pair: Any) -> None:
    for table, rows in (("first", 3000), ("second", 60000)):
        pair.run(f"CREATE TABLE {table} (id int PRIMARY KEY, t text)")
        pair.source.run(f"INSERT INTO {table} SELECT n, repeat('x', 300) FROM generate_series(1, {rows}) n")
    ending = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE backend_type = 'walsender' AND datname = current_database()"
    )
    with (
        held_up(pair.destination, "second", "NEW.id = 1") as release,
        open_migration(pair) as migration,
        ThreadPoolExecutor(1) as beside,
    ):
        copying = beside.submit(copy_tables, migration, Limits(parallel=2), "own_slot")
        until(lambda: waits_at_the_gate(pair.destination))
        until(lambda: pair.destination.value("SELECT count(*) FROM causeway.copy_part WHERE state = 'done'"))
        assert pair.source.query(ending)
        release()
        with pytest.raises((ConnectError, ServerError)):
            copying.result(30)
        assert copy_tables(migration, Limits(parallel=2), "own_slot").parts == 1
    assert witness.assert_identical(pair) == 63000


@pytest.mark.parametrize("form", [None, "own_slot"])
def test_a_long_transaction_is_named_while_it_is_waited_for(pair: Any, form: Any) -> None:
    pair.run("CREATE TABLE t (id int PRIMARY KEY)")
    pair.source.run("INSERT INTO t VALUES (1)")
    waits = "SELECT detail ->> 'why' FROM causeway.event WHERE what LIKE '%%waits for open transactions%%'"
    limits = Limits(patience=Patience(0.4, 5))
    with (
        open_migration(pair) as migration,
        pair.source.connect(application_name="nightly job") as older,
        ThreadPoolExecutor(1) as beside,
    ):
        older.execute("BEGIN; INSERT INTO t VALUES (2)")
        copying = beside.submit(copy_tables, migration, limits, form)
        until(lambda: len(pair.destination.query(waits)) > 2)
        assert not copying.done()
        older.execute("COMMIT")
        assert copying.result(30).runs == 1
    assert all("nightly job" in why for (why,) in pair.destination.query(waits))
    assert witness.assert_identical(pair) == 2
    assert pair.source.query("SELECT 1 FROM pg_replication_slots WHERE database = current_database()") == []


@pytest.mark.parametrize("form", [None, "own_slot"])
def test_a_transaction_that_never_ends_ends_the_copy_and_is_named(pair: Any, form: Any) -> None:
    pair.run("CREATE TABLE t (id int PRIMARY KEY)")
    with open_migration(pair) as migration, pair.source.connect(application_name="forgotten") as older:
        older.execute("BEGIN; INSERT INTO t VALUES (1)")
        began = time.monotonic()
        with pytest.raises(TimeoutExpired, match=r"7 attempts .* failed: .*forgotten") as failure:
            copy_tables(migration, Limits(parallel=2, patience=Patience(0.2, 2)), form)
        assert time.monotonic() - began < 20
    assert failure.value.remedy
    until(lambda: not pair.source.query("SELECT 1 FROM pg_replication_slots WHERE database = current_database()"))


def test_an_operator_sees_whom_the_copy_waits_for(make_role: Any, pair: Any) -> None:
    """By the accounts of a migration that may see no other session's statements."""
    name, password = make_role(pair, "LOGIN REPLICATION")
    pair.run("CREATE TABLE t (id int PRIMARY KEY)")
    pair.source.run(f"GRANT SELECT ON t TO {name}")
    refuse_imports(pair.source)
    source = pair.source.server.endpoint(pair.source.dbname, user=name, password=password)
    more = {"types": ["full", "incremental"]}
    made = Migration("copy", pair.source.endpoint, pair.destination.endpoint, [{"schema": "public"}], more)
    for module in ("pg_replica_identity", "pg_publication", "pg_repl_slot"):
        made.run(module)
    made.source = source
    with pair.source.connect(application_name="nightly job") as older:
        older.execute("BEGIN; INSERT INTO t VALUES (1)")
        copying = made.start("pg_full_copy", lock_timeout=2, lock_retries=2)
        held = until(lambda: made.run("pg_migration_info")["full_copy"].get("held"))
        assert "nightly job" in held
        older.execute("COMMIT")
        made.finish("pg_full_copy", copying)
    assert witness.assert_identical(pair, ["public"]) == 1


def test_exact_under_one_slot_for_each_of_two_sessions(judged: Any) -> None:
    refuse_imports(judged.source)
    with open_migration(judged, tables=TABLES) as migration, writers(judged.source):
        time.sleep(0.4)
        assert copy_tables(migration, Limits(parallel=2)).runs == 1
        time.sleep(0.4)
    assert judged.destination.query("SELECT form, snapshot FROM causeway.copy_run") == [("own_slot", "")]
    assert len(set(assert_exact(judged).values())) == 2


def test_where_a_session_cannot_create_its_slot_its_tables_are_locked_for_a_moment(judged: Any) -> None:
    with (
        open_migration(judged, tables=TABLES) as migration,
        ThreadPoolExecutor(1) as beside,
        writers(judged.source),
    ):
        time.sleep(0.5)

        def work() -> Any:
            return copy_tables(migration, Limits(parallel=1), "own_slot")

        with too_large_for_a_slot(judged.source, beside, work) as copying:
            assert copying.result(60).runs == 1
        time.sleep(0.4)
    assert len(set(assert_exact(judged).values())) == len(TABLES), "one slot would have one snapshot LSN"
