# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A table in memory: what the source sends when it is changed, and what statements do at the destination.

Columns: 0 key, 1 a unique value (NULL allowed), 2 plain, 3 large (values that start with ``B`` lie in TOAST), and at
the destination one more that the source does not have.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.apply.conflicts import UnexpectedRow
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes.compaction import Compacted
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes.messages import (
    Change,
    Delete,
    Insert,
    Row,
    Update,
)

OID = 16384
WIDTH = 4
UNIQUE = 1
LARGE = 3
DEFAULT = b"default of the destination"

Values = list[bytes | None]


class UniqueViolation(Exception):
    pass


def surprise(as_expected: bool) -> None:
    if not as_expected:
        raise UnexpectedRow


class Source:
    """Takes operations, drops those that PostgreSQL would refuse, and keeps the stream of the others."""

    def __init__(self, key: tuple[int, ...], full: bool, unique: bool) -> None:
        self.key = key
        self.full = full
        self.uniques = [key, (UNIQUE,)] if unique else [key]
        self.rows: list[Values] = []
        self.stream: list[Change] = []

    def insert(self, values: Values) -> None:
        if self.fits(values, None):
            self.rows.append(values)
            self.stream.append(Insert(OID, whole(values)))

    def delete(self, at: int) -> None:
        if self.rows:
            values = self.rows.pop(at % len(self.rows))
            self.stream.append(Delete(OID, *self.old(values)))

    def update(self, at: int, assigned: dict[int, bytes | None]) -> None:
        if not self.rows:
            return
        at %= len(self.rows)
        before = self.rows[at]
        after = [assigned.get(column, value) for column, value in enumerate(before)]
        if not self.fits(after, at):
            return
        self.rows[at] = after
        stored_outside = [before[c] == after[c] and (after[c] or b"").startswith(b"B") for c in range(WIDTH)]
        row = whole(after)
        kinds = bytes(ord("u") if c == LARGE and stored_outside[c] else kind for c, kind in enumerate(row.kinds))
        new = Row(kinds, [None if kind == ord("u") else value for kind, value in zip(kinds, after, strict=True)])
        key_sent = any(before[c] != after[c] or (c == LARGE and stored_outside[c]) for c in self.key)
        if self.full or key_sent:
            kind, old = self.old(before)
            self.stream.append(Update(OID, kind, old, new))
        else:
            self.stream.append(Update(OID, "", None, new))

    def exchange(self, one: int, other: int, column: int, spare: bytes) -> None:
        """Two rows swap a value by way of a spare one, as an application must when the check is immediate."""
        if self.rows and one % len(self.rows) != other % len(self.rows):
            first, second = self.rows[one % len(self.rows)][column], self.rows[other % len(self.rows)][column]
            self.update(one, {column: spare})
            self.update(other, {column: first})
            self.update(one, {column: second})

    def fits(self, values: Values, at: int | None) -> bool:
        return all(values[c] is not None for c in self.key) and not any(
            clashes(values, row, self.uniques) for n, row in enumerate(self.rows) if n != at
        )

    def old(self, values: Values) -> tuple[str, Row]:
        if self.full:
            return "O", whole(values)
        return "K", whole([value if c in self.key else None for c, value in enumerate(values)])


