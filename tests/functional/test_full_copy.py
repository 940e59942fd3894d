# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pg_full_copy on real servers: contents, repetition, interruption, tables that change underneath, rows of the user's."""

from __future__ import annotations

import os
import pathlib
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from support import witness
from support.faults.gate import held_up, ours, waits_at_the_gate
from support.harness.modules import Migration, ModuleFailed
from support.harness.opened import open_migration
from support.waiting import until

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.copy.limits import Layout, Limits
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.copy.runs import copy_tables

FULL = {"types": ["full"]}
TYPES = """
CREATE SCHEMA "Süd";
CREATE TYPE mood AS ENUM ('sad', 'happy');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TYPE pair AS (a int, b text);
CREATE TABLE plain (id bigint PRIMARY KEY, t text, n numeric, f float8, ts timestamptz, i interval, j jsonb, u uuid,
    b bytea, a int[], net inet, bits bit varying, x xml, c char(5), v varchar(9), o bool, d date, tm timetz, m money);
CREATE TABLE own (id int PRIMARY KEY, m mood, p positive, q pair, r int4range, k regclass, ms mood[]);
CREATE TABLE "Süd"."Größe ""x"" {0} %s" (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "Ä b" text,
    g text GENERATED ALWAYS AS (upper("Ä b")) STORED);
CREATE TABLE keyless (t text);
CREATE TABLE no_columns ();
CREATE TABLE dropped (a int, b text, c int);
ALTER TABLE dropped DROP COLUMN b;
CREATE TABLE parent (id int);
CREATE TABLE child () INHERITS (parent);
CREATE TABLE parts (id int, at date) PARTITION BY RANGE (at);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
CREATE TABLE parts_2 (at date, id int);
ALTER TABLE parts ATTACH PARTITION parts_2 FOR VALUES FROM ('2021-01-01') TO ('2022-01-01');
CREATE TABLE huge (id int PRIMARY KEY, t text);
ALTER TABLE huge ALTER t SET STORAGE EXTERNAL;
"""
ROWS = """
INSERT INTO plain SELECT n, repeat('ä\\n\t', n % 7), n / 7.0, n / 3.0, 'epoch'::timestamptz + n * interval '1 h',
    n * interval '1 min 1 mon', jsonb_build_object('n', n), md5(n::text)::uuid, decode(md5(n::text), 'hex'), ARRAY[n, NULL],
    '10.0.0.1'::inet + n, B'101', '<a/>', 'x ', 'y ', n % 2 = 0, date '0001-01-01 BC' + n, '12:00+02', n
    FROM generate_series(1, 3000) n;
INSERT INTO plain (id, f, n, ts) VALUES (0, 'NaN', 'NaN', 'infinity'), (-1, '-0', '1.0', '-infinity');
INSERT INTO own VALUES (1, 'happy', 3, ROW(1, 'x'), '[1,4)', 'pg_class', '{sad,happy}'), (2, NULL, NULL, NULL, 'empty', NULL, '{}');
INSERT INTO "Süd"."Größe ""x"" {0} %s" ("Ä b") SELECT 'z' || n FROM generate_series(1, 50) n;
INSERT INTO keyless SELECT n % 10 FROM generate_series(1, 100) n;
INSERT INTO no_columns SELECT FROM generate_series(1, 5);
INSERT INTO dropped SELECT n, n FROM generate_series(1, 10) n;
INSERT INTO parent VALUES (1);
INSERT INTO child VALUES (2), (2);
INSERT INTO parts SELECT n, date '2020-01-01' + n FROM generate_series(0, 700) n;
INSERT INTO huge SELECT n, repeat(md5(n::text), 60000) FROM generate_series(1, 4) n;
"""


@pytest.fixture
def migration() -> Callable[..., Migration]:
    """C(migration(pair, types=[...], ...)): a migration of the schemas public and Süd."""

    def make(pair: Any, *schemas: str, **more: Any) -> Migration:
        objects = [{"schema": schema} for schema in schemas or ("public",)]
        return Migration("copy", pair.source.endpoint, pair.destination.endpoint, objects, {**FULL, **more})

    return make


