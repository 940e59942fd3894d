# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What changes a table's definition or file while it is copied: identical in the end, or a stop that names the table."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support import witness
from support.harness.exactness import Journey, MakeJourney
from support.harness.modules import ModuleFailed
from support.waiting import until

HEAVY = pytest.mark.faults_heavy

DDL = """
CREATE TABLE gate (id int PRIMARY KEY, v text);
CREATE TABLE t (id int PRIMARY KEY, v text, n int);
CREATE TABLE s (id int PRIMARY KEY, v text, n int);
CREATE TABLE bare (v text);
"""
ROWS = """
INSERT INTO gate SELECT n, repeat('g', 200) FROM generate_series(1, 4000) n;
INSERT INTO t SELECT n, 't' || n, n FROM generate_series(1, 300) n;
INSERT INTO s SELECT n + 1000, 's' || n, n FROM generate_series(1, 200) n;
INSERT INTO bare SELECT 'bare' FROM generate_series(1, 10);
"""


@contextlib.contextmanager
def held_up(journey: Journey) -> Iterator[Callable[[], None]]:
    """The copy waits in the middle of the biggest table, which comes first, until C(release()) is called."""
    destination = journey.pair.destination
    destination.run(
        "CREATE FUNCTION wait_here() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_catalog.pg_advisory_xact_lock(4712); RETURN NEW; END $$;"
        "CREATE TRIGGER wait_here BEFORE INSERT ON gate FOR EACH ROW WHEN (NEW.id = 2000) EXECUTE FUNCTION wait_here();"
        "ALTER TABLE gate ENABLE ALWAYS TRIGGER wait_here"
    )
    with destination.connect() as gate:
        gate.execute("SELECT pg_advisory_lock(4712)")

        def release() -> None:
            gate.execute("SELECT pg_advisory_unlock_all()")

        yield release


def during_copy(journey: Journey, change: str) -> dict[str, Any]:
    """Copy with one worker; while it holds the snapshot, and before it has come to the small tables, run a change."""
    destination = journey.pair.destination
    with held_up(journey) as release:
        process = journey.migration.start("pg_full_copy", parallel=1)
        until(
            lambda: destination.value(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory' AND datname = current_database()"
            ),
            "the copy does not come to the gate",
        )
        for statement in change.split(";"):
            journey.pair.source.run(statement)
        release()
        return journey.migration.finish("pg_full_copy", process)


SWAP = "BEGIN; ALTER TABLE t RENAME TO x; ALTER TABLE s RENAME TO t; ALTER TABLE x RENAME TO s; COMMIT"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param("TRUNCATE t", marks=HEAVY),
        "INSERT INTO t VALUES (-1); TRUNCATE t; INSERT INTO t VALUES (7, 'seven')",
        "CLUSTER t USING t_pkey; UPDATE t SET v = 'u' WHERE id < 50",
        pytest.param("VACUUM FULL t; DELETE FROM t WHERE id < 50", marks=HEAVY),
        pytest.param("ALTER TABLE t ALTER n SET DEFAULT 5; INSERT INTO t (id) VALUES (-5)", marks=HEAVY),
        SWAP + "; INSERT INTO t VALUES (5001, 'in the new t'); UPDATE s SET v = 'in the new s' WHERE id = 7",
        pytest.param(
            "BEGIN; TRUNCATE t, s, bare; INSERT INTO bare VALUES ('b'); COMMIT; INSERT INTO s SELECT generate_series(1, 20)",
            marks=HEAVY,
        ),
    ],
)
def test_a_table_that_changes_under_the_copy_arrives_as_it_is(make_journey: MakeJourney, change: str) -> None:
    journey = make_journey(DDL, ROWS)
    journey.prepare()
    copied = during_copy(journey, change)
    assert copied["runs"] >= 2
    marks = journey.marks()
    assert marks["t"] != marks["gate"]
    journey.task()
    journey.pair.source.run("UPDATE t SET n = -1 WHERE id % 2 = 1; DELETE FROM s WHERE id % 3 = 0")
    assert journey.drained() > 4000


