# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pieces of the stream to destination transactions: one transaction for each piece, or for several of a large one.

Within it the steps go in order; a segment is written by its net effect. Where a constraint is in the way, nothing of
the segment stands, nor where a row is not as the source had it: back to the savepoint, then table by table: again; with
the rows in conflict one by one; with updates as delete and insert; and at last one change after the other in the order of
the source. The applied position moves in the same transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from ...errors import ConnectError, EngineError, MismatchError, ServerError
from ...failpoints import failpoint
from ...objects.mapping import ObjectMapping
from ...postgres._psycopg import psycopg, sql
from ...postgres.catalog import qualified, quoted
from ...postgres.connect import server_error
from ...postgres.key_ranges import KeyRange, where
from ...state import heartbeat
from ..changes.batches import Batch, EmptyStep, RelationStep, Segment, SystemChange, TruncateStep
from ..changes.compaction import compact, delete_then_insert
from ..changes.messages import BINARY, Change, Delete, Relation, Type
from .bulk import few_statements, unmet_expectations, write_compacted
from .conflict_log import ConflictLog
from .conflicts import OVERWRITE, UnexpectedRow, split_conflicting
from .destination_table import DestinationTable, fit, observe_table
from .prepare import Preparer
from .progress import ProgressStore, Tally
from .row_by_row import TargetTable, key_row, replay, replay_one
from .staging import Loader
from .statements import TableStatements

if TYPE_CHECKING:
    from ...postgres.catalog import Name
    from ...postgres.connect import Connection
    from ...postgres.lsn import Lsn
    from ..changes.compaction import Compacted
    from ..changes.keys import UniqueIndex
    from .prepare import Work

_SEGMENT: Final = "causeway_segment"
_TABLE: Final = "causeway_table"


