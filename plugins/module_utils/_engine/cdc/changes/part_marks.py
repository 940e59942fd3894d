# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A table whose ranges of a key were copied under several snapshot LSNs (marks), and its changes between these. Pure.

The rule of exactness holds for each row by itself: for the old row by the mark of its part, for the new one by that of
its own. An update that leaves a part that was copied before it, for one that was copied after it, is only a delete: the
copy of the other part has the new row. The other way round it is only an insert. From the newest mark on all parts
agree.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from ...errors import MismatchError, ProtocolError
from ...postgres.key_order import from_binary, from_text
from ...postgres.lsn import Lsn
from .batches import EmptyStep
from .messages import BINARY, UNCHANGED, Change, Delete, Insert, Relation, Row
from .row_tracking import overlay


@dataclass(frozen=True, slots=True)
class PartMarks:
    """The marks of a table's parts: ``marks[n]`` holds for the values of ``column`` from ``cuts[n - 1]`` up to but not
    including ``cuts[n]``, as `key_order` has them; the first range has no lower bound and the last no upper bound.
    """

    column: str
    type_oid: int
    cuts: tuple[int, ...]
    marks: tuple[Lsn, ...]

    def mark_of(self, value: int) -> Lsn:
        """Return the mark of the part that a row with this value belongs to."""
        return self.marks[bisect_right(self.cuts, value)]

    def reached(self, position: Lsn) -> tuple[tuple[int | None, int | None], ...]:
        """Return the ranges whose mark is at or below a position."""
        lows: Sequence[int | None] = (None, *self.cuts)
        highs: Sequence[int | None] = (*self.cuts, None)
        return tuple([(low, high) for low, high, mark in zip(lows, highs, self.marks, strict=True) if mark <= position])


def part_marks(column: str, type_oid: int, ranges: Sequence[tuple[int | None, int | None, Lsn]]) -> PartMarks | None:
    """Return the ranges of a table in ascending order, joined where marks are the same; None where all are: one mark
    then suffices. The ranges follow each other without a gap, from None to None; raises ValueError where they do not.
    """
    cuts: list[int] = []
    marks: list[Lsn] = []
    end: int | None = None
    for number, (low, high, mark) in enumerate(ranges):
        if low != end or (low is None) != (number == 0):
            raise ValueError("the parts of a table leave a gap")
        end = high
        if marks and marks[-1] == mark:
            continue
        if low is not None:
            cuts.append(low)
        marks.append(mark)
    if not marks or end is not None:
        raise ValueError("the parts of a table have no end")
    return PartMarks(column, type_oid, tuple(cuts), tuple(marks)) if cuts else None


def routed(change: Change, relation: Relation, parts: PartMarks, final_lsn: Lsn) -> Change | None:
    """Return what of a change is still to be applied, where its transaction's commit record lies at ``final_lsn``.

    Raises ProtocolError for a malformed value, MismatchError where the stream lacks what is needed.
    """
    at = _position(relation, parts)
    if isinstance(change, Insert):
        return change if _reaches(change.new, at, parts, final_lsn) else None
    if isinstance(change, Delete):
        return change if _reaches(change.old, at, parts, final_lsn) else None
    old = change.old
    if old is None:  # the key has not changed
        return change if _reaches(change.new, at, parts, final_lsn) else None
    new = overlay(change.new, old, (at,))
    leaves = _reaches(old, at, parts, final_lsn)
    enters = _reaches(new, at, parts, final_lsn)
    if leaves and enters:
        return change
    if leaves:
        return Delete(change.relation_oid, change.old_kind, old)
    if not enters:
        return None
    whole = overlay(new, old, None) if change.old_kind == "O" else new
    if UNCHANGED in whole.kinds:
        raise _unknown(relation, "an update moved a row between its parts, and not every column of it came")
    return Insert(change.relation_oid, whole)


def truncated(relation: Relation, parts: PartMarks, final_lsn: Lsn) -> EmptyStep | None:
    """Return what a TRUNCATE below the newest mark empties; None where all was copied after it."""
    _position(relation, parts)
    ranges = parts.reached(final_lsn)
    return EmptyStep(relation, parts.column, parts.type_oid, ranges) if ranges else None


def _position(relation: Relation, parts: PartMarks) -> int:
    for at, column in enumerate(relation.columns):
        if column.name == parts.column and column.type_oid == parts.type_oid:
            return at
    raise _unknown(relation, f"column {parts.column}, by which it was copied in parts, has changed")


def _reaches(row: Row, at: int, parts: PartMarks, final_lsn: Lsn) -> bool:
    data = row.value(at)
    if data is None:
        raise ProtocolError(
            "reading the key of a changed row",
            "",
            f"column {parts.column}, by which the table was copied in parts, came without a value",
            "Copy the table again: run the full_copy role with the table in causeway_resync.",
        )
    read = from_binary if row.kinds[at] == BINARY else from_text
    return final_lsn >= parts.mark_of(read(parts.type_oid, data))


def _unknown(relation: Relation, why: str) -> MismatchError:
    return MismatchError(
        "reading the stream of changes",
        f"{relation.schema}.{relation.name}",
        why,
        "Copy the table again: run the full_copy role with the table in causeway_resync.",
    )