@pytest.mark.parametrize("ending", ["COMMIT", pytest.param("ROLLBACK", marks=HEAVY)])
def test_a_truncate_that_is_open_at_the_mark(make_journey: MakeJourney, ending: str) -> None:
    """The snapshot still has the rows, their file is as good as gone: the copy waits for the lock, then looks again."""
    journey = make_journey(DDL, ROWS)
    journey.prepare()
    source, destination = journey.pair.ends
    with held_up(journey) as release, source.connect() as other:
        process = journey.migration.start("pg_full_copy", parallel=1)
        until(
            lambda: destination.value(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory' AND datname = current_database()"
            ),
            "the copy does not come to the gate",
        )
        other.execute("BEGIN; INSERT INTO t VALUES (-1); TRUNCATE t; INSERT INTO t VALUES (-2, 'behind', 1)")
        release()
        until(
            lambda: source.value("SELECT count(*) FROM pg_locks WHERE relation = 't'::regclass AND NOT granted"),
            "the copy does not wait for the lock",
        )
        other.execute(ending)
        copied = journey.migration.finish("pg_full_copy", process)
    assert copied["runs"] == (2 if ending == "COMMIT" else 1)
    assert journey.drained() > 4000
    assert destination.value("SELECT count(*) FROM t") == (1 if ending == "COMMIT" else 300)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ('ALTER TABLE t ADD COLUMN "the new" int DEFAULT 3', ("public.t", "the new")),
        ("ALTER TABLE t ALTER n TYPE text USING n::text || ' x'", ("public.t", "n")),
        pytest.param("ALTER TABLE t RENAME TO other", ("public.other",), marks=HEAVY),
    ],
)
def test_what_the_destination_cannot_take_stops_the_copy(
    make_journey: MakeJourney,
    change: str,
    names: tuple[str, ...],
) -> None:
    journey = make_journey(DDL, ROWS)
    journey.prepare()
    with pytest.raises(ModuleFailed) as stopped:
        during_copy(journey, change)
    error = stopped.value.result["error"]
    assert all(name in f"{error['object']} {error['why']}" for name in names), error
    assert error["remedy"]
    journey.pair.destination.run(change.replace("USING n::text || ' x'", ""))
    journey.copy()
    journey.task()
    journey.pair.source.run(f"DELETE FROM {'other' if 'other' in change else 't'} WHERE id < 20")
    assert journey.drained() > 4000


def test_a_table_that_is_dropped_under_the_copy_is_no_longer_asked_for(make_journey: MakeJourney) -> None:
    """Dropping a table is the one change that leaves a difference: what stands at the destination is left alone."""
    journey = make_journey(DDL, ROWS)
    journey.prepare()
    during_copy(journey, "INSERT INTO t VALUES (-1); DROP TABLE s")
    journey.task(wait="caught_up", wait_timeout=60)
    (left,) = witness.differences(journey.pair.source.sql, journey.pair.destination.sql, ["public"])
    assert left.table == "public.s (stands at one end only)"
    assert left.rows_destination == 0


@pytest.mark.parametrize(
    "when",
    [
        pytest.param("before the worker", marks=HEAVY),
        "under the worker",
        pytest.param("while it is stopped", marks=HEAVY),
    ],
)
def test_tables_that_exchange_their_names_behind_the_copy(make_journey: MakeJourney, when: str) -> None:
    """Rows go to the table that they were copied to, never to one that has its name now; a new copy puts it right."""
    journey = make_journey(DDL, ROWS)
    journey.prepare()
    journey.copy()
    source = journey.pair.source
    if when != "before the worker":
        journey.task(wait="caught_up", wait_timeout=60)
    if when == "while it is stopped":
        journey.task("stopped")
    source.run(SWAP)
    source.run("INSERT INTO t VALUES (9001, 'in the new t'); UPDATE s SET v = 'in the new s' WHERE id = 7")
    with pytest.raises(ModuleFailed) as stopped:
        journey.task(wait="caught_up", wait_timeout=30)
    error = stopped.value.result["error"]
    assert "public." in f"{error['object']} {error['why']}", error
    assert "migrate" in error["remedy"], error
    journey.copy()
    assert journey.drained() > 4000


@pytest.mark.parametrize(
    ("change", "column"),
    [
        ("ALTER TABLE t ALTER n TYPE text", "n"),
        ("ALTER TABLE t DROP COLUMN n", "n"),
        pytest.param("ALTER TABLE t RENAME COLUMN n TO m", "m", marks=HEAVY),
    ],
)
def test_rows_before_a_change_of_the_table_are_applied_and_it_goes_on_behind_it(
    make_journey: MakeJourney,
    change: str,
    column: str,
) -> None:
    """All of it comes at once: what lies before the change must not wait for a table that no longer takes it."""
    journey = make_journey(DDL, ROWS, task={"batch_age": 5})
    journey.prepare()
    journey.copy()
    journey.task()
    journey.task("stopped")
    source, destination = journey.pair.ends
    source.run("UPDATE t SET n = 77 WHERE id < 10; INSERT INTO bare VALUES ('before')")
    source.run("INSERT INTO t VALUES (-1, 'before', 1)")
    source.run(change)
    source.run("INSERT INTO t (id, v) VALUES (-2, 'behind')")
    source.run("DELETE FROM t WHERE id = 5")
    with pytest.raises(ModuleFailed) as stopped:
        journey.task(wait="caught_up", wait_timeout=20)
    error = stopped.value.result["error"]
    assert "public.t" in f"{error['object']} {error['why']}", error
    assert column in error["why"], error
    assert destination.query("SELECT id FROM t WHERE id < 0") == [(-1,)]
    destination.run(change)
    assert journey.drained() > 4000
