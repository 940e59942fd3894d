# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows that somebody else has written to the destination: each policy does the same however the stream is cut.

One worker for all tests of this file; each has a schema of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.harness.streaming import Streaming
from support.waiting import until
from support.witness import assert_identical

SIZES = (1, 7, 100000)
DDL = (
    "CREATE TABLE t (id int PRIMARY KEY, v text, big text); ALTER TABLE t ALTER big SET STORAGE EXTERNAL;"
    "CREATE TABLE f (id int PRIMARY KEY, v text, big text); ALTER TABLE f REPLICA IDENTITY FULL;"
    "ALTER TABLE f ALTER big SET STORAGE EXTERNAL;"
    "CREATE TABLE k (id int, v text); ALTER TABLE k REPLICA IDENTITY FULL;"
    "CREATE TABLE aside (id int PRIMARY KEY, n int GENERATED ALWAYS AS IDENTITY, v text);"
    "INSERT INTO t SELECT n, 'old', repeat('b', 5000) FROM generate_series(1, 200) n;"
    "INSERT INTO f SELECT n, 'old', repeat('b', 5000) FROM generate_series(1, 200) n;"
    "INSERT INTO k SELECT n % 20, 'old' FROM generate_series(1, 200) n"
)
# what the destination gets by itself; 41 to 60 are in nobody's way
STRAYED = (
    "".join(
        f"INSERT INTO {t} SELECT n, 'stray', 's' FROM generate_series(301, 340) n;"
        f"DELETE FROM {t} WHERE id BETWEEN 1 AND 40;"
        for t in "tf"
    )
    + "DELETE FROM k WHERE ctid IN (SELECT ctid FROM k WHERE id IN (3, 4, 5, 7) LIMIT 15);"
    "INSERT INTO aside OVERRIDING SYSTEM VALUE SELECT n, n + 1000, 'stray' FROM generate_series(1, 8, 2) n"
)
SMALL = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (2, 'old'), (3, 'old'), (4, 'old')"
STRAY = "INSERT INTO t VALUES (1, 'stray'); DELETE FROM t WHERE id IN (2, 3)"
# Each is one source transaction. With what happens to a row that is not as it should be at its first, second, … change.
KEYED = (
    "INSERT INTO {t} SELECT n, 'new', repeat('n', 3000) FROM generate_series(301, 310) n",
    "UPDATE {t} SET v = 'updated' WHERE id BETWEEN 301 AND 303 OR id BETWEEN 1 AND 3",
    "UPDATE {t} SET v = 'whole', big = 'small' WHERE id BETWEEN 4 AND 6",
    "UPDATE {t} SET v = 'again' WHERE id BETWEEN 1 AND 6",
    "DELETE FROM {t} WHERE id BETWEEN 5 AND 12",
    "INSERT INTO {t} VALUES (311, 'born', ''), (312, 'born', ''); DELETE FROM {t} WHERE id = 311",
    "UPDATE {t} SET id = 313 WHERE id = 41; UPDATE {t} SET id = 413 WHERE id = 313",  # passes a stray
    "UPDATE {t} SET id = 314, v = 'moved' WHERE id = 42",  # stays on a stray, the large value unchanged
    "UPDATE {t} SET id = 315 WHERE id = 13; UPDATE {t} SET id = 500 WHERE id = 315",  # moves from nowhere over a stray
    "INSERT INTO {t} VALUES (316, 'x', 'y'); UPDATE {t} SET id = 317 WHERE id = 316; DELETE FROM {t} WHERE id = 317",
    "DELETE FROM {t} WHERE id = 14; INSERT INTO {t} VALUES (14, 'back', 'z')",
    "UPDATE {t} SET id = 9999 WHERE id = 15; UPDATE {t} SET id = 15 WHERE id = 45; UPDATE {t} SET id = 45 WHERE id = 9999",
    "UPDATE {t} SET v = 'fine' WHERE id BETWEEN 50 AND 60; DELETE FROM {t} WHERE id = 55; INSERT INTO {t} VALUES (700, 'f', 'f')",
)
KEYLESS = (
    "DELETE FROM k WHERE id = 3; INSERT INTO k VALUES (3, 'old')",
    "UPDATE k SET v = 'new' WHERE id = 4; UPDATE k SET v = 'old' WHERE id = 4",
    "UPDATE k SET v = 'new' WHERE id = 5",
    "INSERT INTO k VALUES (6, 'born'); DELETE FROM k WHERE v = 'born'",
    "DELETE FROM k WHERE id = 7",
)
ASIDE = "INSERT INTO aside (id, v) SELECT n, 'source' FROM generate_series(1, 8) n; UPDATE aside SET n = DEFAULT WHERE id = 2"


