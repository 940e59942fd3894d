# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The snapshot that one copy run reads at the source, and its LSN (docs/architecture.md, Why it is exact).

Four forms:

* ``slot``: the snapshot of a temporary logical slot, exported; its consistent point is the snapshot LSN of every table.
* ``share``: if a slot's snapshot cannot be created. Each table is locked against writers while the session that copies it
  takes its own snapshot; the LSN read behind it holds for that table only.
* ``own_slot``: if other sessions cannot read under an exported snapshot. Each copying session creates a slot of its own,
  whose consistent point is the snapshot LSN of the tables that it copies.
* ``plain``: nothing follows the copy (not incremental): any repeatable-read snapshot will do, its LSN is only a record.
  Where it cannot be imported, each table is read under its session's own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeVar

from .. import names
from ..errors import EngineError, ProtocolError, ServerError, TimeoutExpired
from ..postgres._psycopg import sql
from ..postgres.connect import connect, explain_errors, simple_query
from ..postgres.lsn import Lsn, parse_lsn
from .snapshot_guard import SEEN, open_transactions, wait_finished
from .snapshot_import import begin_witness, can_import

if TYPE_CHECKING:
    from ..migration import Migration
    from ..postgres.catalog import Table
    from ..postgres.connect import Connection

Form = Literal["slot", "share", "own_slot", "plain"]
Result = TypeVar("Result")

DEFAULT_WAIT = 120.0
"""Seconds to wait for the transactions that were open when a slot was requested. No session waits behind us then."""

POSITION = "SELECT pg_catalog.pg_current_wal_insert_lsn()::text"
"""The WAL position of a session: read after its snapshot was taken, it lies behind everything that the snapshot shows."""

_MAKING = "taking a snapshot of the"


class SnapshotTooLarge(EngineError):
    """A slot's snapshot cannot be created: thousands of subtransactions run at once. A retry does not help."""

    code = "snapshot_too_large"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot of the source, and its LSN (``mark``).

    While it is open, other sessions and pg_dump may read under its ``name``. The name is empty where they would not see
    what its holder sees (`snapshot_import`): then nothing may be imported, and each session needs a snapshot of its own.
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
    """Return a context with a snapshot of the whole source, held open until it is left if others can read under it.

    ``slot`` says whether a slot's snapshot is needed, by default if changes follow; ``plain_instead`` takes an ordinary
    one if a slot's cannot be created (good for a schema, never for rows that changes follow).
    Raises SnapshotTooLarge, TimeoutExpired (naming the open transactions), ServerError, ConnectError.
    """
    wanted = migration.spec.incremental if slot is None else slot
    with ExitStack() as stack:
        # An ordinary snapshot tells without a wait whether sessions can import any; a slot waits for open transactions.
        taken = stack.enter_context(_open_ordinary(migration))
        if wanted and not taken.name:
            taken = replace(taken, form="own_slot")
        elif wanted:
            stack.close()
            try:
                taken = stack.enter_context(_open_slots(migration, run, wait))
            except SnapshotTooLarge:
                if not plain_instead:
                    raise
                taken = stack.enter_context(_open_ordinary(migration))
        if not taken.name:
            stack.close()
        yield taken


@contextmanager
def _open_ordinary(migration: Migration) -> Iterator[Snapshot]:
    endpoint = migration.spec.source
    with closing(connect(endpoint, f"snapshot {migration.name}")) as holder:
        with explain_errors(_MAKING, "source"), migration.source.transaction():
            witness = begin_witness(migration.source, holder)
            taken = _importable(migration, holder, _plain(holder, str(endpoint)), witness)
        yield taken


