# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every kind of change through the worker, each a schedule that a simpler applier gets wrong; judged by the witness."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Callable

import psycopg
import pytest
from support.clusters.pairs import End
from support.harness.streaming import MakeStreaming, Streaming
from support.waiting import until
from support.witness import assert_identical

BIG = "repeat(md5(random()::text), 400)"


def identical(streaming: Streaming, conflicts: int = 0) -> int:
    streaming.drain()
    rows = assert_identical(streaming.pair, ["public"])
    assert streaming.progress("conflicts") == conflicts
    return rows


def one_transaction(end: End, *statements: str) -> None:
    with end.connect() as connection, connection.transaction():
        for statement in statements:
            connection.execute(statement)


@pytest.fixture(params=["DEFAULT", "FULL"])
def identity(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_plain_changes_arrive(make_streaming: MakeStreaming) -> None:
    streaming = make_streaming("CREATE TABLE t (id int PRIMARY KEY, v text)")
    streaming.begin()
    streaming.start()
    source = streaming.pair.source
    source.run("INSERT INTO t SELECT n, n::text FROM generate_series(1, 1000) n")
    source.run("UPDATE t SET v = v || 'x' WHERE id % 3 = 0")
    source.run("DELETE FROM t WHERE id % 5 = 0")
    streaming.drain()
    assert assert_identical(streaming.pair, ["public"]) == 800
    assert streaming.progress("inserts") == 1000
    assert streaming.progress("conflicts") == 0
    assert streaming.stop() == 0
    assert streaming.progress("state") == "stopped"


def test_keys_swapped_in_one_transaction(make_streaming: MakeStreaming, identity: str) -> None:
    streaming = make_streaming(
        f"CREATE TABLE t (id int PRIMARY KEY, v text); ALTER TABLE t REPLICA IDENTITY {identity};"
        "INSERT INTO t SELECT n, 'row ' || n FROM generate_series(1, 100) n"
    )
    streaming.begin()
    streaming.start()
    source = streaming.pair.source
    one_transaction(
        source,
        "UPDATE t SET id = 0 WHERE id = 1",
        "UPDATE t SET id = 1 WHERE id = 2",
        "UPDATE t SET id = 2 WHERE id = 0",
    )
    one_transaction(
        source,
        "UPDATE t SET id = -id WHERE id > 10",
        "UPDATE t SET id = 111 + id WHERE id < 0",
        "DELETE FROM t WHERE id = 50",
        "INSERT INTO t VALUES (50, 'new'), (500, 'gone'), (501, 'stays')",
        "DELETE FROM t WHERE id = 500",
    )
    assert identical(streaming) == 101


def test_unique_values_that_change_hands(make_streaming: MakeStreaming, identity: str) -> None:
    streaming = make_streaming(
        f"CREATE TABLE t (id int PRIMARY KEY, u int UNIQUE, big text); ALTER TABLE t ALTER big SET STORAGE EXTERNAL;"
        f"ALTER TABLE t REPLICA IDENTITY {identity};"
    )
    source = streaming.pair.source
    streaming.begin()
    streaming.start()
    source.run(f"INSERT INTO t SELECT n, n, {BIG} FROM generate_series(1, 40) n")
    streaming.drain()
    one_transaction(
        source,
        "UPDATE t SET u = NULL WHERE id = 1",
        "UPDATE t SET u = 1 WHERE id = 2",
        "UPDATE t SET u = 2 WHERE id = 1",
    )
    one_transaction(
        source, "UPDATE t SET u = u + 1000 WHERE id > 2", "UPDATE t SET u = u - 999 WHERE id BETWEEN 5 AND 40"
    )
    one_transaction(source, "DELETE FROM t WHERE id = 3", "INSERT INTO t VALUES (300, 1003, 'takes the value')")
    assert identical(streaming) == 40


def test_key_update_with_unchanged_toast(make_streaming: MakeStreaming, identity: str) -> None:
    streaming = make_streaming(
        "CREATE TABLE t (a int, b text, big text, v int, PRIMARY KEY (a, b));"
        f"ALTER TABLE t ALTER big SET STORAGE EXTERNAL; ALTER TABLE t REPLICA IDENTITY {identity};"
    )
    source = streaming.pair.source
    streaming.begin()
    streaming.start()
    source.run(f"INSERT INTO t SELECT n, 'k', {BIG}, n FROM generate_series(1, 50) n")
    streaming.drain()
    source.run("UPDATE t SET a = a + 1000 WHERE a <= 25")
    source.run("UPDATE t SET v = -v WHERE a > 25")
    one_transaction(
        source,
        f"UPDATE t SET big = {BIG} WHERE a = 1001",
        "UPDATE t SET v = 7 WHERE a = 1001",
        "UPDATE t SET a = 7, b = 'moved' WHERE a = 1001",
    )
    one_transaction(
        source,
        "UPDATE t SET a = 0 WHERE a = 1002",
        "UPDATE t SET a = 1002 WHERE a = 1003",
        "UPDATE t SET a = 1003 WHERE a = 0",
    )
    assert identical(streaming) == 50


def test_a_deferrable_key_shifted_by_one(make_streaming: MakeStreaming) -> None:
    streaming = make_streaming(
        "CREATE TABLE t (pos int PRIMARY KEY DEFERRABLE, v text); ALTER TABLE t REPLICA IDENTITY FULL;"
        "INSERT INTO t SELECT n, 'v' || n FROM generate_series(1, 200) n"
    )
    streaming.begin()
    streaming.start()
    streaming.pair.source.run("UPDATE t SET pos = pos + 1")
    streaming.pair.source.run("UPDATE t SET pos = pos + 1 WHERE pos > 100")
    streaming.pair.source.run("DELETE FROM t WHERE pos = 50")
    assert identical(streaming) == 199


def test_interleaved_transactions_and_rolled_back_savepoints(make_streaming: MakeStreaming) -> None:
    streaming = make_streaming("CREATE TABLE t (id int PRIMARY KEY, v int)")
    streaming.begin()
    streaming.start()
    source = streaming.pair.source
    with source.connect() as first, source.connect() as second, source.connect() as third:
        first.execute("BEGIN; INSERT INTO t SELECT n, 1 FROM generate_series(1, 100) n")
        second.execute("BEGIN; INSERT INTO t SELECT n, 2 FROM generate_series(101, 200) n")
        third.execute("BEGIN; INSERT INTO t SELECT n, 3 FROM generate_series(201, 300) n; ROLLBACK; BEGIN")
        second.execute("SAVEPOINT a; UPDATE t SET v = 20 WHERE id < 150; ROLLBACK TO a; SAVEPOINT b")
        second.execute("UPDATE t SET v = 21 WHERE id > 180; RELEASE b; SAVEPOINT c; DELETE FROM t; ROLLBACK TO c")
        third.execute("INSERT INTO t SELECT n, 4 FROM generate_series(201, 300) n")
        second.execute("COMMIT")
        third.execute("UPDATE t SET v = 5 WHERE id = 110; COMMIT")
        first.execute("UPDATE t SET v = 6 WHERE id IN (7, 120, 220); COMMIT")
    assert identical(streaming) == 300


def test_a_transaction_larger_than_ten_batches(make_streaming: MakeStreaming) -> None:
    streaming = make_streaming("CREATE TABLE t (id int PRIMARY KEY, v int); CREATE TABLE u (id int PRIMARY KEY)")
    streaming.begin(batch_size=1000)
    streaming.start()
    source = streaming.pair.source
    one_transaction(
        source,
        "INSERT INTO t SELECT n, 0 FROM generate_series(1, 8000) n",
        "UPDATE t SET v = v + 1 WHERE id % 2 = 0",
        "SAVEPOINT s",
        "DELETE FROM t",
        "ROLLBACK TO s",
        "DELETE FROM t WHERE id % 4 = 0",
        "INSERT INTO u SELECT generate_series(1, 3000)",
    )
    source.run("INSERT INTO u VALUES (0)")
    assert identical(streaming) == 9001
    assert streaming.progress("transactions") == 3  # the marker's is one


def test_truncate_of_tables_that_foreign_keys_reference(make_streaming: MakeStreaming) -> None:
    streaming = make_streaming(
        "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a);"
        "CREATE TABLE c (id serial PRIMARY KEY); CREATE TABLE d () INHERITS (c); INSERT INTO c DEFAULT VALUES;"
        "INSERT INTO d DEFAULT VALUES; INSERT INTO a VALUES (1); INSERT INTO b VALUES (1, 1)"
    )
    streaming.begin()
    destination = streaming.pair.destination
    # at the destination one more table references a, which the source knows nothing of
    destination.run("CREATE SCHEMA other; CREATE TABLE other.e (a int REFERENCES a)")
    streaming.start()
    source = streaming.pair.source
    one_transaction(source, "INSERT INTO a VALUES (2)", "TRUNCATE a CASCADE", "INSERT INTO a VALUES (3)")
    source.run("TRUNCATE ONLY c RESTART IDENTITY")
    source.run("INSERT INTO b VALUES (7, 3)")
    assert identical(streaming) == 3
    assert streaming.progress("truncates") == 3
    assert destination.value("SELECT count(*) FROM ONLY c") == 0
    assert destination.value("SELECT count(*) FROM d") == 1


def test_keyless_tables_are_multisets(make_streaming: MakeStreaming) -> None:
    streaming = make_streaming(
        "CREATE TABLE k (n numeric, j json, p point, f float8, c char(4), x int);"
        "CREATE TABLE inserts_only (t text); CREATE TABLE nothing ();"
        "ALTER TABLE k REPLICA IDENTITY FULL; ALTER TABLE nothing REPLICA IDENTITY FULL;"
        "INSERT INTO k SELECT 1.0, '{}', '(1,2)', -0.0, 'a', 1 FROM generate_series(1, 5);"
        "INSERT INTO k SELECT 1.00, '{ }', '(1,2)', 0.0, 'a', 1 FROM generate_series(1, 5)"
    )
    streaming.begin()
    streaming.start()
    source = streaming.pair.source
    source.run("DELETE FROM k WHERE ctid IN (SELECT ctid FROM k WHERE n::text = '1.00' LIMIT 2)")
    source.run("UPDATE k SET x = 2 WHERE ctid IN (SELECT ctid FROM k WHERE n::text = '1.0' LIMIT 3)")
    one_transaction(
        source,
        "INSERT INTO k SELECT NULL, NULL, NULL, 'NaN', NULL, n % 3 FROM generate_series(1, 30) n",
        "DELETE FROM k WHERE ctid IN (SELECT ctid FROM k WHERE x = 0 LIMIT 4)",
        "UPDATE k SET x = 9 WHERE ctid IN (SELECT ctid FROM k WHERE x = 1 AND n IS NULL LIMIT 2)",
    )
    source.run("INSERT INTO inserts_only SELECT 'same' FROM generate_series(1, 10)")
    source.run("INSERT INTO nothing SELECT FROM generate_series(1, 6)")
    source.run("DELETE FROM nothing WHERE ctid IN (SELECT ctid FROM nothing LIMIT 2)")
    assert identical(streaming) == 34 + 10 + 4


def test_generated_and_identity_columns(make_streaming: MakeStreaming, identity: str) -> None:
    streaming = make_streaming(
        "CREATE TABLE always (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v int,"
        " g int GENERATED ALWAYS AS (v * 2) STORED, big text);"
        "CREATE TABLE aside (k text PRIMARY KEY, n int GENERATED ALWAYS AS IDENTITY, v int, big text);"
        "CREATE TABLE bydefault (id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, v int);"
        "ALTER TABLE always ALTER big SET STORAGE EXTERNAL; ALTER TABLE aside ALTER big SET STORAGE EXTERNAL;"
        + "".join(f"ALTER TABLE {t} REPLICA IDENTITY {identity};" for t in ("always", "aside", "bydefault"))
    )
    streaming.begin()
    streaming.start()
    source = streaming.pair.source
    for count in (2, 30):  # a few as parameters, many through staging
        source.run(f"INSERT INTO always (v, big) SELECT n, {BIG} FROM generate_series(1, {count}) n")
        source.run(
            f"INSERT INTO aside (k, v, big) SELECT 'k{count}_' || n, n, {BIG} FROM generate_series(1, {count}) n"
        )
        source.run(f"INSERT INTO bydefault (v) SELECT n FROM generate_series(1, {count}) n")
        streaming.drain()
        source.run("UPDATE always SET v = v + 1")
        source.run("UPDATE always SET id = DEFAULT WHERE id % 2 = 0")
        source.run("UPDATE aside SET v = v + 1")
        source.run("UPDATE aside SET n = DEFAULT WHERE v % 2 = 0")
        source.run("UPDATE bydefault SET id = id + 1000 WHERE id % 2 = 1 AND id < 1000")
        streaming.drain()
    assert identical(streaming) == 96


def test_another_column_order_and_columns_of_its_own(make_streaming: MakeStreaming, identity: str) -> None:
    streaming = make_streaming("CREATE SCHEMA s")
    source, destination = streaming.pair.ends
    source.run("CREATE TABLE s.t (gone int, id int PRIMARY KEY, a text, big text, u int UNIQUE)")
    source.run(f"ALTER TABLE s.t DROP gone; ALTER TABLE s.t REPLICA IDENTITY {identity};")
    destination.run(
        "CREATE TABLE s.t (u int UNIQUE, own text DEFAULT 'mine', big text, a text, x int, id int PRIMARY KEY)"
    )
    destination.run("ALTER TABLE s.t DROP x")
    source.run("ALTER TABLE s.t ALTER big SET STORAGE EXTERNAL")
    streaming.begin(("s",))
    streaming.start()
    source.run(f"INSERT INTO s.t SELECT n, 'a' || n, {BIG}, n FROM generate_series(1, 50) n")
    streaming.drain()
    destination.run("UPDATE s.t SET own = 'kept ' || id")
    source.run("UPDATE s.t SET id = id + 100, a = 'moved' WHERE id <= 20")
    one_transaction(source, "UPDATE s.t SET u = -1 WHERE id = 30", "UPDATE s.t SET u = 30 WHERE id = 31")
    source.run("DELETE FROM s.t WHERE id > 45 AND id < 60")
    streaming.drain()
    rows = "SELECT id, a, md5(big), u FROM s.t ORDER BY id"
    assert source.query(rows) == destination.query(rows)
    assert destination.value("SELECT count(*) FROM s.t WHERE own LIKE 'kept %'") == source.value(
        "SELECT count(*) FROM s.t"
    )
    assert destination.value("SELECT own FROM s.t WHERE id = 101") == "kept 1"


def test_names_that_need_quotes_and_percent_signs(make_streaming: MakeStreaming) -> None:
    streaming = make_streaming(
        'CREATE TABLE "Größe ""x"" {0} %s" ("Ä %b" int PRIMARY KEY, "select" text, "$1" int);'
        'CREATE TYPE "Odd {} %s" AS ENUM (\'a\'); CREATE TABLE "odd" (id int PRIMARY KEY, e "Odd {} %s")'
    )
    streaming.begin()
    streaming.start()
    source = streaming.pair.source
    for first, last in ((1, 2), (3, 60)):
        source.run(f'INSERT INTO "Größe ""x"" {{0}} %s" SELECT n, n, n FROM generate_series({first}, {last}) n')
        source.run(f"INSERT INTO odd SELECT n, 'a' FROM generate_series({first}, {last}) n")
        source.run('UPDATE "Größe ""x"" {0} %s" SET "select" = \'x\', "$1" = NULL')
        source.run('UPDATE "Größe ""x"" {0} %s" SET "Ä %b" = - "Ä %b" WHERE "Ä %b" % 5 = 0')
        source.run('DELETE FROM "Größe ""x"" {0} %s" WHERE "Ä %b" % 3 = 0')
        source.run("UPDATE odd SET e = NULL")
        streaming.drain()
    identical(streaming)


def test_partitions_as_leaves_and_rows_that_move(make_streaming: MakeStreaming, identity: str) -> None:
    streaming = make_streaming(
        "CREATE TABLE p (id int, at date, v text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);"
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');"
        "CREATE TABLE p2 (v text, at date NOT NULL, id int NOT NULL);"
        "ALTER TABLE p ATTACH PARTITION p2 FOR VALUES FROM ('2021-01-01') TO ('2022-01-01');"
        f"ALTER TABLE p1 REPLICA IDENTITY {identity}; ALTER TABLE p2 REPLICA IDENTITY {identity};"
    )
    streaming.begin()
    streaming.start()
    source = streaming.pair.source
    source.run("INSERT INTO p SELECT n, date '2020-01-01' + n, 'v' FROM generate_series(0, 700) n")
    source.run("UPDATE p SET at = at + 365 WHERE id < 100")
    source.run("UPDATE p SET v = 'w' WHERE id % 3 = 0")
    source.run("TRUNCATE p2")
    source.run("INSERT INTO p VALUES (9999, '2021-05-05', 'x')")
    identical(streaming)


def test_citext_keys(make_streaming: MakeStreaming, identity: str) -> None:
    streaming = make_streaming("CREATE SCHEMA ext; CREATE EXTENSION citext SCHEMA ext")
    streaming.pair.run(
        'CREATE TABLE c (k ext.citext PRIMARY KEY, v int); CREATE TABLE l (k text COLLATE "C" PRIMARY KEY, v int);'
        f"ALTER TABLE c REPLICA IDENTITY {identity}; ALTER TABLE l REPLICA IDENTITY {identity};"
    )
    streaming.begin()
    streaming.start()
    source = streaming.pair.source
    for table in ("c", "l"):
        source.run(f"INSERT INTO {table} SELECT 'Key ' || n, n FROM generate_series(1, 30) n")
        source.run(f"UPDATE {table} SET v = -v")
        source.run(f"UPDATE {table} SET k = upper(k::text) WHERE abs(v) % 2 = 0")
        source.run(f"DELETE FROM {table} WHERE abs(v) % 5 = 0")
        one_transaction(source, f"DELETE FROM {table} WHERE v = -1", f"INSERT INTO {table} VALUES ('KEY 1', 1)")
        streaming.drain()
    identical(streaming)


def test_nulls_in_unique_keys_and_an_index_as_identity(make_streaming: MakeStreaming) -> None:
    streaming = make_streaming(
        "CREATE TABLE n (a int, b int, v text, UNIQUE (a, b)); ALTER TABLE n REPLICA IDENTITY FULL;"
        "CREATE TABLE i (id int PRIMARY KEY, e text NOT NULL UNIQUE, v text);"
        "ALTER TABLE i REPLICA IDENTITY USING INDEX i_e_key;"
    )
    streaming.begin()
    streaming.start()
    source = streaming.pair.source
    source.run("INSERT INTO n SELECT 1, NULL, 'same' FROM generate_series(1, 6)")
    source.run("INSERT INTO n SELECT n, n, 'other' FROM generate_series(1, 6) n")
    source.run("UPDATE n SET v = 'x' WHERE ctid IN (SELECT ctid FROM n WHERE b IS NULL LIMIT 2)")
    source.run("DELETE FROM n WHERE ctid IN (SELECT ctid FROM n WHERE b IS NULL LIMIT 2)")
    source.run("INSERT INTO i SELECT n, 'e' || n, 'v' FROM generate_series(1, 20) n")
    source.run("UPDATE i SET id = id + 100 WHERE id < 10")
    source.run("UPDATE i SET e = 'f' || id WHERE id % 2 = 0")
    assert identical(streaming) == 10 + 20


def test_exclusion_constraints_and_triggers_that_stay_silent(make_streaming: MakeStreaming) -> None:
    streaming = make_streaming(
        "CREATE TABLE x (id int PRIMARY KEY, during int4range, EXCLUDE USING gist (during WITH &&));"
        "CREATE TABLE audited (id int PRIMARY KEY, v int); CREATE TABLE audit (id int PRIMARY KEY);"
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN INSERT INTO public.audit VALUES (NEW.id); RETURN NEW; END$$;"
        "CREATE TRIGGER note AFTER INSERT ON audited FOR EACH ROW EXECUTE FUNCTION note()"
    )
    streaming.begin()
    streaming.start()
    source = streaming.pair.source
    source.run("INSERT INTO x SELECT n, int4range(n * 10, n * 10 + 10) FROM generate_series(1, 40) n")
    streaming.drain()
    one_transaction(
        source,
        "UPDATE x SET during = 'empty' WHERE id = 1",
        "UPDATE x SET during = '[10,20)' WHERE id = 2",
        "UPDATE x SET during = '[20,30)' WHERE id = 1",
    )
    one_transaction(source, "DELETE FROM x WHERE id = 5", "INSERT INTO x VALUES (505, '[50,60)')")
    source.run("INSERT INTO audited SELECT n, n FROM generate_series(1, 20) n")
    assert identical(streaming) == 80


def test_conflicts_are_counted_and_overwritten(make_streaming: MakeStreaming) -> None:
    streaming = make_streaming(
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT n, 'old' FROM generate_series(1, 100) n"
    )
    streaming.begin()
    source, destination = streaming.pair.ends
    destination.run("DELETE FROM t WHERE id IN (1, 2) OR id BETWEEN 21 AND 40")
    destination.run("INSERT INTO t SELECT n, 'in the way' FROM generate_series(201, 240) n")
    streaming.start()
    source.run("UPDATE t SET v = 'new' WHERE id = 1")  # becomes an insert
    source.run("DELETE FROM t WHERE id = 2")
    source.run("INSERT INTO t VALUES (201, 'overwrites')")
    streaming.drain()
    assert streaming.progress("conflicts") == 3
    source.run("UPDATE t SET v = 'new' WHERE id BETWEEN 21 AND 30")
    source.run("DELETE FROM t WHERE id BETWEEN 31 AND 40")
    source.run("INSERT INTO t SELECT n, 'overwrites' FROM generate_series(202, 240) n")
    identical(streaming, 3 + 10 + 10 + 39)


@pytest.mark.parametrize("megabytes", [40, pytest.param(250, marks=pytest.mark.faults_heavy)])
def test_huge_values_cost_a_small_multiple_of_themselves(make_streaming: MakeStreaming, megabytes: int) -> None:
    streaming = make_streaming(
        "CREATE TABLE t (id int PRIMARY KEY, v text, b bytea, n int); ALTER TABLE t ALTER v SET STORAGE EXTERNAL;"
        "CREATE TABLE k (v text, n int); ALTER TABLE k REPLICA IDENTITY FULL"
    )
    streaming.begin()
    worker = streaming.start()
    source = streaming.pair.source
    value = f"repeat(md5(n::text), {megabytes} * 32768)"
    source.run(f"INSERT INTO t SELECT n, {value}, NULL, n FROM generate_series(1, 2) n")
    source.run("INSERT INTO t SELECT n + 10, 'x', NULL, n FROM generate_series(1, 50) n")
    source.run("UPDATE t SET n = -n")
    source.run("UPDATE t SET id = 3 WHERE id = 1")  # the value stays where it is, and is not sent
    source.run(f"UPDATE t SET b = convert_to({value}, 'UTF8'), v = NULL WHERE id = 2")
    source.run(f"INSERT INTO k SELECT {value}, n FROM generate_series(7, 8) n")
    streaming.drain(600)
    rows = "SELECT id, n, md5(v), md5(b) FROM t UNION ALL SELECT 0, n, md5(v), NULL FROM k ORDER BY 1, 2"
    assert source.query(rows) == streaming.pair.destination.query(rows)
    assert streaming.progress("conflicts") == 0
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", pathlib.Path("/proc", str(worker.pid), "status").read_text())
    print(f"\nworker: {int(peak) // 1024} MB at most, for values of {megabytes} MB")
    assert int(peak) / 1024 < 150 + 6 * megabytes


def test_a_trigger_that_would_fire_for_the_worker_stops_the_task(make_streaming: MakeStreaming) -> None:
    """One that was not made by us, so that nobody has put it to sleep."""
    streaming = make_streaming("CREATE TABLE t (id int PRIMARY KEY)")
    destination = streaming.pair.destination
    destination.run(
        "CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'fired'; END$$;"
        'CREATE TRIGGER "Mine" AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION fire();'
        'ALTER TABLE t ENABLE ALWAYS TRIGGER "Mine"'
    )
    streaming.begin()
    streaming.start()
    streaming.pair.source.run("INSERT INTO t VALUES (1)")
    assert streaming.wait_exit() == 1
    error = streaming.progress("last_error")
    assert error["object"] == "public.t"
    assert 'trigger "Mine"' in error["why"]
    destination.run('ALTER TABLE t DISABLE TRIGGER "Mine"')
    streaming.start()
    streaming.wait_state("running")
    assert identical(streaming) == 1


def test_source_14_to_destination_18(make_streaming: MakeStreaming) -> None:
    streaming = make_streaming(
        "CREATE TABLE t (id int PRIMARY KEY, v text, m money, a int[]); CREATE TABLE k (x numeric);"
        "ALTER TABLE k REPLICA IDENTITY FULL",
        source="14",
        destination="18",
    )
    streaming.begin()
    streaming.start()
    source = streaming.pair.source
    source.run("INSERT INTO t SELECT n, 'v', n, ARRAY[n] FROM generate_series(1, 50) n")
    source.run("INSERT INTO k SELECT n % 3 FROM generate_series(1, 50) n")
    source.run("DELETE FROM k WHERE ctid IN (SELECT ctid FROM k LIMIT 10)")
    source.run("UPDATE t SET v = NULL WHERE id % 2 = 0")
    source.run("TRUNCATE k")
    source.run("INSERT INTO k VALUES (1.50)")
    assert identical(streaming) == 51


def test_messages_of_others_are_no_rows_and_no_markers(
    make_role: Callable[..., tuple[str, str]], make_streaming: MakeStreaming
) -> None:
    """Any role may put any message into the stream, ours in shape included: it is ignored, and counted if it looks like
    a marker."""
    streaming = make_streaming("CREATE TABLE t (id int PRIMARY KEY)")
    streaming.begin()
    streaming.start()
    source, destination = streaming.pair.ends
    streaming.drain()
    used = destination.value("SELECT token FROM causeway.marker")
    anybody, password = make_role(streaming.pair)
    send = "SELECT pg_logical_emit_message(%s, %s, %s)"
    with psycopg.connect(source.server.dsn(source.dbname, user=anybody, password=password), autocommit=True) as other:
        for prefix, content in (
            *(("app", "hello"), ("", ""), ("app", "x" * 3_000_000), ("causeway.heartbeat", "y" * 32)),
            *(
                ("causeway", ""),
                ("causeway", "z" * 33),
                ("causeway", "é" * 16),
                ("causeway", "'; DROP TABLE t; --" + " " * 13),
            ),
            *(("causeway", "0" * 32), ("causeway", "f" * 32), ("causeway", used)),
        ):
            for transactional in (True, False):
                other.execute(send, [transactional, prefix, content])
        other.execute("SELECT pg_logical_emit_message(true, 'causeway', md5(n::text)) FROM generate_series(1, 5000) n")
    source.run("INSERT INTO t VALUES (1)")
    assert identical(streaming) == 1
    assert streaming.progress("foreign_markers") == 5002
    assert destination.value("SELECT count(*) FROM causeway.marker WHERE applied_at IS NULL") == 0


def test_a_change_is_applied_from_the_mark_of_its_table_on(make_streaming: MakeStreaming) -> None:
    """Tables copied at different moments: what committed before the mark is in the copy, the rest in the stream."""
    streaming = make_streaming("CREATE TABLE early (id int); CREATE TABLE late (id int);")
    streaming.begin()
    source, destination = streaming.pair.ends
    both = "INSERT INTO early VALUES ({0}); INSERT INTO late VALUES ({0})"
    with source.connect() as open_before:
        open_before.execute("BEGIN; INSERT INTO late VALUES (1); INSERT INTO early VALUES (1)")
        source.run(both.format(2))
        # the copy of late: what its snapshot sees now, and where the snapshot stands
        position = source.value("SELECT pg_current_wal_insert_lsn()::text")
        destination.run("INSERT INTO late VALUES (2)")
        open_before.execute("COMMIT")  # begun before the mark, committed after it
    source.run(both.format(3))
    destination.run("UPDATE causeway.table_copy SET mark = %s WHERE table_name = 'late'", [position])
    streaming.start()
    assert identical(streaming) == 6


def test_incremental_alone_begins_at_the_slot(make_streaming: MakeStreaming) -> None:
    streaming = make_streaming("CREATE TABLE t (id int PRIMARY KEY)")
    streaming.begin()
    destination = streaming.pair.destination
    destination.run("DELETE FROM causeway.table_copy")
    streaming.start()
    assert streaming.wait_exit() == 1
    assert "not copied completely: public.t" in streaming.progress("last_error")["why"]
    destination.run('UPDATE causeway.migration SET spec = spec || \'{"types": ["incremental"]}\'')
    streaming.pair.source.run("INSERT INTO t VALUES (1)")
    streaming.start()
    streaming.wait_state("running")
    assert identical(streaming) == 1


def test_a_table_that_is_not_of_the_migration_stops_the_task(make_streaming: MakeStreaming) -> None:
    streaming = make_streaming("CREATE TABLE t (id int PRIMARY KEY)")
    streaming.begin()
    streaming.start()
    streaming.wait_state("running")
    source = streaming.pair.source
    source.run("CREATE TABLE aside (id int PRIMARY KEY)")
    publication = source.value("SELECT pubname FROM pg_publication")
    source.run(f"ALTER PUBLICATION {publication} ADD TABLE aside")
    source.run("INSERT INTO aside VALUES (1)")
    assert streaming.wait_exit() == 1
    assert streaming.progress("last_error")["object"] == "public.aside"


def test_writes_to_large_objects_are_told(make_streaming: MakeStreaming) -> None:
    streaming = make_streaming("CREATE TABLE t (id int PRIMARY KEY)")
    source, destination = streaming.pair.ends
    oid = source.value("SELECT lo_from_bytea(0, 'before the task')")
    streaming.begin()
    streaming.start()
    streaming.drain()
    events = "SELECT (detail ->> 'rows_written')::int FROM causeway.event WHERE what LIKE 'large objects%'"
    known = "SELECT before_image ? 'large_objects' FROM causeway.migration"
    until(lambda: destination.value(known), "nobody looked at the large objects")
    assert destination.query(events) == []
    with source.connect() as application:  # the statistics of a session are told when it ends, at the latest
        application.execute(f"SELECT lo_put({oid}, 0, 'changed')")
    until(lambda: destination.query(events), "the write was not told")
    (first,) = destination.query(events)
    with source.connect() as application:
        application.execute("SELECT lo_from_bytea(0, 'another'), lo_from_bytea(0, 'and another')")
    until(lambda: destination.query(events)[0][0] > first[0], "the second write was not told")
    assert len(destination.query(events)) == 1
