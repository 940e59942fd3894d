# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values that the two ends write differently: equal ones are called equal, and those that only look alike are not.

Before version 12 a server writes every float unlike a later one. Two sessions of one server do so too, where they show
another number of digits; which of the two values the shorter text stands for, it does not say.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from psycopg import sql
from support.clusters.pairs import End, Pair
from support.harness.streaming import MakeStreaming
from support.witness import assert_identical

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.apply.bulk import write_compacted
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.apply.conflicts import StrictHandler
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.apply.row_by_row import replay
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.apply.staging import Loader
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.apply.target_table import TargetTables
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes.compaction import compact
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes.messages import (
    Change,
    Delete,
    Relation,
    RelationColumn,
    Row,
    Update,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.migration import Migration
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.objects.mapping import IDENTITY
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres.connect import connect
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.spec import endpoint_of, spec_of
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.validate import compare

TYPES = """
CREATE SCHEMA s; CREATE SCHEMA x; SET search_path = x;
CREATE DOMAIN level AS float8 CHECK (VALUE IS NULL OR VALUE <> 7);
CREATE DOMAIN deep AS level;
CREATE DOMAIN levels AS float8[];
CREATE TYPE pair AS (a text, "b c" float4, d int[]);
CREATE TYPE nested AS (p pair, l levels, t text);
CREATE DOMAIN whole AS pair;
CREATE TYPE floats AS RANGE (subtype = float8, multirange_type_name = several);
CREATE DOMAIN span AS floats;
CREATE TYPE word AS (c "char", t text);
"""
NEAR = "0.10000000000000002"
"""The float8 after 0.1, which fifteen digits show as 0.1."""
NEAR4 = "0.10000001"

# By type: values whose text is 0.1 with few digits, and the same with another number in it that is written so too.
NEARLY = {
    "float8": ("0.1", NEAR),
    "float4": ("0.1", NEAR4),
    "point": ("(1,0.1)", f"(1,{NEAR})"),
    "line": ("{1,2,0.1}", f"{{1,2,{NEAR}}}"),
    "lseg": ("[(0,0),(0.1,1)]", f"[(0,0),({NEAR},1)]"),
    "box": ("(2,0.1),(1,0)", f"(2,{NEAR}),(1,0)"),
    "path": ("[(0,0),(1,0.1)]", f"[(0,0),(1,{NEAR})]"),
    "polygon": ("((0,0),(1,0.1),(2,2))", f"((0,0),(1,{NEAR}),(2,2))"),
    "circle": ("<(0,0.1),3>", f"<(0,{NEAR}),3>"),
    "float8[]": ("{1,NULL,0.1}", f"{{1,NULL,{NEAR}}}"),
    "float4[]": ("[2:3][0:1]={{1,2},{3,0.1}}", f"[2:3][0:1]={{{{1,2}},{{3,{NEAR4}}}}}"),
    "box[]": ("{(2,0.1),(1,0);NULL}", f"{{(2,{NEAR}),(1,0);NULL}}"),
    "x.level": ("0.1", NEAR),
    "x.deep": ("0.1", NEAR),
    "x.levels": ("{0.1}", f"{{{NEAR}}}"),
    "x.deep[]": ("{0.1,NULL}", f"{{{NEAR},NULL}}"),
    "x.pair": ('("a,b",0.1,"{1,2}")', f'("a,b",{NEAR4},"{{1,2}}")'),
    "x.whole": ("(,0.1,)", f"(,{NEAR4},)"),
    "x.pair[]": ('{"(a,0.1,)",NULL}', f'{{"(a,{NEAR4},)",NULL}}'),
    "x.nested": ('("(a,1,)","{0.1}",t)', f'("(a,1,)","{{{NEAR}}}",t)'),
    "x.nested[]": ('{"(\\"(a,0.1,)\\",\\"{1}\\",t)"}', f'{{"(\\"(a,{NEAR4},)\\",\\"{{1}}\\",t)"}}'),
    "x.floats": ("[0.1,2)", f"[{NEAR},2)"),
    "x.span": ("(1,2.1]", "(1,2.1000000000000005]"),
    "x.floats[]": ('{"[0.1,2)",empty}', f'{{"[{NEAR},2)",empty}}'),
    "x.several": ("{[0.1,2),[3,4)}", f"{{[{NEAR},2),[3,4)}}"),
}
# What is different in any text, or must not be taken for another.
UNLIKE = {
    "float8": ("0", "-0"),
    "float4": ("Infinity", "-Infinity"),
    "point": ("(0,NaN)", "(-0,NaN)"),
    "path": ("[(0,0),(1,1)]", "((0,0),(1,1))"),
    "polygon": ("((0,0),(1,1),(2,NaN))", "((0,0),(1,1.5),(2,NaN))"),
    "float8[]": ("{1,2}", "[0:1]={1,2}"),
    "float4[]": ("{}", "{NULL}"),
    "x.level": ("NaN", "Infinity"),
    "x.levels": ("{{1},{2}}", "{{1,2}}"),
    "x.pair": ("(,,)", '("",,)'),
    "x.pair[]": ("{NULL}", '{"(,,)"}'),
    "x.nested": ('("(,,)",,)', "(,,)"),
    "x.floats": ("empty", "[1,1]"),
    "x.span": ("(1,2)", "[1,2)"),
    "x.floats[]": ('{"(,)"}', '{"(-Infinity,)"}'),
    "x.several": ("{}", "{(,)}"),
    "x.word": ("(a,b)", "(b,b)"),
}
CASES = [(kind, *pair) for cases in (NEARLY, UNLIKE) for kind, pair in cases.items()]


@dataclasses.dataclass
class Compared:
    """Tables of schema s of a pair, each with a column of one type, compared as they stand."""

    pair: Pair

    def make(self, tables: Mapping[str, str]) -> None:
        """Make tables by their columns."""
        for name, columns in tables.items():
            self.pair.run(f"CREATE TABLE s.{name} ({columns})")

    def put(self, end: End, statement: str, table: str, *values: str | None) -> None:
        literals = [sql.Literal(value) for value in values]
        end.sql.execute(sql.SQL(statement).format(*literals, t=sql.Identifier("s", table)))

    def verdicts(self, *, live: bool = False) -> dict[str, Any]:
        options = {
            "name": self.pair.source.dbname,
            "source": self.pair.source.endpoint,
            "destination": self.pair.destination.endpoint,
            "objects": [{"schema": "s"}],
            "types": ["full"],
            "state_schema": "causeway",
            "allow_keyless": True,
            "conflicting_tables": "report",
            "restart": False,
        }
        with Migration(spec_of(options)) as migration:
            tables = migration.selected().leaves
            found = compare.compare_tables(migration, tables, live=live, settle_timeout=20)
            return {table.name: found[table.oid] for table in tables}


@pytest.fixture(params=[(0, 3), (3, 0), (3, 3)], ids=["source shorter", "destination shorter", "alike"])
def compared(request: pytest.FixtureRequest, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> Iterator[Compared]:
    """A pair whose comparing sessions show so many digits of a float."""
    pair.run(TYPES)
    digits = dict(zip(("source", "destination"), request.param, strict=True))
    opened: set[str] = set()

    def connect(endpoint: Any, purpose: str) -> Any:
        opened.add(endpoint.end)
        return ordinary(endpoint, purpose, settings={"extra_float_digits": str(digits[endpoint.end])})

    ordinary = compare.connect
    monkeypatch.setattr(compare, "connect", connect)
    # nothing is applied here: the destination has passed the source at once
    monkeypatch.setattr(compare._Ends, "pass_source", lambda self: None)
    yield Compared(pair)
    assert opened == {"source", "destination"}


@pytest.mark.parametrize("live", [False, True], ids=["at rest", "live"])
def test_equal_values_are_equal_and_others_are_not(compared: Compared, live: bool) -> None:
    cases = {f"c{number}": case for number, case in enumerate(CASES)}
    compared.make({table: f"id int PRIMARY KEY, v {kind}" for table, (kind, dummy, dummy2) in cases.items()})
    for table, (dummy, value, other) in cases.items():
        for end in compared.pair.ends:
            compared.put(end, "INSERT INTO {t} VALUES (1, {}), (2, {}), (3, NULL)", table, value, other)
    found = compared.verdicts(live=live)
    assert {cases[table]: verdict.verdict for table, verdict in found.items()} == dict.fromkeys(CASES, "identical")
    assert {verdict.source_rows for verdict in found.values()} == {3}
    for end in compared.pair.ends:
        for table, (dummy, dummy2, other) in cases.items():
            compared.put(end, "UPDATE {t} SET v = {} WHERE id = 1", table, other)
        found = compared.verdicts(live=live)
        assert {cases[t]: (v.verdict, v.differing) for t, v in found.items()} == dict.fromkeys(CASES, ("different", 1))
        for verdict in found.values():
            text = verdict.find.replace("SELECT *", "SELECT t::text")  # of an array the driver knows no bounds
            rows = [one.query(text) for one in compared.pair.ends]
            assert rows[0] != rows[1], "the statement finds the row"
        for table, (dummy, value, dummy2) in cases.items():
            compared.put(end, "UPDATE {t} SET v = {} WHERE id = 1", table, value)


@pytest.mark.parametrize("live", [False, True], ids=["at rest", "live"])
def test_a_float_in_the_key(compared: Compared, live: bool) -> None:
    compared.make({"t": "n int, v float8, PRIMARY KEY (v, n)"})
    for end in compared.pair.ends:
        compared.put(end, "INSERT INTO {t} VALUES (1, {}), (2, {})", "t", "0.1", "0.2")
    assert compared.verdicts(live=live)["t"].verdict == "identical"
    compared.put(compared.pair.destination, "UPDATE {t} SET v = {} WHERE n = 1", "t", NEAR)
    found = compared.verdicts(live=live)["t"]
    assert (found.verdict, found.differing) == ("different", 2)  # the one that is missing, and the one that is too much


def test_what_a_copy_makes_of_a_value_is_no_difference(compared: Compared) -> None:
    """A NaN that was computed has other bytes than one that was read, an array keeps room for a NULL that it had."""
    nan = "('Infinity'::float8 - 'Infinity'::float8)"
    computed = {
        "float8": (nan, "NaN"),
        "float4": (f"{nan}::float4", "NaN"),
        "point": (f"point({nan}, 1)", "(NaN,1)"),
        "circle": (f"circle(point({nan}, 1), 2)", "<(NaN,1),2>"),
        "float8[]": (f"ARRAY[{nan}, 1]", "{NaN,1}"),
        "x.pair": (f"ROW('a', {nan}, NULL)::x.pair", "(a,NaN,)"),
        "x.floats": (f"x.floats(1, {nan})", "[1,NaN)"),
    }
    names = {f"c{number}": kind for number, kind in enumerate(computed)}
    compared.make({table: f"v {kind}" for table, kind in names.items()} | {"t": "v float8[]"})
    source, destination = compared.pair.ends
    for table, kind in names.items():
        compared.put(source, f"INSERT INTO {{t}} VALUES ({computed[kind][0]})", table)
        compared.put(destination, "INSERT INTO {t} VALUES ({})", table, computed[kind][1])
    compared.put(source, "INSERT INTO {t} VALUES ({})", "t", "{1,NULL}")
    compared.put(source, "UPDATE {t} SET v[2] = 2", "t")
    compared.put(destination, "INSERT INTO {t} VALUES ({})", "t", "{1,2}")
    for send, table in (("float8send", "c0"), ("array_send", "t")):
        sent = [end.value(f"SELECT {send}(v) FROM s.{table}") for end in compared.pair.ends]
        assert sent[0] != sent[1], "or this shows nothing"
    found = compared.verdicts()
    assert {table: verdict.verdict for table, verdict in found.items()} == dict.fromkeys([*names, "t"], "identical")


def test_a_byte_beyond_ascii_is_written_otherwise_since_16(make_pair: Callable[..., Pair]) -> None:
    compared = Compared(make_pair(source="14", destination="17"))
    compared.pair.run(TYPES)
    columns = {"c0": '"char"', "c1": '"char"[]', "c2": "x.word"}
    made = {"c0": '({})::"char"', "c1": 'ARRAY[({})::"char", NULL]', "c2": "ROW(({})::\"char\", 'é')::x.word"}
    compared.make({table: f"id int PRIMARY KEY, v {kind}, f float8" for table, kind in columns.items()})
    for table, value in made.items():
        compared.pair.run(f"INSERT INTO s.{table} VALUES (1, {value.format(-23)}, 0.1), (2, {value.format(65)}, 'NaN')")
    assert {table: one.verdict for table, one in compared.verdicts().items()} == dict.fromkeys(columns, "identical")
    for table, value in made.items():
        compared.pair.destination.run(f"UPDATE s.{table} SET v = {value.format(-24)} WHERE id = 1")
    assert {table: one.differing for table, one in compared.verdicts().items()} == dict.fromkeys(columns, 1)


@pytest.mark.parametrize("one_by_one", [False, True], ids=["as a whole", "one by one"])
def test_a_row_that_a_server_before_12_sends_is_found(pair: Pair, one_by_one: bool) -> None:
    """What such a server writes with the settings of our sessions, into a table without a key."""
    pair.destination.run("CREATE TABLE k (f float8, g float4, p point); INSERT INTO k VALUES (0.1, 0.1, '(0.1,-0)')")
    pair.destination.run("INSERT INTO k SELECT f + 0.1, g, p FROM k")
    columns = tuple(RelationColumn(name, oid, -1, True) for name, oid in (("f", 701), ("g", 700), ("p", 600)))
    old = Row(b"ttt", [b"0.100000000000000006", b"0.100000001", b"(0.100000000000000006,-0)"])
    new = Row(b"ttt", [b"0.299999999999999989", b"0.100000001", b"(0.100000000000000006,-0)"])
    gone = Row(b"ttt", [b"0.200000000000000011", b"0.100000001", b"(0.100000000000000006,-0)"])
    changes: list[Change] = [Update(1, "O", old, new), Delete(1, "O", gone)]
    with connect(endpoint_of("destination", pair.destination.endpoint), "test") as conn, conn.transaction():
        version = conn.info.server_version
        tables = TargetTables(conn, {}, lambda dummy: (), binary=False, server_version=version, mapping=IDENTITY)
        tables.learn(Relation(1, "public", "k", "f", columns), None)
        loader, written = Loader(conn), tables.known[1]
        if one_by_one:
            replay(loader, written, changes, StrictHandler())
        else:
            write_compacted(loader, written, compact(changes, written.table.shape))
    assert pair.destination.query("SELECT f, g, p::text FROM k") == [(0.3, 0.1, "(0.1,-0)")]


FLOATS = """
CREATE TYPE kind AS (f float8, t text);
CREATE TABLE k (n int, f float8, g float4, p point, a float8[], c kind);
ALTER TABLE k REPLICA IDENTITY FULL;
CREATE TABLE t (f float8 PRIMARY KEY, v kind);
ALTER TABLE t REPLICA IDENTITY FULL;
"""
VALUES = (
    "n, n / 3.0, 0.1::float4 * n, point(n / 7.0, -0.0), ARRAY[n / 9.0, 'NaN', NULL], ROW(0.1::float8 * n, 'x')::kind"
)


@pytest.mark.parametrize("digits", [0, 3, -15], ids=str)
def test_rows_are_found_by_their_floats_whatever_the_ends_show(make_streaming: MakeStreaming, digits: int) -> None:
    """The settings of role and database, which the walsender would use too, decide nothing."""
    streaming = make_streaming(FLOATS)
    pair = streaming.pair
    for end in pair.ends:
        end.run(f"ALTER DATABASE {end.dbname} SET extra_float_digits = {digits}")
    pair.source.run(f"INSERT INTO k SELECT {VALUES} FROM generate_series(1, 40) n")
    pair.source.run("INSERT INTO t SELECT 0.1::float8 * n, ROW(n, 'y')::kind FROM generate_series(1, 40) n")
    streaming.begin(conflict_policy="stop")
    pair.destination.run(f"INSERT INTO k SELECT {VALUES} FROM generate_series(1, 40) n")
    pair.destination.run("INSERT INTO t SELECT 0.1::float8 * n, ROW(n, 'y')::kind FROM generate_series(1, 40) n")
    streaming.start()
    for few in (2, 20):
        pair.source.run(f"UPDATE k SET g = g + 0.1 WHERE n <= {few}")
        pair.source.run(f"DELETE FROM k WHERE n BETWEEN 25 AND 25 + {few} / 2")
        pair.source.run(f"UPDATE t SET v.f = 0.3 WHERE f < 0.1 * {few} + 0.05")
        streaming.drain()
    assert '"format": "text"' in streaming.log()
    assert streaming.progress("conflicts") == 0
    assert assert_identical(pair, ["public"]) == 69