@contextmanager
def _open_slots(migration: Migration, run: int, wait: float) -> Iterator[Snapshot]:
    name = f"snapshot {migration.name}"
    with closing(connect(migration.spec.source, name, replication=True, settings=waiting(wait))) as holder:
        # A holder that was killed while it waited retains its slot until the server notices: hence the pid in the name.
        ordinal = holder.info.backend_pid
        mark = begin_under_slot(holder, migration.source, migration.name, run, ordinal, wait=wait)
        exported = _export(holder, migration.name, run, ordinal)
        yield _importable(migration, holder, Snapshot(exported, mark, "slot"))


def _importable(migration: Migration, holder: Connection, taken: Snapshot, witness: int | None = None) -> Snapshot:
    """Return the snapshot, without its name if an importer would not see what the holder sees."""
    seen = simple_query(holder, SEEN, _MAKING, "source")[0][0] or ""
    if can_import(migration, taken.name, seen, witness):
        return taken
    return replace(taken, name="", form="own_slot" if taken.form == "slot" else taken.form)


def attempts(patience: float) -> Iterator[float]:
    """Yield the seconds of each attempt to create a slot: short ones first, so that an operator soon reads what keeps it
    waiting, then several of ``patience`` seconds. Pure."""
    yield from (patience / 8, patience / 4, patience / 2)
    yield from [patience] * 4


def patiently(begin: Callable[[float], Result], patience: float, tell: Callable[[str], None]) -> Result:
    """Return what ``begin`` returns, which gets the seconds that it may wait for open transactions; try again if it raises
    TimeoutExpired. ``tell`` gets what keeps it waiting, and an empty text when the wait is over.

    Raises the last TimeoutExpired, with the time that all attempts took.
    """
    began, failed = time.monotonic(), list[TimeoutExpired]()
    try:
        for seconds in attempts(patience):
            try:
                return begin(seconds)
            except TimeoutExpired as exc:
                failed.append(exc)
                tell(exc.why)
    finally:
        if failed:
            tell("")
    last = failed[-1]
    why = f"{len(failed)} attempts in {time.monotonic() - began:.0f} s failed: {last.why}"
    raise TimeoutExpired(last.doing, last.what, why, last.remedy, sqlstate=last.sqlstate) from last


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
    seen = simple_query(holder, SEEN, _MAKING, what)[0][0] or ""
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
            f"transactions that were open before it did not end within {wait:g} s: {open_transactions(ordinary)}",
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
    """Return an ordinary exported snapshot. Its LSN is informational: changes that it lacks may precede it."""
    with explain_errors(_MAKING, what):
        holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        row = holder.execute("SELECT pg_catalog.pg_export_snapshot()").fetchone()
        position = holder.execute(POSITION).fetchone()
    if row is None or position is None:
        raise ProtocolError(_MAKING, what, "the server returned no snapshot", "Name the primary, not a proxy.")
    return Snapshot(row[0], parse_lsn(position[0]), "plain")


@contextmanager
def writers_excluded(migration: Migration, table: Table, lock_timeout: float) -> Iterator[None]:
    """Return a context in which no session can write to one table; it should be left after some milliseconds.

    A session that takes its snapshot inside and then reads the WAL position sees exactly what was written to the table by
    transactions that committed before that position. What it sees is durable when the context has been left. Raises
    ServerError with 55P03 if the lock was not granted within ``lock_timeout`` seconds: try again after a pause.
    """
    endpoint = migration.spec.source
    name = f"snapshot {migration.name}"
    with (
        closing(connect(endpoint, name, settings=waiting(lock_timeout))) as locker,
        closing(connect(endpoint, name, settings={"synchronous_commit": "local"})) as committer,
    ):
        with explain_errors("briefly locking against writers table", str(table)), locker.transaction():
            locker.execute(sql.SQL("LOCK TABLE ONLY {} IN SHARE MODE").format(sql.Identifier(table.schema, table.name)))
            yield
        # What a snapshot shows must not be lost by a crash: our commit is flushed, and all before it with it.
        with explain_errors("making durable what was written to table", str(table)):
            committer.execute("SELECT pg_catalog.pg_logical_emit_message(true, 'causeway', '')")
