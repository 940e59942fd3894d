# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every built-in type in binary and text, and the user's own, through the worker: what arrives is what was written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from functional.streaming import Streaming
from functional.witness import assert_identical

BUILT_IN = {
    "bool": "n % 2 = 0",
    "smallint": "(n * 37 % 60000) - 30000",
    "integer": "n * -1001",
    "bigint": "n * 9007199254740993",
    "numeric": "CASE n % 5 WHEN 0 THEN 'NaN' WHEN 1 THEN 1.0 WHEN 2 THEN 1.00 ELSE n / 7.0 END::numeric",
    "numeric(12,3)": "n / 7.0",
    "real": "CASE n % 4 WHEN 0 THEN '-0' WHEN 1 THEN 'NaN' ELSE (n / 3.0)::text END::real",
    "double precision": "CASE n % 4 WHEN 0 THEN '-Infinity' WHEN 1 THEN '-0' ELSE (n / 3.0)::text END::float8",
    "money": "(n * 1.5)::numeric::money",
    "text": "repeat(E'ä\\\\\\n\\t\\r|', n % 9)",
    "varchar(30)": "'v ' || n",
    "varchar": "repeat('x', n)",
    "char(7)": "'c' || n % 100",
    '"char"': 'chr(65 + n % 20)::"char"',
    "name": "'name' || n",
    "bytea": "decode(md5(n::text), 'hex')",
    "date": "CASE n % 3 WHEN 0 THEN 'infinity' ELSE (date '0044-03-15 BC' + n)::text END::date",
    "time": "time '00:00:00.000001' + n * interval '1 min'",
    "timetz": "timetz '12:30:00+05:45' + n * interval '1 min'",
    "timestamp(3)": "timestamp '1999-12-31 23:59:59.999' + n * interval '1 day'",
    "timestamptz": "CASE n % 3 WHEN 0 THEN '-infinity' ELSE (timestamptz '2024-03-31 00:59+00' + n * interval '1 h')::text"
    " END::timestamptz",
    "interval": "n * interval '1 year 1 month -3 days 04:05:06.789'",
    "uuid": "md5(n::text)::uuid",
    "json": "('{\"a\" : ' || n || ',  \"a\":2}')::json",
    "jsonb": "jsonb_build_object('n', n, 's', 'ü\"')",
    "jsonpath": "'$.a[*] ? (@ > 1)'::jsonpath",
    "xml": "('<a n=\"' || n || '\"/>')::xml",
    "inet": "'10.0.0.1'::inet + n",
    "cidr": "'2001:db8::/32'::cidr",
    "macaddr": "'08:00:2b:01:02:03'::macaddr",
    "macaddr8": "'08:00:2b:01:02:03:04:05'::macaddr8",
    "bit(5)": "(n % 32)::bit(5)",
    "bit varying": "(n % 32)::bit(5)::varbit",
    "point": "point(n, -n)",
    "line": "line(point(0, 1), point(n + 1, 2))",
    "lseg": "lseg(point(0, 1), point(n, 2))",
    "box": "box(point(0, 1), point(n, 2))",
    "path": "path '((0,0),(1,1),(2,0))'",
    "polygon": "polygon '((0,0),(1,1),(2,0))'",
    "circle": "circle(point(n, 0), 2)",
    "tsvector": "to_tsvector('simple', 'a fat cat ' || n)",
    "tsquery": "to_tsquery('simple', 'fat & cat')",
    "pg_lsn": "'0/16B3748'::pg_lsn",
    "txid_snapshot": "'10:20:10,14'::txid_snapshot",
    "integer[]": "ARRAY[n, NULL, -n]",
    "text[]": "ARRAY['a', NULL, 'b\"c', '']",
    "numeric[][]": "ARRAY[ARRAY[1.0, 1.00], ARRAY['NaN'::numeric, n]]",
    "timestamptz[]": "ARRAY[now(), NULL]",
    "inet[]": "'[5:6]={10.0.0.1,::1}'::inet[]",
    "bytea[]": "ARRAY['\\x00'::bytea, NULL]",
    "oid": "(n + 3000000000)::oid",
    "xid": "n::text::xid",
    "xid8": "n::text::xid8",
    "cid": "n::text::cid",
    "tid": "('(' || n || ',1)')::tid",
    "pg_snapshot": "'10:20:10,14'::pg_snapshot",
    "oidvector": "'1 2 3'::oidvector",
    "int2vector": "'1 -2'::int2vector",
    "refcursor": "('c' || n)::refcursor",
    "bit(3)[]": "ARRAY[B'101', NULL]::bit(3)[]",
    "money[]": "ARRAY[n::money, NULL]",
    "xml[]": "ARRAY['<b/>'::xml]",
    "tsvector[]": "ARRAY[to_tsvector('simple', 'cat'), NULL]",
    "int4range": "int4range(n, n + 5)",
    "int8range": "int8range(n, NULL)",
    "numrange": "numrange(1.0, n + 1.50, '[]')",
    "daterange": "daterange(NULL, date '2020-01-01' + n)",
    "tsrange": "'empty'::tsrange",
    "tstzrange": "tstzrange(now(), NULL, '(]')",
    "int4range[]": "ARRAY[int4range(1, n + 2), NULL]",
    "int4multirange": "int4multirange(int4range(n, n + 5), int4range(n + 10, n + 11))",
}
OWN = {
    "mood": "(ARRAY['sad', 'so ''so', 'happy'])[1 + n % 3]::mood",
    "mood[]": "ARRAY['sad', 'happy']::mood[]",
    "positive": "n + 1",
    "deep": "n + 11",
    "positive[]": "ARRAY[n + 1, 7]::positive[]",
    "pair": "ROW(n, 'x,\"y')::pair",
    "pair[]": "ARRAY[ROW(n, NULL)::pair, NULL]",
    "whole": "ROW(n, 'x')::whole",
    "floats": "floats(n, n + 0.5)",
    "floats[]": "ARRAY[floats(n, n + 0.5), NULL]",
    "regnamespace": "'public'::regnamespace",
    "regrole": "'pg_read_all_data'::regrole",
    "regoper": "'||/'::regoper",
    "regoperator": "'+(int,int)'::regoperator",
    "regprocedure": "'abs(int)'::regprocedure",
    "regconfig": "'simple'::regconfig",
    "regdictionary": "'simple'::regdictionary",
    "regcollation": "'\"C\"'::regcollation",
    "regclass[]": "ARRAY['pg_class'::regclass, NULL]",
    "aclitem": "makeaclitem(10, 10, 'SELECT', false)",
    "regclass": "'pg_class'::regclass",
    "regtype": "'integer'::regtype",
    "regproc": "'now'::regproc",
    "needed": "'always'",
}
OWN_TYPES = """
CREATE TYPE mood AS ENUM ('sad', 'so ''so', 'happy');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE DOMAIN deep AS positive CHECK (VALUE > 10);
CREATE DOMAIN needed AS text NOT NULL;
CREATE TYPE pair AS (a int, b text);
CREATE DOMAIN whole AS pair CHECK ((VALUE).a >= 0);
CREATE TYPE floats AS RANGE (subtype = float8);
"""


