# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Exact whatever a transaction does, and wherever the slot, the snapshot and the worker's start fall into it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from support.harness.exactness import Journey, MakeJourney
from support.waiting import until

OPEN = """
CREATE TABLE t (id int PRIMARY KEY, v text);
CREATE TABLE line (v text);
"""


def waits_for(end: Any, connection: Any) -> Any:
    """Whether a slot that is being made waits for the transaction of this connection."""
    return end.value(
        "SELECT count(*) FROM pg_locks held JOIN pg_locks asked USING (transactionid)"
        " WHERE held.pid = %s AND held.granted AND NOT asked.granted",
        [connection.info.backend_pid],
    )


class Straddler:
    """Transactions that are open while a slot becomes consistent: it waits for those that began before it looked."""

    def __init__(self, journey: Journey) -> None:
        self.journey = journey
        self.source = journey.pair.source
        self.writers = 0

    def writer(self, stack: contextlib.ExitStack, name: str) -> Any:
        connection = self.source.connect()
        stack.callback(connection.close)
        connection.execute("BEGIN")
        connection.execute(f"INSERT INTO line VALUES ('{name} begins')")
        self.writers += 1  # each its own row, or they would wait for each other
        connection.execute("UPDATE t SET v = v || ' changed' WHERE id = %s", [self.writers])
        return connection

    @contextlib.contextmanager
    def across(self, module: str, **more: Any) -> Iterator[tuple[Any, str]]:
        """Run a module that makes a slot; what is left open behind its consistent point: a transaction, a prepared one.

        The slot waits for a first one, then, looking again, for a second one; whatever begins behind that is open
        when the slot's position is decided.
        """
        with contextlib.ExitStack() as stack:
            first = self.writer(stack, f"{module} first")
            process = self.journey.migration.start(module, **more)
            until(lambda: waits_for(self.source, first), "the slot does not wait for the first")
            second = self.writer(stack, f"{module} second")
            first.execute("COMMIT")
            until(lambda: waits_for(self.source, second), "the slot does not wait for the second")
            opened = self.writer(stack, f"{module} open")
            prepared = self.writer(stack, f"{module} prepared")
            prepared.execute(f"PREPARE TRANSACTION '{self.journey.name} {module}'")
            late = self.writer(stack, f"{module} late")
            second.execute("COMMIT")
            assert process.poll() is None
            self.journey.migration.finish(module, process)
            late.execute("SAVEPOINT s")
            late.execute("INSERT INTO line VALUES ('taken back')")
            late.execute("ROLLBACK TO s")
            late.execute("COMMIT")
            yield opened, f"COMMIT PREPARED '{self.journey.name} {module}'"


def test_open_across_the_slot_the_snapshot_and_the_start(make_journey: MakeJourney) -> None:
    """Open and prepared ones, committed in another order than begun, each behind the next step or the next but one."""
    journey = make_journey(OPEN, "INSERT INTO t SELECT n, '' FROM generate_series(1, 1000) n")
    source = journey.pair.source
    journey.migration.run("pg_replica_identity")
    journey.migration.run("pg_publication")
    straddler = Straddler(journey)
    with straddler.across("pg_repl_slot") as (around_slot, commit_slot):
        around_slot.execute("INSERT INTO line VALUES ('behind the slot')")
        around_slot.execute("COMMIT")
        source.run(commit_slot)
        with straddler.across("pg_full_copy") as (opened, commit_prepared):
            opened.execute("UPDATE t SET id = id + 5000 WHERE id BETWEEN 100 AND 120")
            with contextlib.ExitStack() as stack:
                around_start = straddler.writer(stack, "start")
                journey.task()
                around_start.execute("INSERT INTO line VALUES ('behind the start')")
                source.run(commit_prepared)
                journey.task(wait="caught_up", wait_timeout=60)
                around_start.execute("COMMIT")
            opened.execute("DELETE FROM t WHERE id = 5101")
            opened.execute("COMMIT")
    assert journey.drained() > 1000
    lines = "SELECT v, count(*) FROM line GROUP BY v"
    found = dict(journey.pair.destination.query(lines))
    assert set(found.values()) == {1} and "taken back" not in found
    assert len(found) == 13, found


