# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fence, which stops the application from writing to the source: raised, lifted, or made final.

The fence revokes INSERT, UPDATE, DELETE and TRUNCATE on the selected tables, and USAGE and UPDATE on the selected sequences,
from every role that holds them, owners and PUBLIC included (`writers.sessions` ends the sessions that were writing). A
number that is drawn at the source after the destination's sequences were set would be given twice. Its state is kept at the source
(`state.fence_state`), changed in the very transaction that revokes or grants: `fenced` goes to `reopened` or to
`closed`, once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import ServerError, StateError, TimeoutExpired
from ..postgres.catalog import quoted
from ..postgres.connect import Endpoint, connect, explain_errors
from ..postgres.locks import in_lock_timeout
from ..state.fence_state import move_fence, read_fence
from .attempts import roles_that_write
from .grants import Grant, grant_of, grant_statements, observe_grants, observe_writers, revoke_statements

if TYPE_CHECKING:
    from psycopg.sql import Composed

    from ..migration import Migration
    from ..postgres.catalog import Table
    from ..postgres.connect import Connection
    from .grants import Relation, Writer

_LOCK_TIMEOUT = 2.0
_WRITES_ALL = "pg_write_all_data"
_DOING = "fencing the source of migration"
_REFUSED = "42501"
_RETRIED = ("55P03", "40P01", "XX000")
"""A lock timeout, a deadlock, and "tuple concurrently updated": another session's GRANT or ALTER."""

# `writers.revoke` may have made our account read-only by default.
_WRITING = {"default_transaction_read_only": "off"}


@dataclass(frozen=True, slots=True)
class Fence:
    """A fence to raise or lift. ``taken`` are the entries that exist now and are revoked; ``grants`` these and those
    that a dead run revoked: what is restored. ``roles`` are the roles whose sessions end; ``bypassing`` those that a
    REVOKE does not stop: superusers, roles that may become one, and members of pg_write_all_data. ``login`` is the
    account that we log in with."""

    ourselves: str
    login: str
    taken: tuple[Grant, ...]
    grants: tuple[Grant, ...]
    roles: tuple[str, ...]
    bypassing: tuple[str, ...]

    def stored(self) -> dict[str, object]:
        """Return the fence as the state tables store it."""
        grants = [grant.stored() for grant in self.grants]
        return {"grants": grants, "roles": list(self.roles), "bypassing": list(self.bypassing)}

    def statements(self) -> tuple[Composed, ...]:
        """Return the statements that revoke, for one transaction."""
        return revoke_statements(self.taken, self.ourselves)


def observe(migration: Migration) -> Fence:
    """Return what has to be revoked now, and what to restore later: also what a fence of a dead run revoked."""
    conn = migration.source
    # This first: what the guard restores meanwhile is then read twice instead of missed.
    earlier, earlier_roles = left_standing(migration)
    taken = _effective_grants(conn, migration.selected().written)
    writers = observe_writers(conn, migration.selected().tables)
    login, ourselves = accounts(conn, migration.name)
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


def accounts(conn: Connection, name: str) -> tuple[str, str]:
    """Return session_user and current_user."""
    with explain_errors(_DOING, name):
        row = conn.execute("SELECT session_user::text, current_user::text").fetchone()
    return row or ("", "")


def left_standing(migration: Migration) -> tuple[tuple[Grant, ...], tuple[str, ...]]:
    """Return what a fence that is still in state fenced revoked, and the roles whose sessions it ended."""
    if fence_state(migration.source, migration.name) != "fenced":
        return (), ()
    state = migration.state()
    stored: Mapping[str, Any] = (state.fence if state else None) or {}
    return tuple(grant_of(entry) for entry in stored.get("grants", [])), tuple(stored.get("roles", []))


def _effective_grants(conn: Connection, relations: Iterable[Relation]) -> tuple[Grant, ...]:
    """Return the entries by which a role can write. Those of superusers are left out: a REVOKE does not stop them."""
    with explain_errors("reading who may write to the selected objects"):
        superusers = {row[0] for row in conn.execute("SELECT rolname FROM pg_catalog.pg_roles WHERE rolsuper")}
    return tuple(grant for grant in observe_grants(conn, relations) if grant.grantee not in superusers)


def fence_state(conn: Connection, name: str) -> str:
    """Return the fence's state: none, fenced, closed, reopened or lost; none also where the publication is missing."""
    return read_fence(conn, name)


def _move(conn: Connection, name: str, to: str, *origins: str) -> bool:
    """Set the state if it is one of ``origins``; return whether it was. A concurrent call waits and changes nothing."""
    conn.execute("SET LOCAL synchronous_commit = on")
    return move_fence(conn, name, to, origins)


def raise_fence(conn: Connection, name: str, fence: Fence, attempts: int = 3) -> None:
    """Revoke what ``fence`` names, in one transaction. Raises StateError where it is closed, ServerError otherwise."""
    for attempt in range(attempts):
        try:
            _take(conn, name, fence)
            return
        except ServerError as exc:
            if exc.sqlstate == _REFUSED and (remedy := _grantors_remedy(fence)):
                found = f"{exc.remedy} {remedy}"
                raise ServerError(exc.doing, exc.what, exc.why, found, sqlstate=exc.sqlstate) from exc
            if exc.sqlstate not in _RETRIED or attempt == attempts - 1:
                raise
            time.sleep(0.2)


