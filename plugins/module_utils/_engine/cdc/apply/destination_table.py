# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A table of the destination as the applier writes it, and whether a Relation of the stream fits it.

Columns are matched by their mapped names: the destination may have them in another order, and additional ones. A
Relation that does not fit stops the task with an error that names table and columns; no row is skipped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ...errors import MismatchError
from ...objects.mapping import DestinationName, ObjectMapping, TableMapping
from ...postgres._psycopg import sql
from ...postgres.catalog import qualified, quoted
from ...postgres.catalog_queries import BINARY_SAFE_TYPES, key_columns, not_null
from ...postgres.connect import explain_errors
from ...postgres.versions import has
from ..changes.compaction import TableShape
from ..changes.keys import UniqueIndex, enforced_at, other_uniques, table_key
from ..changes.messages import Relation, RelationColumn, Type

if TYPE_CHECKING:
    from psycopg.sql import Composed

    from ...postgres.connect import Connection

_VARYING = (1043, 1562)  # varchar and varbit: a longer one takes all values of a shorter one


@dataclass(frozen=True, slots=True)
class FoundColumn:
    """A column as the destination has it. ``base_*`` is the type under any domains; ``base_name`` is format_type's,
    ready for SQL; ``equality_schema`` is the schema of the type's own ``=``, empty where it has none.
    ``binary_safe``: its bytes mean the same at another cluster.
    """

    name: str
    type_oid: int
    typmod: int
    base_oid: int
    base_schema: str
    base_type: str
    base_name: str
    generated: bool
    identity_always: bool
    equality_schema: str
    binary_safe: bool = True


@dataclass(frozen=True, slots=True)
class FoundTable:
    """A table as the destination has it. ``firing``: triggers and rules that fire for a replicating session too."""

    oid: int
    kind: str
    columns: tuple[FoundColumn, ...]
    uniques: tuple[UniqueIndex, ...]
    firing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DestinationTable:
    """A Relation matched with the table that it is applied to, which ``mapping`` names.

    ``columns`` has one entry for each column of the Relation, in its order. ``written`` are the positions that
    statements give values to (not the generated ones), ``kept`` the destination's own columns beyond the Relation.
    ``enforced``: an index of the destination refuses a second row with the same key. ``indexed``: it has one in which
    the rows of a key are found.
    """

    relation: Relation
    mapping: TableMapping
    oid: int
    columns: tuple[FoundColumn, ...]
    written: tuple[int, ...]
    identities: tuple[int, ...]
    kept: tuple[str, ...]
    enforced: bool
    indexed: bool
    shape: TableShape

    def __str__(self) -> str:
        return str(self.mapping)

    @property
    def key(self) -> tuple[int, ...]:
        """Positions that tell rows apart: the key, or every column of a keyless table."""
        return tuple(range(len(self.columns))) if self.shape.key is None else self.shape.key


def fit(
    relation: Relation,
    types: Mapping[int, Type],
    found: FoundTable | None,
    source_uniques: Sequence[UniqueIndex],
    mapping: ObjectMapping,
    previous: Relation | None = None,
) -> DestinationTable:
    """Match a Relation with the table that exists at the destination. Raises MismatchError, naming table and columns.

    ``mapping`` gives the destination's names of table, columns and types. ``previous`` is the Relation that this stream
    sent before: a column that was dropped since is not one of the destination's own.
    """
    there = mapping.table((relation.schema, relation.name))
    what = str(there)
    found = _require_writable(there, found)
    by_name = {column.name: column for column in found.columns}
    mapped = [there.column(column.name) for column in relation.columns]
    missing = [quoted(name) for name in mapped if name not in by_name]
    if missing:
        raise _misfit(what, f"the destination has no column {', '.join(missing)}")
    published = {column.name for column in relation.columns}
    before = previous.columns if previous else ()
    lost = [quoted(c.name) for c in before if c.name not in published and there.column(c.name) in by_name]
    if lost:
        raise _misfit(what, f"the source no longer has column {', '.join(lost)}")
    _require_order(what, relation, before)
    columns = tuple([by_name[name] for name in mapped])
    wrong = [
        f"{quoted(column.name)} ({why})"
        for column, found_column in zip(relation.columns, columns, strict=True)
        if (why := _type_differs(column, types.get(column.type_oid), found_column, mapping))
    ]
    if wrong:
        raise _misfit(what, f"the type differs in column {', '.join(wrong)}")
    written = set(mapped)
    kept = tuple([c.name for c in found.columns if c.name not in written and not c.generated])
    uniques = _named_as_at_source(found.uniques, there)
    key = table_key(relation, source_uniques, uniques)
    searchable = [index for index in uniques if index.collations_as_columns]
    return DestinationTable(
        relation=relation,
        mapping=there,
        oid=found.oid,
        columns=columns,
        written=tuple([at for at, column in enumerate(columns) if not column.generated]),
        identities=tuple([at for at, column in enumerate(columns) if column.identity_always]),
        kept=kept,
        enforced=key is None or enforced_at(relation, key, uniques),
        indexed=key is not None and enforced_at(relation, key, searchable),
        shape=TableShape(relation.oid, len(columns), key, bool(kept), other_uniques(relation, key, uniques)),
    )


