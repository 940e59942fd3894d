# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every kind of change by its name, in both protocols: one worker carries them all, the witness compares each.

A kind has a schema of its own at both ends. Its steps are run at the source twice: all before the worker starts, so that
they come as one batch, and one after the other with a drain behind each.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from support.clusters.pairs import End
from support.harness.streaming import Streaming
from support.witness import assert_identical

BIG = "repeat(md5(random()::text), 400)"


@dataclasses.dataclass(frozen=True)
class Kind:
    """``ddl`` at both ends (``there``: another one at the destination, ``first``: before it there), ``steps`` at the
    source; {n} is another number in each round. ``own``: it has a type that is only sent as text; ``icu``: it needs ICU.
    """

    ddl: str
    steps: tuple[str, ...]
    there: str = ""
    first: str = ""
    own: bool = False
    icu: bool = False
    compared: str = ""
    """What is compared instead of whole tables: a query."""


COLUMNS_1600 = ", ".join(f"c{n} int" for n in range(2, 1601))
VALUES_1600 = ", ".join(f"n + {n}" for n in range(2, 1601))
KINDS: dict[str, Kind] = {
    "zero-column tables": Kind(
        "CREATE TABLE t (); ALTER TABLE t REPLICA IDENTITY FULL",
        ("INSERT INTO t SELECT FROM generate_series(1, 6)", "DELETE FROM t WHERE ctid IN (SELECT ctid FROM t LIMIT 2)"),
    ),
    "1600 columns": Kind(
        f"CREATE TABLE t (c1 int PRIMARY KEY, {COLUMNS_1600}); ALTER TABLE t REPLICA IDENTITY FULL;"
        f"CREATE TABLE d (c1 int PRIMARY KEY, {COLUMNS_1600});"
        f"CREATE TABLE k (c1 int, {COLUMNS_1600}); ALTER TABLE k REPLICA IDENTITY FULL",
        (
            *(
                f"INSERT INTO {t} SELECT n, {VALUES_1600} FROM generate_series(10 * {{n}}, 10 * {{n}} + 6) n"
                for t in "tdk"
            ),
            *(f"UPDATE {t} SET c1600 = -c1600, c2 = NULL" for t in "tdk"),
            *(f"UPDATE {t} SET c1 = -c1 - 1 WHERE c1 % 2 = 0" for t in "tdk"),
            *(f"DELETE FROM {t} WHERE c1 % 5 = 0" for t in "tdk"),
        ),
    ),
    "enums, domains, composites, their arrays and ranges under other OIDs": Kind(
        "CREATE TYPE mood AS ENUM ('sad', 'ok', 'so ''so'); CREATE DOMAIN positive AS int CHECK (VALUE > 0);"
        "CREATE TYPE pair AS (a int, m mood); CREATE TYPE span AS RANGE (subtype = float8);"
        "CREATE TABLE t (id int PRIMARY KEY, m mood, ms mood[], p positive, ps positive[], c pair, cs pair[], r span,"
        " rs span[]); CREATE TABLE k (m mood, c pair[], r span); ALTER TABLE k REPLICA IDENTITY FULL;"
        "CREATE TABLE by_enum (m mood PRIMARY KEY, v int)",
        (
            "INSERT INTO t SELECT n, 'ok', '{sad,NULL}', n, ARRAY[n, 7], ROW(n, 'sad')::pair, ARRAY[ROW(n, NULL)::pair, NULL],"
            " span(n, n + 0.5), ARRAY[span(n, NULL)] FROM generate_series(20 * {n}, 20 * {n} + 9) n",
            "INSERT INTO k SELECT 'ok', ARRAY[ROW(1, 'ok')::pair], span(0, 1) FROM generate_series(1, 7)",
            "UPDATE t SET m = 'so ''so', c = ROW(0, NULL)::pair, rs = NULL WHERE id % 2 = 0",
            "DELETE FROM k WHERE ctid = (SELECT min(ctid) FROM k)",
            "INSERT INTO by_enum VALUES ('sad', 1), ('ok', 2); UPDATE by_enum SET v = 3; DELETE FROM by_enum",
        ),
        first="CREATE TYPE shifts_the_oids AS ENUM ('x')",
        own=True,
    ),
    "generated columns": Kind(
        "CREATE TABLE t (id int PRIMARY KEY, v int, g int GENERATED ALWAYS AS (v * 2) STORED, w text);"
        "CREATE TABLE f (id int PRIMARY KEY, v int, g int GENERATED ALWAYS AS (v * 2) STORED, w text);"
        "ALTER TABLE f REPLICA IDENTITY FULL",
        (
            *(f"INSERT INTO {t} (id, v) SELECT n, n FROM generate_series(30 * {{n}}, 30 * {{n}} + 9) n" for t in "tf"),
            *(f"UPDATE {t} SET v = v + 1 WHERE id % 3 = 0" for t in "tf"),
            *(f"DELETE FROM {t} WHERE id % 5 = 0" for t in "tf"),
        ),
    ),
    "a primary key on a generated column": Kind(
        "CREATE TABLE t (v int, g int GENERATED ALWAYS AS (v * 2) STORED PRIMARY KEY, w text);"
        "ALTER TABLE t REPLICA IDENTITY FULL;"
        "CREATE TABLE u (v int NOT NULL UNIQUE, g int GENERATED ALWAYS AS (v * 2) STORED PRIMARY KEY, w text);"
        "ALTER TABLE u REPLICA IDENTITY FULL",
        (
            *(f"INSERT INTO {t} (v) SELECT n FROM generate_series(30 * {{n}}, 30 * {{n}} + 9) n" for t in "tu"),
            *(f"UPDATE {t} SET w = 'x' WHERE v % 3 = 0" for t in "tu"),
            *(f"UPDATE {t} SET v = -v - 1 WHERE v % 4 = 0" for t in "tu"),
            *(f"DELETE FROM {t} WHERE v % 5 = 0" for t in "tu"),
        ),
    ),
    "identity ALWAYS": Kind(
        "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v int);"
        "CREATE TABLE beside (k text PRIMARY KEY, n int GENERATED ALWAYS AS IDENTITY, v int)",
        (
            "INSERT INTO t (v) SELECT generate_series(1, 20)",
            "INSERT INTO beside (k, v) SELECT '{n} ' || n, n FROM generate_series(1, 20) n",
            "UPDATE t SET v = v + 1; UPDATE t SET id = DEFAULT WHERE id % 2 = 0",
            "UPDATE beside SET v = v + 1; UPDATE beside SET n = DEFAULT WHERE v % 2 = 0",
            "DELETE FROM t WHERE v % 7 = 0",
        ),
    ),
    "dropped columns": Kind(
        "CREATE TABLE t (a int, id int PRIMARY KEY, b text, c int); ALTER TABLE t DROP a; ALTER TABLE t DROP b",
        (
            "INSERT INTO t SELECT n, n FROM generate_series(30 * {n}, 30 * {n} + 9) n",
            "UPDATE t SET c = 0 WHERE id % 3 = 0",
            "DELETE FROM t WHERE id % 5 = 0",
        ),
        there="CREATE TABLE t (c int, x text, id int PRIMARY KEY); ALTER TABLE t DROP x",
    ),
    "another column order and more columns at the destination": Kind(
        "CREATE TABLE t (id int PRIMARY KEY, a text, b int)",
        (
            "INSERT INTO t SELECT n, 'a', n FROM generate_series(30 * {n}, 30 * {n} + 9) n",
            "UPDATE t SET b = 0 WHERE id % 3 = 0",
            "UPDATE t SET id = -id - 1 WHERE id % 4 = 0",
            "DELETE FROM t WHERE id % 5 = 0",
        ),
        there="CREATE TABLE t (b int, own text DEFAULT 'mine', a text, id int PRIMARY KEY)",
        compared="SELECT id, a, b FROM t ORDER BY id",
    ),
    **{
        f"identity {name}": Kind(
            f"CREATE TABLE t (id int PRIMARY KEY, e text NOT NULL UNIQUE, big text, v int);"
            f"ALTER TABLE t ALTER big SET STORAGE EXTERNAL; ALTER TABLE t REPLICA IDENTITY {identity}",
            (
                f"INSERT INTO t SELECT n, 'e' || n, {BIG}, n FROM generate_series(40 * {{n}}, 40 * {{n}} + 19) n",
                "UPDATE t SET v = v + 1 WHERE id % 3 = 0",
                "UPDATE t SET id = -id - 1 WHERE id % 4 = 0",
                "UPDATE t SET e = 'f' || id WHERE id % 7 = 0",
                "UPDATE t SET e = e || 'x', id = id + 100000 WHERE id % 6 = 0",
                "DELETE FROM t WHERE id % 5 = 0",
            ),
        )
        for name, identity in (("default", "DEFAULT"), ("full", "FULL"), ("index", "USING INDEX t_e_key"))
    },
    "identity nothing": Kind(
        "CREATE TABLE t (id int PRIMARY KEY, v int); ALTER TABLE t REPLICA IDENTITY NOTHING",
        (
            "INSERT INTO t SELECT n, n FROM generate_series(30 * {n}, 30 * {n} + 9) n",
            "TRUNCATE t; INSERT INTO t VALUES ({n}, 0)",
        ),
    ),
    "keyless tables as multisets by output text": Kind(
        "CREATE TABLE t (n numeric, f float8, j json, p point, x int); ALTER TABLE t REPLICA IDENTITY FULL;"
        "CREATE TABLE papers (x xml, b box); ALTER TABLE papers REPLICA IDENTITY FULL",
        (
            "INSERT INTO t SELECT '1.0', '-0', '{\"a\":1}', '(1,2)', 1 FROM generate_series(1, 5)",
            "INSERT INTO t SELECT '1.00', '0', '{\"a\": 1}', '(1,2)', 1 FROM generate_series(1, 5)",
            "DELETE FROM t WHERE ctid IN (SELECT ctid FROM t WHERE n::text = '1.00' LIMIT 2)",
            "UPDATE t SET x = {n} WHERE ctid IN (SELECT ctid FROM t WHERE f::text = '-0' LIMIT 3)",
            "UPDATE t SET j = NULL, p = NULL WHERE ctid = (SELECT max(ctid) FROM t)",
            "INSERT INTO papers SELECT '<a n=\"1\"/>', '(1,1),(0,0)' FROM generate_series(1, 4)",
            "INSERT INTO papers SELECT '<a  n=\"1\"/>', '(1,1),(0,0)' FROM generate_series(1, 4)",
            "DELETE FROM papers WHERE ctid IN (SELECT ctid FROM papers WHERE x::text = '<a  n=\"1\"/>' LIMIT 3)",
        ),
    ),
    "deferrable keys as whole rows": Kind(
        "CREATE TABLE t (pos int PRIMARY KEY DEFERRABLE, v text); ALTER TABLE t REPLICA IDENTITY FULL",
        (
            "INSERT INTO t SELECT n, 'v' FROM generate_series(1000 * {n}, 1000 * {n} + 50) n",
            "UPDATE t SET pos = pos + 1",
            "UPDATE t SET pos = pos - 1; DELETE FROM t WHERE pos % 7 = 0",
        ),
    ),
    "NULLs in unique keys": Kind(
        "CREATE TABLE t (a int, b int, v text, UNIQUE (a, b)); ALTER TABLE t REPLICA IDENTITY FULL",
        (
            "INSERT INTO t SELECT 1, NULL, 'same' FROM generate_series(1, 6)",
            "INSERT INTO t SELECT n, n, 'other' FROM generate_series(10 * {n}, 10 * {n} + 6) n",
            "UPDATE t SET v = 'x' WHERE ctid IN (SELECT ctid FROM t WHERE b IS NULL LIMIT 2)",
            "DELETE FROM t WHERE ctid IN (SELECT ctid FROM t WHERE b IS NULL LIMIT 2)",
        ),
    ),
    "nondeterministic collations as keys": Kind(
        "CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);"
        "CREATE TABLE t (k text COLLATE blind PRIMARY KEY, v int, big text);"
        "ALTER TABLE t ALTER big SET STORAGE EXTERNAL",
        (
            f"INSERT INTO t SELECT 'Key {{n}} ' || n, n, {BIG} FROM generate_series(1, 20) n",
            "UPDATE t SET k = upper(k) WHERE v % 2 = 0",
            "UPDATE t SET k = lower(k) WHERE v % 2 = 0; UPDATE t SET k = 'moved ' || k WHERE v % 4 = 0",
            "DELETE FROM t WHERE k = 'key {n} 1'; INSERT INTO t VALUES ('KEY {n} 1', -1, 'x')",
            "DELETE FROM t WHERE v % 5 = 0",
        ),
        icu=True,
    ),
    "citext as keys": Kind(
        "CREATE TABLE t (k ext.citext PRIMARY KEY, v int, big text); ALTER TABLE t ALTER big SET STORAGE EXTERNAL",
        (
            f"INSERT INTO t SELECT 'Key {{n}} ' || n, n, {BIG} FROM generate_series(1, 20) n",
            "UPDATE t SET k = upper(k::text) WHERE v % 2 = 0",
            "UPDATE t SET k = lower(k::text) WHERE v % 2 = 0; UPDATE t SET k = 'moved ' || k WHERE v % 4 = 0",
            "UPDATE t SET k = upper(k::text) WHERE k OPERATOR(ext.=) 'key {n} 7';"
            "UPDATE t SET k = '{n} seven' WHERE k OPERATOR(ext.=) 'key {n} 7'",
            "DELETE FROM t WHERE k OPERATOR(ext.=) 'key {n} 1'; INSERT INTO t VALUES ('KEY {n} 1', -1, 'x')",
            "DELETE FROM t WHERE v % 5 = 0",
        ),
        own=True,
    ),
    "partitions published as leaves, and rows that move between them": Kind(
        "CREATE TABLE p (id int, at date, v text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);"
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');"
        "CREATE TABLE p2 (v text, at date NOT NULL, id int NOT NULL);"
        "ALTER TABLE p ATTACH PARTITION p2 FOR VALUES FROM ('2021-01-01') TO ('2022-01-01')",
        (
            "INSERT INTO p SELECT n, date '2020-01-01' + (n % 700), 'v' FROM generate_series(99 * {n}, 99 * {n} + 50) n",
            "UPDATE p SET at = at + 365 WHERE at < '2020-02-01'",
            "UPDATE p SET at = at - 365, v = 'w' WHERE at > '2021-03-01'",
            "DELETE FROM p WHERE id % 5 = 0",
            "TRUNCATE p2; INSERT INTO p VALUES (9999 + {n}, '2021-05-05', 'x')",
        ),
    ),
    "inheritance": Kind(
        "CREATE TABLE a (id int PRIMARY KEY, v int); CREATE TABLE b (w text, PRIMARY KEY (id)) INHERITS (a)",
        (
            "INSERT INTO a SELECT n, n FROM generate_series(20 * {n}, 20 * {n} + 9) n",
            "INSERT INTO b SELECT n, n, 'w' FROM generate_series(20 * {n}, 20 * {n} + 9) n",
            "UPDATE a SET v = v + 1 WHERE id % 2 = 0",
            "DELETE FROM ONLY a WHERE id % 3 = 0",
            "TRUNCATE ONLY a; INSERT INTO a VALUES ({n}, 7)",
        ),
    ),
    "TRUNCATE of several tables": Kind(
        "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY); CREATE TABLE c (id int PRIMARY KEY)",
        (
            "INSERT INTO a VALUES (1), (2); INSERT INTO b VALUES (1); INSERT INTO c VALUES ({n})",
            "INSERT INTO a VALUES (3); TRUNCATE a, b; INSERT INTO b VALUES (9)",
            "TRUNCATE a; TRUNCATE b",
        ),
    ),
    "TRUNCATE CASCADE and of tables that foreign keys reference": Kind(
        "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a)",
        (
            "INSERT INTO a VALUES (1), (2); INSERT INTO b VALUES (1, 1)",
            "TRUNCATE a CASCADE; INSERT INTO a VALUES (3)",
            "INSERT INTO b VALUES (7, 3)",
            "TRUNCATE a, b",
        ),
        # one more table references a there, which the source knows nothing of
        there="CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a);"
        "CREATE SCHEMA aside; CREATE TABLE aside.e (a int REFERENCES a)",
    ),
    "TRUNCATE RESTART IDENTITY": Kind(
        "CREATE TABLE t (id serial PRIMARY KEY, g int GENERATED ALWAYS AS IDENTITY)",
        (
            "INSERT INTO t SELECT FROM generate_series(1, 5)",
            "TRUNCATE t RESTART IDENTITY; INSERT INTO t DEFAULT VALUES",
            "TRUNCATE t CONTINUE IDENTITY; INSERT INTO t DEFAULT VALUES",
            "TRUNCATE t RESTART IDENTITY",
        ),
    ),
    "exclusion constraints": Kind(
        "CREATE TABLE t (id int PRIMARY KEY, during int4range, EXCLUDE USING gist (during WITH &&))",
        (
            "INSERT INTO t SELECT n, int4range(n * 10, n * 10 + 10) FROM generate_series(50 * {n}, 50 * {n} + 20) n",
            "UPDATE t SET during = 'empty' WHERE id = 50 * {n};"
            "UPDATE t SET during = int4range(500 * {n}, 500 * {n} + 10) WHERE id = 50 * {n} + 1;"
            "UPDATE t SET during = int4range(500 * {n} + 10, 500 * {n} + 20) WHERE id = 50 * {n}",
            "DELETE FROM t WHERE id = 50 * {n} + 5;"
            "INSERT INTO t VALUES (50 * {n} + 30, int4range(500 * {n} + 50, 500 * {n} + 60))",
        ),
    ),
    "unique values swapped within one statement": Kind(
        "CREATE TABLE t (id int PRIMARY KEY, u int, UNIQUE (u) DEFERRABLE);"
        "CREATE TABLE s (id int PRIMARY KEY, u int UNIQUE)",
        (
            "INSERT INTO t SELECT n, n FROM generate_series(10 * {n}, 10 * {n} + 5) n",
            "UPDATE t SET u = 20 * {n} + 1 - u WHERE u BETWEEN 10 * {n} AND 10 * {n} + 1",
            "INSERT INTO s SELECT n, n FROM generate_series(10 * {n} + 5, 10 * {n}, -1) n",
            # in the order of the heap each takes what the one before it has just left
            "UPDATE s SET u = u + 1, id = id + 1 WHERE u >= 10 * {n}",
        ),
    ),
    "unique values and keys swapped within one batch": Kind(
        "CREATE TABLE t (id int PRIMARY KEY, u int UNIQUE, big text); ALTER TABLE t ALTER big SET STORAGE EXTERNAL;"
        "CREATE TABLE f (id int PRIMARY KEY, u int UNIQUE); ALTER TABLE f REPLICA IDENTITY FULL",
        (
            f"INSERT INTO t SELECT n, n, {BIG} FROM generate_series(10 * {{n}}, 10 * {{n}} + 5) n",
            "INSERT INTO f SELECT n, n FROM generate_series(10 * {n}, 10 * {n} + 5) n",
            *(
                f"UPDATE {t} SET {c} = -1 WHERE {c} = 10 * {{n}}; UPDATE {t} SET {c} = 10 * {{n}} WHERE {c} = 10 * {{n}} + 1;"
                f"UPDATE {t} SET {c} = 10 * {{n}} + 1 WHERE {c} = -1"
                for t in "tf"
                for c in ("u", "id")
            ),
        ),
    ),
    "logical messages are ignored": Kind(
        "CREATE TABLE t (id int PRIMARY KEY)",
        (
            "SELECT pg_logical_emit_message(true, 'app', 'hello'); INSERT INTO t VALUES ({n})",
            "SELECT pg_logical_emit_message(false, 'app', 'hello')",
        ),
    ),
    "savepoints rolled back": Kind(
        "CREATE TABLE t (id int PRIMARY KEY)",
        (
            "BEGIN; INSERT INTO t VALUES ({n}); SAVEPOINT a; INSERT INTO t VALUES (-{n}); ROLLBACK TO a; COMMIT",
            "BEGIN; SAVEPOINT a; DELETE FROM t; SAVEPOINT b; RELEASE b; ROLLBACK TO a; INSERT INTO t VALUES (100 + {n}); COMMIT",
        ),
    ),
}


