# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The snapshot that one copy run reads at the source, and its LSN (docs/architecture.md, Why it is exact).

Four forms:

* ``slot``: the snapshot of a temporary logical slot, exported; its consistent point is the snapshot LSN of every table.
* ``share``: if a slot's snapshot cannot be created. A plain snapshot taken while one table is locked against writers;
  its LSN holds for that table only.
* ``own_slot``: if an exported slot snapshot cannot be imported. The copying connection creates its own slot.
* ``plain``: nothing follows the copy (not incremental): any repeatable-read snapshot will do, its LSN is only a record.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from .. import names
from ..errors import EngineError, ProtocolError, ServerError, TimeoutExpired
from ..postgres._psycopg import sql
from ..postgres.connect import connect, explain_errors, simple_query
from ..postgres.lsn import Lsn, parse_lsn
from .snapshot_guard import oldest_transactions, seen_by_statement, wait_finished

if TYPE_CHECKING:
    from psycopg.sql import Composable

    from ..migration import Migration
    from ..postgres.catalog import Table
    from ..postgres.connect import Connection

Form = Literal["slot", "share", "own_slot", "plain"]

DEFAULT_WAIT = 120.0
"""Seconds to wait for the transactions that were open when a slot was requested. No session waits behind us then."""

SNAPSHOT_GONE = ("22023", "42704", "55000")
"""SQLSTATEs of SET TRANSACTION SNAPSHOT when the holder has ended: no such file, no such snapshot, process not running."""

_MAKING = "taking a snapshot of the"
_MARK = "SELECT pg_catalog.pg_current_wal_insert_lsn()::text"


class SnapshotTooLarge(EngineError):
    """A slot's snapshot cannot be created: thousands of subtransactions run at once. A retry does not help."""

    code = "snapshot_too_large"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An exported snapshot of the source: usable by ``SET TRANSACTION SNAPSHOT`` and ``pg_dump --snapshot`` while open.

    ``mark`` is its LSN; ``name`` is empty in the form ``own_slot``, which no other session can import.
    """

    name: str
    mark: Lsn
    form: Form


@contextmanager
def open_snapshot(
    migration: Migration,
    run: int = 0,
    *,
    wait: float = DEFAULT_WAIT,
    slot: bool | None = None,
    plain_instead: bool = False,
) -> Iterator[Snapshot]:
    """Return a context with a snapshot of the whole source, held open until it is left.

    ``slot`` says whether a slot's snapshot is needed, by default if changes follow; ``plain_instead`` takes an ordinary
    one if a slot's cannot be created (good for a schema, never for rows that changes follow).
    Raises SnapshotTooLarge, TimeoutExpired (naming the open transactions), ServerError, ConnectError.
    """
    if slot is None:
        slot = migration.spec.incremental
    endpoint = migration.spec.source
    if slot:
        name = f"snapshot {migration.name}"
        with closing(connect(endpoint, name, replication=True, settings=waiting(wait))) as holder:
            try:
                # A holder that was killed while it waited retains its slot until the server notices.
                ordinal = holder.info.backend_pid
                mark = begin_under_slot(holder, migration.source, migration.name, run, ordinal, wait=wait)
                yield_name = _export(holder, migration.name, run, ordinal)
            except SnapshotTooLarge:
                if not plain_instead:
                    raise
            else:
                yield Snapshot(yield_name, mark, "slot")
                return
    with closing(connect(endpoint, f"snapshot {migration.name}")) as holder:
        yield _plain(holder, str(endpoint))


def waiting(wait: float) -> dict[str, str]:
    """Return settings that bound CREATE_REPLICATION_SLOT: lock_timeout does, statement_timeout does not."""
    return {"lock_timeout": f"{max(1, int(wait * 1000))}ms"}


def begin_under_slot(
    holder: Connection, ordinary: Connection, name: str, run: int, ordinal: int = 0, *, wait: float = DEFAULT_WAIT
) -> Lsn:
    """Begin a read-only transaction on a replication connection under a temporary slot's snapshot; return its LSN.

    The slot still exists afterwards (`drop_run_slot`), in the same transaction. Returns only when the guard has seen
    every transaction finished that the snapshot calls finished. Raises as `open_snapshot` does.
    """
    what = "source"
    slot = sql.Identifier(names.run_slot_name(name, run, ordinal)).as_string(holder)
    simple_query(holder, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", _MAKING, what)
    create = f"CREATE_REPLICATION_SLOT {slot} TEMPORARY LOGICAL pgoutput USE_SNAPSHOT"
    try:
        rows = simple_query(holder, create, _MAKING, what)
    except ServerError as exc:
        raise _explained(exc, ordinary, wait) from exc
    if not rows or rows[0][1] is None:
        raise ProtocolError(_MAKING, what, "CREATE_REPLICATION_SLOT returned no LSN", "Name the primary, not a proxy.")
    mark = parse_lsn(rows[0][1])
    seen = simple_query(holder, seen_by_statement(holder.info.server_version), _MAKING, what)[0][0] or ""
    wait_finished(ordinary, seen, wait)
    return mark


def _explained(exc: ServerError, ordinary: Connection, wait: float) -> EngineError:
    """Return the error of a slot's snapshot with its reason. 40001 has no other meaning here, in any language."""
    if exc.sqlstate == "40001":
        return SnapshotTooLarge(
            exc.doing,
            exc.what,
            exc.why,
            "Each table is locked against writers for a moment instead.",
            sqlstate=exc.sqlstate,
        )
    if exc.sqlstate == "55P03":
        return TimeoutExpired(
            exc.doing,
            exc.what,
            f"transactions that were open before it did not end within {wait:g} s: {oldest_transactions(ordinary)}",
            "End them, or wait until they have ended, then run the playbook again.",
            sqlstate=exc.sqlstate,
        )
    if exc.sqlstate == "53400":
        return ServerError(
            exc.doing,
            exc.what,
            exc.why,
            "A copy needs one free replication slot beside the migration's: raise max_replication_slots, or drop one.",
            sqlstate=exc.sqlstate,
        )
    return exc


