# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The forms in which values are compared whose output text depends on the server, not only on the value.

Before PostgreSQL 12 a float is written with as many digits as always suffice (0.100000000000000006), since then with the
fewest that do (0.1); where a pooler drops our settings, with too few. Before 16 a ``"char"`` beyond ASCII is written as
that byte, since then in octal. So both ends are asked to write some. Where they do it alike, the text is what is compared.
Else these types (floats, or ``"char"``), and all that are made of them, are compared by the bytes of their send functions,
part by part: the send functions of arrays, composites and ranges name types by OID, or tell whether an array has room for
NULLs. Every NaN counts as the same, as it does in text: the stream and the copy may exchange one for another. -0 is not 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from ..postgres._psycopg import sql
from ..postgres.connect import explain_errors
from ..postgres.versions import has

if TYPE_CHECKING:
    from psycopg.sql import Composable

    from ..postgres.connect import Connection

Form: TypeAlias = Callable[["Composable"], "Composable"]
"""Makes the expression that is compared out of one that gives a value."""

# 1/3 shows the number of digits, 0.1 + 0.2 whether they are the fewest; a byte beyond ASCII is not fit to be sent as text.
_WRITTEN = """
SELECT pg_catalog.md5(ROW(1::float8 / 3, 0.1::float8 + 0.2::float8, 1::float4 / 3, 0.1::float4,
                          pg_catalog.point(1::float8 / 3, 0))::text),
       pg_catalog.md5(((-1)::"char")::text)
"""

# What each type is made of, downwards from the given ones: of a composite by its fields, of all others of one.
_PARTS = """
WITH RECURSIVE part (of, kind, field, number, type) AS (
    SELECT t.oid, 'domain', '', 0, t.typbasetype FROM pg_catalog.pg_type t WHERE t.typtype = 'd'
    UNION ALL
    SELECT t.oid, 'array', '', 0, t.typelem FROM pg_catalog.pg_type t WHERE t.typelem <> 0 AND t.typlen = -1
    UNION ALL
    SELECT t.oid, 'composite', a.attname::text, a.attnum::int, a.atttypid
      FROM pg_catalog.pg_type t JOIN pg_catalog.pg_attribute a ON a.attrelid = t.typrelid
     WHERE t.typtype = 'c' AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT r.rngtypid, 'range', '', 0, r.rngsubtype FROM pg_catalog.pg_range r
    {multiranges}
), reached AS (
    SELECT p.of, p.kind, p.field, p.number, p.type FROM part p WHERE p.of::bigint = ANY (%s)
    UNION
    SELECT p.of, p.kind, p.field, p.number, p.type FROM reached r JOIN part p ON p.of = r.type
)
SELECT of::bigint, kind, field, type::bigint FROM reached ORDER BY of, number
"""
_MULTIRANGES = "UNION ALL SELECT r.rngmultitypid, 'multirange', '', 0, r.rngtypid FROM pg_catalog.pg_range r"


def _form(text: str) -> Form:
    """Return the form of which ``text`` is the SQL, with ``{x}`` for the value."""
    return lambda value: sql.SQL(text).format(x=value)


def _float(send: str) -> Form:
    return _form(f"CASE WHEN {{x}} = 'NaN' THEN '' ELSE pg_catalog.{send}({{x}}) END")


def _geometric(name: str, send: str = "") -> Form:
    """Return the form of a type that is made of floats: one that holds a NaN is read from its text, as the copy does."""
    holds_none = "pg_catalog.strpos({x}::pg_catalog.text, 'NaN') = 0"
    read = f"{{x}}::pg_catalog.text::pg_catalog.{name}"
    return _form(f"pg_catalog.{send or name + '_send'}(CASE WHEN {holds_none} THEN {{x}} ELSE {read} END)")


_FLOATS: Mapping[int, Form] = {
    700: _float("float4send"),
    701: _float("float8send"),
    600: _geometric("point"),
    601: _geometric("lseg"),
    602: _geometric("path"),
    603: _geometric("box"),
    604: _geometric("polygon", "poly_send"),
    628: _geometric("line"),
    718: _geometric("circle"),
}
_CHARS: Mapping[int, Form] = {18: _form("{x}::pg_catalog.int4")}
_BASES = (_FLOATS, _CHARS)
"""Forms by the OID of the built-in type; one mapping for each column of `_WRITTEN`."""


