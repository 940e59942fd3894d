# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The conflicts of one destination transaction: counted, and reported in the timeline by table and key hash.

However many there are, each table has one event for each kind of conflict and hour, whose count rises in the
transaction of the rows themselves, so it is exact; it shows a few of the key hashes. The task's own counter counts all
conflicts.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ...state.events import begin_event, count_up_event
from ..changes.messages import Row
from .conflicts import KEEP, OVERWRITE, STOP, ConflictError
from .staging import row_values

if TYPE_CHECKING:
    from ...state.store import StateStore
    from .staging import Loader
    from .target_table import TargetTable

HASHES: Final = 10
"""The most key hashes that an event shows."""

_LOOKED_AT: Final = 3 * HASHES
"""Conflicts that are hashed for an event at most: several may be of one row."""

EVENT_LASTS: Final = 3600.0
"""Seconds after which a table's next conflict of the same kind is another event."""


@dataclass(slots=True)
class _Told:
    """An event that is written (or will be, with the transaction): its id, when it was written, hashes in it."""

    id: int
    at: float
    hashes: list[str] = field(default_factory=list)


class ConflictLog:
    """Collects the conflicts of a transaction over attempts that may be rolled back, and writes those that remain.

    ``policy`` may be set at any time.
    """

    def __init__(self, loader: Loader, store: StateStore, policy: str = OVERWRITE) -> None:
        self.policy = policy
        self._loader = loader
        self._store = store
        self._met: list[tuple[TargetTable, str, Row]] = []
        self._told: dict[tuple[str, str], _Told] = {}

    def judge(self, written: TargetTable) -> TableConflictHandler:
        """Return the handler of the conflicts of one table."""
        return TableConflictHandler(self, written)

    def met(self, written: TargetTable, kind: str, row: Row) -> None:
        """Note one conflict. Raises ConflictError where the policy is to stop."""
        if self.policy == STOP:
            found = self.hash_of(written, row)
            keyed = written.table.shape.key is not None
            look = f" Find the row at either end: {written.statements.find_by_hash(found)}." if keyed else ""
            raise ConflictError(
                "applying changes to",
                f"{written.table}, row with key hash {found}",
                f"{kind}, and conflict_policy is stop",
                f"Give that row at the destination the values that the source had before the change.{look}"
                " Then start the task again: it resumes where it stopped.",
            )
        self._met.append((written, kind, row))

    def mark(self) -> int:
        """Return where an attempt begins, for `back_to`."""
        return len(self._met)

    def back_to(self, mark: int) -> None:
        """Drop the conflicts of an attempt that was rolled back."""
        del self._met[mark:]

    def write(self) -> int:
        """Report the conflicts of the open transaction, which is about to commit; return how many there are.

        Raises psycopg.Error.
        """
        kinds: dict[tuple[str, str], list[tuple[TargetTable, Row]]] = {}
        for written, kind, row in self._met:
            kinds.setdefault((str(written.table), kind), []).append((written, row))
        for (table, kind), found in kinds.items():
            self._report(table, kind, found)
        count = len(self._met)
        self._met.clear()
        return count

    def abandon(self) -> None:
        """Forget the conflicts and events of a transaction that was rolled back."""
        self._met.clear()
        self._told.clear()

    def _report(self, table: str, kind: str, found: list[tuple[TargetTable, Row]]) -> None:
        told = self._told.get((table, kind))
        fresh = told is None or time.monotonic() - told.at > EVENT_LASTS
        hashes = [] if fresh or told is None else told.hashes
        for written, row in found[:_LOOKED_AT] if len(hashes) < HASHES else ():
            one = self.hash_of(written, row)
            if one not in hashes and len(hashes) < HASHES:
                hashes.append(one)
        detail = {"table": table, "kind": kind, "policy": self.policy, "key_hashes": hashes}
        if told is not None and not fresh:
            count_up_event(self._store, told.id, detail, len(found))
            return
        number = begin_event(self._store, "replicating", "conflict", {**detail, "count": len(found)})
        if number is not None:
            self._told[(table, kind)] = _Told(number, time.monotonic(), hashes)

    def hash_of(self, written: TargetTable, row: Row) -> str:
        """Return the hash of the row's key, computed by the destination over its output text. Raises psycopg.Error."""
        values = row_values(row, written.table.key)
        found = self._loader.run(written.statements.key_hash(), values).fetchone()
        return str(found[0]) if found else ""


@dataclass(frozen=True, slots=True)
class TableConflictHandler:
    """The handler of the conflicts of one table."""

    log: ConflictLog
    written: TargetTable

    @property
    def policy(self) -> str:
        return KEEP if self.log.policy == KEEP else OVERWRITE

    def met(self, kind: str, row: Row) -> None:
        """Count it, or raise ConflictError."""
        self.log.met(self.written, kind, row)
