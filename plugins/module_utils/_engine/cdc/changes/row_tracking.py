# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Follow rows through a run of changes, by the keys that they hold one after the other. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from ...errors import ProtocolError
from .messages import UNCHANGED, Change, Delete, Insert, Row, Update

Key: TypeAlias = "tuple[bytes | None, ...]"
"""The values of the key columns, in the order of ``TableShape.key``; never None within a keyed table."""


def row_key(row: Row, positions: tuple[int, ...]) -> Key:
    """Return the key values of a row. Raises ProtocolError when one of them is unknown."""
    if len(positions) == 1:
        key: Key = (row.value(positions[0]),)
    else:
        values = row.values
        key = tuple([values[at] for at in positions])
    if None in key:
        raise ProtocolError(
            "reading the key of a changed row",
            "",
            "a key column came without a value",
            "Check that the replica identity of the table is still what the migration set up.",
        )
    return key


def change_keys(change: Change, positions: tuple[int, ...]) -> tuple[Key | None, Key | None]:
    """Return the key before and after a change: (None, key) for an insert, (key, None) for a delete."""
    if isinstance(change, Update):
        if change.old is None:
            key = row_key(change.new, positions)
            return key, key
        return row_key(change.old, positions), row_key(overlay(change.new, change.old, positions), positions)
    if isinstance(change, Insert):
        return None, row_key(change.new, positions)
    return row_key(change.old, positions), None


def overlay(new: Row, earlier: Row, only: tuple[int, ...] | None) -> Row:
    """Return ``new`` with its unchanged columns (all, or those among ``only``) as they were earlier."""
    if UNCHANGED not in new.kinds:
        return new
    lacks = [at for at in (range(len(new.kinds)) if only is None else only) if new.kinds[at] == UNCHANGED]
    if not lacks:
        return new
    kinds = bytearray(new.kinds)
    values = list(new.values)
    for at in lacks:
        kinds[at] = earlier.kinds[at]
        values[at] = earlier.value(at) if len(lacks) == 1 else earlier.values[at]
    return Row(bytes(kinds), values)


class TrackedRow:
    """A row in the course of the run: ``first`` is its key when the run began (None = born in it), ``key`` the present
    one, ``base`` the whole row as it first was, if identity FULL sent it, ``known`` the overlaid new tuples.
    """

    __slots__ = ("base", "first", "gone", "in_place", "key", "known")

    def __init__(self, first: Key | None, key: Key, base: Row | None, known: Row | None) -> None:
        self.first: Key | None = first
        self.key: Key = key
        self.base: Row | None = base
        self.known: Row | None = known
        self.gone: bool = False
        self.in_place: bool = False