def observe_forms(source: Connection, destination: Connection, types: Iterable[int]) -> Mapping[int, Form]:
    """Return the forms of those of the source's types, by OID, that these two sessions do not write alike.

    Raises ServerError, ConnectError.
    """
    with explain_errors("asking how numbers are written at", "both ends"):
        here, there = (conn.execute(_WRITTEN).fetchone() for conn in (source, destination))
        written = zip(_BASES, here or (), there or (), strict=True)
        differing = [bases for bases, one, other in written if one != other]
        if not differing:
            return {}
        multiranges = _MULTIRANGES if has(source.info.server_version, "pg_range.rngmultitypid") else ""
        wanted = sorted(set(types))
        parts = source.execute(sql.SQL(_PARTS).format(multiranges=sql.SQL(multiranges)), (wanted,)).fetchall()
    return forms_of(wanted, parts, {oid: form for bases in differing for oid, form in bases.items()})


def forms_of(types: Iterable[int], parts: Iterable[tuple[Any, ...]], bases: Mapping[int, Form]) -> Mapping[int, Form]:
    """Return the forms of types that are made of ``bases``; ``parts`` are (type, kind, field, type of the part), in the
    order of the fields. Pure."""
    made_of: dict[int, list[tuple[str, str, int]]] = {}
    for whole, kind, field, part in parts:
        made_of.setdefault(whole, []).append((kind, field, part))
    known: dict[int, Form | None] = dict(bases)

    def form(oid: int) -> Form | None:
        if oid not in known:
            fields = [(kind, field, form(part)) for kind, field, part in made_of.get(oid, ())]
            known[oid] = _whole(fields) if any(one for dummy, dummy2, one in fields) else None
        return known[oid]

    found = {oid: form(oid) for oid in types}
    return {oid: one for oid, one in found.items() if one is not None}


def _whole(fields: Sequence[tuple[str, str, Form | None]]) -> Form:
    kind, dummy, form = fields[0]
    if kind == "composite":
        return _composite([(field, form or _form("{x}")) for dummy, field, form in fields])
    part = form or _form("{x}")
    return part if kind == "domain" else _range(part) if kind == "range" else _several(part, kind)


def _composite(fields: Sequence[tuple[str, Form]]) -> Form:
    """Return the form of a composite: NULL is not a row of NULLs."""

    def written(value: Composable) -> Composable:
        parts = [form(sql.SQL("({}).{}").format(value, sql.Identifier(name))) for name, form in fields]
        row = sql.SQL("CASE WHEN {} IS DISTINCT FROM NULL THEN ROW({}) END")
        return row.format(value, sql.SQL(", ").join(parts))

    return written


def _range(part: Form) -> Form:
    def written(value: Composable) -> Composable:
        asked = ("isempty", "lower_inc", "upper_inc", "lower_inf", "upper_inf")
        answers = [sql.SQL(f"pg_catalog.{function}({{}})").format(value) for function in asked]
        bounds = [part(sql.SQL(f"pg_catalog.{function}({{}})").format(value)) for function in ("lower", "upper")]
        row = sql.SQL("CASE WHEN {} IS NOT NULL THEN ROW({}) END")
        return row.format(value, sql.SQL(", ").join([*answers, *bounds]))

    return written


def _several(part: Form, kind: str) -> Form:
    """Return the form of an array, with its dimensions and their bounds, or of a multirange."""
    bounds = "pg_catalog.array_dims({x})" if kind == "array" else "NULL"
    whole = (
        f"CASE WHEN {{x}} IS NOT NULL THEN ROW({bounds}, (SELECT pg_catalog.array_agg({{part}})"
        " FROM (SELECT pg_catalog.unnest({x}) AS e) AS u)) END"
    )
    return lambda value: sql.SQL(whole).format(x=value, part=part(sql.Identifier("u", "e")))
