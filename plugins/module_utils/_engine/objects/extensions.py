# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the extensions that selected objects need, and the statements that create them at the destination.

An extension is not part of the selection, but selected objects cannot be created without it. Precheck and the schema
phase share these rules, so that precheck never refuses what the schema phase would create.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..postgres._psycopg import psycopg, sql
from ..postgres.connect import explain_errors, server_error
from ..postgres.locks import in_lock_timeout

if TYPE_CHECKING:
    from psycopg.sql import Composed

    from ..errors import EngineError
    from ..postgres.connect import Connection
    from .selection import Selection

_PROBE_WAIT = 2.0
"""Seconds for which making an extension on trial waits for a lock."""

# ``chosen`` is what is selected: tables by OID, all else by its schema, and what belongs to either (indexes, defaults,
# constraints, triggers, rules, policies, row and array types). ``needed`` follows all dependencies of an object, to the
# extensions; but never into another relation, since a foreign key or a view may lead to tables that are not selected.
# The members of an extension are not selected objects, in any schema; nor is what depends on one internally (`i`), such as
# the multirange type of a range, or the sequence of an identity column, which is no member itself.
NEEDED = """
WITH RECURSIVE member (classid, objid) AS (
    SELECT d.classid, d.objid FROM pg_catalog.pg_depend d WHERE d.deptype = 'e'
    UNION
    SELECT d.classid, d.objid
      FROM member m JOIN pg_catalog.pg_depend d ON d.refclassid = m.classid AND d.refobjid = m.objid WHERE d.deptype = 'i'
), chosen (classid, objid) AS (
    SELECT 'pg_catalog.pg_class'::regclass::oid, c.oid FROM pg_catalog.pg_class c WHERE c.oid = ANY (%(relations)s::oid[])
    UNION
    SELECT d.classid, d.objid
      FROM pg_catalog.pg_depend d
      JOIN pg_catalog.pg_namespace n ON n.oid = d.refobjid AND d.refclassid = 'pg_catalog.pg_namespace'::regclass
      LEFT JOIN pg_catalog.pg_class c ON c.oid = d.objid AND d.classid = 'pg_catalog.pg_class'::regclass
     WHERE n.nspname = ANY (%(schemas)s) AND d.classid <> 'pg_catalog.pg_extension'::regclass
       AND coalesce(c.relkind, ' ') NOT IN ('r', 'p')
       AND NOT EXISTS (SELECT FROM member m WHERE m.classid = d.classid AND m.objid = d.objid)
    UNION
    SELECT d.classid, d.objid
      FROM chosen c JOIN pg_catalog.pg_depend d ON d.refclassid = c.classid AND d.refobjid = c.objid
     WHERE d.deptype IN ('a', 'i')
), needed (classid, objid) AS (
    SELECT classid, objid FROM chosen
    UNION
    SELECT d.refclassid, d.refobjid
      FROM needed n JOIN pg_catalog.pg_depend d ON d.classid = n.classid AND d.objid = n.objid
     WHERE d.refclassid <> 'pg_catalog.pg_class'::regclass
        OR EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = d.refobjid AND c.relkind = 'c')
        OR EXISTS (SELECT FROM pg_catalog.pg_depend own
                    WHERE own.classid = d.refclassid AND own.objid = d.refobjid AND own.deptype = 'e')
)
SELECT e.extname::text, e.extversion, s.nspname::text,
       ARRAY(SELECT r.extname::text FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension r ON r.oid = d.refobjid
              WHERE d.classid = 'pg_catalog.pg_extension'::regclass AND d.objid = e.oid
                AND d.refclassid = 'pg_catalog.pg_extension'::regclass)
  FROM needed n
  JOIN pg_catalog.pg_extension e ON e.oid = n.objid AND n.classid = 'pg_catalog.pg_extension'::regclass
  JOIN pg_catalog.pg_namespace s ON s.oid = e.extnamespace
 WHERE e.extname <> 'plpgsql'
 ORDER BY 1
"""

_OFFERED = """
SELECT a.name::text, a.default_version, pg_catalog.array_agg(v.version),
       bool_or(coalesce(pg_catalog.to_jsonb(v) ->> 'trusted', 'false')::bool)
  FROM pg_catalog.pg_available_extensions a JOIN pg_catalog.pg_available_extension_versions v ON v.name = a.name
 WHERE a.name = ANY (%s) GROUP BY 1, 2
"""