def schema_of(name: str) -> str:
    return "k" + str(list(KINDS).index(name))


def with_icu(end: End) -> bool:
    """Whether this server was built with ICU, without which every collation is deterministic."""
    try:
        end.run("CREATE COLLATION public.tried (provider = icu, locale = 'und'); DROP COLLATION public.tried")
    except psycopg.errors.FeatureNotSupported:
        return False
    return True


@pytest.fixture(scope="module", params=["binary", "text"])
def kinds(
    request: pytest.FixtureRequest, make_lasting_pair: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Streaming]:
    """One worker for all kinds; in binary where no type stands in the way."""
    form = str(request.param)
    pair = make_lasting_pair()
    pair.run("CREATE SCHEMA ext; CREATE EXTENSION citext SCHEMA ext; CREATE SCHEMA two_phase")
    pair.run("CREATE TABLE two_phase.t (id int PRIMARY KEY)")
    icu = with_icu(pair.source)
    chosen = {n: kind for n, kind in KINDS.items() if (form == "text" or not kind.own) and (icu or not kind.icu)}
    for name, kind in chosen.items():
        pair.run(f"CREATE SCHEMA {schema_of(name)}")
        in_schema(pair.source, name, kind.ddl)
        in_schema(pair.destination, name, *filter(None, (kind.first, kind.there or kind.ddl)))
    streaming = Streaming(pair, tmp_path_factory.mktemp("kinds"))
    streaming.begin((*map(schema_of, chosen), "two_phase"), wanted="paused")
    for name, kind in chosen.items():
        in_schema(pair.source, name, *(step.replace("{n}", "1") for step in kind.steps))
    streaming.want("started")
    streaming.start()
    streaming.drain()
    assert f'"format": "{form}"' in streaming.log()
    yield streaming
    streaming.close()