class Applier:
    """Writes the pieces of one stream over one connection, which is autocommit and holds the worker's lock.

    ``types`` are the stream's names of types that are not built in; ``source_uniques`` gives the unique indexes of a
    source table by OID; ``binary`` says in which format values come; ``copied_as`` is the name under which each table,
    by source OID, was copied; ``mapping`` says what its tables are called at the destination; ``cut_by`` the column that tells the parts of a table apart where these have marks of their
    own; ``conflict_policy`` is one of `conflicts.POLICIES`. Every method raises EngineError; after that the connection is
    to be closed, which takes
    back what was not committed.
    """

    def __init__(
        self,
        conn: Connection,
        progress: ProgressStore,
        name: str,
        types: Mapping[int, Type],
        source_uniques: Callable[[int], Sequence[UniqueIndex]],
        *,
        binary: bool,
        mapping: ObjectMapping,
        copied_as: Mapping[int, Name] | None = None,
        cut_by: Mapping[int, str] | None = None,
        conflict_policy: str = OVERWRITE,
    ) -> None:
        self._conn = conn
        self._progress = progress
        self._name = name
        self._types = types
        self._source_uniques = source_uniques
        self._binary = binary
        self._mapping = mapping
        self._copied_as = copied_as or {}
        self._cut_by = cut_by or {}
        self._loader = Loader(conn)
        self._conflicts = ConflictLog(self._loader, progress.store, conflict_policy)
        self._tables: dict[int, TargetTable] = {}
        self._ahead = Preparer(self._tables)
        self._tally = Tally()
        self._savepoint = False
        self.open = False
        self.marker = 0
        """The highest marker that stands at the destination."""

    def apply(self, batch: Batch, received: Lsn, confirmed: Lsn) -> bool:
        """Write one piece. True when its transaction is committed and durable: ``piece.end_lsn`` may be confirmed."""
        try:
            self._write(batch)
            if not batch.last_of_transaction:
                return False
            self._progress.advance(batch.end_lsn, self._tally, received, confirmed)
            self._progress.commit()
            self._loader.committed()
        except psycopg.Error as exc:
            raise apply_error(exc, "applying changes at the", "destination") from exc
        self.open = self._savepoint = False
        self.marker = max(self.marker, self._tally.marker)
        self._tally = Tally()
        self._progress.settle(batch.end_lsn)
        return True

    def prepare(self, batch: Batch) -> None:
        """Work out what a piece comes to that ``apply`` gets later; another thread may be in ``apply`` meanwhile."""
        self._ahead.prepare(batch)

    def abandon(self) -> None:
        """Take back what is not committed: it will come again. Raises EngineError."""
        if self.open:
            try:
                self._conn.execute("ROLLBACK")
            except psycopg.Error as exc:
                raise apply_error(exc, "taking back an unfinished transaction at the", "destination") from exc
            self.open = self._savepoint = False
            self._tally = Tally()
            self._conflicts.abandon()

    def set_conflict_policy(self, policy: str) -> None:
        """From the next change on."""
        self._conflicts.policy = policy

    def _write(self, batch: Batch) -> None:
        if not self.open:
            failpoint("before batch sent")
            self._conn.execute("BEGIN")
            self.open = True
            failpoint("after batch sent")
        for step in batch.steps:
            if isinstance(step, Segment):
                self._segment(step)
            elif isinstance(step, RelationStep):
                self._learn(step.relation, step.previous)
            elif isinstance(step, EmptyStep):
                self._empty(step)
            else:
                self._truncate(step)
        failpoint("after DML done")
        tally = self._tally
        for change in batch.system:
            tally.marker = max(tally.marker, marker_of(change, self._name))
        tally.conflicts += self._conflicts.write()
        tally.transactions += batch.transactions
        tally.inserts += batch.inserts
        tally.updates += batch.updates
        tally.deletes += batch.deletes
        tally.truncates += batch.truncates

    def _learn(self, relation: Relation, previous: Relation | None) -> None:
        """A table as it is from here on. Raises MismatchError where the destination's does not fit it."""
        found = observe_table(self._conn, self._mapping.there((relation.schema, relation.name)))
        uniques = self._source_uniques(relation.oid) if relation.identity in ("f", "n") else ()
        table = fit(relation, self._types, found, uniques, self._mapping, previous)
        self._require_own_rows(relation)
        self._require_cut_in_key(relation, table)
        self._require_binary(table)
        self._tables[relation.oid] = TargetTable(table, TableStatements(table), self._binary)

    def _require_own_rows(self, relation: Relation) -> None:
        """Where tables exchange their names at the source, one of that name may fit and hold another's rows."""
        name, copied = (relation.schema, relation.name), self._copied_as.get(relation.oid)
        if copied is None or copied == name or observe_table(self._conn, self._mapping.there(copied)) is None:
            return
        raise MismatchError(
            "applying changes to",
            qualified(name),
            f"the source has given this name to the table whose rows were copied to {qualified(copied)}",
            "Run the migrate playbook: it copies the tables again that were renamed.",
        )

    def _require_binary(self, table: DestinationTable) -> None:
        """The format was asked for when the stream began; a column that came since may need the other one."""
        other = [
            quoted(c.name)
            for c, there in zip(table.relation.columns, table.columns, strict=True)
            if not there.binary_safe
        ]
        if self._binary and other:
            raise ConnectError(
                "applying changes to",
                str(table),
                f"values of column {', '.join(other)} have to come as text, and the stream is binary",
                "Nothing: the worker connects again, and asks for text.",
            )

    def _require_cut_in_key(self, relation: Relation, table: DestinationTable) -> None:
        """Until the newest mark is passed, a row may stand in two parts: its key has to tell the two apart."""
        column = self._cut_by.get(relation.oid)
        key = table.shape.key or ()
        if column is None or any(relation.columns[at].name == column for at in key):
            return
        raise MismatchError(
            "applying changes to",
            str(table),
            f"it was copied in ranges of column {column} at different moments, and rows are found by another key now",
            "Copy the table again: run the full_copy role with the table in causeway_resync.",
        )

    def _segment(self, segment: Segment) -> None:
        work = self._ahead.work(segment)
        self._begin_savepoint()
        try:
            if self._at_once(work):
                return
        except (psycopg.IntegrityError, psycopg.DataError, UnexpectedRow):
            pass  # and if it is a value that does not fit, the table by itself says so in its name
        self._back_to(_SEGMENT)
        for written, compacted in work:
            self._table_by_itself(written, compacted)

    def _begin_savepoint(self) -> None:
        """One savepoint at a time: each open one is a level that the destination has to keep."""
        if self._savepoint:
            self._conn.execute(f"RELEASE SAVEPOINT {_SEGMENT}")
        self._conn.execute(f"SAVEPOINT {_SEGMENT}")
        self._savepoint = True

    def _back_to(self, savepoint: str) -> None:
        self._conn.execute(f"ROLLBACK TO SAVEPOINT {savepoint}")
        self._loader.rolled_back()

    def _at_once(self, work: Work) -> bool:
        """The net effect of all tables; few rows in one pipeline. False, or Surprise, where something is not as the
        source had it: nothing of it may stand then. Raises psycopg.Error.
        """
        few = [few_statements(written, compacted) for written, compacted in work]
        if len(few) <= 8 and None not in few:
            statements = [one for table in few if table is not None for one in table]
            with self._conn.pipeline() as pipeline:
                cursors = [self._loader.run(text, values) for text, values, dummy in statements]
                pipeline.sync()
            return all(c.rowcount == count for c, (dummy, dummy2, count) in zip(cursors, statements, strict=True))
        for written, compacted in work:
            with self._refusals(written):
                write_compacted(self._loader, written, compacted)
        return True

    @contextmanager
    def _refusals(self, written: TargetTable) -> Iterator[None]:
        """What the destination refuses of a table, in words; constraints that are in the way are the caller's."""
        try:
            yield
        except psycopg.IntegrityError:
            raise
        except psycopg.Error as exc:
            raise apply_error(exc, "applying changes to", str(written.table)) from exc

    def _table_by_itself(self, written: TargetTable, compacted: Compacted) -> None:
        """One table where something was not as expected, or beside one: the first way that the destination takes."""
        for attempt in self._attempts(written, compacted):
            mark = self._conflicts.mark()
            self._conn.execute(f"SAVEPOINT {_TABLE}")
            try:
                with self._refusals(written):
                    attempt()
            except (psycopg.IntegrityError, UnexpectedRow):
                self._back_to(_TABLE)
                self._conflicts.back_to(mark)
                self._conn.execute(f"RELEASE SAVEPOINT {_TABLE}")
            else:
                self._conn.execute(f"RELEASE SAVEPOINT {_TABLE}")
                return
        for change in compacted.changes:
            self._one_change(written, change)

    def _attempts(self, written: TargetTable, compacted: Compacted) -> Iterator[Callable[[], None]]:
        """As a whole; without the rows that are in conflict, which go one by one; updates as delete and insert."""
        yield lambda: write_compacted(self._loader, written, compacted)
        shape = written.table.shape
        tangled: list[Change] = []
        with self._refusals(written):
            keys = unmet_expectations(self._loader, written, compacted.changes)
        rest = split_conflicting(compacted.changes, shape, keys, tangled) if keys else compacted.changes
        if tangled or not written.table.enforced:
            yield lambda: self._both(written, compact(rest, shape), tangled)
        replaced = delete_then_insert(compact(rest, shape))
        if replaced is not None:
            yield lambda: self._both(written, replaced, tangled)

    def _both(self, written: TargetTable, compacted: Compacted, tangled: Sequence[Change]) -> None:
        write_compacted(self._loader, written, compacted, checked=True)
        replay(self._loader, written, tangled, self._conflicts.judge(written))

    def _one_change(self, written: TargetTable, change: Change) -> None:
        self._conn.execute(f"SAVEPOINT {_TABLE}")
        try:
            replay_one(self._loader, written, change, self._conflicts.judge(written))
        except psycopg.Error as exc:
            self._conn.execute(f"ROLLBACK TO SAVEPOINT {_TABLE}")
            found = self._conflicts.hash_of(written, key_row(change))
            kind = type(change).__name__.lower()
            what = f"{written.table}, row with key hash {found}"
            raise apply_error(exc, f"applying the {kind} of a row to", what) from exc
        self._conn.execute(f"RELEASE SAVEPOINT {_TABLE}")

    def _truncate(self, step: TruncateStep) -> None:
        """Exactly these tables, without CASCADE; DELETE where a foreign key of another table forbids it."""
        names = [sql.Identifier(*self._mapping.there((one.schema, one.name))) for one in step.relations]
        self._begin_savepoint()
        only = [sql.SQL("ONLY {}").format(name) for name in names]
        try:
            self._conn.execute(sql.SQL("TRUNCATE {}").format(sql.SQL(", ").join(only)))
        except psycopg.errors.FeatureNotSupported:
            self._back_to(_SEGMENT)
            for name in names:
                self._conn.execute(sql.SQL("DELETE FROM ONLY {}").format(name))

    def _empty(self, step: EmptyStep) -> None:
        """The rows of these ranges; what lies in the others was copied after the TRUNCATE."""
        there = self._mapping.table((step.relation.schema, step.relation.name))
        table, column = sql.Identifier(*there.destination), there.column(step.column)
        for low, high in step.ranges:
            rows = where(KeyRange(column, step.type_oid, low, high))
            self._conn.execute(sql.SQL("DELETE FROM ONLY {}{}").format(table, rows))


