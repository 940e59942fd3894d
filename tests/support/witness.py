# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tests' own eyes: plain SQL over psycopg, sharing no code with the collection.

Rows are compared by the text of the types' output functions (what a dump would hold), as multisets, with the same
session settings at both ends.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection
from typing import Any

import psycopg
from psycopg import sql

SETTINGS = {
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "xmloption": "content",
    "search_path": "",
    "statement_timeout": "0",
    "row_security": "off",
    "lc_monetary": "C",
}
OURS = ("causeway",)
TABLES = """
SELECT n.nspname, c.relname, array_agg(a.attname ORDER BY a.attname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.oid >= 16384 OR c.relkind = 'r' AND n.nspname = 'public'
GROUP BY 1, 2 ORDER BY 1, 2
"""
SEQUENCES = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND (n.oid >= 16384 OR n.nspname = 'public') ORDER BY 1, 2
"""
# (oid, xmin) of a catalog's rows changes with every DDL and stays under VACUUM and ANALYZE, which update in place.
CATALOGS = (
    "pg_class",
    "pg_attribute",
    "pg_attrdef",
    "pg_constraint",
    "pg_index",
    "pg_trigger",
    "pg_proc",
    "pg_namespace",
    "pg_type",
    "pg_enum",
    "pg_sequence",
    "pg_publication",
    "pg_publication_rel",
    "pg_event_trigger",
    "pg_rewrite",
    "pg_inherits",
    "pg_depend",
    "pg_description",
    "pg_extension",
    "pg_policy",
)


@dataclasses.dataclass(frozen=True)
class Difference:
    """Rows, as text, that only one end has (with their number), of one table; at most a few of them."""

    table: str
    only_source: dict[str, int]
    only_destination: dict[str, int]
    rows_source: int
    rows_destination: int


def _pin(connection: psycopg.Connection[Any]) -> None:
    for name, value in SETTINGS.items():
        connection.execute("SELECT set_config(%s, %s, true)", [name, value])


def tables(connection: psycopg.Connection[Any], schemas: Collection[str] | None = None) -> dict[str, sql.Composed]:
    """The ordinary tables and partitions (C(schema.table)), each with the query for its rows as text."""
    found = {}
    for schema, name, columns in connection.execute(TABLES).fetchall():
        if schema in OURS or (schemas is not None and schema not in schemas):
            continue
        fields = sql.SQL(", ").join(sql.Identifier(column) for column in columns if column is not None)
        query = sql.SQL("SELECT ROW({})::text FROM ONLY {}").format(fields, sql.Identifier(schema, name))
        found[f"{schema}.{name}"] = query
    return found


def contents(connection: psycopg.Connection[Any], schemas: Collection[str] | None = None) -> dict[str, Counter[str]]:
    """Every table's rows as a multiset of texts, all in one snapshot."""
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        _pin(connection)
        return {
            table: Counter(row[0] for row in connection.execute(query))
            for table, query in tables(connection, schemas).items()
        }


def differences(
    source: psycopg.Connection[Any],
    destination: psycopg.Connection[Any],
    schemas: Collection[str] | None = None,
    show: int = 5,
) -> list[Difference]:
    """The tables that differ; empty when both ends hold the same. A table that one end lacks counts as different."""
    here, there = contents(source, schemas), contents(destination, schemas)
    found = []
    for table in sorted(here.keys() | there.keys()):
        left, right = here.get(table), there.get(table)
        if left == right and left is not None:
            continue
        left, right = left or Counter(), right or Counter()
        found.append(
            Difference(
                table if table in here and table in there else f"{table} (stands at one end only)",
                dict(list((left - right).items())[:show]),
                dict(list((right - left).items())[:show]),
                left.total(),
                right.total(),
            )
        )
    return found


def assert_identical(pair: Any, schemas: Collection[str] | None = None) -> int:
    """Fail unless both ends of a pair hold the same tables with the same rows; the number of rows compared.

    Comparing nothing is a failure too.
    """
    found = differences(pair.source.sql, pair.destination.sql, schemas)
    assert not found, found
    here = contents(pair.source.sql, schemas)
    assert here, "there is no table to compare"
    return sum(rows.total() for rows in here.values())


def sequences(connection: psycopg.Connection[Any]) -> dict[str, tuple[int, bool]]:
    """C(last_value) and C(is_called) of every sequence."""
    found: dict[str, tuple[int, bool]] = {}
    for schema, name in connection.execute(SEQUENCES).fetchall():
        if schema not in OURS:
            query = sql.SQL("SELECT last_value, is_called FROM {}").format(sql.Identifier(schema, name))
            ((last_value, is_called),) = connection.execute(query).fetchall()
            found[f"{schema}.{name}"] = (last_value, is_called)
    return found


def fingerprint(connection: psycopg.Connection[Any]) -> dict[str, Any]:
    """What must not change when nothing is written: catalog rows with their xmin, grants, slots, roles, sequences.

    Compare two of them with C(==). Contents are left to C(contents).
    """
    found: dict[str, Any] = {}
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        _pin(connection)
        for catalog in CATALOGS:
            # Not the row itself: it holds what VACUUM and ANALYZE count.
            query = sql.SQL(
                "SELECT count(*), coalesce(sum(hashtextextended(t.xmin::text || ' ' || {}, 0)::numeric), 0) FROM {} t"
            ).format(
                sql.SQL("t.oid::text") if catalog in _with_oid(connection) else sql.SQL("t.tableoid::text"),
                sql.Identifier("pg_catalog", catalog),
            )
            found[catalog] = connection.execute(query).fetchone()
        found["slots"] = connection.execute("SELECT slot_name, plugin FROM pg_replication_slots ORDER BY 1").fetchall()
        found["roles"] = connection.execute("SELECT rolname, rolconfig FROM pg_roles ORDER BY 1").fetchall()
        found["settings"] = connection.execute("SELECT * FROM pg_db_role_setting ORDER BY 1, 2").fetchall()
        found["databases"] = connection.execute("SELECT datname, datacl::text FROM pg_database ORDER BY 1").fetchall()
        found["sequences"] = sequences(connection)
    return found


def _with_oid(connection: psycopg.Connection[Any]) -> set[str]:
    rows = connection.execute(
        "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'oid' "
        "WHERE c.relnamespace = 'pg_catalog'::regnamespace"
    )
    return {row[0] for row in rows}
