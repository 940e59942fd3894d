# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a segment is written: its net effect at once, and in smaller steps where the destination refuses that.

Where a constraint refuses it, or a row is not as the source had it, the segment is rolled back to the savepoint. Then
each table is tried: as before; with the rows in conflict one by one; with updates as delete and insert; and at last one
change after the other in the order of the source.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from ...postgres._psycopg import psycopg
from ..changes.compaction import compact, delete_then_insert
from .bulk import few_statements, unmet_expectations, write_compacted
from .conflicts import UnexpectedRow, split_conflicting
from .refusals import apply_error, refusals_of
from .row_by_row import key_row, replay, replay_one

if TYPE_CHECKING:
    from ...postgres.connect import Connection
    from ..changes.batches import Segment
    from ..changes.compaction import Compacted
    from ..changes.messages import Change
    from .conflict_log import ConflictLog
    from .prepare import Preparer, Work
    from .staging import Loader
    from .target_table import TargetTable

_STEP: Final = "causeway_segment"
_TABLE: Final = "causeway_table"


class Savepoint:
    """The savepoint before the current step: one at a time, since the destination keeps a level for each open one."""

    def __init__(self, conn: Connection, loader: Loader) -> None:
        self._conn = conn
        self._loader = loader
        self._exists = False

    def begin(self) -> None:
        """Set the savepoint here, in place of the one before."""
        if self._exists:
            self._conn.execute(f"RELEASE SAVEPOINT {_STEP}")
        self._conn.execute(f"SAVEPOINT {_STEP}")
        self._exists = True

    def back(self) -> None:
        """Roll back what was written since."""
        self._conn.execute(f"ROLLBACK TO SAVEPOINT {_STEP}")
        self._loader.rolled_back()

    def ended(self) -> None:
        """Forget the savepoint: its transaction has ended."""
        self._exists = False


class SegmentWriter:
    """Writes segments inside the open transaction of ``conn``."""

    def __init__(
        self, conn: Connection, loader: Loader, savepoint: Savepoint, conflicts: ConflictLog, prepared: Preparer
    ) -> None:
        self._conn = conn
        self._loader = loader
        self._savepoint = savepoint
        self._conflicts = conflicts
        self._ahead = prepared

    def write(self, segment: Segment) -> None:
        """Write the net effect in the first way that the destination accepts. Raises EngineError, psycopg.Error."""
        work = self._ahead.work(segment)
        self._savepoint.begin()
        try:
            if self._at_once(work):
                return
        except (psycopg.IntegrityError, psycopg.DataError, UnexpectedRow):
            pass  # a value that does not fit is reported below, where the table is written by itself
        self._savepoint.back()
        for written, compacted in work:
            self._table_by_itself(written, compacted)

    def _at_once(self, work: Work) -> bool:
        """Write the net effect on all tables; few rows in one pipeline. Returns False, or raises UnexpectedRow, where a
        row is not as the source had it: the caller rolls back. Raises psycopg.Error.
        """
        few = [few_statements(written, compacted) for written, compacted in work]
        if len(few) <= 8 and None not in few:
            statements = [one for table in few if table is not None for one in table]
            with self._conn.pipeline() as pipeline:
                cursors = [self._loader.run(text, values) for text, values, dummy in statements]
                pipeline.sync()
            return all(c.rowcount == count for c, (dummy, dummy2, count) in zip(cursors, statements, strict=True))
        for written, compacted in work:
            with refusals_of(written):
                write_compacted(self._loader, written, compacted)
        return True

    def _table_by_itself(self, written: TargetTable, compacted: Compacted) -> None:
        """Write one table of a segment that was refused as a whole, the first way that the destination accepts."""
        for attempt in self._attempts(written, compacted):
            mark = self._conflicts.mark()
            self._conn.execute(f"SAVEPOINT {_TABLE}")
            try:
                with refusals_of(written):
                    attempt()
            except (psycopg.IntegrityError, UnexpectedRow):
                self._conn.execute(f"ROLLBACK TO SAVEPOINT {_TABLE}")
                self._loader.rolled_back()
                self._conflicts.back_to(mark)
                self._conn.execute(f"RELEASE SAVEPOINT {_TABLE}")
            else:
                self._conn.execute(f"RELEASE SAVEPOINT {_TABLE}")
                return
        for change in compacted.changes:
            self._one_change(written, change)

    def _attempts(self, written: TargetTable, compacted: Compacted) -> Iterator[Callable[[], None]]:
        """Yield ways to write a table: as a whole; the rows in conflict one by one; updates as delete and insert."""
        yield lambda: write_compacted(self._loader, written, compacted)
        shape = written.table.shape
        tangled: list[Change] = []
        with refusals_of(written):
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