def marker_of(system: SystemChange, name: str) -> int:
    """The marker that a change of the heartbeat table carries for migration ``name``; 0 where it carries none."""
    relation, change = system.relation, system.change
    if isinstance(change, Delete) or relation.name != heartbeat.HEARTBEAT:
        return 0
    fields = {column.name: at for at, column in enumerate(relation.columns)}
    row = change.new
    if "migration" not in fields or "marker" not in fields or row.values[fields["migration"]] != name.encode():
        return 0
    at = fields["marker"]
    value = row.values[at]
    if value is None:
        return 0
    return int.from_bytes(value, "big", signed=True) if row.kinds[at] == BINARY else int(value)


def apply_error(exc: psycopg.Error, doing: str, what: str) -> EngineError:
    """The destination's refusal; of a value or a row, with what to compare, and without the value."""
    error = server_error(exc, doing, what, _COMPARE if (exc.sqlstate or "").startswith("22") else "")
    if error.sqlstate[:2] == "23" and isinstance(error, ServerError):
        return ServerError(
            doing,
            what,
            f"{type(exc).__name__} by constraint {exc.diag.constraint_name or 'of the table'}",
            _COMPARE,
            sqlstate=error.sqlstate,
            detail=error.detail,
        )
    return error


_COMPARE: Final = (
    "Compare that table at both ends: its constraints, and rows that something else has written to the destination. "
    "Then start the task again; it goes on where it stopped."
)