def test_a_transaction_open_from_the_slot_to_the_worker(make_journey: MakeJourney) -> None:
    """Begun before the copy's snapshot was asked for, an open transaction is waited for, and named when it stays."""
    journey = make_journey(OPEN, "INSERT INTO t VALUES (1, '')")
    journey.prepare()
    source = journey.pair.source
    with source.connect() as other:
        other.execute("BEGIN; INSERT INTO line VALUES ('long')")
        process = journey.migration.start("pg_full_copy")
        until(lambda: waits_for(source, other), "the snapshot does not wait")
        source.run("UPDATE t SET v = 'changed while it waits'")
        assert process.poll() is None
        other.execute("INSERT INTO line VALUES ('longer'); COMMIT")
    journey.migration.finish("pg_full_copy", process)
    assert journey.drained() == 3


CHANGED = """
CREATE TABLE t (id int PRIMARY KEY, v text, big text, u int UNIQUE);
ALTER TABLE t ALTER big SET STORAGE EXTERNAL;
CREATE TABLE place (pos int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, name text NOT NULL);
CREATE TABLE bag (v text, w numeric);
CREATE TABLE parent (id int PRIMARY KEY, v text);
CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent, v text);
CREATE TABLE lone (id int PRIMARY KEY);
"""
CHANGED_ROWS = """
INSERT INTO t SELECT n, 'v' || n, repeat(md5(n::text), 300), n FROM generate_series(1, 60) n;
INSERT INTO place SELECT n, 'p' || n FROM generate_series(1, 30) n;
INSERT INTO bag SELECT 'b' || n % 3, n % 5 FROM generate_series(1, 60) n;
INSERT INTO parent SELECT n, 'a' FROM generate_series(1, 20) n;
INSERT INTO child SELECT n, n, 'a' FROM generate_series(1, 20) n;
INSERT INTO lone SELECT generate_series(1, 10);
"""
# Each is one transaction, and may be repeated; {n} is another number each time.
CHANGES = {
    "keys exchanged": "UPDATE t SET id = -1 WHERE id = 1; UPDATE t SET id = 1 WHERE id = 2; UPDATE t SET id = 2 WHERE id = -1",
    "keys in a ring": "UPDATE t SET id = -id WHERE id IN (3, 4, 5); UPDATE t SET id = 4 WHERE id = -3;"
    " UPDATE t SET id = 5 WHERE id = -4; UPDATE t SET id = 3 WHERE id = -5",
    "a key changes, the large value stays": "UPDATE t SET id = id + 1000 * {n} WHERE id IN (6, 7);"
    " UPDATE t SET v = 'moved {n}' WHERE id IN (1006, 2007)",
    "a large value, then another column": "UPDATE t SET big = repeat('b{n}', 5000) WHERE id = 8;"
    " UPDATE t SET v = 'w{n}' WHERE id = 8; UPDATE t SET id = -8 WHERE id = 8; UPDATE t SET id = 8 WHERE id = -8",
    "a unique value changes hands": "UPDATE t SET u = NULL WHERE id = 10; UPDATE t SET u = 10 WHERE id = 11;"
    " UPDATE t SET u = 11 WHERE id = 10; UPDATE t SET u = NULL WHERE id = 10; UPDATE t SET u = 20000 + {n} WHERE id = 11;"
    " UPDATE t SET u = 10 WHERE id = 10; UPDATE t SET u = 11 WHERE id = 11",
    "a row goes and comes with its unique value elsewhere": "DELETE FROM t WHERE id = 12; INSERT INTO t VALUES"
    " (12, 'new {n}', 'short', NULL); UPDATE t SET u = 12 WHERE id = 13; UPDATE t SET u = 13 WHERE id = 12",
    "born and gone": "INSERT INTO t VALUES (500, 'x', '', 500); DELETE FROM t WHERE id = 500; INSERT INTO t VALUES"
    " (500, 'y', '', NULL); UPDATE t SET id = 501 WHERE id = 500; DELETE FROM t WHERE id = 501",
    "a deferrable key shifted by one": "UPDATE place SET pos = pos + 1",
    "a deferrable key shifted back, names exchanged": "UPDATE place SET pos = pos - 1;"
    " UPDATE place SET pos = 1000 - pos; UPDATE place SET pos = 1000 - pos; DELETE FROM place WHERE pos = 30 - {n}",
    "a bag": "INSERT INTO bag VALUES ('b1', '1.0'), ('b1', '1.00'), (NULL, NULL), (NULL, NULL);"
    " DELETE FROM bag WHERE ctid = (SELECT min(ctid) FROM bag WHERE v = 'b1' AND w = 1);"
    " UPDATE bag SET w = w + 1 WHERE v = 'b2'; DELETE FROM bag WHERE ctid = (SELECT max(ctid) FROM bag WHERE v IS NULL)",
    "blocks taken back": "DO $$ BEGIN FOR n IN 1..200 LOOP BEGIN INSERT INTO bag VALUES ('sub', n);"
    " UPDATE t SET v = v || n WHERE id = 20; IF n % 3 > 0 THEN RAISE EXCEPTION 'no'; END IF;"
    " EXCEPTION WHEN raise_exception THEN NULL; END; END LOOP; END $$; SAVEPOINT a; DELETE FROM t; SAVEPOINT b;"
    " INSERT INTO t VALUES (1, 'no'); ROLLBACK TO b; RELEASE b; ROLLBACK TO a; UPDATE t SET v = 'after' WHERE id = 21",
    "emptied among rows": "INSERT INTO bag VALUES ('before', {n}); TRUNCATE bag; INSERT INTO bag VALUES ('after', {n})",
    "emptied, refilled, emptied": "TRUNCATE lone; INSERT INTO lone VALUES ({n}); TRUNCATE lone; INSERT INTO lone VALUES (1)",
    "emptied with what refers to it": "INSERT INTO parent VALUES (100 + {n}, 'p'); TRUNCATE parent, child;"
    " INSERT INTO parent VALUES (1, 'n{n}'), (2, ''); INSERT INTO child VALUES (1, 1, '{n}')",
    "emptied by cascade": "TRUNCATE parent CASCADE; INSERT INTO parent VALUES ({n}, 'c'); INSERT INTO child VALUES (5, {n}, '')",
    "emptied and taken back": "SAVEPOINT a; TRUNCATE t; TRUNCATE parent, child; ROLLBACK TO a; UPDATE t SET v = 'b' WHERE id = 30",
}


