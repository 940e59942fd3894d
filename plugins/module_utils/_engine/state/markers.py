# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Markers: the engine's own changes in the stream, each of which proves that all before it has been applied.

A marker is a random number of 128 bits that only the state tables hold until it is in the stream, since any role may
put something there: what the stream carries counts only if it is one of ours. The CDC worker records a marker as
applied in the transaction that carries it. Nothing is concluded from a WAL byte position.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import StateError, TimeoutExpired
from ..postgres._psycopg import sql
from ..postgres.connect import explain_errors
from ..postgres.lsn import Lsn, parse_lsn
from .progress import Progress, read_progress
from .source_schema import heartbeat_table, sends_messages

if TYPE_CHECKING:
    from psycopg.sql import Composed

    from ..postgres.connect import Connection
    from .store import StateStore

PREFIX = "causeway"
"""Prefix of the logical messages that carry a marker."""

_BEATS = "causeway.heartbeat"
_SEND = "SELECT pg_catalog.pg_logical_emit_message(true, %s, %s)"
_WRITING = "writing a marker at the source for migration"

_KEPT = "1 day"
"""Markers whose writer has died are forgotten after this; nothing waits for one as long."""


@dataclass(frozen=True, slots=True)
class Marker:
    """One marker: its random number as hexadecimal text, and a source position (the insert position after its commit)
    that lies behind it."""

    token: str
    position: Lsn


def _table(store: StateStore) -> Composed:
    return store.table("marker")


def write_marker(store: StateStore, source: Connection) -> Marker:
    """Write a new marker at the source, in a transaction of its own that is durable before this returns.

    Both sessions must be in autocommit. Raises ServerError, and StateError where the source gives no position.
    """
    token = secrets.token_hex(16)
    with explain_errors("recording a marker of migration", store.name):
        store.conn.execute(
            sql.SQL("DELETE FROM {} WHERE migration = %s AND written_at < pg_catalog.now() - %s::interval").format(
                _table(store)
            ),
            (store.name, _KEPT),
        )
        # First here: a worker that is faster than we are must find it.
        store.conn.execute(
            sql.SQL("INSERT INTO {} (migration, token) VALUES (%s, %s)").format(_table(store)), (store.name, token)
        )
    with explain_errors(_WRITING, store.name), source.transaction():
        # A marker that a crash of the source could undo would prove nothing.
        source.execute("SET LOCAL synchronous_commit = on")
        _send(source, store.name, token)
    with explain_errors("reading the WAL position of the source for migration", store.name):
        row = source.execute("SELECT pg_catalog.pg_current_wal_insert_lsn()::text").fetchone()
    if row is None:
        raise StateError(_WRITING, store.name, "no position came back", "Name the primary.")
    return Marker(token, parse_lsn(row[0]))


def _send(source: Connection, name: str, token: str) -> None:
    """Put a marker into the stream, in the open transaction. Raises psycopg.Error."""
    if sends_messages(source):
        source.execute(_SEND, (PREFIX, token))
        return
    query = "INSERT INTO {} AS h (migration, marker, written_at) VALUES (%s, %s, pg_catalog.clock_timestamp())"
    query += " ON CONFLICT (migration) DO UPDATE SET marker = excluded.marker, written_at = excluded.written_at"
    source.execute(sql.SQL(query).format(heartbeat_table()), (name, token))


def beat(source: Connection, name: str) -> None:
    """Put a heartbeat into the stream: a transaction that proves nothing, and whose position may be confirmed.

    ``source`` is in autocommit. Raises psycopg.Error.
    """
    if sends_messages(source):
        source.execute(_SEND, (_BEATS, ""), prepare=True)
        return
    query = sql.SQL("UPDATE ONLY {} SET written_at = pg_catalog.clock_timestamp() WHERE migration = %s")
    source.execute(query.format(heartbeat_table()), (name,), prepare=True)


def record_applied(store: StateStore, conn: Connection, tokens: Sequence[str]) -> int:
    """Record those of ``tokens`` that are markers of this migration as applied, in the open transaction of ``conn``;
    return how many are. Raises psycopg.Error."""
    query = sql.SQL("UPDATE {} SET applied_at = pg_catalog.clock_timestamp() WHERE migration = %s AND token = ANY (%s)")
    return conn.execute(query.format(_table(store)), (store.name, list(tokens)), prepare=True).rowcount


def is_applied(store: StateStore, marker: Marker) -> bool:
    """Return whether the worker has applied ``marker``. Raises ServerError."""
    query = sql.SQL("SELECT applied_at IS NOT NULL FROM {} WHERE migration = %s AND token = %s").format(_table(store))
    with explain_errors("looking for a marker of migration", store.name):
        row = store.conn.execute(query, (store.name, marker.token)).fetchone()
    return bool(row and row[0])


def wait_applied(store: StateStore, marker: Marker, timeout: float, poll: float = 0.02) -> float:
    """Wait until the worker has applied ``marker``. Return the seconds it took.

    Raises TimeoutExpired after ``timeout`` seconds, and StateError at once when the task has stopped with an error.
    """
    began = time.monotonic()
    while not is_applied(store, marker):
        row = read_progress(store)
        if row is not None:
            _raise_if_stopped(store.name, row)
        if time.monotonic() - began > timeout:
            raise TimeoutExpired(
                "waiting for the CDC worker to catch up in migration",
                store.name,
                f"the marker was not applied within {timeout:g} s",
                "Look at lag and error with the status playbook, and give wait_timeout more time.",
            )
        time.sleep(poll)
    return time.monotonic() - began


def _raise_if_stopped(name: str, row: Progress) -> None:
    if row.state in ("failed", "disarmed"):
        error = row.error
        raise StateError(
            "waiting for the CDC worker to catch up in migration",
            name,
            f"the task is {row.state}: {error.get('doing', '')} {error.get('object', '')}: {error.get('why', '')}".strip(),
            str(error.get("remedy", "") or "Look at the task with the status playbook."),
        )
