# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The control row of a CDC task, and who holds the worker's lock: what everybody but the worker needs of it.

``wanted`` is the wanted state; ``generation`` goes up with every change, so that a worker knows what it has seen.
The advisory lock is held by the very connection that applies: whoever finds it free knows that nobody writes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import names
from ..errors import TimeoutExpired
from ..postgres._psycopg import sql
from ..postgres.connect import explain_errors

if TYPE_CHECKING:
    from ..postgres.connect import Connection
    from .store import StateStore

CHANNEL_PREFIX = "causeway_"


@dataclass(frozen=True, slots=True)
class ControlRow:
    """The control row. ``wanted`` is started, paused, stopped or disarmed."""

    wanted: str
    settings: Mapping[str, Any]
    generation: int


@dataclass(frozen=True, slots=True)
class Holder:
    """The session that holds the worker's lock."""

    pid: int
    application: str
    address: str
    since: str


def channel(name: str) -> str:
    """The NOTIFY channel of one migration's control row."""
    return CHANNEL_PREFIX + names.slug(name, 50)


def read_control(store: StateStore) -> ControlRow | None:
    """The control row, or None before the task exists. Raises ServerError."""
    with explain_errors("reading the control row of migration", store.name):
        row = store.conn.execute(
            sql.SQL("SELECT wanted, settings, generation FROM {} WHERE migration = %s").format(store.table("cdc_task")),
            (store.name,),
        ).fetchone()
    return ControlRow(*row) if row else None


def set_wanted(store: StateStore, wanted: str, settings: Mapping[str, object] | None = None) -> None:
    """Write the wanted state and, where given, the settings; wake the worker. ``disarmed`` is one-way.

    Raises ServerError.
    """
    with explain_errors(f"asking for state {wanted} of migration", store.name), store.conn.transaction():
        store.conn.execute(
            sql.SQL(
                "INSERT INTO {} AS t (migration, wanted, settings) VALUES (%s, %s, coalesce(%s::jsonb, '{{}}'))"
                " ON CONFLICT (migration) DO UPDATE SET wanted = excluded.wanted, generation = t.generation + 1,"
                " settings = coalesce(%s::jsonb, t.settings), changed_at = pg_catalog.now()"
                " WHERE t.wanted <> 'disarmed'"
            ).format(store.table("cdc_task")),
            (store.name, wanted, *(2 * (None if settings is None else json.dumps(settings),))),
        )
        store.conn.execute("SELECT pg_catalog.pg_notify(%s, %s)", (channel(store.name), wanted))


def holder(conn: Connection, name: str) -> Holder | None:
    """Who holds the worker's lock of this migration at the destination; None when nobody applies."""
    with explain_errors("looking for the CDC worker of migration", name):
        row = conn.execute(
            "SELECT a.pid, a.application_name, coalesce(a.client_addr::text, 'local'), a.backend_start::text"
            "  FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a USING (pid)"
            " WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND l.classid::bigint = %s"
            "   AND l.objid::bigint = %s AND l.database = (SELECT oid FROM pg_catalog.pg_database"
            "       WHERE datname = pg_catalog.current_database())",
            names.lock_halves(names.lock_key(name, "worker")),
        ).fetchone()
    return Holder(*row) if row else None


def wait_gone(conn: Connection, name: str, timeout: float) -> None:
    """Wait until nobody applies. Raises TimeoutExpired, naming who still does."""
    deadline = time.monotonic() + timeout
    while (found := holder(conn, name)) is not None:
        if time.monotonic() > deadline:
            raise TimeoutExpired(
                "waiting for the CDC worker to stop in migration",
                name,
                f"pid {found.pid} ({found.application}) from {found.address} still applies after {timeout:g} s",
                "It drains to a commit first: wait longer, or end that session at the destination if its host is gone.",
            )
        time.sleep(0.05)