def drop_run_slot(holder: Connection, name: str, run: int, ordinal: int = 0) -> None:
    """Drop the run's slot within its transaction: it would retain WAL for as long as the copy takes."""
    slot = sql.Identifier(names.run_slot_name(name, run, ordinal)).as_string(holder)
    simple_query(holder, f"DROP_REPLICATION_SLOT {slot}", "dropping the slot of a copy run at the", "source")


def _export(holder: Connection, name: str, run: int, ordinal: int) -> str:
    rows = simple_query(holder, "SELECT pg_catalog.pg_export_snapshot()", "exporting a snapshot of the", "source")
    drop_run_slot(holder, name, run, ordinal)
    return rows[0][0] or ""


def _plain(holder: Connection, what: str) -> Snapshot:
    """Return an ordinary exported snapshot. Its LSN is read afterwards: only while writers are locked out (form
    ``share``) does no change that it lacks precede the LSN; elsewhere the LSN is informational."""
    with explain_errors(_MAKING, what):
        holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        row = holder.execute("SELECT pg_catalog.pg_export_snapshot()").fetchone()
        position = holder.execute(_MARK).fetchone()
    if row is None or position is None:
        raise ProtocolError(_MAKING, what, "the server returned no snapshot", "Name the primary, not a proxy.")
    return Snapshot(row[0], parse_lsn(position[0]), "plain")


@contextmanager
def open_shared_snapshot(migration: Migration, table: Table, lock_timeout: float) -> Iterator[Snapshot]:
    """Return a context with a snapshot of one table, taken while no session can write to it; its LSN holds for it only.

    The lock is held for some ten milliseconds. Raises ServerError with 55P03 if it was not granted within
    ``lock_timeout`` seconds: try again after a pause.
    """
    endpoint = migration.spec.source
    name = f"snapshot {migration.name}"
    with (
        closing(connect(endpoint, name, settings=waiting(lock_timeout))) as locker,
        closing(connect(endpoint, name, settings={"synchronous_commit": "local"})) as committer,
        closing(connect(endpoint, name)) as holder,
    ):
        with explain_errors("briefly locking against writers table", str(table)), locker.transaction():
            locker.execute(sql.SQL("LOCK TABLE ONLY {} IN SHARE MODE").format(_identifier(table)))
            taken = _plain(holder, str(endpoint))
            # What the snapshot shows must not be lost by a crash: our commit is flushed, and all before it with it.
            committer.execute("SELECT pg_catalog.pg_logical_emit_message(true, 'causeway', '')")
        yield Snapshot(taken.name, taken.mark, "share")


def _identifier(table: Table) -> Composable:
    return sql.Identifier(table.schema, table.name)
