# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The SQL of a comparison: rows by the text that their types' output functions return, hashed at their own server.

``col::text`` is inexact (bpchar drops blanks, xml its prolog, bool and inet differ); ``ROW(…)::text`` calls the output
functions. Sessions pin the settings that change those (`session`); types that two servers write differently all the same
are compared in a form of their own (`value_forms`). Values are composed as literals, never passed as
parameters: with placeholders the driver would misread a column that is named ``50%``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..postgres._psycopg import sql
from ..postgres.catalog import Name, Table
from ..postgres.versions import has

if TYPE_CHECKING:
    from psycopg.sql import Composed

    from ..objects.mapping import TableMapping
    from ..postgres.server import Server
    from .value_forms import Form


@dataclass(frozen=True, slots=True)
class Side:
    """One table at one end. ``columns`` are in the source's order; ``key`` holds (column, type) pairs and is empty for a
    keyless table."""

    name: Name
    columns: tuple[str, ...]
    key: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Shape:
    """One table as it is compared: what it is called at either end.

    ``portable`` hashes with md5 over UTF-8, for ends whose encodings differ or that lack hashtextextended. ``forms`` has
    the form of each column, None where its text is compared; it is empty where that holds for all.
    """

    source: Side
    destination: Side
    buckets: int
    portable: bool
    forms: tuple[Form | None, ...] = ()


def shape_of(table: Table, mapping: TableMapping, buckets: int, portable: bool) -> Shape:
    """Return how a source table is compared with the one that it is mapped to."""
    types = {column.name: column.base_type_name for column in table.columns}
    key = table.keys[0].columns if table.keys else ()
    here = Side(table.qualified_name, tuple(types), tuple((name, types[name]) for name in key))
    there = Side(
        mapping.destination,
        tuple(mapping.column(name) for name in types),
        tuple((mapping.column(name), mapping.type_name(name, types[name])) for name in key),
    )
    return Shape(here, there, buckets, portable)


def in_forms(shape: Shape, table: Table, forms: Mapping[int, Form]) -> Shape:
    """Return how a source table is compared where columns of these types, by OID, are compared in a form of their own.

    With such a column in its key it counts as keyless: a key is sought by its text.
    """
    found = tuple([forms.get(column.type_oid) for column in table.columns])
    if not any(found):
        return shape
    formed = {column.name for column, form in zip(table.columns, found, strict=True) if form}
    if any(name in formed for name, dummy in shape.source.key):
        shape = replace(shape, source=replace(shape.source, key=()), destination=replace(shape.destination, key=()))
    return replace(shape, forms=found)


def needs_portable_hash(source: Server, destination: Server) -> bool:
    """Return whether the fast hash would differ for equal rows, or is missing (before PostgreSQL 11)."""
    return source.encoding != destination.encoding or not has(
        min(source.version, destination.version), "hashtextextended"
    )


def _row(shape: Shape, side: Side, columns: Sequence[str]) -> Composed:
    forms = dict(zip(side.columns, shape.forms, strict=True)) if shape.forms else {}
    values = [(sql.SQL("t.{}").format(sql.Identifier(name)), forms.get(name)) for name in columns]
    return sql.SQL("ROW({})::text").format(
        sql.SQL(", ").join([value if form is None else form(value) for value, form in values])
    )


def _hash(shape: Shape, side: Side, columns: Sequence[str]) -> Composed:
    """Return an expression: a bigint hash of the row text of some columns."""
    if shape.portable:
        form = "('x' || substr(md5(convert_to({}, 'UTF8')), 1, 16))::bit(64)::bigint"
    else:
        form = 'pg_catalog.hashtextextended({} COLLATE "C", 0)'
    return sql.SQL(form).format(_row(shape, side, columns))


def _key_hash(shape: Shape, side: Side) -> Composed:
    return _hash(shape, side, [name for name, dummy in side.key] or side.columns)


def table_digest(shape: Shape, side: Side) -> Composed:
    """Return a query for (0, rows, sum of row hashes): the whole table as one bucket, without a hash of every key."""
    return sql.SQL("SELECT 0, count(*), coalesce(sum({row}), 0)::text FROM ONLY {table} AS t").format(
        row=_hash(shape, side, side.columns), table=sql.Identifier(*side.name)
    )


def bucket_digests(shape: Shape, side: Side) -> Composed:
    """Return a query for (bucket, rows, sum of row hashes) of the whole table, in one scan."""
    return sql.SQL(
        "SELECT bucket, count(*), sum(hash)::text FROM (SELECT ({key} & {mask})::int AS bucket, {row} AS hash"
        " FROM ONLY {table} AS t) AS hashed GROUP BY bucket"
    ).format(
        key=_key_hash(shape, side),
        mask=sql.Literal(shape.buckets - 1),
        row=_hash(shape, side, side.columns),
        table=sql.Identifier(*side.name),
    )


def bucket_rows(shape: Shape, side: Side, buckets: Sequence[int]) -> Composed:
    """Return a query for (key hash, row hash, key columns as text …) of the rows in some buckets."""
    return sql.SQL(
        "SELECT {key}, {row}{columns} FROM ONLY {table} AS t WHERE ({key} & {mask})::int = ANY ({buckets}::int[])"
    ).format(
        buckets=sql.Literal(list(buckets)),
        key=_key_hash(shape, side),
        row=_hash(shape, side, side.columns),
        columns=_key_texts(side),
        table=sql.Identifier(*side.name),
        mask=sql.Literal(shape.buckets - 1),
    )


def keyed_rows(shape: Shape, side: Side, keys: Sequence[tuple[str, ...]]) -> Composed:
    """Return a query for (key hash, row hash) of the rows with these keys, each the text of its columns.

    The values are cast back to the key's types, so that the key's index finds them.
    """
    columns = [sql.Identifier(f"k{number}") for number in range(len(side.key))]
    values = [sql.Literal(list(texts)) for texts in zip(*keys, strict=True)]
    matches = [
        # format_type printed the type under an empty search_path: the server itself has quoted and qualified it
        sql.SQL("t.{} = w.{}::{}").format(sql.Identifier(column), alias, sql.SQL(type_name))
        for (column, type_name), alias in zip(side.key, columns, strict=True)
    ]
    return sql.SQL(
        "SELECT {key}, {row} FROM (SELECT DISTINCT * FROM ROWS FROM ({arrays}) AS u({names})) AS w"
        " JOIN ONLY {table} AS t ON {on}"
    ).format(
        key=_key_hash(shape, side),
        row=_hash(shape, side, side.columns),
        arrays=sql.SQL(", ").join(sql.SQL("pg_catalog.unnest({}::text[])").format(value) for value in values),
        names=sql.SQL(", ").join(columns),
        table=sql.Identifier(*side.name),
        on=sql.SQL(" AND ").join(matches),
    )


def _key_texts(side: Side) -> Composed:
    return sql.Composed([sql.SQL(", t.{}::text").format(sql.Identifier(name)) for name, dummy in side.key])


def finder(shape: Shape, side: Side, key_hash: int) -> Composed:
    """Return SQL for the operator that finds the row of a key hash at one end, without showing the key here."""
    return sql.SQL("SELECT * FROM ONLY {table} AS t WHERE {key} = {hash}").format(
        table=sql.Identifier(*side.name), key=_key_hash(shape, side), hash=sql.Literal(key_hash)
    )
