# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows that the destination does not hold as the source had them: an update or delete that touches no row, an insert
that meets one. What the source's changes expect to find, and which of them cannot have found it. Pure.

A conflict is decided change by change, in the order of the source, so that the result does not depend on where the
stream was cut: a run written at once verifies what it found (`UnexpectedRow`), and the changes of rows that are not as
expected are replayed one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from ...errors import EngineError
from ..changes.compaction import TableShape, whole_rows
from ..changes.messages import Change, Row
from ..changes.row_tracking import Key, KeyGroups, change_keys

OVERWRITE: Final = "overwrite"
KEEP: Final = "keep"
STOP: Final = "stop"
POLICIES: Final = (OVERWRITE, KEEP, STOP)

INSERT_MET: Final = "insert met a row"
UPDATE_MET: Final = "update to a key that another row has"
UPDATE_MISSED: Final = "update found no row"
UPDATE_UNKNOWN: Final = "update found no row, and without its large values it cannot be written"
DELETE_MISSED: Final = "delete found no row"


class ConflictError(EngineError):
    """A conflict under the policy stop."""

    code = "conflict"


class UnexpectedRow(Exception):
    """A row is not at the destination as the source had it."""


class ConflictHandler(Protocol):
    """Decides what is done about a conflict."""

    @property
    def policy(self) -> str:
        """``overwrite`` or ``keep``; under ``stop`` it is never read, since ``met`` raises."""

    def met(self, kind: str, row: Row) -> None:
        """Handle one conflict of a change; ``row`` holds the key by which it was found."""


class StrictHandler:
    """The handler for a run that is written as a whole: any conflict ends the attempt."""

    policy = STOP

    def met(self, kind: str, row: Row) -> None:
        """Raise UnexpectedRow."""
        raise UnexpectedRow


@dataclass(frozen=True, slots=True)
class Expectation:
    """How many rows with this key must exist when the run begins: ``least`` or more, ``most`` or fewer."""

    row: Row
    least: int
    most: int

    def holds(self, count: int) -> bool:
        return self.least <= count <= self.most


_ANY: Final = 1 << 62


def expectations(changes: Sequence[Change], shape: TableShape) -> dict[Key, Expectation]:
    """Return what a run expects of every key that it touches (of every distinct row, in a keyless table)."""
    return _of_rows(changes) if shape.key is None else _of_keys(changes, shape.key)


def _of_keys(changes: Sequence[Change], positions: tuple[int, ...]) -> dict[Key, Expectation]:
    found: dict[Key, Expectation] = {}
    for change in changes:
        before, after = change_keys(change, positions)
        if before is not None and before not in found:
            found[before] = Expectation(_keyed(before, positions), 1, 1)
        if after is not None and after not in found:
            found[after] = Expectation(_keyed(after, positions), 0, 0)
    return found


def _keyed(key: Key, positions: tuple[int, ...]) -> Row:
    """Return a row of the key columns alone, in key order: the query needs no others."""
    return Row(b"k" * len(positions), key)


def _of_rows(changes: Sequence[Change]) -> dict[Key, Expectation]:
    counts: dict[Key, int] = {}
    found: dict[Key, Expectation] = {}
    for change in changes:
        before, after = whole_rows(change)
        if before is not None:
            key = tuple(before.values)
            counts[key] = counts.get(key, 0) - 1
            known = found.get(key)
            if known is None or -counts[key] > known.least:
                found[key] = Expectation(before, max(-counts[key], 0), _ANY)
        if after is not None:
            key = tuple(after.values)
            counts[key] = counts.get(key, 0) + 1
    return found


def split_conflicting(
    changes: Sequence[Change], shape: TableShape, disappointed: Sequence[Key], tangled: list[Change]
) -> list[Change]:
    """Move to ``tangled`` every change of a row that is or will be in conflict, given the keys whose expectation does
    not hold; return the others, which touch none of the same keys.
    """
    if shape.key is None:
        keys = [_row_keys(change) for change in changes]
    else:
        positions = shape.key
        keys = [change_keys(change, positions) for change in changes]
    return KeyGroups(changes, keys).split(disappointed, tangled)


def _row_keys(change: Change) -> tuple[Key | None, Key | None]:
    before, after = whole_rows(change)
    return None if before is None else tuple(before.values), None if after is None else tuple(after.values)
