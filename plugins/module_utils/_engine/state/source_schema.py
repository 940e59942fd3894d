# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an older source holds for us while migrations run: schema ``causeway`` with the heartbeat table, which they share.

From PostgreSQL 14 on the source gets no table of ours, which would be in the streams of everybody who publishes all
tables: markers and heartbeats are logical messages there. Before, pgoutput sends no messages, and the table is
published with the selection. A migration's row in it says that it shares the schema; the release of the last one drops
table and schema.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import MismatchError, StateError
from ..plan import SqlChange
from ..postgres._psycopg import sql
from ..postgres.catalog import qualified
from ..postgres.connect import explain_errors
from ..postgres.locks import in_lock_timeout
from ..postgres.versions import has
from .advisory import lock_schema

if TYPE_CHECKING:
    from psycopg.sql import Composed

    from ..postgres.connect import Connection

MESSAGES = "stream option messages"
"""A key of `versions.SINCE`: pgoutput sends logical messages."""

SOURCE_SCHEMA = "causeway"
"""The schema of the bookkeeping at an older source, whatever the name of the state schema at the destination."""

HEARTBEAT_NAME = (SOURCE_SCHEMA, "heartbeat")

# `fence` is the cutover's: it changes at the source, in the transaction that revokes or restores the writers' rights.
_CREATE = """CREATE TABLE {table} (
    migration text PRIMARY KEY,
    marker text NOT NULL,
    written_at timestamptz NOT NULL,
    fence text CHECK (fence IN ('fenced', 'closed', 'reopened')))"""
_COLUMNS = ["migration text", "marker text", "written_at timestamp with time zone", "fence text"]

_LOOK = """
SELECT c.oid::bigint,
       (SELECT pg_catalog.array_agg(a.attname || ' ' || pg_catalog.format_type(a.atttypid, -1) ORDER BY a.attnum)
          FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
       (SELECT pg_catalog.count(*) FROM pg_catalog.pg_depend d
         WHERE d.refclassid = 'pg_catalog.pg_namespace'::regclass AND d.refobjid = n.oid AND d.deptype = 'n'
           AND d.objid IS DISTINCT FROM c.oid)
  FROM pg_catalog.pg_namespace n
  LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = %s
 WHERE n.nspname = %s
"""


@dataclass(frozen=True, slots=True)
class Bookkeeping:
    """What exists: the schema, the heartbeat table's OID (0 for none), the number of ``others``, further objects in the
    schema, and the migrations that share it."""

    schema: bool
    heartbeat: int
    others: int
    rows: frozenset[str]


def sends_messages(source: Connection) -> bool:
    """Return whether the stream of this source carries logical messages, so that it needs no table of ours."""
    return has(source.info.server_version, MESSAGES)


def heartbeat_table() -> Composed:
    """Return the heartbeat table, qualified, for SQL."""
    return sql.SQL("{}.{}").format(*map(sql.Identifier, HEARTBEAT_NAME))


def heartbeat_tables(source: Connection) -> tuple[int, ...]:
    """Return the OIDs of the engine's own tables at the source, whose changes are not rows of the migration; none where
    it sends messages instead. Raises MismatchError, ServerError."""
    found = 0 if sends_messages(source) else observe_bookkeeping(source).heartbeat
    return (found,) if found else ()


def forget_heartbeat(name: str) -> Composed:
    """Return the statement that deletes a migration's row."""
    return sql.SQL("DELETE FROM ONLY {} WHERE migration = {}").format(heartbeat_table(), sql.Literal(name))


def observe_bookkeeping(conn: Connection) -> Bookkeeping:
    """Return what exists at the source. Raises MismatchError for a heartbeat table that Causeway did not create, and
    ServerError.
    """
    with explain_errors("looking for schema", f"{SOURCE_SCHEMA} at the source"):
        row = conn.execute(_LOOK, HEARTBEAT_NAME[::-1]).fetchone()
        if row is None or row[0] is None:
            return Bookkeeping(row is not None, 0, row[2] if row else 0, frozenset())
        if list(row[1] or []) != _COLUMNS:
            raise MismatchError(
                "looking for the heartbeat table at the source",
                qualified(HEARTBEAT_NAME),
                "a relation of that name exists that Causeway did not create, or another release of it did",
                "Finish or release the migrations that use it with the collection that began them; if none does, rename it.",
            )
        found = conn.execute(sql.SQL("SELECT migration FROM ONLY {}").format(heartbeat_table())).fetchall()
    return Bookkeeping(True, int(row[0]), row[2], frozenset(entry[0] for entry in found))


