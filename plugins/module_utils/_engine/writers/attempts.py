# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tries to write, and says who could: what counts is what the server does, whatever its catalogs show.

On PolarDB 11 the cloud's privileged account writes to every role's tables without being a member of anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ..postgres._psycopg import psycopg, sql
from ..postgres.catalog import Table
from ..postgres.connect import connect, explain_errors, server_error
from ..postgres.locks import in_lock_timeout

if TYPE_CHECKING:
    from psycopg.sql import Composed

    from ..postgres.connect import Connection, Endpoint

REFUSED = "42501"
BUSY = "55P03"
READ_ONLY = "25006"

_ALLOWED = """
SELECT pg_catalog.has_any_column_privilege(%(role)s, %(oid)s::oid, 'INSERT'),
       pg_catalog.has_any_column_privilege(%(role)s, %(oid)s::oid, 'UPDATE')
       OR pg_catalog.has_table_privilege(%(role)s, %(oid)s::oid, 'TRUNCATE')
"""

_LOCK_WAIT = 0.5
"""Seconds for a lock: the application waits behind the fence while rights are tried."""

_BUSY_TABLES = 10
"""So many tables are waited for; each is a wait of its own."""


def try_to_write(conn: Connection, role: str, tables: Sequence[Table]) -> dict[str, str]:
    """Try to write as ``role``; return for each table the SQLSTATE of the refusal, empty where the role could write.

    A statement locks its table before its right is checked: where another session does not release the lock soon, the
    answer is BUSY, and says nothing; after a few such tables the others are not tried. Runs in a transaction that is
    rolled back. ``conn`` must be in autocommit and may become ``role``; else ServerError.
    """
    answers: dict[str, str] = {}
    with explain_errors("trying to write as role", role), conn.transaction(force_rollback=True):
        in_lock_timeout(conn, _LOCK_WAIT)
        conn.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
        busy = 0
        for table in tables:
            answer = _try_table(conn, role, table) if busy < _BUSY_TABLES else BUSY
            answers[str(table)] = answer
            busy += answer == BUSY
    return answers


def _try_table(conn: Connection, role: str, table: Table) -> str:
    """Try INSERT and DELETE, each with EXPLAIN first: the application's statement triggers must not fire, and EXPLAIN
    checks the same rights at the same place. UPDATE may be granted by column and TRUNCATE would lock: these two are
    read from the catalog."""
    name = sql.Identifier(table.schema, table.name)
    inserting = sql.SQL("INSERT INTO {} DEFAULT VALUES").format(name)
    deleting = sql.SQL("DELETE FROM ONLY {} WHERE false").format(name)
    row = conn.execute(_ALLOWED, {"role": role, "oid": table.oid}).fetchone()
    if row is None or row[1]:
        return ""
    for statement in (inserting, deleting):
        for attempt in (sql.SQL("EXPLAIN {}").format(statement), statement):
            state = _attempt(conn, attempt)
            if state == BUSY:
                return BUSY
            if state and state != REFUSED and statement is inserting and not row[0]:
                state = REFUSED  # the error of a default that cannot be planned comes before the refusal
                break
            if state != REFUSED:
                return ""
    return REFUSED


def _attempt(conn: Connection, statement: Composed) -> str:
    """Run a statement under a savepoint that is rolled back; return its SQLSTATE, empty for success."""
    try:
        with conn.transaction(force_rollback=True):
            conn.execute(statement)
    except psycopg.Error as exc:
        if not exc.sqlstate:
            raise server_error(exc, "trying to write", "") from exc
        return exc.sqlstate
    return ""


def try_new_session(endpoint: Endpoint, table: Table) -> str:
    """Try to write in a new session that keeps its default settings; return the SQLSTATE, empty if it could write, BUSY
    as `try_to_write`.

    EXPLAIN ignores read-only, so this is a DELETE; of no row, rolled back, and only where the session says that
    it is read-only, since the application's statement triggers must not fire."""
    with connect(endpoint, "writer") as conn:
        try:
            with conn.transaction(force_rollback=True):
                row = conn.execute("SELECT pg_catalog.current_setting('transaction_read_only')").fetchone()
                if row is None or row[0] != "on":
                    return ""
                name = sql.Identifier(table.schema, table.name)
                in_lock_timeout(conn, _LOCK_WAIT)
                conn.execute(sql.SQL("DELETE FROM ONLY {} WHERE false").format(name))
        except psycopg.Error as exc:
            return exc.sqlstate or ""
    return ""


_WRITERS_LEFT = """
SELECT r.rolname::text FROM pg_catalog.pg_roles r
 WHERE r.rolcanlogin AND EXISTS (
       SELECT FROM pg_catalog.unnest(%s::oid[]) t(oid)
        WHERE pg_catalog.has_table_privilege(r.oid, t.oid, 'INSERT, UPDATE, DELETE, TRUNCATE'))
 ORDER BY 1
"""


def roles_that_write(conn: Connection, tables: Iterable[Table], account: str) -> tuple[str, ...]:
    """Return the roles that may log in and that the server lets write to one of ``tables``, by name. Raises ServerError.

    The server is asked for each role; as ``account``, which ``conn`` may become, it is also tried. One table of each
    owner is enough: what no ACL shows goes with a role, and not with a table.
    """
    chosen = {table.owner: table for table in tables}
    with explain_errors("asking which roles can write to the selected tables"):
        rows = conn.execute(_WRITERS_LEFT, ([table.oid for table in chosen.values()],)).fetchall()
    found = {row[0] for row in rows}
    if not all(try_to_write(conn, account, tuple(chosen.values())).values()):
        found.add(account)
    return tuple(sorted(found))
