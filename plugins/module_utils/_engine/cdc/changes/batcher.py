# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cut the stream into batches for one destination transaction each. Pure; the caller passes the clock.

A batch is whole source transactions in commit order, until a size or an age is reached; a transaction larger than a
batch comes as several, and the destination may commit only after the last. The ``steps`` of a batch are applied in
order: TRUNCATE and a changed Relation are barriers between segments of changes, over which nothing is compacted.

Which changes are applied is decided here, by PostgreSQL's own rule: a change of a transaction is kept if and only if
the transaction's commit record lies at or after the snapshot LSN of the table's copy, its mark.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from ...errors import MismatchError, ProtocolError
from ...postgres.lsn import NO_LSN, Lsn, format_lsn
from .batch_limits import BatchLimits
from .batches import Batch, RelationStep, Segment, SystemChange, TruncateStep
from .messages import (
    Begin,
    Change,
    Commit,
    Delete,
    Insert,
    LogicalMessage,
    Message,
    Relation,
    Truncate,
    Type,
    Update,
    marker_in,
)
from .part_marks import PartMarks, routed, truncated

_NONE: Final[tuple[Batch, ...]] = ()


class Batcher:
    """Turns decoded messages into batches. One for each replication connection: a new connection starts a new one.

    ``marks``: source OID of every table of the migration, and its mark. ``system``: OIDs of the engine's own tables,
    whose changes go to ``Batch.system``. ``parts``: the tables whose ranges of a key have marks of their own; for those
    ``marks`` has the newest, from which on they are like any other. ``applied``: transactions whose commit record lies
    before it are skipped (the slot may lag behind the destination). ``marker_prefix`` is that of the logical messages
    whose content goes to ``Batch.markers``; all others are ignored. ``limits`` may be set at any time.
    """

    def __init__(
        self,
        marks: Mapping[int, Lsn],
        system: Collection[int] = (),
        limits: BatchLimits | None = None,
        applied: Lsn = NO_LSN,
        clock: Callable[[], float] = time.monotonic,
        parts: Mapping[int, PartMarks] | None = None,
        marker_prefix: str = "",
    ) -> None:
        self.limits: BatchLimits = BatchLimits() if limits is None else limits
        self.types: dict[int, Type] = {}
        """Names of the types that are not built in, from the stream."""
        self._marks: dict[int, Lsn] = dict(marks)
        self._parts: dict[int, PartMarks] = dict(parts or {})
        self._system: frozenset[int] = frozenset(system)
        self._applied: Lsn = applied
        self._marker_prefix: str = marker_prefix
        self._clock: Callable[[], float] = clock
        self._latest: dict[int, Relation] = {}
        # A Relation step is made before the first change that is kept, not when the message comes: the table's shape
        # before its mark does not matter.
        self._surfaced: dict[int, Relation] = {}
        self._settled: dict[int, int] = {}
        self._whole: Batch = Batch()
        self._current: Batch = Batch()
        self._spare: Segment | None = None
        self._began_at: float = 0.0
        self._open: bool = False
        self._skipping: bool = False
        self._in_pieces: bool = False
        self._redefined: bool = False
        self._final_lsn: Lsn = NO_LSN
        self._last_end: Lsn = NO_LSN

    def add(self, message: Message, size: int) -> Sequence[Batch]:
        """Take the next message of ``size`` bytes; return the batches that it completed, mostly none.

        Raises ProtocolError when the messages contradict each other, MismatchError when a change is of a table that
        the migration does not know.
        """
        if isinstance(message, (Insert, Update, Delete)):
            return self._change(message, size)
        if isinstance(message, Begin):
            self._begin(message)
        elif isinstance(message, Commit):
            return self._commit(message)
        elif isinstance(message, Relation):
            if self._latest.get(message.oid) != message:
                self._latest[message.oid] = message
                self._settled.pop(message.oid, None)
        elif isinstance(message, Type):
            self.types[message.oid] = message
        elif isinstance(message, Truncate):
            self._truncate(message)
        elif isinstance(message, LogicalMessage):
            return self._marker(message, size)
        return _NONE

    def flush(self) -> Batch | None:
        """Return the whole transactions that have come as a batch; None when there are none. Called when the receive
        queue is empty, so that an idle stream is applied at once, and when ``due``.
        """
        batch = self._whole
        if batch.transactions == 0:
            return None
        self._whole = Batch()
        self._began_at = self._clock()
        return batch

    def due(self) -> bool:
        """Return whether the whole transactions that wait are older than ``max_age``."""
        return self._whole.transactions > 0 and self._clock() - self._began_at >= self.limits.max_age

    @property
    def waiting(self) -> Batch:
        """The whole transactions that are in no batch yet, to be read only."""
        return self._whole

    @property
    def weight(self) -> int:
        """The weight of all that is in no batch yet, an open transaction included."""
        return self._whole.weight + self._current.weight

    @property
    def pending(self) -> bool:
        """Whether something has come that is in no batch yet: then a keepalive's position may not be recorded."""
        return self._open or self._whole.transactions > 0

    def _begin(self, begin: Begin) -> None:
        if self._open:
            raise _out_of_order("a transaction begins inside another")
        if begin.final_lsn < self._last_end:
            raise _out_of_order(f"the commit at {format_lsn(begin.final_lsn)} came after a later one")
        self._open = True
        self._in_pieces = self._redefined = False
        self._final_lsn = begin.final_lsn
        self._skipping = begin.final_lsn < self._applied
        if self._whole.transactions == 0:
            self._began_at = self._clock()

    def _commit(self, commit: Commit) -> Sequence[Batch]:
        if not self._open:
            raise _out_of_order("a commit without a transaction")
        if commit.commit_lsn != self._final_lsn or commit.end_lsn <= commit.commit_lsn:
            raise _out_of_order("a commit is not where its transaction said")
        self._open = False
        self._last_end = commit.end_lsn
        if self._skipping:
            return _NONE
        batch = self._current
        batch.transactions = 1
        batch.end_lsn = commit.end_lsn
        batch.commit_time_us = commit.commit_time_us
        if self._in_pieces:
            self._current = Batch()
            return (batch,)
        if self._redefined and self._whole.transactions:
            # If the operator has to change the destination first, the transactions before must not wait for that.
            before = self.flush()
            self._whole = batch
            self._current = Batch()
            return _NONE if before is None else (before,)
        if self._whole.transactions == 0:
            self._whole = batch
            self._current = Batch()
        else:
            self._spare = self._whole.absorb(batch)
        if self.limits.reached(self._whole) or self.due():
            whole = self.flush()
            return _NONE if whole is None else (whole,)
        return _NONE

    def _change(self, change: Change, size: int) -> Sequence[Batch]:
        if not self._open:
            raise _out_of_order("a change came outside a transaction")
        if self._skipping:
            return _NONE
        oid = change.relation_oid
        width = self._settled.get(oid)
        if width is None:
            width = self._settle(oid, change, size)
            if width is None:
                return self._cut() if self.limits.reached(self._current) else _NONE
        row = change.old if isinstance(change, Delete) else change.new
        if len(row.kinds) != width:
            raise _misshapen(self._latest[oid])
        batch = self._current
        self._segment().changes.append(change)
        batch.count(change, size)
        return self._cut() if self.limits.reached(batch) else _NONE

    def _settle(self, oid: int, change: Change, size: int) -> int | None:
        """Return the number of columns if the change is kept, else None. Called for a table's first change after its
        Relation message and after one that was not kept; once one is kept, all later ones are: commits come in order.
        """
        relation = self._latest.get(oid)
        if relation is None:
            raise _out_of_order(f"a change came of the unannounced relation {oid}")
        width = len(relation.columns)
        if oid in self._system:
            row = change.old if isinstance(change, Delete) else change.new
            if len(row.kinds) != width:
                raise _misshapen(relation)
            self._current.system.append(SystemChange(relation, change, self._final_lsn))
            return None
        if not self._keeps(relation):
            self._between(relation, change, size)
            return None
        if self._surfaced.get(oid) is not relation:
            self._surface(relation)
        self._settled[oid] = width
        return width

    def _between(self, relation: Relation, change: Change, size: int) -> None:
        """Keep a change below the mark of its table only where a part that it concerns has an older mark."""
        parts = self._parts.get(relation.oid)
        row = change.old if isinstance(change, Delete) else change.new
        if parts is not None and len(row.kinds) != len(relation.columns):
            raise _misshapen(relation)
        kept = None if parts is None else routed(change, relation, parts, self._final_lsn)
        batch = self._current
        if kept is None:
            batch.filtered += 1
            return
        if self._surfaced.get(relation.oid) is not relation:
            self._surface(relation)
        self._segment().changes.append(kept)
        batch.count(kept, size)

    def _marker(self, message: LogicalMessage, size: int) -> Sequence[Batch]:
        """Keep a message in the shape of a marker: it may be one."""
        token = marker_in(message, self._marker_prefix)
        if not token or self._skipping:
            return _NONE
        if not self._open:
            raise _out_of_order("a transactional message came outside a transaction")
        batch = self._current
        batch.markers.append(token)
        batch.size += size
        return self._cut() if self.limits.reached(batch) else _NONE

    def _truncate(self, truncate: Truncate) -> None:
        if not self._open:
            raise _out_of_order("a TRUNCATE came outside a transaction")
        if self._skipping:
            return
        kept: list[Relation] = []
        for oid in truncate.relation_oids:
            if oid in self._system:
                continue
            relation = self._latest.get(oid)
            if relation is None:
                raise _out_of_order(f"a TRUNCATE came of the unannounced relation {oid}")
            if self._keeps(relation):
                kept.append(relation)
                if self._surfaced.get(oid) is not relation:
                    self._surface(relation)
            elif not self._empty_parts(relation):
                self._current.filtered += 1
        if kept:
            self._current.steps.append(TruncateStep(tuple(kept), truncate.restart_identity))
            self._current.truncates += len(kept)

    def _empty_parts(self, relation: Relation) -> bool:
        """Add the step by which a TRUNCATE below the newest mark empties the parts copied before it; return False where
        none was.
        """
        parts = self._parts.get(relation.oid)
        step = None if parts is None else truncated(relation, parts, self._final_lsn)
        if step is None:
            return False
        if self._surfaced.get(relation.oid) is not relation:
            self._surface(relation)
        self._current.steps.append(step)
        self._current.truncates += 1
        return True

    def _keeps(self, relation: Relation) -> bool:
        """Return the rule of exactness: whether the commit record lies at or after the mark of the table."""
        mark = self._marks.get(relation.oid)
        if mark is None:
            raise MismatchError(
                "reading the stream of changes",
                f"{relation.schema}.{relation.name}",
                "the publication sends a table that has not been copied and is not part of the migration",
                "Take the table out of the publication, or add it to the migration's objects and copy it.",
            )
        return self._final_lsn >= mark

    def _surface(self, relation: Relation) -> None:
        previous = self._surfaced.get(relation.oid)
        self._surfaced[relation.oid] = relation
        if previous != relation:  # else it was changed and changed back before any change was kept
            self._current.steps.append(RelationStep(relation, previous))
            self._redefined = self._redefined or previous is not None

    def _segment(self) -> Segment:
        steps = self._current.steps
        if steps:
            last = steps[-1]
            if isinstance(last, Segment):
                return last
        segment = self._spare or Segment()
        self._spare = None
        steps.append(segment)
        return segment

    def _cut(self) -> Sequence[Batch]:
        """Cut the open transaction, which alone fills a batch: return what is before it, then what has come of it."""
        whole = self.flush()
        batch = self._current
        batch.last_of_transaction = False
        self._current = Batch()
        self._in_pieces = True
        return (batch,) if whole is None else (whole, batch)


def _misshapen(relation: Relation) -> ProtocolError:
    return _out_of_order(f"a row of {relation.schema}.{relation.name} has a different number of columns than its table")


def _out_of_order(why: str) -> ProtocolError:
    return ProtocolError(
        "reading the stream of changes",
        "",
        why,
        "Check that no proxy between the worker host and the source alters the stream; otherwise report this as a bug.",
    )