def change_all(journey: Journey, number: int) -> None:
    for changes in CHANGES.values():
        journey.pair.source.run(f"BEGIN; {changes.replace('{n}', str(number))}; COMMIT")


@pytest.mark.parametrize("identity", ["full", "auto"])
def test_every_change_before_the_mark_behind_it_and_in_the_stream(make_journey: MakeJourney, identity: str) -> None:
    journey = make_journey(CHANGED, CHANGED_ROWS)
    journey.prepare(identity)
    change_all(journey, 1)
    journey.copy()
    change_all(journey, 2)
    journey.forget("t")
    journey.forget("child")
    journey.copy()
    change_all(journey, 3)
    journey.task()
    change_all(journey, 4)
    journey.drained()
    for number, changes in enumerate(CHANGES, 5):  # each by itself too: beside others a difference may heal
        journey.pair.source.run(f"BEGIN; {CHANGES[changes].replace('{n}', str(number))}; COMMIT")
        if number % 4 == 0:
            journey.drained()
    assert journey.drained() > 60


def test_one_transaction_of_many_batches(make_journey: MakeJourney) -> None:
    """Forty pieces into one destination transaction: seen whole or not at all, and exact, with all kinds of change."""
    journey = make_journey(CHANGED, CHANGED_ROWS, task={"batch_size": 500})
    journey.prepare()
    journey.copy()
    source, destination = journey.pair.ends
    journey.task()
    with source.connect() as small, source.connect() as large:
        large.execute("BEGIN")
        large.execute("INSERT INTO t SELECT n, 'l', '', n FROM generate_series(1001, 13000) n")
        small.execute("UPDATE parent SET v = 'small' WHERE id = 1")
        large.execute("UPDATE t SET v = 'l2' WHERE id BETWEEN 1001 AND 5000")
        large.execute("SAVEPOINT s; DELETE FROM t WHERE id > 1000; ROLLBACK TO s")
        for changes in ("keys exchanged", "a unique value changes hands", "emptied among rows", "blocks taken back"):
            large.execute(CHANGES[changes].replace("{n}", "9"))
        large.execute("UPDATE t SET id = id + 100000 WHERE id BETWEEN 1001 AND 3000")
        large.execute("DELETE FROM t WHERE id BETWEEN 3001 AND 4000")
        small.execute("INSERT INTO lone VALUES (77)")
        large.execute("COMMIT")
    journey.task(wait="caught_up", wait_timeout=120)
    assert destination.value("SELECT count(*) FROM t WHERE id > 1000") == 11000
    assert journey.drained() > 11000