@dataclass(frozen=True, slots=True)
class Extension:
    """An extension of one database, with the names of those that it requires."""

    name: str
    version: str
    schema: str
    requires: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Offer:
    """The versions of an extension that a server offers; ``trusted``: the database's owner may create it, not only
    superusers."""

    default_version: str
    versions: frozenset[str]
    trusted: bool


def needed_extensions(conn: Connection, selection: Selection) -> tuple[Extension, ...]:
    """Return the source's extensions that selected objects need, each after those that it requires. Raises ServerError.

    plpgsql is left out: every database has it.
    """
    values = {"relations": [table.oid for table in selection.tables], "schemas": list(selection.schemas)}
    with explain_errors("reading the extensions of the", "source"):
        rows = conn.execute(NEEDED, values).fetchall()
    return in_order([Extension(name, version, schema, tuple(needs)) for name, version, schema, needs in rows])


def in_order(extensions: Iterable[Extension]) -> tuple[Extension, ...]:
    """Return the extensions, each after those that it requires, otherwise by name. Pure."""
    waiting = {extension.name: extension for extension in sorted(extensions, key=lambda one: one.name)}
    found: list[Extension] = []

    def take(name: str) -> None:
        extension = waiting.pop(name, None)
        if extension is not None:
            for needed in sorted(extension.requires):
                take(needed)
            found.append(extension)

    for name in list(waiting):
        take(name)
    return tuple(found)


def standing_extensions(conn: Connection) -> frozenset[str]:
    """Return the names of the extensions that the destination has. Raises ServerError."""
    with explain_errors("reading the extensions of the", "destination"):
        return frozenset(row[0] for row in conn.execute("SELECT extname FROM pg_catalog.pg_extension").fetchall())


def observe_offers(conn: Connection, names: Iterable[str]) -> dict[str, Offer]:
    """Return by name which of these extensions the destination's server offers. Raises ServerError."""
    with explain_errors("reading the available extensions of the", "destination"):
        rows = conn.execute(_OFFERED, (list(names),)).fetchall()
    return {name: Offer(default, frozenset(versions), trusted) for name, default, versions, trusted in rows}


def create_statements(extension: Extension, offer: Offer | None, schemas: Collection[str]) -> tuple[Composed, ...]:
    """Return the statements that create the extension in the same schema and version as at the source. Pure.

    If the server does not offer that version its default one is created. ``schemas`` exist already, or will.
    """
    schema = sql.Identifier(extension.schema)
    create = sql.SQL("CREATE EXTENSION {} SCHEMA {}").format(sql.Identifier(extension.name), schema)
    if offer is not None and extension.version in offer.versions:
        create = sql.SQL("{} VERSION {}").format(create, sql.Literal(extension.version))
    if extension.schema in schemas:
        return (create,)
    return (sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(schema), create)


def try_to_create(
    conn: Connection, extensions: Iterable[Extension], offers: Mapping[str, Offer], schemas: Collection[str]
) -> dict[str, EngineError]:
    """Return by name why extensions cannot be created: each is, as the schema phase would, in a transaction that is rolled
    back. Neither rolsuper nor a grant says whether a server allows it. Raises ServerError.
    """
    found: dict[str, EngineError] = {}
    with explain_errors("trying to make extensions at the", "destination"), conn.transaction(force_rollback=True):
        in_lock_timeout(conn, _PROBE_WAIT)
        for extension in extensions:
            try:
                with conn.transaction():  # a savepoint: what others of them require stays for the next
                    for statement in create_statements(extension, offers[extension.name], schemas):
                        conn.execute(statement)
            except psycopg.Error as exc:
                found[extension.name] = server_error(exc, "making at the destination the extension", extension.name)
    return found


def other_version(extension: Extension, offer: Offer | None) -> str:
    """Return the version that is created instead of the source's; empty if the server offers that one. Pure."""
    return offer.default_version if offer is not None and extension.version not in offer.versions else ""


def not_there(needed: Iterable[Extension], there: Collection[str]) -> tuple[Extension, ...]:
    """Return the needed extensions that a database lacks. Pure."""
    return tuple(extension for extension in needed if extension.name not in there)