def in_schema(end: End, name: str, *statements: str) -> None:
    """Each a transaction, unless it says otherwise."""
    with end.connect() as connection:
        connection.execute(f"SET search_path = {schema_of(name)}, ext")
        for statement in statements:
            connection.execute(statement)


def compare(kinds: Streaming, name: str) -> None:
    if not KINDS[name].compared:
        assert_identical(kinds.pair, [schema_of(name)])
        return
    found = []
    for end in kinds.pair.ends:
        with end.connect() as connection:
            connection.execute(f"SET search_path = {schema_of(name)}")
            found.append(connection.execute(KINDS[name].compared).fetchall())
    assert found[0]
    assert found[0] == found[1]


@pytest.mark.parametrize("name", KINDS)
def test_kind_of_change(kinds: Streaming, name: str) -> None:
    kind = KINDS[name]
    if kind.own and '"format": "binary"' in kinds.log():
        pytest.skip("a type of it is only sent as text")
    if not kinds.pair.source.value("SELECT 1 FROM pg_namespace WHERE nspname = %s", [schema_of(name)]):
        pytest.skip("these servers were built without ICU")
    before = kinds.progress("conflicts")
    compare(kinds, name)
    for step in kind.steps:
        in_schema(kinds.pair.source, name, step.replace("{n}", "2"))
        kinds.drain()
    compare(kinds, name)
    assert kinds.progress("conflicts") == before
    assert kinds.progress("state") == "running"


