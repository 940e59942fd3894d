# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A large table that is cut by its key goes on, after a crash, with the parts that are missing: under writers that move
rows from part to part, each part under a mark of its own."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from support import witness
from support.clusters.local import Clusters
from support.harness.exactness import Journey, MakeJourney
from support.harness.modules import Migration, ModuleFailed
from support.waiting import until

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres import key_order

from .test_full_copy import held_up, waits_at_the_gate

WRITERS = 4


class Movers:
    """Clients that insert, change, delete, and above all move rows: each in a residue class of its own."""

    def __init__(self, end: Any, rows: int) -> None:
        self._end, self._rows = end, rows
        self._stop = threading.Event()
        self.moved = 0

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        with ThreadPoolExecutor(WRITERS) as pool:
            running = [pool.submit(self._write, client) for client in range(WRITERS)]
            try:
                yield
            finally:
                self._stop.set()
        for one in running:
            one.result()

    def _write(self, client: int) -> None:
        dice = random.Random(client)
        with self._end.connect() as session:
            while not self._stop.is_set():
                with contextlib.suppress(psycopg.errors.UniqueViolation), session.transaction():
                    for dummy in range(dice.randint(1, 4)):
                        self._one(session, dice, client)

    def _one(self, session: Any, dice: random.Random, client: int) -> None:
        here, there = (dice.randrange(self._rows) * WRITERS + client for dummy in range(2))
        what = dice.random()
        if what < 0.6:  # a paper is not sent again
            self.moved += session.execute("UPDATE big SET id = %s, v = v + 1 WHERE id = %s", [there, here]).rowcount
        elif what < 0.8:
            session.execute("UPDATE big SET v = v + 1, paper = %s WHERE id = %s", ["y" * dice.choice((0, 9000)), here])
        elif what < 0.9:
            session.execute("DELETE FROM big WHERE id = %s", [here])
        else:
            session.execute("INSERT INTO big VALUES (%s, 0, 'new', %s)", [here, "z" * dice.choice((0, 9000))])


BIG = "CREATE TABLE big (id bigint PRIMARY KEY, v int NOT NULL, filler text, paper text);"
EXTERNAL = "ALTER TABLE big ALTER paper SET STORAGE EXTERNAL"


def rows_of(count: int) -> str:
    """Half of the keys are free, for rows to move to, in each client's residue class."""
    return (
        f"INSERT INTO big SELECT n * 2 + n / 2 % 2, 0, repeat(md5(n::text), 7), CASE WHEN n % 50 = 0 THEN repeat('p', 3000) END"
        f" FROM generate_series(1, {count}) n"
    )


def killed_at(journey: Journey, condition: str, **more: Any) -> None:
    """A copy that is killed with -9 while it writes rows that meet the condition."""
    with held_up(journey.pair.destination, "big", condition) as release:
        process = journey.migration.start("pg_full_copy", **more)
        until(lambda: waits_at_the_gate(journey.pair.destination), seconds=120)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        release()
    journey.pair.destination.run("DROP TRIGGER wait_here ON big; DROP FUNCTION wait_here()")


def done(journey: Journey) -> dict[int, tuple[int, str, int]]:
    """Run, mark and rows of each part of big that is done."""
    rows = journey.pair.destination.query(
        "SELECT p.part, p.run, p.mark::text, p.rows FROM causeway.copy_part p JOIN causeway.table_copy t"
        " USING (migration, relation) WHERE p.state = 'done' AND t.table_name = 'big' ORDER BY 1"
    )
    return {part: (run, mark, count) for part, run, mark, count in rows}


SIZES = [
    pytest.param(100_000, 1_300_000, id="33MB"),
    pytest.param(6_000_000, 40_000_000, id="2GB", marks=pytest.mark.faults_heavy),
]


