# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which publications of a database send a table's UPDATE and DELETE, and what they ask of its replica identity.

A published table whose identity a publication cannot send refuses UPDATE and DELETE to every session: where it has none,
where a column list leaves a column of it out (with FULL any list counts), or, from PostgreSQL 18 on, a generated one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import ServerError
from ..postgres._psycopg import psycopg, sql
from ..postgres.connect import explain_errors
from ..postgres.versions import has

if TYPE_CHECKING:
    from psycopg.sql import Composed

    from ..postgres.catalog import Catalog, Table
    from ..postgres.connect import Connection

GENERATED_CHECKED = "identities without generated columns"
"""A key of `versions.SINCE`: the server refuses an identity with a generated column that a publication does not send."""

# pg_publication_tables returns the same, but opens the tables and waits behind a session that alters one.
# to_jsonb shows the options that the server has: column lists from 15 on, pubgencols from 18 on.
_PUBLISHING = """
SELECT p.pubname, p.puballtables, coalesce(r.prrelid, 0)::bigint, {schema},
       pg_catalog.to_jsonb(r) ->> 'prattrs' IS NOT NULL,
       coalesce(pg_catalog.to_jsonb(p) ->> 'pubgencols', 'n') = 's'
  FROM pg_catalog.pg_publication p
  LEFT JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid {schemas} WHERE p.pubupdate OR p.pubdelete
"""
_SCHEMAS = """LEFT JOIN pg_catalog.pg_publication_namespace m ON m.pnpubid = p.oid
  LEFT JOIN pg_catalog.pg_namespace n ON n.oid = m.pnnspid"""

_REFUSED = ("55000", "42P10")
"""SQLSTATEs of an UPDATE or DELETE that the identity does not allow: no identity, or one that is not published whole."""

_NOT_AN_ANSWER = ("08", "25", "40", "53", "55", "57", "58")
"""Classes of SQLSTATEs that are about the session, a lock or the server: a statement that is tried again may succeed."""

_AT_ONCE = 200

KEY_REMEDY = (
    "Give the table a primary key, or a unique index on NOT NULL columns that every publication sends:"
    " causeway_replica_identity: auto then needs no FULL. Or let those publications send whole rows (and, from"
    " PostgreSQL 18 on, publish_generated_columns = stored), or leave the table out of causeway_objects."
)


@dataclass(frozen=True, slots=True)
class Publishing:
    """How one publication sends one table: ``listed`` if by a column list; ``generated`` if it sends stored generated
    columns."""

    publication: str
    listed: bool
    generated: bool


class Published:
    """The publications of one database that send the UPDATE and DELETE of a table. Reads them in one query.

    Raises ServerError.
    """

    def __init__(self, conn: Connection, catalog: Catalog) -> None:
        self._tables = catalog.tables
        whole = has(conn.info.server_version, "pg_publication_namespace")
        query = sql.SQL(_PUBLISHING).format(
            schema=sql.SQL("coalesce(n.nspname, '')" if whole else "''"), schemas=sql.SQL(_SCHEMAS if whole else "")
        )
        with explain_errors("reading the publications of the", "source"):
            rows = conn.execute(query).fetchall()
        self._all = {Publishing(name, False, gen) for name, everything, *dummy, gen in rows if everything}
        self._schemas: dict[str, set[Publishing]] = {}
        self._relations: dict[int, set[Publishing]] = {}
        for name, dummy_everything, relation, schema, listed, generated in rows:
            self._schemas.setdefault(schema, set()).add(Publishing(name, False, generated))
            self._relations.setdefault(relation, set()).add(Publishing(name, listed, generated))

    def of(self, table: Table) -> frozenset[Publishing]:
        """Return how each publication sends ``table``: itself, through one of its roots, or with all tables."""
        lineage, todo = {table.oid}, [table]
        while todo:
            found = todo.pop()
            above = [self._tables[oid] for oid in found.parents if found.is_partition and oid in self._tables]
            lineage |= {parent.oid for parent in above}
            todo += above
        found_by = (self._relations.get(oid, set()) for oid in lineage)
        return frozenset(self._all.union(self._schemas.get(table.schema, set()), *found_by))

    def by(self, table: Table) -> frozenset[str]:
        """Return the names of the publications that send ``table``."""
        return frozenset(one.publication for one in self.of(table))


