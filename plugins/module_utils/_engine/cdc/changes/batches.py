# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The content of one destination transaction, or of a part of it: changes of rows, and the steps between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from ...postgres.lsn import NO_LSN, Lsn
from .messages import Change, Insert, Relation, Update

OBJECTS: Final = 256
"""Bytes that a decoded change costs beyond its values; a value, small as most are, costs about twice its size."""


class Segment:
    """Changes between two barriers, in source order, of any tables."""

    # Like the messages, and for the same reason, no dataclass: compiled, its attributes would be looked up by name.
    __slots__ = ("changes",)

    def __init__(self, changes: list[Change] | None = None) -> None:
        self.changes: list[Change] = [] if changes is None else changes

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Segment) and self.changes == other.changes

    def __hash__(self) -> int:
        return hash(tuple(self.changes))

    def __repr__(self) -> str:
        return f"Segment({self.changes!r})"

    def by_table(self) -> dict[int, list[Change]]:
        """Return the changes by relation OID, each list in source order."""
        tables: dict[int, list[Change]] = {}
        for change in self.changes:
            found = tables.get(change.relation_oid)
            if found is None:
                tables[change.relation_oid] = [change]
            else:
                found.append(change)
        return tables


@dataclass(frozen=True, slots=True)
class RelationStep:
    """The table's description from here on: its first (``previous`` is None), or a changed one."""

    relation: Relation
    previous: Relation | None


@dataclass(frozen=True, slots=True)
class TruncateStep:
    """TRUNCATE of exactly these tables: those of the message whose mark lies at or before its commit."""

    relations: tuple[Relation, ...]
    restart_identity: bool


@dataclass(frozen=True, slots=True)
class EmptyStep:
    """TRUNCATE of a table of which only these ranges of a key had been copied before it (`part_marks`)."""

    relation: Relation
    column: str
    type_oid: int
    ranges: tuple[tuple[int | None, int | None], ...]


Step: TypeAlias = "Segment | RelationStep | TruncateStep | EmptyStep"


@dataclass(frozen=True, slots=True)
class SystemChange:
    """A change of one of the engine's own tables at the source (heartbeat, markers)."""

    relation: Relation
    change: Change
    final_lsn: Lsn


class Batch:
    """Work for the destination, in ``steps``.

    ``last_of_transaction``: the destination transaction may commit after this batch, and ``end_lsn`` (the commit END
    LSN of the last source transaction in it) becomes the applied position; otherwise ``end_lsn`` is 0 and the next
    batch goes into the same destination transaction. ``steps`` may be empty: transactions of which nothing is applied
    still move the position. ``size`` is in bytes of messages.
    ``inserts`` … ``truncates`` count what is kept, ``filtered`` what the marks left out (the copy has it), ``system``
    holds changes of the engine's own tables, ``markers`` the contents of messages in the shape of a marker (any role at
    the source may send some). ``commit_time_us`` is the last commit's, 0 when there is none.
    """

    __slots__ = (
        "commit_time_us",
        "deletes",
        "end_lsn",
        "filtered",
        "inserts",
        "last_of_transaction",
        "markers",
        "size",
        "steps",
        "system",
        "transactions",
        "truncates",
        "updates",
    )

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.system: list[SystemChange] = []
        self.markers: list[str] = []
        self.last_of_transaction: bool = True
        self.end_lsn: Lsn = NO_LSN
        self.commit_time_us: int = 0
        self.transactions: int = 0
        self.size: int = 0
        self.inserts: int = 0
        self.updates: int = 0
        self.deletes: int = 0
        self.truncates: int = 0
        self.filtered: int = 0

    @property
    def changes(self) -> int:
        """The number of changed rows."""
        return self.inserts + self.updates + self.deletes

    @property
    def weight(self) -> int:
        """The memory that the batch takes, in bytes, estimated."""
        return 2 * self.size + OBJECTS * (self.inserts + self.updates + self.deletes)

    def count(self, change: Change, size: int) -> None:
        """Count a change that is kept, which came in ``size`` bytes."""
        if isinstance(change, Update):
            self.updates += 1
        elif isinstance(change, Insert):
            self.inserts += 1
        else:
            self.deletes += 1
        self.size += size

    def absorb(self, batch: Batch) -> Segment | None:
        """Append the transaction in ``batch`` to those in here, and leave ``batch`` empty, ready for the next.

        Returns a segment that is no longer used, if there is one.
        """
        steps = batch.steps
        spare: Segment | None = None
        if steps and self.steps:
            last = self.steps[-1]
            first = steps[0]
            if isinstance(last, Segment) and isinstance(first, Segment):
                last.changes.extend(first.changes)
                first.changes.clear()
                spare = first
                steps = steps[1:]
        self.steps.extend(steps)
        self.system.extend(batch.system)
        self.markers.extend(batch.markers)
        self.end_lsn = batch.end_lsn
        self.commit_time_us = batch.commit_time_us
        self.transactions += batch.transactions
        self.size += batch.size
        self.inserts += batch.inserts
        self.updates += batch.updates
        self.deletes += batch.deletes
        self.truncates += batch.truncates
        self.filtered += batch.filtered
        batch.steps.clear()
        batch.system.clear()
        batch.markers.clear()
        batch.transactions = batch.size = batch.inserts = batch.updates = batch.deletes = 0
        batch.truncates = batch.filtered = batch.commit_time_us = 0
        batch.end_lsn = NO_LSN
        return spare