def _require_writable(there: TableMapping, found: FoundTable | None) -> FoundTable:
    """Return the table if it can be written row by row. Raises MismatchError."""
    what = str(there)
    if found is None or found.kind != "r":
        raise _misfit(what, "the destination has no table of that name" if found is None else "it is not a plain table")
    if found.firing:
        raise MismatchError(
            "applying changes to",
            what,
            f"{', '.join(found.firing)} would fire for the worker too, and repeat what was done at the source",
            f"Disable them (ALTER TABLE {qualified(there.destination)} DISABLE TRIGGER …, DISABLE RULE …) and restore their"
            " state after the cutover; then start the task again: it resumes where it stopped.",
        )
    return found


def _named_as_at_source(uniques: Sequence[UniqueIndex], there: TableMapping) -> Sequence[UniqueIndex]:
    """Return the destination's unique indexes under the source's column names, by which a key is chosen."""
    if not there.columns:
        return uniques
    return [replace(u, columns=tuple([c and there.source_column(c) for c in u.columns])) for u in uniques]


def _require_order(what: str, relation: Relation, before: Sequence[RelationColumn]) -> None:
    """Raise MismatchError where column names changed places: columns never do, so the names were exchanged and the
    values stayed.
    """
    names, earlier = ([column.name for column in columns] for columns in (relation.columns, before))
    common = set(names).intersection(earlier)
    now, then = ([name for name in some if name in common] for some in (names, earlier))
    if now != then:
        moved = ", ".join([quoted(a) for a, b in zip(now, then, strict=True) if a != b])
        raise MismatchError(
            "applying changes to",
            what,
            f"columns have exchanged their names at the source, or were dropped and recreated: {moved}",
            "Make the same change at the destination, and copy the table again: run the migrate playbook with the table in"
            " causeway_resync.",
        )


def _type_differs(column: RelationColumn, announced: Type | None, there: FoundColumn, mapping: ObjectMapping) -> str:
    """Return why values of the source's column may not be written to the destination's; empty when they may."""
    if announced is not None:
        here = (announced.schema, announced.name)
        if mapping.there(here) != (there.base_schema, there.base_type):
            return f"{qualified(here)} at the source, {there.base_name} at the destination"
    elif column.type_oid != there.base_oid:
        return f"type {column.type_oid} at the source, {there.base_name} at the destination"
    if there.typmod in (-1, column.typmod):
        return ""
    if there.base_oid in _VARYING and 0 <= column.typmod < there.typmod:
        return ""
    return f"{there.base_name} with another length or precision at the destination"


def _misfit(what: str, why: str) -> MismatchError:
    return MismatchError(
        "applying changes to",
        what,
        why,
        "Make the same change at the destination by hand, then start the task again: it resumes where it stopped.",
    )


_TABLE = """
SELECT c.oid::bigint, c.relkind::text FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s
"""