def test_user_defined_types_have_other_oids_at_the_other_end(kinds: Streaming) -> None:
    """Else the kind of that name would prove nothing."""
    schema = schema_of("enums, domains, composites, their arrays and ranges under other OIDs")
    query = (
        "SELECT typname, oid FROM pg_type"
        " WHERE typnamespace = to_regnamespace(%s) AND typname !~ 'shifts_the_oids' AND typtype IN ('e', 'd', 'r')"
    )
    here, there = (dict(end.query(query, [schema])) for end in kinds.pair.ends)
    if not here:
        pytest.skip("they are only sent as text")
    assert here.keys() == there.keys() == {"mood", "positive", "span"}
    assert not [name for name, oid in here.items() if there[name] == oid]


def test_two_phase_transactions_are_applied_at_commit_prepared(kinds: Streaming) -> None:
    source, destination = kinds.pair.ends
    gid = f"kinds_{kinds.name}"
    rows = "SELECT id FROM two_phase.t ORDER BY 1"
    for number, end in ((1, "COMMIT"), (2, "ROLLBACK")):
        source.run(f"BEGIN; INSERT INTO two_phase.t VALUES ({number}); PREPARE TRANSACTION '{gid}'")
        source.run(f"INSERT INTO two_phase.t VALUES (10 + {number})")
        kinds.drain()
        assert (number,) not in destination.query(rows)
        assert (10 + number,) in destination.query(rows)
        source.run(f"{end} PREPARED '{gid}'")
        kinds.drain()
        assert destination.query(rows) == source.query(rows)
    assert destination.query(rows) == [(1,), (11,), (12,)]
