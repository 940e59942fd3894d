# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The SQL of a comparison: rows by the text that their types' output functions return, hashed at their own server.

``col::text`` is inexact (bpchar drops blanks, xml its prolog, bool and inet differ); ``ROW(…)::text`` calls the output
functions. Sessions pin the settings that change those (`session`). Values are composed as literals, never passed as
parameters: with placeholders the driver would misread a column that is named ``50%``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..postgres._psycopg import sql
from ..postgres.catalog import Name, Table

if TYPE_CHECKING:
    from psycopg.sql import Composed

    from ..postgres.server import Server


@dataclass(frozen=True, slots=True)
class Shape:
    """One table as it is compared. ``key`` holds (column, type) pairs and is empty for a keyless table.

    ``portable`` hashes with md5 over UTF-8, for ends whose encodings differ or that lack hashtextextended.
    """

    source: Name
    destination: Name
    columns: tuple[str, ...]
    key: tuple[tuple[str, str], ...]
    buckets: int
    portable: bool


def shape_of(table: Table, destination: Name, buckets: int, portable: bool) -> Shape:
    """How a source table is compared with the destination's of that name."""
    types = {column.name: column.base_type_name for column in table.columns}
    key = tuple((name, types[name]) for name in table.keys[0].columns) if table.keys else ()
    return Shape(table.qualified_name, destination, tuple(c.name for c in table.columns), key, buckets, portable)


def needs_portable_hash(source: Server, destination: Server) -> bool:
    """Return whether the fast hash would differ for equal rows, or is missing (before PostgreSQL 11)."""
    return source.encoding != destination.encoding or min(source.version, destination.version) < 110000


def _row(columns: Sequence[str]) -> Composed:
    return sql.SQL("ROW({})::text").format(
        sql.SQL(", ").join(sql.SQL("t.{}").format(sql.Identifier(c)) for c in columns)
    )


def _hash(shape: Shape, columns: Sequence[str]) -> Composed:
    """Return an expression: a bigint hash of the row text of some columns."""
    if shape.portable:
        form = "('x' || substr(md5(convert_to({}, 'UTF8')), 1, 16))::bit(64)::bigint"
    else:
        form = 'pg_catalog.hashtextextended({} COLLATE "C", 0)'
    return sql.SQL(form).format(_row(columns))


def _key_hash(shape: Shape) -> Composed:
    return _hash(shape, [name for name, dummy in shape.key] or shape.columns)


def table_digest(shape: Shape, name: Name) -> Composed:
    """(0, rows, sum of row hashes): the whole table as one bucket, which spares a hash of the key for every row."""
    return sql.SQL("SELECT 0, count(*), coalesce(sum({row}), 0)::text FROM ONLY {table} AS t").format(
        row=_hash(shape, shape.columns), table=sql.Identifier(*name)
    )


def bucket_digests(shape: Shape, name: Name) -> Composed:
    """(bucket, rows, sum of row hashes) of the whole table, in one scan."""
    return sql.SQL(
        "SELECT bucket, count(*), sum(hash)::text FROM (SELECT ({key} & {mask})::int AS bucket, {row} AS hash"
        " FROM ONLY {table} AS t) AS hashed GROUP BY bucket"
    ).format(
        key=_key_hash(shape),
        mask=sql.Literal(shape.buckets - 1),
        row=_hash(shape, shape.columns),
        table=sql.Identifier(*name),
    )


def bucket_rows(shape: Shape, name: Name, buckets: Sequence[int]) -> Composed:
    """(key hash, row hash, key columns as text …) of the rows in some buckets."""
    return sql.SQL(
        "SELECT {key}, {row}{columns} FROM ONLY {table} AS t WHERE ({key} & {mask})::int = ANY ({buckets}::int[])"
    ).format(
        buckets=sql.Literal(list(buckets)),
        key=_key_hash(shape),
        row=_hash(shape, shape.columns),
        columns=_key_texts(shape),
        table=sql.Identifier(*name),
        mask=sql.Literal(shape.buckets - 1),
    )


def keyed_rows(shape: Shape, name: Name, keys: Sequence[tuple[str, ...]]) -> Composed:
    """(key hash, row hash) of the rows with these keys, each the text of its columns.

    The values are cast back to the key's types, so that the key's index finds them.
    """
    columns = [sql.Identifier(f"k{number}") for number in range(len(shape.key))]
    values = [sql.Literal(list(texts)) for texts in zip(*keys, strict=True)]
    matches = [
        # format_type printed the type under an empty search_path: the server itself has quoted and qualified it
        sql.SQL("t.{} = w.{}::{}").format(sql.Identifier(column), alias, sql.SQL(type_name))
        for (column, type_name), alias in zip(shape.key, columns, strict=True)
    ]
    return sql.SQL(
        "SELECT {key}, {row} FROM (SELECT DISTINCT * FROM ROWS FROM ({arrays}) AS u({names})) AS w"
        " JOIN ONLY {table} AS t ON {on}"
    ).format(
        key=_key_hash(shape),
        row=_hash(shape, shape.columns),
        arrays=sql.SQL(", ").join(sql.SQL("pg_catalog.unnest({}::text[])").format(value) for value in values),
        names=sql.SQL(", ").join(columns),
        table=sql.Identifier(*name),
        on=sql.SQL(" AND ").join(matches),
    )


def _key_texts(shape: Shape) -> Composed:
    return sql.Composed([sql.SQL(", t.{}::text").format(sql.Identifier(name)) for name, dummy in shape.key])


def finder(shape: Shape, key_hash: int) -> Composed:
    """SQL for a person that finds the row of a key hash at either end, without the key being told here."""
    return sql.SQL("SELECT * FROM ONLY {table} AS t WHERE {key} = {hash}").format(
        table=sql.Identifier(*shape.source), key=_key_hash(shape), hash=sql.Literal(key_hash)
    )