@pytest.mark.faults
@pytest.mark.parametrize(("rows", "part_size"), SIZES)
def test_killed_at_nine_tenths_it_goes_on_with_the_missing_parts(
    make_journey: MakeJourney, rows: int, part_size: int
) -> None:
    journey = make_journey(BIG + EXTERNAL, rows_of(rows))
    journey.prepare()
    movers = Movers(journey.pair.source, rows * 2 // WRITERS)
    with movers.at_work():
        killed_at(journey, f"NEW.id > {rows * 2 * 92 // 100}", part_size=part_size, parallel=1)
        before = done(journey)
        moved = movers.moved
        until(lambda: movers.moved > moved + 300)  # between the marks
        result = journey.copy(part_size=part_size)
        after = done(journey)
        until(lambda: movers.moved > moved + 600)
        journey.task(wait="caught_up", wait_timeout=120)
    assert journey.drained() > rows // 2
    assert len(before) > 15 and before.items() <= after.items(), "a finished part was copied again"
    assert {run for run, *dummy in before.values()} == {1} and len(
        {mark for dummy, mark, dummy2 in after.values()}
    ) == 2
    again = sum(count for part, (run, mark, count) in after.items() if part not in before)
    assert 0 < again < 0.15 * sum(count for run, mark, count in after.values())
    assert result["runs"] == 1 and result["parts"] == len(after) - len(before)
    assert not journey.copy(part_size=part_size)["changed"]


CHANGES = {
    "truncate": "TRUNCATE big; INSERT INTO big SELECT n, 0, 'new' FROM generate_series(1, 5000) n",
    "alter type": "ALTER TABLE big ALTER v TYPE bigint",
    "cluster": "CLUSTER big USING big_pkey",
    "add and drop a column": "ALTER TABLE big ADD x int DEFAULT 3; ALTER TABLE big DROP x",
    "drop": "DROP TABLE big",
}


@pytest.mark.faults
@pytest.mark.parametrize("change", CHANGES)
def test_a_table_that_was_changed_between_the_marks_begins_anew(make_journey: MakeJourney, change: str) -> None:
    journey = make_journey(BIG + EXTERNAL, rows_of(20_000))
    journey.prepare()
    killed_at(journey, "NEW.id > 36000", part_size=500_000, parallel=1)
    assert len(done(journey)) > 5
    journey.pair.source.run(CHANGES[change])
    if change == "alter type":
        journey.pair.destination.run("ALTER TABLE big ALTER v TYPE bigint")
    if change == "drop":
        journey.pair.source.run("CREATE TABLE other (id int PRIMARY KEY)")
        journey.pair.destination.run("CREATE TABLE other (id int PRIMARY KEY)")
        assert {entry["table"] for entry in journey.copy()["tables"]} == {"public.other"}
        return
    journey.copy(part_size=500_000)
    assert {run for run, *dummy in done(journey).values()} == {2}
    assert journey.drained() >= 5000


def test_part_by_and_what_the_table_must_be_like(make_journey: MakeJourney) -> None:
    """auto: ranges of the key only where they could be gone on with and are cheap to read."""
    journey = make_journey(
        BIG
        + "CREATE TABLE scattered (id uuid PRIMARY KEY, t text); CREATE TABLE unique_too (id int PRIMARY KEY, u int UNIQUE, t text);"
        "CREATE TABLE days (day date, at timestamptz, t text, PRIMARY KEY (day, at)); CREATE TABLE named (id text PRIMARY KEY);"
        "CREATE TABLE moments (at timestamp PRIMARY KEY, t text)",
        rows_of(10_000)
        + "; INSERT INTO scattered SELECT md5(n::text)::uuid, repeat('t', 200) FROM generate_series(1, 10000) n;"
        "INSERT INTO unique_too SELECT n, n, repeat('t', 200) FROM generate_series(1, 10000) n;"
        "INSERT INTO days SELECT date '-infinity', timestamptz '2000-01-01' + n * interval '1 s', 't' FROM generate_series(1, 9) n;"
        "INSERT INTO days SELECT date '2020-01-01' + n / 10, timestamptz '2000-01-01' + n * interval '1 s', repeat('t', 200)"
        " FROM generate_series(1, 10000) n; INSERT INTO days VALUES ('infinity', 'infinity'), ('0044-03-15 BC', 'epoch');"
        "INSERT INTO named SELECT repeat('n', 200) || n FROM generate_series(1, 10000) n;"
        "INSERT INTO moments SELECT timestamp '2020-01-01' + n * interval '1 s', repeat('t', 200) FROM generate_series(1, 9999) n;"
        "INSERT INTO moments VALUES ('infinity')",
    )
    journey.prepare()

    def by_key() -> set[str]:
        rows = journey.pair.destination.query(
            "SELECT t.table_name FROM causeway.copy_part p JOIN causeway.table_copy t USING (migration, relation)"
            " GROUP BY 1 HAVING count(key_column) = count(*) AND count(*) > 3"
        )
        return {row[0] for row in rows}

    journey.copy(part_size=200_000)
    assert by_key() == {"big", "days", "moments"}
    witness.assert_identical(journey.pair, ["public"])
    everything = [f"public.{table}" for table in ("big", "scattered", "unique_too", "days", "named", "moments")]
    journey.copy(part_size=200_000, part_by="key", resync=everything)
    assert by_key() == {"big", "scattered", "unique_too", "days", "moments"}
    witness.assert_identical(journey.pair, ["public"])
    journey.copy(part_size=200_000, part_by="ctid", resync=everything)
    assert by_key() == set()
    assert journey.drained() > 50_000


def test_the_order_of_key_values_is_the_server_s(pair: Any) -> None:
    """Every type, in text and in binary, over the edges of its range and of time."""
    values = {
        "smallint": "SELECT unnest('{-32768,-1,0,1,32767}'::smallint[]) UNION SELECT n::smallint FROM generate_series(-900, 900, 7) n",
        "integer": "SELECT unnest('{-2147483648,-1,0,1,2147483647}'::int[])",
        "bigint": "SELECT unnest('{-9223372036854775808,-1,0,1,9223372036854775807}'::bigint[])",
        "uuid": "SELECT md5(n::text)::uuid FROM generate_series(1, 300) n",
        "date": "SELECT unnest('{-infinity,4714-11-24 BC,0001-12-31 BC,0001-01-01,1900-02-28,1900-03-01,2000-02-29,9999-12-31,"
        "10000-01-01,5874897-12-31,infinity}'::date[]) UNION SELECT date '0005-01-01 BC' + n FROM generate_series(0, 900000, 997) n",
        "timestamp": "SELECT unnest('{-infinity,4714-11-24 00:00:00 BC,0001-12-31 23:59:59.999999 BC,0001-01-01,1999-12-31"
        " 23:59:59.999999,2000-01-01,294276-12-31 23:59:59.999999,infinity}'::timestamp[]) UNION"
        " SELECT timestamp '0005-01-01 BC' + n * interval '37 days 3 h 0.123456 s' FROM generate_series(0, 40000, 31) n",
        "timestamptz": "SELECT unnest('{-infinity,0001-12-31 23:59:59.999999+00 BC,2000-01-01 00:00:00+13,infinity}'::timestamptz[])"
        " UNION SELECT timestamptz '1700-01-01' + n * interval '100 days 1 us' FROM generate_series(0, 2000) n",
    }
    oids = {name: oid for oid, name in key_order.TYPE_NAMES.items()}
    for name, query in values.items():
        with pair.source.connect() as session:
            session.execute("SET DateStyle = ISO; SET TimeZone = UTC")
            texts = [
                key_order.from_text(oids[name], row[0].encode())
                for row in session.execute(f"SELECT k::text FROM ({query}) q(k) ORDER BY q.k").fetchall()
            ]
            sent = {"smallint": "int2send", "integer": "int4send", "bigint": "int8send"}.get(name, f"{name}_send")
            binary = [
                key_order.from_binary(oids[name], row[0])
                for row in session.execute(f"SELECT {sent}(k) FROM ({query}) q(k) ORDER BY q.k").fetchall()
            ]
        assert texts == binary and texts == sorted(set(texts)) and len(texts) > 3, name


def test_copied_again_while_the_rest_goes_on(make_journey: MakeJourney) -> None:
    """What differs is made the same, under a new mark; the rest stays, and CDC goes on."""
    journey = make_journey(BIG + "CREATE TABLE small (id int PRIMARY KEY, b bigint REFERENCES big)", rows_of(3000))
    journey.pair.source.run("INSERT INTO small VALUES (1, 2)")
    journey.prepare()
    journey.copy()
    journey.drained()
    journey.pair.destination.run(
        "SET session_replication_role = replica; DELETE FROM big WHERE id < 4000; UPDATE big SET v = 9"
    )
    movers = Movers(journey.pair.source, 6000 // WRITERS)
    with movers.at_work():
        before = journey.marks()
        planned = journey.migration.run("pg_full_copy", check=True, resync=["public.big"])
        assert planned["changed"] and any("TRUNCATE" in s["sql"] for s in planned["statements"])
        result = journey.copy(resync=["public.big"])
        assert result["changed"] and result["parts"] == 1
        met = journey.progress("conflicts")  # with what was spoiled above
        moved = movers.moved
        journey.task()
        until(lambda: movers.moved > moved + 200)
    after = journey.marks()
    assert after["small"] == before["small"] and after["big"] != before["big"]
    journey.task(wait="caught_up", wait_timeout=120)
    assert witness.assert_identical(journey.pair, ["public"]) > 1500
    assert journey.progress("conflicts") == met
    assert not journey.copy()["changed"]


def test_what_may_not_be_copied_again(make_journey: MakeJourney) -> None:
    journey = make_journey("CREATE TABLE kept (id int PRIMARY KEY)", "INSERT INTO kept VALUES (1), (2)")
    journey.pair.destination.run("INSERT INTO kept VALUES (77)")
    more = {**journey.migration.more, "conflicting_tables": "ignore"}
    kept = Migration(
        journey.name, journey.migration.source, journey.migration.destination, journey.migration.objects, more
    )
    journey.prepare()
    kept.run("pg_full_copy")
    with pytest.raises(ModuleFailed, match=r"public\.kept.*held rows before"):
        kept.run("pg_full_copy", resync=["public.kept"])
    with pytest.raises(ModuleFailed, match=r"public\.nothing.*no table of that name"):
        kept.run("pg_full_copy", resync=["public.nothing"])
    assert journey.pair.destination.query("SELECT id FROM kept ORDER BY 1") == [(1,), (2,), (77,)]


@pytest.mark.faults
def test_killed_in_a_table_with_the_user_s_own_rows(make_journey: MakeJourney) -> None:
    """conflicting_tables: ignore. One transaction a table, so nothing of it stands; the user's rows do, all the time."""
    journey = make_journey(BIG + EXTERNAL, rows_of(20_000))
    journey.pair.destination.run("INSERT INTO big SELECT -n, -1, 'the user''s' FROM generate_series(1, 500) n")
    journey.migration.more["conflicting_tables"] = "ignore"
    users = "SELECT count(*), sum(id), min(filler) FROM big WHERE v = -1"
    found = journey.pair.destination.query(users)
    journey.prepare()
    movers = Movers(journey.pair.source, 40_000 // WRITERS)
    with movers.at_work():
        killed_at(journey, "NEW.id > 36000", part_size=500_000, parallel=1)
        assert journey.pair.destination.query(users) == found
        moved = movers.moved
        until(lambda: movers.moved > moved + 100)
        journey.copy(part_size=500_000)
        journey.task()
        until(lambda: movers.moved > moved + 300)
    journey.task(wait="caught_up", wait_timeout=120)
    assert journey.pair.destination.query(users) == found
    rows = "SELECT id, v, filler, md5(paper) FROM big WHERE v >= 0 ORDER BY id"
    assert journey.pair.destination.query(rows) == journey.pair.source.query(rows)
    assert journey.progress("conflicts") == 0


@pytest.mark.faults
def test_a_unique_index_that_leaves_the_cut_column_out_waits_for_the_newest_mark(
    make_journey: MakeJourney, clusters: Clusters
) -> None:
    """Rows that moved between the marks stand twice at the destination until CDC has passed the newest of them."""
    journey = make_journey("", "")
    journey.migration.more["types"] = ["schema", "full", "incremental"]
    pair = journey.pair
    pair.source.run(
        BIG + "ALTER TABLE big ADD code bigint UNIQUE; CREATE UNIQUE INDEX both_of ON big (v, id);"
        "CREATE TABLE leans (code bigint REFERENCES big (code), id int PRIMARY KEY)"
    )
    pair.source.run("INSERT INTO big SELECT n * 2, 0, repeat('f', 200), NULL, n FROM generate_series(1, 20000) n")
    pair.source.run("INSERT INTO leans VALUES (7, 1)")
    client: dict[str, Any] = {"client_bin": clusters.bin_dir("18")}
    journey.prepare()
    journey.migration.run("pg_schema_sync", section="pre_data", **client)
    killed_at(journey, "NEW.id > 36000", part_size=500_000, parallel=1, **client)
    assert len(done(journey)) > 5
    pair.source.run("UPDATE big SET id = 50001 WHERE id = 4; UPDATE big SET id = 3 WHERE id = 39998")
    journey.copy(part_size=500_000, **client)
    assert {run for run, *dummy in done(journey).values()} == {1, 2}
    twice = "SELECT count(*) - count(DISTINCT code) FROM big"
    assert pair.destination.value(twice) == 1, "the schedule does not show what it should"
    indexes = "SELECT array_agg(indexrelid::regclass::text ORDER BY indexrelid::regclass::text) FROM pg_index WHERE indrelid = 'big'::regclass"
    journey.migration.run("pg_schema_sync", section="keys", **client)
    assert pair.destination.value(indexes) == ["big_pkey", "both_of"]
    with pytest.raises(ModuleFailed, match="have not all been applied"):
        journey.migration.run("pg_schema_sync", section="foreign_keys", **client)
    journey.task(wait="caught_up", wait_timeout=60)
    doubled = (
        "SELECT id, code FROM big WHERE code IN (SELECT code FROM big GROUP BY 1 HAVING count(*) > 1) ORDER BY 2, 1"
    )
    assert pair.destination.query(doubled) == [], done(journey)
    for section in ("indexes", "foreign_keys"):
        journey.migration.run("pg_schema_sync", section=section, **client)
    assert pair.destination.value(indexes) == ["big_code_key", "big_pkey", "both_of"]
    assert journey.drained() == 20_001
    assert not any(
        journey.migration.run("pg_schema_sync", section=s, **client)["changed"] for s in ("keys", "foreign_keys")
    )
