# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stops the application from writing to the source, and gives it back.

The fence takes INSERT, UPDATE, DELETE and TRUNCATE on the selected tables from every role that holds them, owners and
PUBLIC included (`fenced_sessions` ends who was writing). Where it stands is one value in our heartbeat row at the
source, changed in the very transaction that takes or gives: `fenced` goes to `reopened` or to `closed`, once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import ServerError, StateError, TimeoutExpired
from ..plan import SqlChange
from ..postgres.connect import Endpoint, connect, explain_errors
from ..postgres.locks import in_lock_timeout
from ..state.heartbeat import move_fence, read_fence
from .grants import Grant, grant_of, grant_statements, observe_grants, observe_writers, revoke_statements

if TYPE_CHECKING:
    from psycopg.sql import Composed

    from ..migration import Migration
    from ..postgres.catalog import Table
    from ..postgres.connect import Connection
    from .grants import Writer

_LOCK_TIMEOUT = 2.0
_WRITES_ALL = "pg_write_all_data"
_DOING = "fencing the source of migration"
_RETRIED = ("55P03", "40P01", "XX000")
"""A lock that was not to be had, a deadlock, and "tuple concurrently updated": somebody else's GRANT or ALTER."""

# Our account may be read-only by default (`writers`).
_WRITING = {"default_transaction_read_only": "off"}


@dataclass(frozen=True, slots=True)
class Fence:
    """``taken`` are the entries that stand now and are taken; ``grants`` these and what a dead run took: what is given
    back. ``roles`` are the roles whose sessions end; ``bypassing`` those that a REVOKE does not stop: superusers, who
    may become one, and members of pg_write_all_data. ``login`` is the account we log in with."""

    ourselves: str
    login: str
    taken: tuple[Grant, ...]
    grants: tuple[Grant, ...]
    roles: tuple[str, ...]
    bypassing: tuple[str, ...]

    def stored(self) -> dict[str, object]:
        """As the state keeps it."""
        grants = [grant.stored() for grant in self.grants]
        return {"grants": grants, "roles": list(self.roles), "bypassing": list(self.bypassing)}

    def statements(self) -> tuple[Composed, ...]:
        """What takes: one transaction."""
        return revoke_statements(self.taken, self.ourselves)


def observe(migration: Migration) -> Fence:
    """What has to be taken now. Where a fence of a dead run still stands, what that one took is given back too."""
    conn = migration.source
    # This first: a guard that reopens meanwhile gives back what is then read twice, and not missed.
    earlier, earlier_roles = _left_standing(migration)
    tables = migration.selected().tables
    taken = _effective_grants(conn, tables)
    writers = observe_writers(conn, tables)
    login, ourselves = _accounts(conn, migration.name)
    superusers = {w.role for w in writers if w.superuser}
    passes = {w.role for w in writers if w.role in superusers or _passes(w, superusers)}
    roles = {w.role for w in writers if w.can_login and w.role not in passes}
    return Fence(
        ourselves=ourselves,
        login=login,
        taken=taken,
        grants=(*earlier, *(grant for grant in taken if grant not in earlier)),
        roles=tuple(sorted(roles | (set(earlier_roles) - passes))),
        bypassing=tuple(sorted(w.role for w in writers if w.role in passes and w.can_login)),
    )


def _passes(writer: Writer, superusers: set[str]) -> bool:
    return any(group == _WRITES_ALL or group in superusers for group in (writer.role, *writer.through))


def _accounts(conn: Connection, name: str) -> tuple[str, str]:
    """session_user and current_user."""
    with explain_errors(_DOING, name):
        row = conn.execute("SELECT session_user::text, current_user::text").fetchone()
    return row or ("", "")


def _left_standing(migration: Migration) -> tuple[tuple[Grant, ...], tuple[str, ...]]:
    """What a fence took that still stands at fenced, and the roles whose sessions it ended."""
    if fence_state(migration.source, migration.name) != "fenced":
        return (), ()
    state = migration.state()
    stored: Mapping[str, Any] = (state.fence if state else None) or {}
    return tuple(grant_of(entry) for entry in stored.get("grants", [])), tuple(stored.get("roles", []))


def _effective_grants(conn: Connection, tables: tuple[Table, ...]) -> tuple[Grant, ...]:
    """The entries by which somebody can write. A superuser's are left: taking them would stop nobody."""
    with explain_errors("reading who may write to the selected objects"):
        superusers = {row[0] for row in conn.execute("SELECT rolname FROM pg_catalog.pg_roles WHERE rolsuper")}
    return tuple(grant for grant in observe_grants(conn, tables) if grant.grantee not in superusers)


def fence_state(conn: Connection, name: str) -> str:
    """Where the fence stands: none, fenced, closed or reopened. ``none`` too where there is no heartbeat table yet."""
    return read_fence(conn, name)


def _move(conn: Connection, name: str, to: str, *origins: str) -> bool:
    """Change the value, if it stands at one of ``origins``. Whoever comes second waits, and changes nothing."""
    conn.execute("SET LOCAL synchronous_commit = on")
    return move_fence(conn, name, to, origins)


