# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of the cutover's fence, kept at the source: none, fenced, closed or reopened; lost, where another session
has overwritten it.

It changes in the transaction that revokes or restores the writers' rights, so it cannot say anything else than they do.
It is the comment of the migration's publication, which no stream carries; where the source has a heartbeat table
(before PostgreSQL 14) it is a column of the migration's row.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .. import names
from ..postgres._psycopg import sql
from ..postgres.connect import explain_errors
from ..postgres.locks import in_lock_timeout
from .advisory import lock_fence
from .source_schema import heartbeat_table, sends_messages

if TYPE_CHECKING:
    from psycopg.sql import Composed

    from ..postgres.connect import Connection

_LOCK_TIMEOUT = 5.0

_COMMENT = re.compile(r"causeway: (fenced|closed|reopened)")
_READ = "SELECT pg_catalog.obj_description(oid, 'pg_publication') FROM pg_catalog.pg_publication WHERE pubname = %s"


def fence_statement(source: Connection, name: str, value: str) -> Composed:
    """Return the statement that sets the fence's state, whatever it was."""
    if sends_messages(source):
        publication = sql.Identifier(names.publication_name(name))
        return sql.SQL("COMMENT ON PUBLICATION {} IS {}").format(publication, sql.Literal(f"causeway: {value}"))
    update = sql.SQL("UPDATE ONLY {} SET fence = {} WHERE migration = {}")
    return update.format(heartbeat_table(), sql.Literal(value), sql.Literal(name))


def read_fence(source: Connection, name: str) -> str:
    """Return the fence's state; ``none`` too where the migration has nothing at the source yet. Raises ServerError."""
    with explain_errors("looking for the fence of migration", name):
        return _read(source, name) or "none"


def move_fence(source: Connection, name: str, to: str, origins: Sequence[str]) -> bool:
    """Change the fence's state in the open transaction, if it is one of ``origins``; return whether it was.

    A second session waits for the first, and then finds what that one has set. Raises psycopg.Error.
    """
    if sends_messages(source):
        in_lock_timeout(source, _LOCK_TIMEOUT)  # any session may hold an advisory lock
        lock_fence(source, name)
    elif (
        source.execute(
            sql.SQL("SELECT FROM ONLY {} WHERE migration = %s FOR UPDATE").format(heartbeat_table()), (name,)
        ).fetchone()
        is None
    ):
        return False
    found = _read(source, name)
    if found is None or found not in origins:
        return False
    source.execute(fence_statement(source, name, to))
    return True


def fence_of(comment: str) -> str:
    """Return the fence's state that a publication's comment says; ``lost`` for a comment that is not ours. Pure."""
    known = _COMMENT.fullmatch(comment)
    return known[1] if known else "lost" if comment else "none"


def _read(source: Connection, name: str) -> str | None:
    """Return the state; None where there is nothing that could carry it. Raises psycopg.Error."""
    if sends_messages(source):
        row = source.execute(_READ, (names.publication_name(name),)).fetchone()
        if row is None:
            return None
        return fence_of(row[0] or "")
    there = source.execute("SELECT pg_catalog.to_regclass(%s)", (heartbeat_table().as_string(source),)).fetchone()
    if there is None or there[0] is None:
        return None
    row = source.execute(
        sql.SQL("SELECT coalesce(fence, 'none') FROM ONLY {} WHERE migration = %s").format(heartbeat_table()), (name,)
    ).fetchone()
    return str(row[0]) if row else None
