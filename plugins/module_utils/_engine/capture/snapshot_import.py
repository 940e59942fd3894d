# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether other sessions may read under an exported snapshot, and the one statement by which they do.

A server need not refuse what it cannot do: PolarDB 11 decides by commit sequence numbers, which an exported snapshot
lacks, so that an importer sees another past, without an error. Only what both sessions see can tell.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from ..postgres._psycopg import psycopg, sql
from ..postgres.connect import connect, explain_errors, server_error
from .snapshot_guard import SEEN, parse_snapshot

if TYPE_CHECKING:
    from psycopg.sql import Composed

    from ..migration import Migration
    from ..postgres.connect import Connection

_TRYING = "trying whether a snapshot can be imported at the"

SNAPSHOT_GONE = ("22023", "42704", "55000")
"""SQLSTATEs of SET TRANSACTION SNAPSHOT when the holder has ended: no such file, no such snapshot, process not running."""

_REFUSED = (*SNAPSHOT_GONE, "22P02", "0A000")
"""SQLSTATEs by which a server refuses a snapshot. PolarDB 11 calls one that a slot exported malformed (22P02)."""


def import_statement(snapshot: str) -> Composed:
    """Return SET TRANSACTION SNAPSHOT. Only the name of a `snapshot.Snapshot` may be imported: the probe has passed it."""
    return sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot))


def same_view(holder: str, importer: str, witness: int | None) -> bool:
    """Return whether two sessions' snapshots, as text, are one. Pure.

    ``witness`` is a transaction that was open when the holder's snapshot was taken, and must be in the list: where the
    source is idle, two empty lists are equal whatever the server does. Equal texts that list transactions outside their
    own bounds say nothing: a server that does not keep such a list may show the same leftovers twice.
    """
    if holder != importer:
        return False
    try:
        seen = parse_snapshot(holder)
    except ValueError:
        return False
    return all(seen.xmin <= xid < seen.xmax for xid in seen.running) and (witness is None or witness in seen.running)


def begin_witness(ordinary: Connection, holder: Connection) -> int:
    """Give the transaction that is open in ``ordinary`` an ID, and return it: the witness of the snapshot that ``holder``
    takes next. Raises ServerError.

    No slot may be created while it is open: a slot waits for it.
    """
    with explain_errors(_TRYING, "source"):
        (witness,) = ordinary.execute("SELECT pg_catalog.txid_current()").fetchone() or (0,)
        # a snapshot lists a running transaction only if a later one has ended: that one is this
        holder.execute("SELECT pg_catalog.txid_current()")
    return int(witness)


def can_import(migration: Migration, snapshot: str, seen: str, witness: int | None = None) -> bool:
    """Return whether a session that imports this snapshot of the source sees what its holder sees.

    ``seen`` is the holder's own snapshot as text (`snapshot_guard.SEEN`), ``witness`` as for `same_view`. Raises
    ConnectError, ServerError.
    """
    with closing(connect(migration.spec.source, f"probe {migration.name}")) as probe:
        try:
            probe.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            probe.execute(import_statement(snapshot))
            row = probe.execute(SEEN).fetchone()
        except psycopg.Error as exc:
            if exc.sqlstate in _REFUSED:
                return False
            raise server_error(exc, _TRYING, "source") from exc
    return row is not None and same_view(seen, row[0], witness)
