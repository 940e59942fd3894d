# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Apply batches in destination transactions: one for each batch, or one for all batches of a large source transaction.

The steps of a batch go in order, each to the handler of its kind. The applied position moves in the same transaction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ...failpoints import failpoint
from ...postgres._psycopg import psycopg, sql
from ...postgres.key_ranges import KeyRange, where
from ...state.markers import record_applied
from ...state.source_schema import HEARTBEAT_NAME
from ..changes.batches import Batch, EmptyStep, RelationStep, Segment, SystemChange, TruncateStep
from ..changes.messages import Delete
from .conflict_log import ConflictLog
from .conflicts import OVERWRITE
from .prepare import Preparer
from .progress import ProgressStore, Tally
from .refusals import apply_error
from .segments import Savepoint, SegmentWriter
from .staging import Loader

if TYPE_CHECKING:
    from ...postgres.connect import Connection
    from ...postgres.lsn import Lsn
    from .target_table import TargetTables


class Applier:
    """Writes the batches of one stream over one connection, which is autocommit and holds the worker's lock.

    ``name`` is the migration's; ``conflict_policy`` is one of `conflicts.POLICIES`. Every method raises EngineError;
    the caller then closes the connection, which rolls back what was not committed.
    """

    def __init__(
        self,
        conn: Connection,
        progress: ProgressStore,
        name: str,
        tables: TargetTables,
        conflict_policy: str = OVERWRITE,
    ) -> None:
        self._conn = conn
        self._progress = progress
        self._name = name
        self._tables = tables
        self._loader = Loader(conn)
        self._savepoint = Savepoint(conn, self._loader)
        self._conflicts = ConflictLog(self._loader, progress.store, conflict_policy)
        self._ahead = Preparer(tables.known)
        self._segments = SegmentWriter(conn, self._loader, self._savepoint, self._conflicts, self._ahead)
        self._tally = Tally()
        self._handlers: dict[type, Callable[[Any], None]] = {
            Segment: self._segments.write,
            RelationStep: self._learn,
            TruncateStep: self._truncate,
            EmptyStep: self._empty,
        }
        """The handler of each kind of step."""
        self.open = False

    def apply(self, batch: Batch, received: Lsn, confirmed: Lsn) -> bool:
        """Write one batch; return whether its transaction is committed and durable: ``end_lsn`` may be confirmed."""
        try:
            self._write(batch)
            if not batch.last_of_transaction:
                return False
            self._progress.advance(batch.end_lsn, self._tally, received, confirmed)
            self._progress.commit()
            self._loader.committed()
        except psycopg.Error as exc:
            raise apply_error(exc, "applying changes at the", "destination") from exc
        self.open = False
        self._savepoint.ended()
        self._tally = Tally()
        self._progress.settle(batch.end_lsn)
        return True

    def prepare(self, batch: Batch) -> None:
        """Compute the net effect of a batch that ``apply`` gets later; another thread may be in ``apply`` meanwhile."""
        self._ahead.prepare(batch)

    def abandon(self) -> None:
        """Roll back what is not committed: the source sends it again. Raises EngineError."""
        if self.open:
            try:
                self._conn.execute("ROLLBACK")
            except psycopg.Error as exc:
                raise apply_error(exc, "rolling back an unfinished transaction at the", "destination") from exc
            self.open = False
            self._savepoint.ended()
            self._tally = Tally()
            self._conflicts.abandon()

    def set_conflict_policy(self, policy: str) -> None:
        """Set the policy from the next change on."""
        self._conflicts.policy = policy

    def _write(self, batch: Batch) -> None:
        if not self.open:
            failpoint("before batch sent")
            self._conn.execute("BEGIN")
            self.open = True
            failpoint("after batch sent")
        handlers = self._handlers
        for step in batch.steps:
            handlers[type(step)](step)
        failpoint("after DML done")
        self._note_markers(batch)
        tally = self._tally
        tally.conflicts += self._conflicts.write()
        tally.transactions += batch.transactions
        tally.inserts += batch.inserts
        tally.updates += batch.updates
        tally.deletes += batch.deletes
        tally.truncates += batch.truncates

    def _learn(self, step: RelationStep) -> None:
        self._tables.learn(step.relation, step.previous)

    def _note_markers(self, batch: Batch) -> None:
        """Record the markers of a batch as applied, in its transaction; those of nobody are counted."""
        found = {*batch.markers, *(marker_of(change, self._name) for change in batch.system)} - {""}
        if found:
            tokens = sorted(found)
            known = record_applied(self._progress.store, self._conn, tokens)
            self._tally.foreign_markers += len(tokens) - known

    def _truncate(self, step: TruncateStep) -> None:
        """Truncate exactly these tables, without CASCADE; DELETE where a foreign key of another table forbids it."""
        mapping = self._tables.mapping
        names = [sql.Identifier(*mapping.there((one.schema, one.name))) for one in step.relations]
        self._savepoint.begin()
        only = [sql.SQL("ONLY {}").format(name) for name in names]
        try:
            self._conn.execute(sql.SQL("TRUNCATE {}").format(sql.SQL(", ").join(only)))
        except psycopg.errors.FeatureNotSupported:
            self._savepoint.back()
            for name in names:
                self._conn.execute(sql.SQL("DELETE FROM ONLY {}").format(name))

    def _empty(self, step: EmptyStep) -> None:
        """Delete the rows of these ranges; those of the other ranges were copied after the TRUNCATE."""
        there = self._tables.mapping.table((step.relation.schema, step.relation.name))
        table, column = sql.Identifier(*there.destination), there.column(step.column)
        for low, high in step.ranges:
            rows = where(KeyRange(column, step.type_oid, low, high))
            self._conn.execute(sql.SQL("DELETE FROM ONLY {}{}").format(table, rows))


def marker_of(system: SystemChange, name: str) -> str:
    """Return the marker that a change of the heartbeat table carries for migration ``name``; empty for none."""
    relation, change = system.relation, system.change
    if isinstance(change, Delete) or (relation.schema, relation.name) != HEARTBEAT_NAME:
        return ""
    fields = {column.name: at for at, column in enumerate(relation.columns)}
    row = change.new
    if "migration" not in fields or "marker" not in fields or row.values[fields["migration"]] != name.encode():
        return ""
    return (row.values[fields["marker"]] or b"").decode("utf-8", "replace")
