# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The heartbeat row at the source: the engine's own change in the stream, which proves that all before it is applied.

The table is published with the selection. Writing it increments a counter; the CDC worker records the counter that it
has applied in the transaction that carries it. Nothing is concluded from a WAL byte position.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import StateError, TimeoutExpired
from ..postgres._psycopg import sql
from ..postgres.connect import explain_errors
from ..postgres.lsn import Lsn, parse_lsn
from .progress import Progress, read_progress

if TYPE_CHECKING:
    from psycopg.sql import Composed

    from ..postgres.connect import Connection
    from .store import StateStore

SOURCE_SCHEMA = "causeway"
"""The schema of the bookkeeping at the source, whatever the name of the state schema at the destination."""

HEARTBEAT = "heartbeat"

# `fence` is the cutover's: it changes at the source, in the transaction that revokes or restores the writers' rights.
_CREATE = """CREATE TABLE {table} (
    migration text PRIMARY KEY,
    marker bigint NOT NULL,
    written_at timestamptz NOT NULL,
    fence text CHECK (fence IN ('fenced', 'closed', 'reopened')))"""


@dataclass(frozen=True, slots=True)
class Marker:
    """One marker: its number, and a source position (the insert position after its commit) that lies behind it."""

    number: int
    position: Lsn


def heartbeat_table() -> Composed:
    """Return the heartbeat table, qualified, for SQL."""
    return sql.SQL("{}.{}").format(sql.Identifier(SOURCE_SCHEMA), sql.Identifier(HEARTBEAT))


def create_heartbeat() -> Composed:
    """Return the DDL of the heartbeat table; its schema must exist."""
    return sql.SQL(_CREATE).format(table=heartbeat_table())


def heartbeat_tables(source: Connection) -> tuple[int, ...]:
    """Return the OIDs of the engine's own tables at the source, whose changes are not rows of the migration.

    Raises ServerError.
    """
    with explain_errors("looking for the heartbeat table at the", "source"):
        rows = source.execute(
            "SELECT c.oid::bigint FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = 'causeway' AND c.relkind = 'r'"
        ).fetchall()
    return tuple([row[0] for row in rows])


def write_marker(source: Connection, name: str) -> Marker:
    """Write the next marker at the source, in a transaction of its own that is durable before this returns.

    ``source`` must be in autocommit. Raises ServerError.
    """
    with explain_errors("writing a marker at the source for migration", name), source.transaction():
        # A marker that a crash of the source could undo would prove nothing.
        source.execute("SET LOCAL synchronous_commit = on")
        row = source.execute(
            sql.SQL(
                "INSERT INTO {} AS h (migration, marker, written_at) VALUES (%s, 1, pg_catalog.clock_timestamp())"
                " ON CONFLICT (migration) DO UPDATE SET marker = h.marker + 1, written_at = excluded.written_at"
                " RETURNING marker"
            ).format(heartbeat_table()),
            (name,),
        ).fetchone()
    with explain_errors("reading the WAL position of the source for migration", name):
        position = source.execute("SELECT pg_catalog.pg_current_wal_insert_lsn()::text").fetchone()
    if row is None or position is None:
        raise StateError("writing a marker at the source for migration", name, "no row came back", "Name the primary.")
    return Marker(int(row[0]), parse_lsn(position[0]))


def refresh_heartbeat(source: Connection, name: str) -> None:
    """Update the heartbeat row, so that the stream carries a change, without a new marker. Raises psycopg.Error."""
    query = sql.SQL("UPDATE ONLY {} SET written_at = pg_catalog.clock_timestamp() WHERE migration = %s")
    source.execute(query.format(heartbeat_table()), (name,), prepare=True)


def forget_heartbeat(name: str) -> Composed:
    """Return the statement that deletes a migration's row."""
    return sql.SQL("DELETE FROM ONLY {} WHERE migration = {}").format(heartbeat_table(), sql.Literal(name))


def read_fence(source: Connection, name: str) -> str:
    """Return the fence's value: none, fenced, closed or reopened; ``none`` too before the heartbeat table exists.

    Raises ServerError.
    """
    with explain_errors("looking for the fence of migration", name):
        there = source.execute("SELECT pg_catalog.to_regclass(%s)", (heartbeat_table().as_string(source),)).fetchone()
        if there is None or there[0] is None:
            return "none"
        row = source.execute(
            sql.SQL("SELECT fence FROM ONLY {} WHERE migration = %s").format(heartbeat_table()), (name,)
        ).fetchone()
    return str(row[0]) if row and row[0] else "none"


def move_fence(source: Connection, name: str, to: str, origins: Sequence[str]) -> bool:
    """Change the fence's value in the open transaction, if it is one of ``origins``; a second session waits, and changes
    nothing. Raises psycopg.Error."""
    cursor = source.execute(
        sql.SQL("UPDATE ONLY {} SET fence = %s WHERE migration = %s AND coalesce(fence, 'none') = ANY (%s)").format(
            heartbeat_table()
        ),
        (to, name, list(origins)),
    )
    return cursor.rowcount == 1


def wait_applied(store: StateStore, marker: Marker, timeout: float, poll: float = 0.02) -> float:
    """Wait until the worker has applied ``marker``. Returns the seconds it took.

    Raises TimeoutExpired after ``timeout`` seconds, and StateError at once when the task has stopped with an error.
    """
    began = time.monotonic()
    while True:
        row = read_progress(store)
        if row is not None:
            if row.marker >= marker.number:
                return time.monotonic() - began
            _raise_if_stopped(store.name, row)
        if time.monotonic() - began > timeout:
            raise TimeoutExpired(
                "waiting for the CDC worker to catch up in migration",
                store.name,
                f"the marker was not applied within {timeout:g} s",
                "Look at lag and error with the status playbook, and give wait_timeout more time.",
            )
        time.sleep(poll)


def _raise_if_stopped(name: str, row: Progress) -> None:
    if row.state in ("failed", "disarmed"):
        error = row.error
        raise StateError(
            "waiting for the CDC worker to catch up in migration",
            name,
            f"the task is {row.state}: {error.get('doing', '')} {error.get('object', '')}: {error.get('why', '')}".strip(),
            str(error.get("remedy", "") or "Look at the task with the status playbook."),
        )
