# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The net effect of a run of changes on one table, so that a few set-based statements can replace many. Pure.

Compaction follows each row by the key that it had when the run began, or as born in it. A later tuple overlays the
earlier one column by column; an unchanged TOAST value keeps what was known. The statements are meant to run in the
order deletes, updates, row by row, inserts; each list holds at most one entry for any first key. Where they meet a
constraint (a unique value that moved between two rows, say), nothing of them stands: go back to the savepoint, try
``delete_then_insert``, and then ``changes`` one by one.

Which statements bring the destination to the right rows is proved by a property test against row-by-row replay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..errors import ProtocolError
from .messages import UNCHANGED, Change, Delete, Insert, Row, Update

Key = tuple[bytes | None, ...]
"""The values of the key columns, in the order of ``TableShape.key``; never None within a keyed table."""


@dataclass(frozen=True, slots=True)
class TableShape:
    """What compaction must know of a table. Positions count the columns of the Relation message.

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

    ``assigned``: positions to SET, sorted, never empty; key columns are among them exactly if ``key_changed``.
    ``keys[n]`` is the key that the row has at the destination now; ``rows[n]`` has its new values, of which those
    outside ``assigned`` mean nothing.
    """

    assigned: tuple[int, ...]
    key_changed: bool
    keys: list[Key]
    rows: list[Row]


@dataclass(frozen=True, slots=True)
class Compacted:
    """The net effect on one table. Run ``deletes``, ``updates``, ``rowwise``, ``inserts`` in this order.

    Keyed tables: ``deletes`` holds first keys, ``rowwise`` changes that must be replayed one by one in this order
    (rows whose keys or unique values were exchanged), ``inserts`` complete rows. ``passing`` are keys that rows held
    only inside the run: at the destination nothing should have them; where conflicts are overwritten, delete them
    together with ``deletes``, uncounted.

    Keyless tables: ``removed`` and ``added`` hold distinct rows and how many of each (removals first; ``passing``,
    ``deletes``, ``updates`` and ``inserts`` are empty).

    ``changes`` is the whole run in source order, for the replay of last resort.
    """

    shape: TableShape
    changes: Sequence[Change]
    deletes: list[Key] = field(default_factory=list)
    updates: list[UpdateGroup] = field(default_factory=list)
    rowwise: list[Change] = field(default_factory=list)
    inserts: list[Row] = field(default_factory=list)
    passing: list[Key] = field(default_factory=list)
    removed: list[tuple[Row, int]] = field(default_factory=list)
    added: list[tuple[Row, int]] = field(default_factory=list)


def compact(changes: Sequence[Change], shape: TableShape) -> Compacted:
    """The net effect of ``changes``, all of this table and between two barriers, in source order.

    Changes that contradict each other (a row that is born twice) are not judged here: the whole run is given back as
    ``rowwise``, and the destination tells what is wrong. Raises ProtocolError when a change lacks its key.
    """
    raise NotImplementedError


def delete_then_insert(compacted: Compacted) -> Compacted | None:
    """The same effect with every update of a completely known row as delete and insert, which no exchange of unique
    values can disturb; or None when nothing would change or the destination's own columns would be lost.
    """
    raise NotImplementedError


def row_key(row: Row, positions: tuple[int, ...]) -> Key:
    """The key values of a row. Raises ProtocolError when one of them is not known."""
    raise NotImplementedError


def change_keys(change: Change, positions: tuple[int, ...]) -> tuple[Key | None, Key | None]:
    """The key before and after a change: (None, key) for an insert, (key, None) for a delete."""
    raise NotImplementedError
