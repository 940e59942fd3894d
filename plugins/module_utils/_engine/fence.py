# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stops the application from writing to the source, and gives it back.

The fence takes INSERT, UPDATE, DELETE and TRUNCATE on the selected tables from every role that holds them, owners and
PUBLIC included, and ends the sessions of every role that could write. Where it stands is one value in our heartbeat row
at the source, changed in the very transaction that takes or gives: `fenced` goes to `reopened` or to `closed`, once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ._psycopg import sql
from .connect import Endpoint, connect, speaking
from .errors import StateError, TimeoutExpired
from .grants import Grant, grant_of, grant_statements, observe_grants, observe_writers, revoke_statements
from .locks import in_lock_timeout
from .marker import heartbeat_table

if TYPE_CHECKING:
    from psycopg.sql import Composed

    from .catalog import Table
    from .connect import Connection
    from .migration import Migration

_LOCK_TIMEOUT = 2.0
_WRITES_ALL = "pg_write_all_data"
_DOING = "fencing the source of migration"


@dataclass(frozen=True, slots=True)
class Fence:
    """``grants`` are what is taken, as it stood; ``roles`` the roles whose sessions end; ``bypassing`` the roles that a
    REVOKE does not stop: superusers and members of pg_write_all_data, our own account left out."""

    ourselves: str
    grants: tuple[Grant, ...]
    roles: tuple[str, ...]
    bypassing: tuple[str, ...]

    def stored(self) -> dict[str, object]:
        """As the state keeps it."""
        grants = [grant.stored() for grant in self.grants]
        return {"grants": grants, "roles": list(self.roles), "bypassing": list(self.bypassing)}

    def statements(self) -> tuple[Composed, ...]:
        """What takes: one transaction."""
        return revoke_statements(self.grants, self.ourselves)


def observe(migration: Migration) -> Fence:
    """What has to be taken now. Where a fence of a dead run still stands, what that one took is part of it."""
    conn = migration.source
    tables = migration.selected().tables
    grants = _effective_grants(conn, tables)
    writers = observe_writers(conn, tables)
    with speaking(_DOING, migration.name):
        row = conn.execute("SELECT session_user::text, current_user::text").fetchone()
    login, ourselves = row or ("", "")
    stored: Mapping[str, Any] = {}
    state = migration.state()
    if state is not None and state.fence and standing(conn, migration.name) == "fenced":
        stored = state.fence
    earlier = [grant_of(entry) for entry in stored.get("grants", [])]
    passes = {w.role for w in writers if w.superuser or _WRITES_ALL in w.through}
    roles = {w.role for w in writers if w.can_login and w.role not in passes and w.role not in (login, ourselves)}
    return Fence(
        ourselves=ourselves,
        grants=(*earlier, *(grant for grant in grants if grant not in earlier)),
        roles=tuple(sorted(roles | set(stored.get("roles", [])))),
        bypassing=tuple(sorted(w.role for w in writers if w.role in passes and w.can_login and w.role != login)),
    )


def _effective_grants(conn: Connection, tables: tuple[Table, ...]) -> tuple[Grant, ...]:
    """The entries by which somebody can write. A superuser's are left: taking them would stop nobody."""
    with speaking("reading who may write to the selected objects"):
        superusers = {row[0] for row in conn.execute("SELECT rolname FROM pg_catalog.pg_roles WHERE rolsuper")}
    return tuple(grant for grant in observe_grants(conn, tables) if grant.grantee not in superusers)


def standing(conn: Connection, name: str) -> str:
    """Where the fence stands: none, fenced, closed or reopened. ``none`` too where there is no heartbeat table yet."""
    with speaking("looking for the fence of migration", name):
        there = conn.execute("SELECT pg_catalog.to_regclass(%s)", (heartbeat_table().as_string(conn),)).fetchone()
        if there is None or there[0] is None:
            return "none"
        row = conn.execute(
            sql.SQL("SELECT fence FROM ONLY {} WHERE migration = %s").format(heartbeat_table()), (name,)
        ).fetchone()
    return str(row[0]) if row and row[0] else "none"


def _move(conn: Connection, name: str, to: str, *origins: str) -> bool:
    """Change the value, if it stands at one of ``origins``. Whoever comes second waits, and changes nothing."""
    conn.execute("SET LOCAL synchronous_commit = on")
    cursor = conn.execute(
        sql.SQL("UPDATE ONLY {} SET fence = %s WHERE migration = %s AND coalesce(fence, 'none') = ANY (%s)").format(
            heartbeat_table()
        ),
        (to, name, list(origins)),
    )
    return cursor.rowcount == 1