SCHEMAS = {
    **{f"same_{policy}_{size}": (DDL, STRAYED) for policy in ("overwrite", "keep") for size in SIZES},
    **{f"each_{policy}_{size}": (SMALL, STRAY) for policy in ("overwrite", "keep", "stop") for size in (1, 100000)},
    "flood": (
        "CREATE TABLE t (id int PRIMARY KEY, v text)",
        "INSERT INTO t SELECT n, 'stray' FROM generate_series(1, 5000) n",
    ),
    "live": (
        "CREATE TABLE t (id int PRIMARY KEY, v text)",
        "INSERT INTO t SELECT n, 'stray' FROM generate_series(1, 999) n",
    ),
    "bare": (
        "CREATE TABLE t (id int PRIMARY KEY, v text)",
        "ALTER TABLE t DROP CONSTRAINT t_pkey; INSERT INTO t VALUES (1, 'stray'), (2, 'stray')",
    ),
}
SHORT = r"SELECT regexp_replace(t::text, '(.)\1{20,}', '\1-' || length(t::text), 'g')"


@pytest.fixture(scope="module")
def task(make_lasting_pair: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Streaming]:
    pair = make_lasting_pair()
    for schema, (ddl, strays) in SCHEMAS.items():
        pair.run(f"CREATE SCHEMA {schema}; SET search_path = {schema}; {ddl}; RESET search_path")
        pair.destination.run(f"SET search_path = {schema}; {strays}; RESET search_path")
    streaming = Streaming(pair, tmp_path_factory.mktemp("conflicts"))
    streaming.begin(tuple(SCHEMAS))
    streaming.start()
    yield streaming
    streaming.close()


def goes_by(task: Streaming, policy: str, size: int) -> int:
    """Let the task go by this policy in batches of this size, from the next change on; the conflicts until now."""
    if task.process is None or task.process.poll() is not None:
        task.start()
    task.want("paused")
    task.wait_state("paused")
    task.want("started", {"conflict_policy": policy, "batch_size": size, "batch_age": 0 if size == 1 else 60})
    return int(task.progress("conflicts"))


def at_source(task: Streaming, schema: str, *transactions: str) -> None:
    with task.pair.source.connect() as connection:
        connection.execute(f"SET search_path = {schema}")
        for changes in transactions:
            connection.execute(changes)


def told(task: Streaming, schema: str) -> list[Any]:
    """Table, kind, count and policy of the events of a schema."""
    return task.pair.destination.query(
        "SELECT split_part(detail ->> 'table', '.', 2), detail ->> 'kind', (detail ->> 'count')::int, detail ->> 'policy'"
        " FROM causeway.event WHERE what = 'conflict' AND detail ->> 'table' LIKE %s ORDER BY 1, 2",
        [schema + ".%"],
    )


@pytest.mark.parametrize("policy", ["overwrite", "keep"])
def test_the_same_contents_and_count_whatever_the_batches(task: Streaming, policy: str) -> None:
    source, destination = task.pair.ends
    rows: dict[int, dict[str, Any]] = {}
    events: dict[int, list[Any]] = {}
    for size in SIZES:
        schema = f"same_{policy}_{size}"
        before = goes_by(task, policy, size)
        task.want("paused")
        task.wait_state("paused")
        at_source(task, schema, *(changes.format(t=t) for t in "tf" for changes in KEYED), *KEYLESS, ASIDE)
        task.want("started")
        task.drain()
        rows[size] = {t: destination.query(f"{SHORT} FROM {schema}.{t} t ORDER BY 1") for t in ("t", "f", "k", "aside")}
        events[size] = told(task, schema)
        assert sum(row[2] for row in events[size]) == task.progress("conflicts") - before
    for size in SIZES[1:]:
        for table, found in rows[size].items():
            assert found == rows[1][table], (table, size)
        assert events[size] == events[1]
    assert sum(row[2] for row in events[1]) > 60
    assert {row[3] for row in events[1]} == {policy}
    assert {row[1] for row in events[1] if row[0] == "t"} == {
        "insert met a row",
        "update found no row",
        "update found no row, and without its large values it cannot be written",
        "update to a key that another row has",
        "delete found no row",
    }
    here = {row[0] for row in source.query(f"{SHORT} FROM same_{policy}_1.f t")}
    there = {row[0] for row in rows[1]["f"]}
    if policy == "overwrite":  # nothing of what the stream has touched differs
        assert not {row for row in here - there if ",old,b-" not in row}
        assert rows[1]["aside"] == source.query(f"{SHORT} FROM same_{policy}_1.aside t ORDER BY 1")
    else:
        assert sum(",stray," in row for row in there) > 20
        assert not any(",again," in row for row in there)


