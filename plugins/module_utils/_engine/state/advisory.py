# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every advisory lock of the engine: which exist, how each is taken, and which session holds it.

``run`` keeps two playbooks apart; ``worker`` is held by the very connection that applies, so that a free lock means
that no worker writes; with it goes ``place`` (shared), which says for which configuration file on which host the worker
runs; ``copy`` decides which host leads a copy, ``build`` (shared) says that a joining host still
builds; ``state`` and ``bookkeeping`` serialize creating and dropping a schema that migrations share, and ``fence``
moving the fence at the source, until the transaction ends.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from .. import names
from ..errors import ConnectError, StateError, TimeoutExpired
from ..postgres._psycopg import psycopg
from ..postgres.connect import explain_errors

if TYPE_CHECKING:
    from ..postgres.connect import Connection

_RUN_PATIENCE = 3.0
"""Seconds for which the lock of a run is tried: the session of the task before may not have ended at the server yet."""

_GRACE = 2.0
"""Seconds for which a session may end by itself before it is ended."""

_LOCKING = "taking the lock of the CDC worker of migration"

_HOLDERS = """
SELECT a.pid, coalesce(a.application_name, ''), coalesce(a.client_addr::text, 'local'), coalesce(a.backend_start::text, '')
  FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a USING (pid)
 WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND l.classid::bigint = %s AND l.objid::bigint = %s
   AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
"""

_HELD = """
SELECT EXISTS (SELECT FROM pg_catalog.pg_locks l WHERE l.locktype = 'advisory' AND l.granted
   AND l.objsubid = 1 AND l.classid::bigint = %s AND l.objid::bigint = %s AND l.database =
   (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))
"""


@dataclass(frozen=True, slots=True)
class Holder:
    """A session that holds a lock. ``application`` and ``since`` are empty where the account may see only the pid."""

    pid: int
    application: str
    address: str
    since: str


def _holders(conn: Connection, key: int) -> list[Holder]:
    return [Holder(*row) for row in conn.execute(_HOLDERS, names.lock_halves(key)).fetchall()]


def _try(conn: Connection, key: int, function: str = "pg_try_advisory_lock") -> bool:
    row = conn.execute(f"SELECT pg_catalog.{function}(%s)", (key,)).fetchone()
    return bool(row and row[0])


def _unlock(conn: Connection, key: int, function: str = "pg_advisory_unlock") -> None:
    """Release a lock; a session that has ended holds none, and its end is reported where it was noticed first."""
    try:
        conn.execute(f"SELECT pg_catalog.{function}(%s)", (key,))
    except psycopg.Error:
        pass


def lock_run(conn: Connection, name: str, *, shared: bool = False) -> None:
    """Take the lock of a run, until the session ends. Raises StateError, naming the holders."""
    function = "pg_try_advisory_lock_shared" if shared else "pg_try_advisory_lock"
    key = names.lock_key(name, "run")
    deadline = time.monotonic() + _RUN_PATIENCE
    with explain_errors("taking the lock of the migration", name):
        while not _try(conn, key, function):
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
        else:
            return
        found = _holders(conn, key)
    raise StateError(
        "taking the lock of the migration",
        name,
        f"another run works on it: {describe_holders(found) or 'a session that has already ended'}",
        "Wait until it has finished. If its host is gone, end that session at the destination.",
    )


def describe_holders(found: list[Holder]) -> str:
    """Return the sessions for an error text; only a member of pg_read_all_stats sees more than the pid of others'. Pure."""
    return "; ".join(
        f"pid {one.pid} ({one.application}) from {one.address} since {one.since}"
        if one.since
        else f"pid {one.pid}, of another account"
        for one in found
    )


def holder(conn: Connection, name: str) -> Holder | None:
    """Return the session that holds the worker's lock of this migration at the destination; None when none applies."""
    with explain_errors("looking for the CDC worker of migration", name):
        found = _holders(conn, names.lock_key(name, "worker"))
    return found[0] if found else None


def _end_former(conn: Connection, name: str, place: str) -> Holder | None:
    """End the session that holds the worker's lock if a worker of this place has left it; return it, None for another's.

    For who knows that no other worker of the place lives. A network that has lost packets may keep a session's server
    waiting for long. Raises psycopg.Error.
    """
    with explain_errors("looking for former sessions of the CDC worker of migration", name):
        here = {one.pid for one in _holders(conn, names.lock_key(place, "place"))}
        found = next((one for one in _holders(conn, names.lock_key(name, "worker")) if one.pid in here), None)
        if found is not None:
            conn.execute("SELECT pg_catalog.pg_terminate_backend(%s)", (found.pid,))
    return found