def against_full(table: Table, publishing: Collection[Publishing], server_version: int) -> str:
    """Return why ``table`` may not have REPLICA IDENTITY FULL: the server would then refuse UPDATE and DELETE on it.

    Empty where it may. Pure.
    """
    listed = sorted(one.publication for one in publishing if one.listed)
    if listed:
        return f"publication {', '.join(listed)} sends it with a column list"
    if not has(server_version, GENERATED_CHECKED):
        return ""
    virtual = [column.name for column in table.columns if column.generated == "v"]
    if virtual:
        return f"column {', '.join(virtual)} is a virtual generated one, which no publication can send"
    stored = [column.name for column in table.columns if column.generated]
    without = sorted(one.publication for one in publishing if not one.generated)
    if stored and without:
        return f"publication {', '.join(without)} does not send the generated column {', '.join(stored)}"
    return ""


def require_writes(conn: Connection, tables: Sequence[Table], doing: str, known: Collection[int] = ()) -> None:
    """Raise ServerError where the server would now refuse UPDATE or DELETE on one of ``tables`` to every session; the
    caller's open transaction is then rolled back. ``known`` are those, by OID, that it refused before. Raises
    psycopg.Error for a lost connection, a lock that was not granted and the like."""
    for table, exc in refused_writes(conn, tables):
        if table.oid not in known:
            why = "; ".join(filter(None, (exc.diag.message_primary, exc.diag.message_detail)))
            why = f"the source would then refuse the application's UPDATE and DELETE ({why}), so it was taken back"
            raise ServerError(doing, str(table), why, KEY_REMEDY, sqlstate=exc.sqlstate or "")


def refused_writes(conn: Connection, tables: Sequence[Table]) -> Iterator[tuple[Table, psycopg.Error]]:
    """Return those of ``tables`` on which the server refuses UPDATE or DELETE for their identity, each with its error.

    The statements are only planned: PostgreSQL checks the identity when a statement starts, and no trigger fires. What
    fails for another reason (our account may not write, a rule cannot be planned) says nothing. Raises psycopg.Error for a
    lost connection, a lock that was not granted and the like.
    """
    for start in range(0, len(tables), _AT_ONCE):
        some = tables[start : start + _AT_ONCE]
        if _error(conn, [statement for table in some for statement in _writes(table)]) is None:
            continue
        for table in some:
            errors = filter(None, (_error(conn, [statement]) for statement in _writes(table)))
            exc = next((exc for exc in errors if exc.sqlstate in _REFUSED), None)
            if exc is not None:
                yield table, exc


def _error(conn: Connection, statements: Sequence[Composed]) -> psycopg.Error | None:
    """Return the error of these statements, executed at once; None if there is none. Raises as `refused_writes`."""
    try:
        with conn.transaction():
            conn.execute(sql.SQL("; ").join(statements))
    except psycopg.Error as exc:
        if not exc.sqlstate or (exc.sqlstate[:2] in _NOT_AN_ANSWER and exc.sqlstate not in _REFUSED):
            raise
        return exc
    return None


def _writes(table: Table) -> list[Composed]:
    """Return an UPDATE and a DELETE to plan. A table of which no column may be set has the DELETE alone."""
    name = sql.SQL("ONLY {}").format(sql.Identifier(table.schema, table.name))
    column = next((sql.Identifier(c.name) for c in table.columns if not c.generated and c.identity != "a"), None)
    delete = sql.SQL("EXPLAIN DELETE FROM {} WHERE false").format(name)
    if column is None:
        return [delete]
    return [delete, sql.SQL("EXPLAIN UPDATE {} SET {} = {} WHERE false").format(name, column, column)]