def table(name: str, types: dict[str, str]) -> str:
    columns = ", ".join(f"c{n} {kind}" for n, kind in enumerate(types))
    return f"CREATE TABLE {name} (id int PRIMARY KEY, note text, {columns}); ALTER TABLE {name} ALTER note SET STORAGE EXTERNAL;"


def insert(name: str, types: dict[str, str], first: int, last: int) -> str:
    values = ", ".join(types.values())
    return f"INSERT INTO {name} SELECT n, repeat('n', n * 100), {values} FROM generate_series({first}, {last}) n"


@pytest.fixture(
    scope="module", params=[f"{form}, {identity}" for form in ("binary", "text") for identity in ("DEFAULT", "FULL")]
)
def carried(
    request: pytest.FixtureRequest, make_lasting_pair: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Streaming]:
    """All types in a table with a key and in one without, after inserts, updates and deletes by a few rows and many."""
    form, dummy, identity = str(request.param).partition(", ")
    own = {} if form == "binary" else OWN
    keyless = {kind: value for kind, value in {**BUILT_IN, **own}.items() if kind not in ("needed",)}
    ddl = "" if form == "binary" else OWN_TYPES
    ddl += table("t", {**BUILT_IN, **own}) + table("k", keyless) + "ALTER TABLE k DROP CONSTRAINT k_pkey;"
    ddl += f"ALTER TABLE t REPLICA IDENTITY {identity}; ALTER TABLE k REPLICA IDENTITY FULL;"
    pair = make_lasting_pair()
    pair.destination.run(
        "CREATE SCHEMA own; CREATE TYPE own.shifts_the_oids AS ENUM ('x'); DROP TYPE own.shifts_the_oids"
    )
    pair.run("CREATE SCHEMA IF NOT EXISTS own; SET search_path = own, public;" + ddl)
    streaming = Streaming(pair, tmp_path_factory.mktemp("types"))
    source = pair.source
    streaming.begin(("own",))
    streaming.start()
    for name, types in (("t", {**BUILT_IN, **own}), ("k", keyless)):
        source.run(insert(name, types, 1, 60))
        nothing = ", ".join(f"c{n}" for n, kind in enumerate(types) if kind != "needed")
        count = nothing.count(",") + 1
        source.run(
            f"INSERT INTO {name} (id{', c' + str(list(types).index('needed')) if 'needed' in types else ''})"
            f" VALUES (1000{', 1' if 'needed' in types else ''})"
        )
        streaming.drain()
        source.run(f"UPDATE {name} SET ({nothing}) = ROW({', '.join(['NULL'] * count)}) WHERE id BETWEEN 10 AND 29")
        source.run(f"UPDATE {name} SET c0 = NOT c0 WHERE id BETWEEN 30 AND 49")
        source.run(f"DELETE FROM {name} WHERE id % 7 = 0")
        source.run(insert(name, types, 61, 62))
        streaming.drain()
        source.run(f"UPDATE {name} SET note = 'short', c1 = 1 WHERE id = 61")
        source.run(f"DELETE FROM {name} WHERE id = 62")
        streaming.drain()
    assert streaming.progress("conflicts") == 0
    assert f'"format": "{form}"' in streaming.log()
    yield streaming
    streaming.close()


@pytest.mark.parametrize("kind", [*BUILT_IN, *OWN])
def test_type_arrives_as_it_was(carried: Streaming, kind: str) -> None:
    if kind in OWN and '"format": "text"' not in carried.log():
        pytest.skip("it makes the stream text")
    column = f"c{[*BUILT_IN, *OWN].index(kind)}"
    for name in ("t", "k") if kind != "needed" else ("t",):
        query = f"SELECT id, ROW({column})::text FROM own.{name} ORDER BY 1, 2"
        here, there = (end.query(query) for end in carried.pair.ends)
        assert len(here) > 50
        assert len({value for dummy, value in here}) > 1
        assert here == there


def test_whole_rows_are_the_same(carried: Streaming) -> None:
    assert assert_identical(carried.pair, ["own"]) > 100
