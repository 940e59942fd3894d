# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The net effect of a segment on each of its tables; that of the next batch is computed while the destination is busy.

Preparing uses the tables as they are now. Where a Relation has changed one before its segment is written, the effect is
computed again.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from ...errors import ProtocolError
from ..changes.batches import Batch, Segment
from ..changes.compaction import Compacted, compact
from ..changes.messages import Delete
from .bulk import encode

if TYPE_CHECKING:
    from ..changes.messages import Change
    from .target_table import TargetTable

    Work = list[tuple[TargetTable, Compacted]]


_ENCODED: Final = 24 * 1024 * 1024
"""Bytes of a batch that are encoded ahead at most: one that holds a huge value would take its memory twice."""


class Preparer:
    """Computes net effects. ``tables``, by relation OID, belongs to `TargetTables` and may change between two calls.

    One thread may call ``prepare`` while another calls ``work``, for different batches.
    """

    def __init__(self, tables: Mapping[int, TargetTable]) -> None:
        self._tables = tables
        self._prepared: dict[int, _Prepared] = {}

    def prepare(self, batch: Batch) -> None:
        """Compute what is possible for a complete batch. Contradictory changes are left to ``work``, which raises."""
        for step in batch.steps:
            if isinstance(step, Segment):
                prepared = _Prepared(step, step.by_table())
                for oid, changes in prepared.changes.items():
                    written = self._tables.get(oid)
                    if written is not None and _fits(changes[0], written):
                        with suppress(ProtocolError):
                            effect = compact(changes, written.table.shape)
                            if batch.size <= _ENCODED:
                                encode(written, effect)
                            prepared.effects[oid] = written, effect
                self._prepared[id(step)] = prepared

    def work(self, segment: Segment) -> Work:
        """Return the net effect on each table, in the order of the segment's first changes. Raises ProtocolError."""
        prepared = self._prepared.pop(id(segment), None) or _Prepared(segment, segment.by_table())
        work: Work = []
        for oid, changes in prepared.changes.items():
            written = self._tables[oid]
            table, effect = prepared.effects.get(oid, (None, None))
            if effect is None or table is not written:
                try:
                    effect = compact(changes, written.table.shape)
                except ProtocolError as exc:
                    raise ProtocolError(exc.doing, str(written.table), exc.why, exc.remedy) from exc
            work.append((written, effect))
        return work


def _fits(change: Change, written: TargetTable) -> bool:
    """Return whether the rows, all of one width in a segment, have the width of the table as it is known now."""
    row = change.old if isinstance(change, Delete) else change.new
    return len(row.kinds) == written.table.shape.columns


class _Prepared:
    """What was computed for a segment. It holds the segment, so that no other object gets the same id."""

    def __init__(self, segment: Segment, changes: dict[int, list[Change]]) -> None:
        self.segment = segment
        self.changes = changes
        self.effects: dict[int, tuple[TargetTable, Compacted]] = {}