_COLUMNS = """
WITH RECURSIVE base AS (
    SELECT DISTINCT a.atttypid AS type, a.atttypid AS base, 0 AS depth
      FROM pg_catalog.pg_attribute a WHERE a.attrelid = %(oid)s AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT b.type, t.typbasetype, b.depth + 1
      FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.base WHERE t.typtype = 'd'
), bottom AS (SELECT DISTINCT ON (type) type, base FROM base ORDER BY type, depth DESC),
safe AS ({safe})
SELECT a.attname, a.atttypid::bigint, a.atttypmod, t.oid::bigint, n.nspname, t.typname,
       pg_catalog.format_type(t.oid, -1), {generated}, a.attidentity = 'a', coalesce(o.nspname, ''),
       safe.oid IS NOT NULL
  FROM pg_catalog.pg_attribute a
  JOIN bottom ON bottom.type = a.atttypid
  JOIN pg_catalog.pg_type t ON t.oid = bottom.base
  JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
  LEFT JOIN safe ON safe.oid = t.oid
  LEFT JOIN LATERAL (SELECT m.nspname FROM pg_catalog.pg_operator p
                       JOIN pg_catalog.pg_namespace m ON m.oid = p.oprnamespace
                      WHERE p.oprname = '=' AND p.oprleft = t.oid AND p.oprright = t.oid LIMIT 1) o ON true
 WHERE a.attrelid = %(oid)s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""

_FIRING = """
SELECT 'trigger ' || pg_catalog.quote_ident(tgname) FROM pg_catalog.pg_trigger
 WHERE tgrelid = %(oid)s AND NOT tgisinternal AND tgenabled IN ('A', 'R')
UNION ALL
SELECT 'rule ' || pg_catalog.quote_ident(rulename) FROM pg_catalog.pg_rewrite
 WHERE ev_class = %(oid)s AND ev_type <> '1' AND ev_enabled IN ('A', 'R')
 ORDER BY 1
"""

_UNIQUES = """
SELECT ic.relname,
       ARRAY(SELECT coalesce(a.attname::text, '')
               FROM pg_catalog.unnest(i.indkey::smallint[]) WITH ORDINALITY k(number, position)
               LEFT JOIN pg_catalog.pg_attribute a
                 ON a.attrelid = i.indrelid AND a.attnum = k.number AND k.number > 0
              WHERE k.position <= i.{key_columns} ORDER BY k.position),
       i.indimmediate, i.indpred IS NOT NULL, i.indisvalid, i.indisprimary,
       NOT EXISTS (SELECT FROM pg_catalog.unnest(i.indkey::smallint[]) WITH ORDINALITY k(number, position)
                     LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
                    WHERE k.position <= i.{key_columns} AND NOT {not_null}),
       NOT EXISTS (SELECT FROM ROWS FROM (pg_catalog.unnest(i.indkey::smallint[]), pg_catalog.unnest(i.indcollation::oid[]))
                     WITH ORDINALITY k(number, collation_oid, position)
                     JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
                    WHERE k.position <= i.{key_columns} AND a.attcollation <> k.collation_oid)
  FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid
 WHERE i.indisunique AND i.indrelid = %s ORDER BY 1
"""


def columns_statement(server_version: int) -> Composed:
    """Return the query for the columns of a table; its parameter is ``oid``."""
    generated = "a.attgenerated <> ''" if has(server_version, "pg_attribute.attgenerated") else "false"
    return sql.SQL(_COLUMNS).format(generated=sql.SQL(generated), safe=sql.SQL(BINARY_SAFE_TYPES))


def uniques_statement(server_version: int) -> Composed:
    """Return the query for the unique indexes of a table by its OID."""
    known = {"key_columns": key_columns(server_version), "not_null": not_null(server_version)}
    return sql.SQL(_UNIQUES).format(**{name: sql.SQL(text) for name, text in known.items()})


def observe_table(conn: Connection, name: DestinationName) -> FoundTable | None:
    """Return the destination's table of that name, or None. Raises ServerError."""
    with explain_errors("looking at the destination's table", qualified(name)):
        head = conn.execute(_TABLE, name).fetchone()
        if head is None:
            return None
        columns = conn.execute(columns_statement(conn.info.server_version), {"oid": head[0]}).fetchall()
        return FoundTable(
            oid=head[0],
            kind=head[1],
            columns=tuple([FoundColumn(*row) for row in columns]),
            uniques=observe_uniques(conn, head[0]),
            firing=tuple([row[0] for row in conn.execute(_FIRING, {"oid": head[0]}).fetchall()]),
        )


def observe_uniques(conn: Connection, oid: int) -> tuple[UniqueIndex, ...]:
    """Return the unique indexes of a table, at either end. Raises ServerError."""
    rows = conn.execute(uniques_statement(conn.info.server_version), (oid,)).fetchall()
    return tuple(
        [
            UniqueIndex(
                name=row[0],
                columns=tuple(row[1]),
                immediate=row[2],
                partial=row[3],
                expressions="" in row[1],
                valid=row[4],
                primary=row[5],
                all_not_null=row[6],
                collations_as_columns=row[7],
            )
            for row in rows
        ]
    )