def state_of(pair: Any, table: str) -> Any:
    return pair.destination.value("SELECT state FROM causeway.table_copy WHERE table_name = %s", [table])


def test_a_quiet_database_arrives_whole(pair: Any, migration: Any) -> None:
    pair.run(TYPES)
    pair.source.run(ROWS)
    results = migration(pair, "public", "Süd").four_beats("pg_full_copy")
    rows = witness.assert_identical(pair)
    assert rows > 3800
    assert results[1]["rows"] == results[3]["rows"] == rows
    assert {entry["state"] for entry in results[1]["tables"]} == {"complete"}
    assert results[1]["runs"] == 1
    assert pair.destination.value("SELECT phase FROM causeway.migration") == "copied"
    formats = {
        s["sql"].split(".")[1].split('"')[1]: "binary" in s["sql"]
        for s in results[1]["statements"]
        if "STDIN" in s["sql"]
    }
    assert formats["plain"] and formats["parts_1"] and not formats["own"], formats


LARGE = "CREATE TABLE large (id int PRIMARY KEY, t text)"
LARGE_ROWS = "INSERT INTO large SELECT n, repeat('x', 100) FROM generate_series(1, 20000) n"


def test_a_large_table_is_cut_and_copied_side_by_side(pair: Any, migration: Any) -> None:
    pair.run(LARGE)
    pair.source.run(LARGE_ROWS)
    results = migration(pair).four_beats("pg_full_copy", part_size=300_000, parallel=3)
    assert witness.assert_identical(pair) == 20000
    parts = pair.destination.query("SELECT part, first_page, end_page, rows FROM causeway.copy_part ORDER BY part")
    assert len(parts) > 5 and parts[-1][2] is None and all(rows for *dummy, rows in parts)
    assert sum(rows for *dummy, rows in parts) == 20000
    reads = [s["sql"] for s in results[0]["statements"] if "TO STDOUT" in s["sql"]]
    assert len(reads) == len(parts) and sum("ctid" in read for read in reads) == len(parts)


def test_rows_of_a_table_that_is_one_part_arrive_frozen(pair: Any, migration: Any) -> None:
    """An index-only scan looks at no row whose page is known to be visible to all; nobody has vacuumed here."""
    for name in ("whole", "cut", "little"):
        pair.run(f"CREATE TABLE {name} (id int PRIMARY KEY, t text)")
        pair.destination.run(f"ALTER TABLE {name} SET (autovacuum_enabled = off)")
    pair.source.run("INSERT INTO whole SELECT n, repeat('x', 100) FROM generate_series(1, 20000) n")
    pair.source.run("INSERT INTO cut SELECT n, repeat('x', 100) FROM generate_series(1, 60000) n")
    pair.source.run("INSERT INTO little SELECT n, 'x' FROM generate_series(1, 100) n; ANALYZE")
    migration(pair).run("pg_full_copy", part_size=4_000_000)
    parts = (
        "SELECT t.table_name, count(*) FROM causeway.copy_part p JOIN causeway.table_copy t USING (relation) GROUP BY 1"
    )
    assert dict(pair.destination.query(parts))["cut"] > 1

    def fetched(name: str) -> int:
        pair.destination.run("SET enable_seqscan = off; SET enable_bitmapscan = off")
        rows = pair.destination.query(f"EXPLAIN (ANALYZE, TIMING off) SELECT id FROM {name} ORDER BY id")
        (line,) = [line for (line,) in rows if "Heap Fetches" in line]
        return int(line.split()[-1])

    assert (fetched("whole"), fetched("cut"), fetched("little")) == (0, 60_000, 100)


