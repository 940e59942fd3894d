# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pg_full_copy on real servers: contents, repetition, interruption, tables that change underneath, rows of the user's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from . import witness
from .modules import Migration

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