WAYS = {
    "an insert meets a row": ("INSERT INTO t VALUES (1, 'new')", 1),
    "an update of a missing row": ("UPDATE t SET v = 'new' WHERE id = 2", 2),
    "a delete of a missing row": ("DELETE FROM t WHERE id = 3", 3),
}
RESULTS = {
    ("an insert meets a row", "overwrite"): [(1, "new")],
    ("an insert meets a row", "keep"): [(1, "stray")],
    ("an update of a missing row", "overwrite"): [(2, "new")],
    ("an update of a missing row", "keep"): [],
    ("a delete of a missing row", "overwrite"): [],
    ("a delete of a missing row", "keep"): [],
}


@pytest.mark.parametrize("size", [1, 100000])
@pytest.mark.parametrize("policy", ["overwrite", "keep"])
def test_each_conflict_under_each_policy(task: Streaming, policy: str, size: int) -> None:
    schema = f"each_{policy}_{size}"
    before = goes_by(task, policy, size)
    for number, (way, (changes, key)) in enumerate(WAYS.items(), 1):
        at_source(task, schema, changes)
        task.drain()
        assert task.progress("conflicts") == before + number
        found = task.pair.destination.query(f"SELECT id, v FROM {schema}.t WHERE id = %s", [key])
        assert found == RESULTS[way, policy]


@pytest.mark.parametrize("size", [1, 100000])
def test_stop_applies_nothing_and_goes_on_after_the_repair(task: Streaming, size: int) -> None:
    schema = f"each_stop_{size}"
    destination = task.pair.destination
    before = goes_by(task, "stop", size)
    repairs = ("DELETE FROM t WHERE id = 1", "INSERT INTO t VALUES (2, 'old')", "INSERT INTO t VALUES (3, 'old')")
    for (way, (changes, key)), repair in zip(WAYS.items(), repairs, strict=True):
        contents = destination.query(f"SELECT * FROM {schema}.t ORDER BY 1")
        at_source(
            task,
            schema,
            f"BEGIN; UPDATE t SET v = 'near {key}' WHERE id = 4; {changes}; INSERT INTO t VALUES (1{key}); COMMIT",
        )
        assert task.wait_exit() == 1
        assert destination.query(f"SELECT * FROM {schema}.t ORDER BY 1") == contents
        error = task.progress("last_error")
        assert error["code"] == "conflict"
        assert re.fullmatch(rf"{schema}\.t, row with key hash [0-9a-f]{{16}}", error["object"])
        assert task.progress("state") == "failed"
        # the query that it names finds the row, at the end that has it
        query = re.search(r"SELECT \* FROM .* = '[0-9a-f]{16}'", error["remedy"])[0]
        assert {row[0] for end in task.pair.ends for row in end.query(query)} == ({key} if key < 3 else set()), way
        destination.run(f"SET search_path = {schema}; {repair}; RESET search_path")
        task.start()
        task.wait_state("running")
        task.drain()
    assert_identical(task.pair, [schema])
    assert task.progress("conflicts") == before


def test_a_flood_of_conflicts_is_few_events_and_an_exact_count(task: Streaming) -> None:
    before = goes_by(task, "overwrite", 50)
    inserts = [f"INSERT INTO t SELECT n, 'new' FROM generate_series({n}, {n + 499}) n" for n in range(1, 5000, 500)]
    at_source(task, "flood", *inserts, "DELETE FROM t WHERE id <= 10")
    task.drain()
    assert assert_identical(task.pair, ["flood"]) == 4990
    assert task.progress("conflicts") == before + 5000
    assert told(task, "flood") == [("t", "insert met a row", 5000, "overwrite")]
    detail = task.pair.destination.value("SELECT detail FROM causeway.event WHERE detail ->> 'table' = 'flood.t'")
    assert len(set(detail["key_hashes"])) == 10
    assert "new" not in str(detail)
    assert "stray" not in str(detail)


def test_the_policy_changes_while_the_task_runs(task: Streaming) -> None:
    before = goes_by(task, "overwrite", 100000)
    numbers = iter(range(1, 1000))

    def found() -> str:
        key = next(numbers)
        task.pair.source.run("INSERT INTO live.t VALUES (%s, 'new')", [key])
        task.drain()
        return str(task.pair.destination.value("SELECT v FROM live.t WHERE id = %s", [key]))

    assert found() == "new"
    task.want("started", {"conflict_policy": "keep"})
    until(lambda: found() == "stray", "the policy did not change")
    task.want("started", {"conflict_policy": "overwrite"})
    until(lambda: found() == "new", "the policy did not change back")
    assert task.progress("conflicts") == before + next(numbers) - 1


def test_a_table_without_an_index_over_its_key(task: Streaming) -> None:
    """No unique violation tells of a row that is met: it is looked for."""
    before = goes_by(task, "overwrite", 100000)
    at_source(
        task,
        "bare",
        "INSERT INTO t SELECT n, 'new' FROM generate_series(1, 30) n",
        "UPDATE t SET id = 100 WHERE id = 3",
    )
    task.drain()
    assert assert_identical(task.pair, ["bare"]) == 30
    assert task.progress("conflicts") == before + 2
