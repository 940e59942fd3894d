# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The net effect of a run of changes, written to one table by a few statements over staged rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .rowwise import replay
from .staging import key_values, row_values
from .statements import COUNT, TableStatements
from .wire import binary_int8, insert_pieces, text_int, update_pieces

if TYPE_CHECKING:
    from .compaction import Compacted, UpdateGroup
    from .destination_table import DestinationTable
    from .messages import Row
    from .staging import Loader, Value
    from .tracking import Key

    OneRow = tuple[str, list[Value], bool]
    """Statement, parameters, and whether it must touch exactly one row."""

FEW = 3
"""Up to so many rows go as parameters: a staging table costs three statements."""


FEW_AT_ONCE = 12
"""Of one table, in a pipeline, where no statement waits for the answer of another."""


BYTES_AT_ONCE = 64 * 1024
"""More than the sockets take would stand in libpq's buffer, which is slow to send large things in pieces."""


@dataclass(slots=True)
class WrittenTable:
    """A table of the destination with its statements; ``binary``: its values come in binary format."""

    table: DestinationTable
    statements: TableStatements
    binary: bool


def write_compacted(loader: Loader, written: WrittenTable, compacted: Compacted) -> int:
    """Bring one table to the net effect, in the open transaction. Returns the number of conflicts.

    Raises psycopg.Error: a constraint that is in the way at this moment (a unique value that moved, a row that
    should not be there) means that nothing of it may stand.
    """
    conflicts = 0
    conflicts += len(compacted.deletes) - _delete(loader, written, compacted.deletes)
    # After the counted ones: by citext's "=" a passing key may be the first key of the same row.
    _delete(loader, written, compacted.passing)
    for group in compacted.updates:
        conflicts += _update(loader, written, group)
    conflicts += replay(loader, written.table, written.statements, compacted.rowwise)
    if compacted.removed:
        conflicts += _remove(loader, written, compacted.removed)
    insert_rows(loader, written, compacted.inserts)
    return conflicts


def replace_touched(loader: Loader, written: WrittenTable, compacted: Compacted) -> int:
    """The same where an insert may meet a row: that row goes first. Returns the number of conflicts.

    Only for tables without columns of their own. ``compacted`` comes from ``delete_then_insert`` where that had
    something to say. Raises psycopg.Error.
    """
    conflicts = 0
    conflicts += len(compacted.deletes) - _delete(loader, written, compacted.deletes)
    # After the counted ones: by citext's "=" a passing key may be the first key of the same row.
    _delete(loader, written, compacted.passing)
    for group in compacted.updates:
        conflicts += _update(loader, written, group)
    conflicts += replay(loader, written.table, written.statements, compacted.rowwise)
    key = compacted.shape.key
    if key is not None:
        # Whatever holds one of these keys now, nothing at the source did.
        met = [tuple([row.values[at] for at in key]) for row in compacted.inserts]
        conflicts += _delete(loader, written, met)
    insert_rows(loader, written, compacted.inserts)
    return conflicts


def few_statements(written: WrittenTable, compacted: Compacted) -> list[OneRow] | None:
    """The net effect as statements of one row each, when they are so few that they are sent all at once.

    None when staging is the better way, or when what one statement finds decides about the next.
    """
    table, statements = written.table, written.statements
    rows = len(compacted.deletes) + len(compacted.passing) + len(compacted.inserts)
    rows += sum([len(group.rows) for group in compacted.updates])
    if rows > FEW_AT_ONCE or compacted.rowwise or compacted.removed or not table.written:
        return None
    found: list[OneRow] = [
        (statements.delete_one(), key_values(key, written.binary), exact)
        for keys, exact in ((compacted.deletes, True), (compacted.passing, False))
        for key in keys
    ]
    for group in compacted.updates:
        if any(at in table.identities for at in group.assigned):
            return None
        text, settable = statements.update_one(group.assigned), statements.settable(group.assigned)
        found.extend(
            [
                (text, row_values(row, settable) + key_values(key, written.binary), True)
                for key, row in zip(group.keys, group.rows, strict=True)
            ]
        )
    found.extend([(statements.insert_one(), row_values(row, table.written), True) for row in compacted.inserts])
    size = sum([len(value.data) for dummy, values, dummy2 in found for value in values if value is not None])
    return None if size > BYTES_AT_ONCE else found


def insert_rows(loader: Loader, written: WrittenTable, rows: Sequence[Row]) -> None:
    """Complete new rows: straight COPY, or a few as parameters."""
    columns = written.table.written
    statements = written.statements
    if not rows:
        return
    if not columns:
        loader.run(statements.insert_empty(), [len(rows)])
    elif len(rows) <= FEW:
        for row in rows:
            loader.run(statements.insert_one(), row_values(row, columns))
    else:
        loader.send(statements.copy_in(written.binary), insert_pieces(rows, columns, written.binary))


def _delete(loader: Loader, written: WrittenTable, keys: Sequence[Key]) -> int:
    """Delete rows by key; how many there were."""
    statements = written.statements
    if len(keys) <= FEW:
        return sum([loader.run(statements.delete_one(), key_values(key, written.binary)).rowcount for key in keys])
    stage = loader.stage("delete", statements.stage_columns(True, ()), keys, written.binary)
    return loader.run(statements.delete_staged(stage)).rowcount


def _update(loader: Loader, written: WrittenTable, group: UpdateGroup) -> int:
    """Update rows by their first key; those that were not there are conflicts, and inserted where they are whole."""
    statements = written.statements
    table = written.table
    rows = group.rows
    moves_identity = any(at in table.identities for at in group.assigned)
    if len(rows) <= FEW and not moves_identity:
        missed = 0
        for key, row in zip(group.keys, rows, strict=True):
            values = row_values(row, statements.settable(group.assigned)) + key_values(key, written.binary)
            if loader.run(statements.update_one(group.assigned), values).rowcount == 0:
                missed += 1
                if b"u" not in row.kinds:
                    loader.run(statements.insert_one(), row_values(row, table.written))
        return missed
    columns = statements.stage_columns(True, group.assigned)
    pieces = update_pieces(group.keys, rows, group.assigned, written.binary)
    stage = loader.stage_pieces("update", columns, pieces, written.binary)
    found = 0
    if moves_identity:
        found += loader.run(statements.replace_staged(group.assigned, stage)).rowcount
    found += loader.run(statements.update_staged(group.assigned, stage)).rowcount
    # A row whose identity was replaced without its key is met by both statements.
    missed = max(len(rows) - found, 0)
    if missed and b"u" not in rows[0].kinds:
        loader.run(statements.insert_missing(group.assigned, stage))
    return missed


def _remove(loader: Loader, written: WrittenTable, removed: Sequence[tuple[Row, int]]) -> int:
    """Keyless: take away so many rows of each text; how many of them were not there."""
    statements = written.statements
    columns = statements.stage_columns(False, range(len(written.table.columns)))
    columns.append((COUNT, "pg_catalog.int8"))
    number = binary_int8 if written.binary else text_int
    rows = ([*row.values, number(count)] for row, count in removed)
    stage = loader.stage("remove", columns, rows, written.binary)
    return sum([count for dummy, count in removed]) - loader.run(statements.remove_counted(stage)).rowcount
