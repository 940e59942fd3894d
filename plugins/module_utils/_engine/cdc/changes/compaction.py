# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The net effect of a run of changes on one table, so that a few set-based statements can replace many. Pure.

Compaction follows each row by the key that it had when the run began, or as born in it. A later tuple overlays the
earlier one column by column; an unchanged TOAST value keeps what was known. The statements are meant to run in the
order deletes, updates, row by row, inserts; each list holds at most one entry for any first key. Where a constraint
refuses them (a unique value that moved between two rows, say), the caller rolls back to the savepoint, and tries
``delete_then_insert``, and then ``changes`` one by one.

That the statements bring the destination to the right rows is proved by a property test against row-by-row replay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from ...errors import ProtocolError
from .messages import UNCHANGED, Change, Delete, Insert, Row, Update
from .row_tracking import Key, KeyGroups, TrackedRun, change_keys, overlay

_MASK: Final = bytes([UNCHANGED if byte == UNCHANGED else 0x6B for byte in range(256)])
"""Translates kinds: ``u`` stays, every other becomes ``k``, a column whose value is known."""


@dataclass(frozen=True, slots=True)
class TableShape:
    """What compaction needs of a table. Positions count the columns of the Relation message.

    ``key``: see ``keys.table_key``; None = keyless, matched by the whole row. ``destination_has_own_columns``: it has
    columns that the source does not send, so a row may not be replaced by delete and insert unless the source did so.
    ``other_uniques``: see ``keys.other_uniques``.
    """

    relation_oid: int
    columns: int
    key: tuple[int, ...] | None
    destination_has_own_columns: bool = False
    other_uniques: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class UpdateGroup:
    """Updates that set the same columns, for one statement.

    ``assigned``: positions to SET, sorted; key columns are among them exactly if ``key_changed``. Empty where only key
    columns came, the same as before: then the rows must exist, and nothing is set.
    ``keys[n]`` is the key that the row has at the destination now; ``rows[n]`` has its new values, of which those
    outside ``assigned`` mean nothing. ``payload`` is what COPY sends to stage them, where it was encoded ahead of time.
    """

    assigned: tuple[int, ...]
    key_changed: bool
    keys: list[Key]
    rows: list[Row]
    payload: list[bytes] = field(default_factory=list, compare=False)


@dataclass(frozen=True, slots=True)
class Compacted:
    """The net effect on one table. Run ``deletes``, ``updates``, ``rowwise``, ``inserts`` in this order.

    Keyed tables: ``deletes`` holds first keys, ``rowwise`` changes that must be replayed one by one in this order
    (rows whose keys or unique values were exchanged), ``inserts`` complete rows. ``passing`` are keys that rows held
    only inside the run: at the destination no row may have them.

    Keyless tables: ``removed`` holds distinct whole rows and how many of each to delete, before ``inserts``, in which a
    row occurs as often as it is to be added; ``deletes``, ``updates`` and ``passing`` are empty. Rows are distinguished
    by their bytes, which is exact: the source removes the very bytes that it stored. ``needed`` are rows of which more
    were deleted at some moment than in the end: so many must exist at the beginning.

    A run whose statements touch exactly as many rows as named met no conflict, however the stream was cut into batches.

    ``changes`` is the whole run in source order, for the replay of last resort. ``payload`` is what COPY sends for the
    inserts, where it was encoded ahead of time.
    """

    shape: TableShape
    changes: Sequence[Change]
    deletes: list[Key] = field(default_factory=list)
    updates: list[UpdateGroup] = field(default_factory=list)
    rowwise: list[Change] = field(default_factory=list)
    inserts: list[Row] = field(default_factory=list)
    passing: list[Key] = field(default_factory=list)
    removed: list[tuple[Row, int]] = field(default_factory=list)
    needed: list[tuple[Row, int]] = field(default_factory=list)
    payload: list[bytes] = field(default_factory=list, compare=False)

    @property
    def may_meet_rows(self) -> bool:
        """Whether a row is inserted into a keyed table, or moves to another key."""
        return self.shape.key is not None and (
            len(self.inserts) > 0 or any(group.key_changed for group in self.updates)
        )


def compact(changes: Sequence[Change], shape: TableShape) -> Compacted:
    """Return the net effect of ``changes``, all of this table and between two barriers, in source order.

    Changes that contradict each other (a row that is born twice) are not judged here: the whole run is returned as
    ``rowwise``, and the destination reports what is wrong. Raises ProtocolError when a change lacks its key.
    """
    result = Compacted(shape, changes)
    rows = _only_inserts(changes)
    if rows is not None:
        result.inserts.extend(rows)
    elif shape.key is None:
        _compact_keyless(changes, shape, result)
    else:
        _compact_keyed(changes, shape, shape.key, result)
    return result