def raise_fence(conn: Connection, name: str, fence: Fence) -> None:
    """Take what ``fence`` names, in one transaction. Raises StateError where it is closed, ServerError otherwise."""
    with speaking(_DOING, name), conn.transaction():
        # First the row: a guard that comes in between waits for this transaction instead of missing it.
        if not _move(conn, name, "fenced", "none", "reopened", "fenced"):
            raise StateError(_DOING, name, "the source is closed, or has no heartbeat row", "Look at it with status.")
        in_lock_timeout(conn, _LOCK_TIMEOUT)
        for statement in fence.statements():
            conn.execute(statement)


def reopen(conn: Connection, name: str, fence: Fence) -> bool:
    """Give back what was taken, if the fence still stands at fenced; false where it does not. Raises ServerError."""
    with speaking("reopening the source of migration", name), conn.transaction():
        if not _move(conn, name, "reopened", "fenced"):
            return False
        for statement in grant_statements(fence.grants, fence.ourselves):
            conn.execute(statement)
    return True


def undoing(endpoint: Endpoint, name: str, fence: Fence) -> Callable[[], bool]:
    """`reopen` on a connection of its own: what the guard does."""

    def undo() -> bool:
        with connect(endpoint, f"guard {name}") as conn:
            return reopen(conn, name, fence)

    return undo


def close(conn: Connection, name: str) -> None:
    """Make the fence final. Raises TimeoutExpired where it has been reopened in the meantime."""
    with speaking("closing the source of migration", name), conn.transaction():
        if not _move(conn, name, "closed", "fenced"):
            raise TimeoutExpired(
                "closing the source of migration",
                name,
                "the time for the fence ran out and the guard has reopened the source",
                "Give causeway_cutover_timeout more time and run the cutover again.",
            )


_SESSIONS = """
SELECT pid, backend_start FROM pg_catalog.pg_stat_activity
 WHERE datname = pg_catalog.current_database() AND usename::text = ANY (%s) AND pid <> pg_catalog.pg_backend_pid()
   AND application_name NOT LIKE 'causeway %%' AND backend_start <= %s
"""


def end_sessions(conn: Connection, fence: Fence, timeout: float) -> int:
    """End the sessions that stood when the fence went up, and see them gone; later ones find their rights taken.

    Returns how many there were. Raises TimeoutExpired, StateError for prepared transactions, which outlive a session.
    """
    deadline = time.monotonic() + timeout
    ended: set[int] = set()
    with speaking("ending the sessions of the fenced roles"):
        now = conn.execute("SELECT pg_catalog.clock_timestamp()").fetchone()
        wanted = (list(fence.roles), now[0] if now else None)
        while found := [row[0] for row in conn.execute(_SESSIONS, wanted).fetchall()]:
            for pid in set(found) - ended:
                conn.execute("SELECT pg_catalog.pg_terminate_backend(%s)", (pid,))
            ended.update(found)
            if time.monotonic() > deadline:
                raise TimeoutExpired(
                    "ending the sessions of the fenced roles",
                    f"pid {', '.join(map(str, found))}",
                    f"they were not gone after {timeout:g} s",
                    "See what they wait for in pg_stat_activity at the source.",
                )
            time.sleep(0.01)
    _require_nothing_prepared(conn)
    return len(ended)


def _require_nothing_prepared(conn: Connection) -> None:
    with speaking("looking for prepared transactions at the source"):
        rows = conn.execute(
            "SELECT gid FROM pg_catalog.pg_prepared_xacts WHERE database = pg_catalog.current_database()"
        ).fetchall()
    if rows:
        raise StateError(
            "fencing the source",
            f"prepared transaction {rows[0][0]}" + (f" and {len(rows) - 1} more" if len(rows) > 1 else ""),
            "it can be committed at any time, by anybody, after everything has been compared",
            "COMMIT PREPARED or ROLLBACK PREPARED it, then run the cutover again.",
        )


def require_taken(conn: Connection, tables: tuple[Table, ...]) -> None:
    """Prove that no role but a superuser holds a right to write. Raises StateError."""
    left = _effective_grants(conn, tables)
    if left:
        raise StateError(
            "fencing the source",
            str(left[0]),
            "the right is there again: somebody granted it after the fence went up",
            "Find out who grants, then run the cutover again.",
        )