def test_rows_beyond_the_last_page_that_was_there_when_the_table_was_cut(pair: Any, migration: Any) -> None:
    pair.run(LARGE + "; CREATE TABLE other (id int)")
    pair.source.run(LARGE_ROWS)
    with pair.source.connect() as older, pair.source.connect() as late:
        older.execute("BEGIN; INSERT INTO other VALUES (1)")
        with open_migration(pair) as opened, ThreadPoolExecutor(1) as beside:
            copying = beside.submit(copy_tables, opened, Limits(layout=Layout(part_size=300_000)))
            # the table has been cut; the slot waits for the older transaction
            until(
                lambda: pair.source.value(
                    "SELECT count(*) FROM pg_locks WHERE NOT granted AND transactionid IS NOT NULL"
                )
            )
            late.execute("INSERT INTO large SELECT n, 'late' FROM generate_series(20001, 60000) n")
            older.execute("COMMIT")
            assert copying.result(60).runs == 1
    assert witness.assert_identical(pair) == 60001
    last, *others = (row[0] for row in pair.destination.query("SELECT rows FROM causeway.copy_part ORDER BY part DESC"))
    assert last > 40000 > sum(others)


@pytest.mark.faults
def test_killed_in_mid_table_the_next_run_finishes_and_finished_tables_stay(pair: Any, migration: Any) -> None:
    pair.run(LARGE + "; CREATE TABLE small (id int PRIMARY KEY, l int REFERENCES large)")
    pair.run("ALTER TABLE small DISABLE TRIGGER USER")
    pair.source.run(LARGE_ROWS)
    pair.source.run("INSERT INTO small SELECT n, n FROM generate_series(1, 100) n")
    done = migration(pair)
    done.objects = [{"schema": "public", "tables": [{"name": "small"}]}]
    done.run("pg_full_copy")
    before = pair.destination.value("SELECT xmin::text FROM small WHERE id = 1")
    whole = migration(pair)
    with held_up(pair.destination, "large", "NEW.id > 15000") as release:
        process = whole.start("pg_full_copy", part_size=300_000, parallel=1)
        until(lambda: waits_at_the_gate(pair.destination))
        assert pair.destination.value("SELECT count(*) FROM causeway.copy_part WHERE state = 'done'") > 2
        assert pair.destination.value("SELECT count(*) FROM large") > 5000
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        release()
    assert pair.source.query("SELECT 1 FROM pg_replication_slots WHERE database = %s", [pair.source.dbname]) == []
    assert state_of(pair, "large") == "copying"
    until(lambda: not ours(pair.destination))
    checked = whole.run("pg_full_copy", check=True)
    assert any("TRUNCATE ONLY" in s["sql"] for s in checked["statements"])
    result = whole.run("pg_full_copy")
    assert witness.assert_identical(pair) == 20100
    assert (result["changed"], result["runs"], result["rows"]) == (True, 1, 20100)
    assert pair.destination.value("SELECT xmin::text FROM small WHERE id = 1") == before, "it was copied again"
    assert not whole.run("pg_full_copy")["changed"]


@pytest.mark.faults
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_interrupted_it_leaves_no_session_and_no_slot(pair: Any, migration: Any, number: int) -> None:
    pair.run(LARGE)
    pair.source.run(LARGE_ROWS)
    with held_up(pair.destination, "large", "NEW.id > 15000") as release:
        process = migration(pair).start("pg_full_copy", parallel=2)
        until(lambda: waits_at_the_gate(pair.destination))
        os.killpg(process.pid, number)
        process.communicate(timeout=20)
        until(lambda: not ours(pair.source))
        release()
    until(lambda: not ours(pair.destination))
    assert pair.destination.value("SELECT count(*) FROM large") == 0
    migration(pair).run("pg_full_copy")
    assert witness.assert_identical(pair) == 20000