def wait_gone(conn: Connection, name: str, timeout: float, former: str = "") -> None:
    """Wait until no worker applies. ``former`` is a place whose worker is gone: a session that it has left is ended.

    Raises TimeoutExpired, naming the session that still applies.
    """
    began = time.monotonic()
    deadline = began + timeout
    while (found := holder(conn, name)) is not None:
        if former and time.monotonic() > min(began + _GRACE, deadline):
            _end_former(conn, name, former)
        if time.monotonic() > deadline:
            raise TimeoutExpired(
                "waiting for the CDC worker to stop in migration",
                name,
                f"pid {found.pid} ({found.application}) from {found.address} still applies after {timeout:g} s",
                "It drains to a commit first: wait longer, or end that session at the destination if its host is gone.",
            )
        time.sleep(0.05)


def lock_worker(conn: Connection, name: str, timeout: float, place: str) -> None:
    """Take the worker's lock on the connection that applies; it is released when the session ends.

    A session of this ``place``, where we alone are the worker, is a former one of ours: it is ended. Another worker that
    has just died may leave a session that still finishes a statement: waits for it up to ``timeout`` seconds. Raises
    StateError, naming the holder, and ConnectError where it is a former session of ours that does not end.
    """
    began = time.monotonic()
    key = names.lock_key(name, "worker")
    former: Holder | None = None
    with explain_errors(_LOCKING, name):
        _try(conn, names.lock_key(place, "place"), "pg_try_advisory_lock_shared")
    while True:
        with explain_errors(_LOCKING, name):
            if _try(conn, key):
                return
        waited = time.monotonic() - began
        if waited > min(_GRACE, timeout):
            former = _end_former(conn, name, place)
        if waited > timeout and former is not None:
            raise ConnectError(
                _LOCKING,
                name,
                f"pid {former.pid}, a former session of this worker, has been told to end and has not ended yet",
                "The worker tries again. Should it never end, find out at the destination what it waits for.",
            )
        if waited > timeout:
            found = holder(conn, name)
            who = f"pid {found.pid} ({found.application}) from {found.address}" if found else "another session"
            raise StateError(
                _LOCKING,
                name,
                f"{who} applies already",
                "One worker is enough. If its host is gone, end that session at the destination.",
            )
        time.sleep(0.1)


@contextmanager
def keep_worker_away(conn: Connection, name: str) -> Iterator[None]:
    """Hold the worker's lock while the body runs. Raises StateError when a worker has taken it first."""
    key = names.lock_key(name, "worker")
    with explain_errors("excluding the CDC worker of migration", name):
        taken = _try(conn, key)
    if not taken:
        raise StateError(
            "excluding the CDC worker of migration",
            name,
            "a worker has just started",
            "Run the playbook again.",
        )
    try:
        yield
    finally:
        _unlock(conn, key)


@contextmanager
def try_to_lead(conn: Connection, name: str) -> Iterator[bool]:
    """Try to become the one leader of a copy, without waiting; released at the end, or by the end of the session."""
    key = names.lock_key(name, "copy")
    with explain_errors("looking for the host that leads the copy of migration", name):
        leading = _try(conn, key)
    try:
        yield leading
    finally:
        if leading:
            _unlock(conn, key)


@contextmanager
def building(conn: Connection, name: str) -> Iterator[None]:
    """Signal while the body runs that this host joins a copy and builds on the tables that it completes."""
    key = names.lock_key(name, "build")
    conn.execute("SELECT pg_catalog.pg_advisory_lock_shared(%s)", (key,))
    try:
        yield
    finally:
        _unlock(conn, key, "pg_advisory_unlock_shared")


def is_held(conn: Connection, name: str, purpose: Literal["run", "copy", "build"]) -> bool:
    """Return whether any session holds this lock of the migration."""
    with explain_errors("looking for the sessions that work on migration", name):
        row = conn.execute(_HELD, names.lock_halves(names.lock_key(name, purpose))).fetchone()
    return bool(row and row[0])


def lock_schema(conn: Connection, schema: str, purpose: Literal["state", "bookkeeping"]) -> None:
    """Lock this shared schema against other transactions that create or drop it, until the open transaction ends.

    Raises psycopg.Error.
    """
    conn.execute("SELECT pg_catalog.pg_advisory_xact_lock(%s)", (names.lock_key(schema, purpose),))


def lock_fence(conn: Connection, name: str) -> None:
    """Lock the fence of this migration at the source against others that move it, until the open transaction ends.

    Raises psycopg.Error.
    """
    conn.execute("SELECT pg_catalog.pg_advisory_xact_lock(%s)", (names.lock_key(name, "fence"),))