def delete_then_insert(compacted: Compacted) -> Compacted | None:
    """Return the same effect with every update of a completely known row as delete and insert, which no exchange of
    unique values can disturb; None when nothing would change or the destination's own columns would be lost.
    """
    if compacted.shape.destination_has_own_columns:
        return None
    result = Compacted(
        compacted.shape,
        compacted.changes,
        deletes=list(compacted.deletes),
        rowwise=compacted.rowwise,
        inserts=list(compacted.inserts),
        passing=compacted.passing,
        removed=compacted.removed,
        needed=compacted.needed,
    )
    replaced = False
    for group in compacted.updates:
        if UNCHANGED in group.rows[0].kinds:
            result.updates.append(group)
        else:
            replaced = True
            result.deletes.extend(group.keys)
            result.inserts.extend(group.rows)
    return result if replaced else None


def _only_inserts(changes: Sequence[Change]) -> list[Row] | None:
    rows: list[Row] = []
    for change in changes:
        if not isinstance(change, Insert):
            return None
        rows.append(change.new)
    return rows


def _compact_keyed(changes: Sequence[Change], shape: TableShape, positions: tuple[int, ...], result: Compacted) -> None:
    run = TrackedRun(positions)
    if not run.follow(changes):
        result.rowwise.extend(changes)
        return
    run.settle(not shape.destination_has_own_columns)
    pairs = run.collisions(shape.other_uniques)
    if pairs:
        families = KeyGroups(changes, [change_keys(change, positions) for change in changes])
        for row, holder in pairs:
            families.join(row.key, holder.key)
        rest = families.split([row.key for row, dummy in pairs], result.rowwise)
        run = TrackedRun(positions)
        run.follow(rest)
        run.settle(not shape.destination_has_own_columns)
    _write(run, result)


def _write(run: TrackedRun, result: Compacted) -> None:
    groups: dict[tuple[bool, bytes], UpdateGroup] = {}
    # In the order of the key: the pages that the destination reads and writes for a batch are closer together then.
    for first in sorted(run.existing):
        row = run.existing[first]
        if row.gone or row.known is None:
            result.deletes.append(first)
        elif row.in_place or row.key == first:
            _group(groups, first, row.known, row.in_place, run.positions)
        else:
            result.deletes.append(first)
            result.inserts.append(row.known)
    result.updates.extend(groups.values())
    for row in run.born:
        if not row.gone and row.known is not None:
            result.inserts.append(row.known)
    result.passing.extend([key for key in dict.fromkeys(run.passed) if key not in run.existing and key not in run.live])


def _group(
    groups: dict[tuple[bool, bytes], UpdateGroup], first: Key, row: Row, moved: bool, positions: tuple[int, ...]
) -> None:
    mask = row.kinds.translate(_MASK)
    group = groups.get((moved, mask))
    if group is None:
        assigned = [at for at in range(len(mask)) if mask[at] != UNCHANGED and (moved or at not in positions)]
        group = UpdateGroup(tuple(assigned), moved, [], [])
        groups[(moved, mask)] = group
    group.keys.append(first)
    group.rows.append(row)


def _compact_keyless(changes: Sequence[Change], shape: TableShape, result: Compacted) -> None:
    if shape.destination_has_own_columns and any(isinstance(change, Update) for change in changes):
        result.rowwise.extend(changes)
        return
    counts: dict[Key, int] = {}
    lowest: dict[Key, int] = {}
    samples: dict[Key, Row] = {}
    for change in changes:
        before, after = whole_rows(change)
        if before is not None:
            values = tuple(before.values)
            count = counts.get(values, 0) - 1
            counts[values] = count
            lowest[values] = min(lowest.get(values, 0), count)
            samples[values] = before
        if after is not None:
            values = tuple(after.values)
            counts[values] = counts.get(values, 0) + 1
            samples[values] = after
    for values, count in counts.items():
        if count < 0:
            result.removed.append((samples[values], -count))
        elif count > 0:
            result.inserts.extend([samples[values]] * count)
        least = lowest.get(values, 0)
        if least < min(count, 0):
            result.needed.append((samples[values], -least))


def whole_rows(change: Change) -> tuple[Row | None, Row | None]:
    """Return a keyless table's row before and after a change. Raises ProtocolError where the source did not send it."""
    if isinstance(change, Insert):
        return None, change.new
    old = _whole(change.old, change.old_kind)
    if isinstance(change, Delete):
        return old, None
    return old, overlay(change.new, old, None)


def _whole(old: Row | None, old_kind: str) -> Row:
    if old is None or old_kind != "O" or UNCHANGED in old.kinds:
        raise ProtocolError(
            "reading a changed row of a table without key",
            "",
            "the source did not send the whole old row",
            "Set REPLICA IDENTITY FULL on the table, or give it a primary key.",
        )
    return old