def _grantors_remedy(fence: Fence) -> str:
    """Return how we may revoke what others than the owners granted; empty where nobody else did."""
    grantors = sorted({grant.grantor for grant in fence.taken if not grant.by_owner} - {fence.ourselves})
    if not grantors:
        return ""
    named = ", ".join(quoted(role) for role in grantors)
    return f"What these roles granted is revoked in their name: GRANT {named} TO {quoted(fence.ourselves)}."


def _take(conn: Connection, name: str, fence: Fence) -> None:
    with explain_errors(_DOING, name), conn.transaction():
        # The state first: a guard that reopens meanwhile waits for this transaction instead of missing it.
        if not _move(conn, name, "fenced", "none", "reopened", "fenced", "lost"):
            raise StateError(
                _DOING,
                name,
                "the source is closed, or the migration's publication is missing",
                "Run the status playbook.",
            )
        in_lock_timeout(conn, _LOCK_TIMEOUT)
        for statement in fence.statements():
            conn.execute(statement)


def reopen(conn: Connection, name: str, fence: Fence, *, lost: bool = False) -> bool:
    """Restore what was revoked, if the fence is still in state fenced; return whether it was. Raises ServerError.

    ``lost``: the caller knows that the fence was raised and never closed, and the state at the source is lost with the
    publication or its comment; then it is restored whatever is left there.
    """
    origins = ("fenced", "none", "lost") if lost else ("fenced",)
    with explain_errors("reopening the source of migration", name), conn.transaction():
        if not _move(conn, name, "reopened", *origins) and not (lost and fence_state(conn, name) == "none"):
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
    """Return those whose table, column and roles still exist: a dropped one must not keep the rest fenced."""
    roles = {"", *(row[0] for row in conn.execute("SELECT rolname::text FROM pg_catalog.pg_roles"))}
    names = ([grant.schema for grant in grants], [grant.name for grant in grants])
    there = {tuple(row) for row in conn.execute(_COLUMNS_THERE, names)}
    there |= {(schema, name, "") for schema, name, dummy in there}
    return tuple(g for g in grants if {g.grantor, g.grantee} <= roles and (g.schema, g.name, g.column) in there)


def undoing(endpoint: Endpoint, name: str, fence: Fence) -> Callable[[], bool]:
    """Return a function that calls `reopen` on a connection of its own, for the guard."""

    def undo() -> bool:
        with connect(endpoint, f"guard {name}", settings=_WRITING) as conn:
            return reopen(conn, name, fence)

    return undo


def restoring_statements(migration: Migration) -> tuple[Composed, ...]:
    """Return the statements that grant again, in one transaction, what a fence has taken that is closed for good; none
    where there is no such fence, or no record of it. Raises ServerError."""
    conn, state = migration.source, migration.state()
    if state is None or fence_state(conn, migration.name) != "closed":
        return ()
    taken = tuple(grant_of(entry) for entry in (state.fence or {}).get("grants", []))
    with explain_errors("reading what the fence has taken from the", "source"):
        return grant_statements(_grantable(conn, taken), accounts(conn, migration.name)[1])


def not_given_back(conn: Connection, grants: tuple[Grant, ...], relations: Iterable[Relation]) -> tuple[Grant, ...]:
    """Return those of ``grants`` that do not exist now and could be granted again. Raises ServerError."""
    with explain_errors("reading what the fence has taken from the", "source"):
        standing = set(observe_grants(conn, tuple(relations)))
        return tuple(grant for grant in _grantable(conn, grants) if grant not in standing)


def found_bypassing(conn: Connection, tables: tuple[Table, ...], fence: Fence) -> tuple[str, ...]:
    """Return the roles that can write behind the fence and that it does not know of, superusers apart. Raises ServerError.

    To be asked once every right is revoked. A server may let a role write by a right that no ACL shows.
    """
    with explain_errors("reading the roles of the", "source"):
        superusers = {row[0] for row in conn.execute("SELECT rolname FROM pg_catalog.pg_roles WHERE rolsuper")}
    found = roles_that_write(conn, tables, fence.ourselves)
    return tuple(role for role in found if role not in superusers and role not in fence.bypassing)


def close(conn: Connection, name: str) -> None:
    """Make the fence final. Raises TimeoutExpired where it has been reopened in the meantime."""
    with explain_errors("closing the source of migration", name), conn.transaction():
        if not _move(conn, name, "closed", "fenced"):
            raise TimeoutExpired(
                "closing the source of migration",
                name,
                "it is not fenced any more: the time ran out and the guard has reopened it, or another session has dropped the"
                " publication or changed its comment",
                "Raise causeway_cutover_timeout if the time was too short, and run the cutover again.",
            )


def require_taken(conn: Connection, relations: Iterable[Relation]) -> None:
    """Raise StateError where any role but a superuser still holds a right to write to tables or draw from sequences."""
    left = _effective_grants(conn, relations)
    if left:
        raise StateError(
            "fencing the source",
            str(left[0]),
            "the right still exists: our account could not revoke it, or another session granted it after the fence was"
            " raised",
            "Log in as the tables' owner or a superuser, or find out what grants it; then run the cutover again.",
        )