class Destination:
    """Statements as PostgreSQL runs them: a unique index that is immediate is checked at each row, in any order."""

    def __init__(self, source: Source, own: Sequence[bytes], order: random.Random) -> None:
        self.key = source.key
        self.uniques = source.uniques
        self.order = order
        self.rows = [[*values, own[at % len(own)]] for at, values in enumerate(source.rows)]

    def contents(self) -> list[list[bytes | None]]:
        return sorted(self.rows, key=repr)

    def replay(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if isinstance(change, Insert):
                self.insert_rows([change.new])
            elif isinstance(change, Delete):
                self.delete_keys([self.key_of(change.old.values)])
            else:
                old = change.new if change.old is None else change.old
                self.update_rows([self.key_of(old.values)], [self.told(change)])

    def told(self, change: Update) -> Row:
        """The new values, all of them where a row moves that identity FULL told."""
        if change.old_kind != "O":
            return change.new
        new = [
            old if kind == ord("u") else value
            for kind, value, old in zip(change.new.kinds, change.new.values, change.old.values, strict=True)
        ]
        moved = self.key_of(new) != self.key_of(change.old.values)
        return whole(new) if moved else change.new

    def apply(self, net: Compacted) -> None:
        """Raises Surprise where something is not as the source had it."""
        self.delete_keys(net.deletes)
        surprise(not any(self.key_of(row) in net.passing for row in self.rows))
        for group in net.updates:
            self.update_rows(group.keys, [Row(mask(row, group.assigned), row.values) for row in group.rows])
        self.replay(net.rowwise)
        self.insert_rows(net.inserts)

    def delete_keys(self, keys: Sequence[tuple[bytes | None, ...]]) -> None:
        found = [row for row in self.rows if self.key_of(row) in keys]
        surprise(len(found) == len(keys))
        self.rows = [row for row in self.rows if self.key_of(row) not in keys]

    def update_rows(self, keys: Sequence[tuple[bytes | None, ...]], rows: Sequence[Row]) -> None:
        work = []
        for key, new in zip(keys, rows, strict=True):
            found = [row for row in self.rows if self.key_of(row) == key]
            surprise(len(found) == 1)
            work.append((found[0], new))
        self.order.shuffle(work)
        for row, new in work:
            after = [row[c] if new.kinds[c] == ord("u") else new.values[c] for c in range(WIDTH)]
            self.check(after, row)
            row[:WIDTH] = after

    def insert_rows(self, rows: Sequence[Row]) -> None:
        for row in rows:
            assert b"u" not in row.kinds
            self.check(list(row.values), None)
            self.rows.append([*row.values, DEFAULT])

    def check(self, values: Values, but: Values | None) -> None:
        if any(row is not but and clashes(values, row, self.uniques) for row in self.rows):
            raise UniqueViolation

    def judged(self, changes: Sequence[Change], policy: str) -> int:
        """One change after the other, what conflicts do being decided for each; the number of conflicts."""
        conflicts = 0
        for change in changes:
            before = copy.deepcopy(self.rows)
            try:
                self.replay([change])
            except (UniqueViolation, UnexpectedRow):
                self.rows = before
                conflicts += 1
                if policy == "overwrite":
                    self.overwrite(change)
        return conflicts

    def overwrite(self, change: Change) -> None:
        """Give the source its way with a change that is in conflict."""
        if isinstance(change, Delete):
            return
        there = {self.key_of(row): row for row in self.rows}
        new = list(change.new.values)
        if isinstance(change, Insert):
            there[self.key_of(new)][:WIDTH] = new
            return
        old = change.old or change.new
        whole = change.old_kind == "O"
        for at, kind in enumerate(change.new.kinds):
            if kind == ord("u") and (whole or at in self.key):
                new[at] = old.values[at]
        known = [at for at, kind in enumerate(self.told(change).kinds) if kind != ord("u") or at in self.key]
        mine, other = there.get(self.key_of(old.values)), there.get(self.key_of(new))
        if mine is not None and other is not None:
            self.rows = [row for row in self.rows if row is not other]
        goal = mine or other
        if goal is not None:
            for at in known:
                goal[at] = new[at]
        elif len(known) == WIDTH or whole:
            self.rows.append([*new, DEFAULT])

    def key_of(self, values: Sequence[bytes | None]) -> tuple[bytes | None, ...]:
        return tuple(values[c] for c in self.key)


def whole(values: Sequence[bytes | None]) -> Row:
    return Row(bytes(ord("n") if value is None else ord("t") for value in values), list(values))


def mask(row: Row, assigned: Sequence[int]) -> bytes:
    return bytes(kind if at in assigned else ord("u") for at, kind in enumerate(row.kinds))


def clashes(one: Sequence[bytes | None], other: Sequence[bytes | None], uniques: Sequence[tuple[int, ...]]) -> bool:
    return any(all(one[c] is not None and one[c] == other[c] for c in columns) for columns in uniques)