def make_changes(found: Bookkeeping, name: str) -> list[SqlChange]:
    """Return the changes that create what is missing of schema, table and this migration's row."""
    changes: list[SqlChange] = []
    if not found.schema:
        create = sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(SOURCE_SCHEMA))
        changes.append(SqlChange("source", f"schema {SOURCE_SCHEMA}", None, "bookkeeping", (create,)))
    if not found.heartbeat:
        what = f"table {qualified(HEARTBEAT_NAME)}"
        changes.append(
            SqlChange(
                "source", what, None, "heartbeat and markers", (sql.SQL(_CREATE).format(table=heartbeat_table()),)
            )
        )
    if name not in found.rows:
        # The row says that this migration shares the schema: without it another migration's release would drop it.
        insert = sql.SQL(
            "INSERT INTO {} (migration, marker, written_at) VALUES ({}, '', pg_catalog.clock_timestamp())"
            " ON CONFLICT (migration) DO NOTHING"
        ).format(heartbeat_table(), sql.Literal(name))
        changes.append(SqlChange("source", f"heartbeat row of migration {name}", None, "no marker", (insert,)))
    return changes


def changes_to_make(conn: Connection, name: str) -> list[SqlChange]:
    """Return the changes by which this source gets what the migration needs there: none where it sends messages.

    Raises MismatchError, ServerError.
    """
    return [] if sends_messages(conn) else make_changes(observe_bookkeeping(conn), name)


def changes_to_drop(conn: Connection, name: str) -> list[SqlChange]:
    """Return the changes that remove what this source has of the migration. Raises MismatchError, ServerError."""
    return [] if sends_messages(conn) else drop_changes(observe_bookkeeping(conn), name)


def _one_at_a_time(conn: Connection, lock_timeout: float) -> None:
    """Wait until no other migration creates or drops the bookkeeping of this source, which takes a moment."""
    in_lock_timeout(conn, lock_timeout)
    lock_schema(conn, SOURCE_SCHEMA, "bookkeeping")


def make(conn: Connection, name: str, lock_timeout: float) -> None:
    """Create what is missing in one transaction, decided under a lock: two migrations may begin at once.

    Nothing is made where the source sends messages. Raises MismatchError, ServerError.
    """
    if sends_messages(conn):
        return
    with explain_errors("making", qualified(HEARTBEAT_NAME)), conn.transaction():
        _one_at_a_time(conn, lock_timeout)
        for change in make_changes(observe_bookkeeping(conn), name):
            change.execute(conn, "making")


def drop_changes(found: Bookkeeping, name: str) -> list[SqlChange]:
    """Return the changes that remove this migration: its row, or with the last one the table, and the schema if nothing
    else is in it.
    """
    if name not in found.rows:
        return []
    if found.rows - {name}:
        return [SqlChange("source", f"heartbeat row of migration {name}", "there", None, (forget_heartbeat(name),))]
    drop = sql.SQL("DROP TABLE {}").format(heartbeat_table())
    changes = [SqlChange("source", f"table {qualified(HEARTBEAT_NAME)}", "heartbeat and markers", None, (drop,))]
    if not found.others:
        schema = sql.SQL("DROP SCHEMA {}").format(sql.Identifier(SOURCE_SCHEMA))
        changes.append(SqlChange("source", f"schema {SOURCE_SCHEMA}", "bookkeeping", None, (schema,)))
    return changes


def drop(conn: Connection, name: str, lock_timeout: float) -> None:
    """Remove this migration's part, decided under a lock: another migration may begin or be released at the same time.

    Raises ServerError, and StateError while the source is fenced: only the row says so.
    """
    with explain_errors("dropping", qualified(HEARTBEAT_NAME)), conn.transaction():
        _one_at_a_time(conn, lock_timeout)
        conn.execute(sql.SQL("LOCK TABLE ONLY {} IN ACCESS EXCLUSIVE MODE").format(heartbeat_table()))
        query = sql.SQL("SELECT fence FROM ONLY {} WHERE migration = %s").format(heartbeat_table())
        row = conn.execute(query, (name,)).fetchone()
        if row and row[0] == "fenced":
            raise StateError(
                "dropping", qualified(HEARTBEAT_NAME), "the source is fenced", "Run the release playbook again."
            )
        for change in drop_changes(observe_bookkeeping(conn), name):
            change.execute(conn, "dropping")