class TrackedRun:
    """The rows of one table, followed by their keys."""

    def __init__(self, positions: tuple[int, ...]) -> None:
        self.positions: tuple[int, ...] = positions
        self.live: dict[Key, TrackedRow] = {}
        self.existing: dict[Key, TrackedRow] = {}
        self.born: list[TrackedRow] = []
        self.passed: list[Key] = []

    def follow(self, changes: Sequence[Change]) -> bool:
        """Apply the changes to the rows; return False when a change contradicts an earlier one."""
        for change in changes:
            if isinstance(change, Update):
                consistent = self._update(change)
            elif isinstance(change, Insert):
                consistent = self._insert(change)
            else:
                consistent = self._delete(change)
            if not consistent:
                return False
        return True

    def _insert(self, change: Insert) -> bool:
        key = row_key(change.new, self.positions)
        if key in self.live:
            return False
        row = TrackedRow(None, key, None, change.new)
        self.live[key] = row
        self.born.append(row)
        return True

    def _delete(self, change: Delete) -> bool:
        key = row_key(change.old, self.positions)
        row = self.live.pop(key, None)
        if row is None:
            if key in self.existing:
                return False
            row = TrackedRow(key, key, None, None)
            self.existing[key] = row
        row.gone = True
        if row.first != key:
            self.passed.append(key)
        return True

    def _update(self, change: Update) -> bool:
        old = change.old
        new = change.new
        if old is None:
            before = after = row_key(new, self.positions)
        else:
            new = overlay(new, old, self.positions)
            before = row_key(old, self.positions)
            after = row_key(new, self.positions)
        row = self.live.get(before)
        if row is None:
            if before in self.existing:
                return False
            row = TrackedRow(before, before, old if change.old_kind == "O" else None, None)
            self.existing[before] = row
            self.live[before] = row
        row.known = new if row.known is None else overlay(new, row.known, None)
        if after != before:
            if after in self.live:
                return False
            del self.live[before]
            self.live[after] = row
            row.key = after
            self.passed.append(before)
        return True

    def settle(self, may_replace: bool) -> None:
        """Decide for each row whose key changed: delete and insert where every column is known (and
        ``may_replace``), which no other row can disturb, else an update in place. Where identity FULL sent the whole
        row, either way has every column.
        """
        for row in self.existing.values():
            if row.gone or row.first == row.key or row.known is None:
                continue
            if row.base is not None:
                row.known = overlay(row.known, row.base, None)
            row.in_place = not may_replace or UNCHANGED in row.known.kinds

    def updated(self) -> list[TrackedRow]:
        """Return the rows that an UPDATE statement will touch, after ``settle``."""
        return [row for row in self.existing.values() if not row.gone and (row.in_place or row.first == row.key)]

    def collisions(self, other_uniques: Sequence[tuple[int, ...]]) -> list[tuple[TrackedRow, TrackedRow]]:
        """Return pairs of updated rows of which the first takes a key or unique value that the second still has, so
        that one statement may fail by the order in which it updates them. Unique values are known here under FULL only;
        elsewhere the destination's own error shows them.
        """
        pairs: list[tuple[TrackedRow, TrackedRow]] = []
        for row in self.existing.values():
            if row.in_place:
                holder = self.existing.get(row.key)
                if holder is not None and holder.in_place and holder is not row:
                    pairs.append((row, holder))
        for columns in other_uniques:
            self._unique_collisions(columns, pairs)
        return pairs

    def _unique_collisions(self, columns: tuple[int, ...], pairs: list[tuple[TrackedRow, TrackedRow]]) -> None:
        updated = self.updated()
        held: dict[Key, TrackedRow] = {}
        for row in updated:
            if row.base is not None:
                held[tuple([row.base.values[at] for at in columns])] = row
        if not held:
            return
        for row in updated:
            if row.known is not None:
                value = tuple([row.known.values[at] for at in columns])
                holder = held.get(value)
                if None not in value and holder is not None and holder is not row:
                    pairs.append((row, holder))


class KeyGroups:
    """The changes of a run in groups by their rows: the keys that one row held, one after the other, are one group.

    ``keys``: for each change the key before and after it; a change without either (a row of no columns) has a group of
    its own. No key occurs in two groups, so they may be written in any order.
    """

    def __init__(self, changes: Sequence[Change], keys: Sequence[tuple[Key | None, Key | None]]) -> None:
        self._changes: Sequence[Change] = changes
        self._parents: dict[Key, Key] = {}
        self._touched: list[Key] = []
        for before, after in keys:
            if before is None:
                self._touched.append(() if after is None else after)
                continue
            self._touched.append(before)
            if after is not None and before != after:
                self.join(before, after)

    def join(self, one: Key, other: Key) -> None:
        """Join the groups of two keys."""
        one = self._root(one)
        other = self._root(other)
        if one != other:
            self._parents[one] = other

    def split(self, chosen: Sequence[Key], taken: list[Change]) -> list[Change]:
        """Move the changes of every group that one of ``chosen`` belongs to into ``taken``; return the others."""
        roots = {self._root(key) for key in chosen}
        rest: list[Change] = []
        for change, key in zip(self._changes, self._touched, strict=True):
            if self._root(key) in roots:
                taken.append(change)
            else:
                rest.append(change)
        return rest

    def _root(self, key: Key) -> Key:
        parents = self._parents
        parent = parents.get(key)
        while parent is not None:
            above = parents.get(parent)
            if above is None:
                return parent
            parents[key] = above
            key, parent = above, parents.get(above)
        return key