CHANGES = {
    "truncate": "TRUNCATE b; INSERT INTO b VALUES (7, 'new')",
    "alter_column": "ALTER TABLE b ALTER n TYPE varchar(9)",
    "cluster": "CLUSTER b USING b_pkey",
    "vacuum_full": "VACUUM FULL b",
    "drop_add": "ALTER TABLE b DROP COLUMN n; ALTER TABLE b ADD COLUMN n text DEFAULT 'again'",
    "swap": "ALTER TABLE b RENAME TO x; ALTER TABLE c RENAME TO b; ALTER TABLE x RENAME TO c",
    "recreate": "DROP TABLE b; CREATE TABLE b (id int PRIMARY KEY, n text); INSERT INTO b VALUES (9, 'other')",
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_table_that_changes_during_the_run_goes_to_a_new_one(pair: Any, migration: Any, change: str) -> None:
    pair.run(LARGE + ";CREATE TABLE b (id int PRIMARY KEY, n text); CREATE TABLE c (id int PRIMARY KEY, n text)")
    pair.source.run(LARGE_ROWS)
    pair.source.run(
        "INSERT INTO b SELECT n, n FROM generate_series(1, 500) n; INSERT INTO c SELECT n, -n FROM generate_series(1, 9) n"
    )
    with held_up(pair.destination, "large", "NEW.id = 1") as release:
        process = migration(pair).start("pg_full_copy", parallel=1)
        until(lambda: waits_at_the_gate(pair.destination))  # the largest table is the first; the snapshot stands
        for statement in CHANGES[change].split("; "):
            pair.source.run(statement)
        if change == "alter_column":
            pair.destination.run("ALTER TABLE b ALTER n TYPE varchar(9)")
        release()
        result = migration(pair).finish("pg_full_copy", process)
    assert result["runs"] == 2
    assert witness.assert_identical(pair) > 20000
    runs = dict(pair.destination.query("SELECT table_name, run FROM causeway.table_copy ORDER BY started_at"))
    assert runs["large"] == 1 and runs["b"] == 2


def test_tables_swapped_after_one_of_them_was_copied(pair: Any, migration: Any) -> None:
    """Its rows stand under a name that is another table's by now."""
    pair.run("CREATE TABLE b (id int PRIMARY KEY, n text); CREATE TABLE c (id int PRIMARY KEY, n text)")
    pair.source.run("INSERT INTO b SELECT n, n FROM generate_series(1, 500) n; INSERT INTO c VALUES (1, 'c')")
    migration(pair).run("pg_full_copy")
    pair.source.run(CHANGES["swap"])
    assert migration(pair).run("pg_full_copy")["changed"]
    assert witness.assert_identical(pair) == 501


def test_a_table_made_anew_after_it_was_copied(pair: Any, migration: Any) -> None:
    pair.run("CREATE TABLE b (id int PRIMARY KEY, n text)")
    pair.source.run("INSERT INTO b SELECT n, n FROM generate_series(1, 500) n")
    migration(pair).run("pg_full_copy")
    pair.source.run("DROP TABLE b; CREATE TABLE b (id int PRIMARY KEY, n text); INSERT INTO b VALUES (1, 'anew')")
    assert migration(pair).run("pg_full_copy")["rows"] == 1
    assert witness.assert_identical(pair) == 1
    assert not migration(pair).run("pg_full_copy")["changed"]


def test_rows_that_are_not_ours_are_neither_touched_nor_added_to(pair: Any, migration: Any) -> None:
    pair.run("CREATE TABLE t (id int PRIMARY KEY, n text)")
    pair.source.run("INSERT INTO t VALUES (1, 'ours'), (2, 'ours')")
    pair.destination.run("INSERT INTO t VALUES (1, 'the user''s')")
    with pytest.raises(ModuleFailed, match=r"public\.t.*holds rows") as caught:
        migration(pair).run("pg_full_copy")
    assert caught.value.result["error"]["code"] == "mismatch"
    assert pair.destination.query("SELECT * FROM t") == [(1, "the user's")]


def test_ignore_keeps_the_rows_that_were_there_and_adds_the_missing(pair: Any, migration: Any) -> None:
    pair.run(
        "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n text, g text GENERATED ALWAYS AS (n) STORED)"
    )
    pair.source.run("INSERT INTO t (n) SELECT 'ours' FROM generate_series(1, 5000)")
    pair.destination.run("INSERT INTO t (n) VALUES ('the user''s')")
    results = migration(pair, conflicting_tables="ignore").four_beats("pg_full_copy", part_size=10_000)
    assert pair.destination.value("SELECT n FROM t WHERE id = 1") == "the user's"
    assert pair.destination.value("SELECT count(*) FROM t WHERE n = 'ours' AND g = n") == 4999
    assert any("ON CONFLICT DO NOTHING" in s["sql"] for s in results[0]["statements"])


@pytest.mark.faults
def test_ignore_killed_in_mid_table_loses_neither_rows_nor_the_user_s(pair: Any, migration: Any) -> None:
    pair.run(LARGE)
    pair.source.run(LARGE_ROWS)
    pair.destination.run("INSERT INTO large VALUES (1, 'the user''s'), (-1, 'the user''s')")
    kept = migration(pair, conflicting_tables="ignore")
    with held_up(pair.destination, "large", "NEW.id > 15000") as release:
        process = kept.start("pg_full_copy")
        until(lambda: waits_at_the_gate(pair.destination))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        release()
    assert kept.run("pg_full_copy")["changed"]
    assert pair.destination.value("SELECT count(*) FROM large WHERE t <> 'the user''s'") == 19999
    assert pair.destination.value("SELECT count(*) FROM large WHERE t = 'the user''s'") == 2


def test_ignore_without_a_key_is_refused(pair: Any, migration: Any) -> None:
    pair.run("CREATE TABLE t (n text)")
    pair.run("INSERT INTO t VALUES ('x')")
    with pytest.raises(ModuleFailed, match="no key"):
        migration(pair, conflicting_tables="ignore", allow_keyless=True).run("pg_full_copy")


def test_rows_that_came_after_a_crash_but_before_our_first_part_are_not_emptied(pair: Any, migration: Any) -> None:
    pair.run(LARGE)
    pair.source.run(LARGE_ROWS)
    with held_up(pair.destination, "large", "NEW.id = 1") as release:
        process = migration(pair).start("pg_full_copy")
        until(lambda: waits_at_the_gate(pair.destination))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        release()
        until(lambda: not ours(pair.destination))
    pair.destination.run("INSERT INTO large VALUES (-1, 'the user''s')")
    with pytest.raises(ModuleFailed, match="holds rows"):
        migration(pair).run("pg_full_copy")
    assert pair.destination.query("SELECT id FROM large") == [(-1,)]


def test_emptied_row_by_row_where_a_foreign_key_forbids_truncate(pair: Any, migration: Any) -> None:
    pair.run(LARGE + "; CREATE TABLE leans (l int REFERENCES large)")
    pair.source.run(LARGE_ROWS)
    with held_up(pair.destination, "large", "NEW.id > 15000") as release:
        process = migration(pair).start("pg_full_copy", part_size=300_000, parallel=1)
        until(lambda: waits_at_the_gate(pair.destination))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        release()
    pair.destination.run("INSERT INTO leans VALUES (1)")
    pair.source.run("INSERT INTO leans VALUES (1)")
    until(lambda: not ours(pair.destination))
    with pytest.raises(ModuleFailed, match=r"leans.*holds rows"):  # nobody said that it may be touched
        migration(pair).run("pg_full_copy")
    pair.destination.run("DELETE FROM leans")
    migration(pair).run("pg_full_copy")
    assert witness.assert_identical(pair) == 20001


MISFITS = {
    "n (text) is missing at the destination": "CREATE TABLE t (id int)",
    "extra (integer) exists at the destination only": "CREATE TABLE t (id int, n text, extra int)",
    "n is text at the source and integer at the destination": "CREATE TABLE t (id int, n int)",
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_columns_that_differ_are_named(pair: Any, migration: Any, misfit: str) -> None:
    pair.source.run("CREATE TABLE t (id int, n text); INSERT INTO t VALUES (1, '1')")
    pair.destination.run(MISFITS[misfit])
    with pytest.raises(ModuleFailed) as caught:
        migration(pair, allow_keyless=True).run("pg_full_copy")
    error = caught.value.result["error"]
    assert (error["code"], error["object"]) == ("mismatch", "public.t")
    assert misfit in error["why"]
    assert pair.destination.value("SELECT count(*) FROM t") == 0


def test_a_table_that_the_destination_lacks(pair: Any, migration: Any) -> None:
    pair.source.run("CREATE TABLE t (id int PRIMARY KEY)")
    with pytest.raises(ModuleFailed, match=r"public\.t.*no table of that name"):
        migration(pair).run("pg_full_copy")
    planned = migration(pair, types=["schema", "full"]).run("pg_full_copy", check=True)
    assert planned["changed"] and "schema phase" in planned["notes"][0]


def test_a_lock_that_is_not_given_names_who_holds_it(pair: Any, migration: Any) -> None:
    pair.run(LARGE + "; CREATE TABLE b (id int PRIMARY KEY)")
    pair.source.run(LARGE_ROWS)
    with held_up(pair.destination, "large", "NEW.id = 1") as release:
        process = migration(pair).start("pg_full_copy", parallel=1, lock_timeout=1, lock_retries=1)
        until(lambda: waits_at_the_gate(pair.destination))
        with pair.source.connect(application_name="a long migration script") as holder:
            holder.execute("BEGIN; LOCK TABLE b IN ACCESS EXCLUSIVE MODE")
            release()
            with pytest.raises(ModuleFailed, match=r"public\.b.*a long migration script"):
                migration(pair).finish("pg_full_copy", process)
    assert (state_of(pair, "large"), state_of(pair, "b")) == ("complete", "copying")
    migration(pair).run("pg_full_copy")
    assert witness.assert_identical(pair) == 20000


def test_a_table_that_is_being_altered_does_not_keep_the_plan_waiting(pair: Any, migration: Any) -> None:
    pair.run(LARGE)
    pair.source.run(LARGE_ROWS)
    with pair.source.connect() as holder:
        holder.execute("BEGIN; LOCK TABLE large IN ACCESS EXCLUSIVE MODE")
        began = time.monotonic()
        assert migration(pair).run("pg_full_copy", check=True)["changed"]
        assert time.monotonic() - began < 10


def test_a_short_lock_is_waited_out(pair: Any, migration: Any) -> None:
    pair.run(LARGE + "; CREATE TABLE b (id int PRIMARY KEY)")
    pair.source.run(LARGE_ROWS)
    with held_up(pair.destination, "large", "NEW.id = 1") as release:
        process = migration(pair).start("pg_full_copy", parallel=1, lock_timeout=1, lock_retries=9)
        until(lambda: waits_at_the_gate(pair.destination))
        with pair.source.connect() as holder:
            holder.execute("BEGIN; LOCK TABLE b IN ACCESS EXCLUSIVE MODE")
            release()
            time.sleep(1.5)
            holder.execute("COMMIT")
        assert migration(pair).finish("pg_full_copy", process)["runs"] == 1
    assert witness.assert_identical(pair) == 20000


def test_without_a_slot_that_keeps_the_changes_nothing_is_copied(pair: Any, migration: Any) -> None:
    pair.run(LARGE)
    pair.source.run(LARGE_ROWS)
    following = migration(pair, types=["full", "incremental"])
    assert "slot" in following.run("pg_full_copy", check=True)["notes"][0]
    with pytest.raises(ModuleFailed, match="slot"):
        following.run("pg_full_copy")
    assert pair.destination.value("SELECT count(*) FROM large") == 0


def test_after_the_slot_every_table_gets_a_mark_that_lies_behind_it(pair: Any, migration: Any) -> None:
    pair.run(LARGE + "; CREATE TABLE b (id int PRIMARY KEY)")
    pair.source.run(LARGE_ROWS)
    following = migration(pair, types=["full", "incremental"])
    for module in ("pg_replica_identity", "pg_publication", "pg_repl_slot"):
        following.run(module)
    results = following.four_beats("pg_full_copy")
    marks = {entry["mark"] for entry in results[1]["tables"]}
    assert len(marks) == 1
    behind = "SELECT %s::pg_lsn > (slot ->> 'consistent_point')::pg_lsn FROM causeway.migration"
    assert pair.destination.value(behind, list(marks)) is True
    slots = pair.source.query("SELECT slot_name FROM pg_replication_slots WHERE database = current_database()")
    assert slots == [("dts_sync_copy",)]
    assert witness.assert_identical(pair, ["public"]) == 20000


def test_a_service_file_serves_both_drivers(
    pair: Any, migration: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.run(LARGE)
    pair.source.run(LARGE_ROWS)
    lines = []
    for end in pair.ends:
        lines.append(f"[{end.dbname}]")
        lines += [f"{key}={value}" for key, value in psycopg.conninfo.conninfo_to_dict(end.dsn).items()]
    (tmp_path / "services").write_text("\n".join(lines))
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    served = migration(pair)
    served.source = {"connect_params": {"service": pair.source.dbname}}
    served.destination = {"connect_params": {"service": pair.destination.dbname}}
    assert served.run("pg_full_copy")["rows"] == 20000
    assert witness.assert_identical(pair) == 20000


def test_a_role_may_be_taken_on(make_role: Any, pair: Any, migration: Any) -> None:
    name, password = make_role(pair)
    owner, dummy = make_role(pair, "SUPERUSER")
    pair.run(LARGE)
    pair.source.run(LARGE_ROWS)
    for end in pair.ends:
        end.run(f"GRANT {owner} TO {name}")
    other = migration(pair)
    for end in (other.source, other.destination):
        end.update(login_user=name, login_password=password, session_role=owner)
    assert other.run("pg_full_copy")["rows"] == 20000
    assert pair.destination.value("SELECT count(*) FROM large") == 20000


def test_settings_of_role_and_database_do_not_change_what_is_copied(pair: Any, migration: Any) -> None:
    pair.run(
        "CREATE TABLE t (id int PRIMARY KEY, ts timestamptz, i interval, f float8, b bytea, x public.mood, a text[])".replace(
            "CREATE TABLE", "CREATE TYPE mood AS ENUM ('a'); CREATE TABLE", 1
        )
    )
    pair.source.run(
        "INSERT INTO t VALUES (1, '2026-03-04 12:00+02', '-1 day 3 h', 0.1 + 0.2, '\\xdead', 'a', ARRAY[NULL, 'NULL'])"
    )
    pair.destination.run(f"ALTER DATABASE {pair.destination.dbname} SET array_nulls = off")
    for name, value in {
        "datestyle": "'SQL, DMY'",
        "timezone": "'Asia/Tokyo'",
        "extra_float_digits": "0",
        "intervalstyle": "sql_standard",
        "bytea_output": "escape",
        "statement_timeout": "1",
    }.items():
        pair.source.run(f"ALTER DATABASE {pair.source.dbname} SET {name} = {value}")
    migration(pair).run("pg_full_copy")
    assert witness.assert_identical(pair) == 1


def test_a_crash_of_the_destination_in_mid_table(make_pair: Any, migration: Any) -> None:
    pair = make_pair(private=True)
    pair.run(LARGE + "; CREATE TABLE tiny (id int PRIMARY KEY)")
    pair.source.run(LARGE_ROWS)
    with held_up(pair.destination, "large", "NEW.id > 15000"):
        process = migration(pair).start("pg_full_copy", part_size=300_000, parallel=1)
        until(lambda: waits_at_the_gate(pair.destination))
        pair.destination.server.restart("immediate")
        with pytest.raises(ModuleFailed) as caught:
            migration(pair).finish("pg_full_copy", process)
    assert caught.value.result["error"]["object"] == "public.large", caught.value.result
    pair = pair.reconnect()
    migration(pair).run("pg_full_copy")
    assert witness.assert_identical(pair) == 20000