def raise_fence(conn: Connection, name: str, fence: Fence, attempts: int = 3) -> None:
    """Take what ``fence`` names, in one transaction. Raises StateError where it is closed, ServerError otherwise."""
    for attempt in range(attempts):
        try:
            _take(conn, name, fence)
            return
        except ServerError as exc:
            if exc.sqlstate not in _RETRIED or attempt == attempts - 1:
                raise
            time.sleep(0.2)


def _take(conn: Connection, name: str, fence: Fence) -> None:
    with explain_errors(_DOING, name), conn.transaction():
        # First the row: a guard that comes in between waits for this transaction instead of missing it.
        if not _move(conn, name, "fenced", "none", "reopened", "fenced"):
            raise StateError(_DOING, name, "the source is closed, or has no heartbeat row", "Look at it with status.")
        in_lock_timeout(conn, _LOCK_TIMEOUT)
        for statement in fence.statements():
            conn.execute(statement)


def reopen(conn: Connection, name: str, fence: Fence) -> bool:
    """Give back what was taken, if the fence still stands at fenced; false where it does not. Raises ServerError."""
    with explain_errors("reopening the source of migration", name), conn.transaction():
        if not _move(conn, name, "reopened", "fenced"):
            return False
        for statement in grant_statements(_grantable(conn, fence.grants), fence.ourselves):
            conn.execute(statement)
    return True


_COLUMNS_THERE = """
SELECT n.nspname, c.relname, coalesce(a.attname, '')
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND NOT a.attisdropped
 WHERE (n.nspname::text, c.relname::text) IN (SELECT * FROM unnest(%s::text[], %s::text[]))
"""


def _grantable(conn: Connection, grants: tuple[Grant, ...]) -> tuple[Grant, ...]:
    """Those whose table, column and roles are still there: one that was dropped must not keep the rest fenced."""
    roles = {"", *(row[0] for row in conn.execute("SELECT rolname::text FROM pg_catalog.pg_roles"))}
    names = ([grant.schema for grant in grants], [grant.name for grant in grants])
    there = {tuple(row) for row in conn.execute(_COLUMNS_THERE, names)}
    there |= {(schema, name, "") for schema, name, dummy in there}
    return tuple(g for g in grants if {g.grantor, g.grantee} <= roles and (g.schema, g.name, g.column) in there)


def undoing(endpoint: Endpoint, name: str, fence: Fence) -> Callable[[], bool]:
    """`reopen` on a connection of its own: what the guard does."""

    def undo() -> bool:
        with connect(endpoint, f"guard {name}", settings=_WRITING) as conn:
            return reopen(conn, name, fence)

    return undo


@dataclass(frozen=True, slots=True)
class Leaving:
    """What a release has to give back first, as a change to show, and how; ``change`` is None where there is nothing."""

    change: SqlChange | None
    give_back: Callable[[], object]


def lift_fence(migration: Migration) -> Leaving:
    """Before a release takes the heartbeat row away: a fence that still stands is taken down.

    Raises StateError where the source is closed for good and the destination was not opened: nobody could write
    anywhere.
    """
    conn, name = migration.source, migration.name
    now = fence_state(conn, name)
    state = migration.state()
    if now == "closed" and state is not None and not state.opened_at:
        raise StateError(
            "releasing migration",
            name,
            "its cutover has closed the source and not yet opened the destination",
            "Run the cutover again: it goes on from there. If the destination is not to be used after all, run UPDATE"
            " causeway.heartbeat SET fence = 'fenced' at the source; release then gives back what was taken.",
        )
    if now != "fenced":
        return Leaving(None, lambda: None)
    grants, roles = _left_standing(migration)
    login, ourselves = _accounts(conn, name)
    fence = Fence(ourselves, login, (), grants, roles, ())
    shown = [str(grant) for grant in grants]
    statements = grant_statements(grants, ourselves)
    change = SqlChange("source", "right to write the selected tables", None, shown, statements)
    return Leaving(change, lambda: reopen(conn, name, fence))


def close(conn: Connection, name: str) -> None:
    """Make the fence final. Raises TimeoutExpired where it has been reopened in the meantime."""
    with explain_errors("closing the source of migration", name), conn.transaction():
        if not _move(conn, name, "closed", "fenced"):
            raise TimeoutExpired(
                "closing the source of migration",
                name,
                "the time for the fence ran out and the guard has reopened the source",
                "Give causeway_cutover_timeout more time and run the cutover again.",
            )


def require_taken(conn: Connection, tables: tuple[Table, ...]) -> None:
    """Prove that no role but a superuser holds a right to write. Raises StateError."""
    left = _effective_grants(conn, tables)
    if left:
        raise StateError(
            "fencing the source",
            str(left[0]),
            "the right is there: our account could not take it, or somebody granted it after the fence went up",
            "Log in as the tables' owner or a superuser; find out who grants; then run the cutover again.",
        )
