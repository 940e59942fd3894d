# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes written one by one, in the order of the source: what no set-based statement could bring about."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .messages import UNCHANGED, Change, Delete, Insert, Row, Update
from .staging import Value, row_values
from .tracking import change_keys, overlay

if TYPE_CHECKING:
    from .destination_table import DestinationTable
    from .staging import Loader
    from .statements import TableStatements


class RefusedChange(Exception):
    """The destination refused one change: its table, the hash of its key, and the driver's error as the cause."""

    def __init__(self, table: DestinationTable, change: Change) -> None:
        super().__init__(str(table))
        self.table = table
        self.kind = type(change).__name__.lower()
        self.key_hash = key_hash(change, table)


def key_hash(change: Change, table: DestinationTable) -> str:
    """Sixteen hex digits that tell rows of a table apart without telling their values."""
    row = change.new if isinstance(change, Insert) else change.old
    if row is None and isinstance(change, Update):
        row = change.new
    digest = hashlib.sha256(str(table).encode())
    if row is not None:
        for at in table.key:
            value = row.values[at]
            digest.update(b"-" if value is None else b"%d:" % len(value) + value)
    return digest.hexdigest()[:16]


def replay(loader: Loader, table: DestinationTable, statements: TableStatements, changes: Sequence[Change]) -> int:
    """Write the changes one by one. Returns the number of conflicts; raises psycopg.Error."""
    return sum([replay_one(loader, table, statements, change) for change in changes])


def replay_one(loader: Loader, table: DestinationTable, statements: TableStatements, change: Change) -> int:
    """Write one change: 1 when it was in conflict with what stands at the destination, else 0.

    Conflicts are overwritten: an insert that meets a row becomes its update, an update of no row the insert of a row
    that is known as a whole. Raises psycopg.Error.
    """
    if table.shape.key is None:
        return _replay_keyless(loader, table, statements, change)
    if isinstance(change, Insert):
        return _insert(loader, table, statements, change.new)
    if isinstance(change, Delete):
        gone = loader.run(statements.delete_one(), row_values(change.old, table.key)).rowcount
        return 1 if gone == 0 else 0
    return _update(loader, table, statements, change)


def _insert(loader: Loader, table: DestinationTable, statements: TableStatements, row: Row) -> int:
    others = tuple([at for at in range(len(table.columns)) if at not in table.key])
    values = row_values(row, statements.settable(others)) + row_values(row, table.key)
    if loader.run(statements.update_one(others), values).rowcount:
        return 1
    add_row(loader, table, statements, row)
    return 0


def add_row(loader: Loader, table: DestinationTable, statements: TableStatements, row: Row) -> None:
    """Insert one complete row. Raises psycopg.Error."""
    if table.written:
        loader.run(statements.insert_one(), row_values(row, table.written))
    else:
        loader.run(statements.insert_empty(), [1])


def _update(loader: Loader, table: DestinationTable, statements: TableStatements, change: Update) -> int:
    before, after = change_keys(change, table.key)
    new = change.new if change.old is None else overlay(change.new, change.old, table.key)
    moved = before != after
    assigned = tuple(
        [at for at in range(len(table.columns)) if new.kinds[at] != UNCHANGED and (moved or at not in table.key)]
    )
    old_key = row_values(change.new if change.old is None else change.old, table.key)
    if any(at in table.identities for at in assigned):
        found = _replace(loader, table, statements, assigned, old_key, new)
    else:
        values = row_values(new, statements.settable(assigned)) + old_key
        found = loader.run(statements.update_one(assigned), values).rowcount
    if found:
        return 0
    whole = overlay(new, change.old, None) if change.old is not None and change.old_kind == "O" else new
    if b"u" not in whole.kinds:
        _insert(loader, table, statements, whole)
    return 1


def _replace(
    loader: Loader,
    table: DestinationTable,
    statements: TableStatements,
    assigned: tuple[int, ...],
    old_key: list[Value],
    new: Row,
) -> int:
    """An update that gives an identity ALWAYS column a value, which may be the one that it has."""
    key = [None if value is None else value.data for value in old_key]
    row = [*key, *[new.values[at] for at in assigned]]
    binary = b"b" in new.kinds
    stage = loader.stage("replace", statements.stage_columns(True, assigned), [row], binary)
    found = loader.run(statements.replace_staged(assigned, stage)).rowcount
    return found or loader.run(statements.update_staged(assigned, stage)).rowcount


def _replay_keyless(loader: Loader, table: DestinationTable, statements: TableStatements, change: Change) -> int:
    if isinstance(change, Insert):
        add_row(loader, table, statements, change.new)
        return 0
    if change.old is None:
        return 1
    place = loader.run(statements.row_by_text(), row_values(change.old, table.key)).fetchone()
    if isinstance(change, Delete):
        if place is None:
            return 1
        loader.run(statements.delete_at(), [place[0]])
        return 0
    new = overlay(change.new, change.old, None)
    if place is None:
        add_row(loader, table, statements, new)
        return 1
    assigned = table.written
    loader.run(statements.update_at(assigned), [*row_values(new, statements.settable(assigned)), place[0]])
    return 0
