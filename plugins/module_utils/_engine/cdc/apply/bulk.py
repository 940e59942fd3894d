# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The net effect of a run of changes, written to one table by a few statements over staged rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...failpoints import failpoint
from ..changes.copy_format import binary_int8, insert_pieces, text_int, update_pieces
from .conflicts import StrictHandler, UnexpectedRow, expectations
from .row_by_row import replay
from .staging import key_values, row_values
from .statements import COUNT

if TYPE_CHECKING:
    from ..changes.compaction import Compacted, UpdateGroup
    from ..changes.messages import Change, Row
    from ..changes.row_tracking import Key
    from .staging import Loader, Value
    from .target_table import TargetTable

    OneRow = tuple[str, list[Value], int]
    """Statement, parameters, and how many rows it must touch."""

FEW = 3
"""Rows that are sent as parameters at most: a staging table costs three statements."""


FEW_AT_ONCE = 12
"""The same for one table in a pipeline, where no statement waits for the answer of another."""


BYTES_AT_ONCE = 64 * 1024
"""Bytes sent in a pipeline at most: what the sockets do not take waits in libpq's buffer, which sends it slowly."""


BYTES_AS_PARAMETERS = 1024 * 1024
"""Bytes of rows that are sent as parameters at most: libpq buffers those whole, and never gives that memory back; what is
sent by COPY goes in pieces."""


MOST_COLUMNS = 1600
"""PostgreSQL's limit for the columns of a table, which holds for a staging table too."""


def write_compacted(loader: Loader, written: TargetTable, compacted: Compacted, *, checked: bool = False) -> None:
    """Write the net effect on one table, in the open transaction. ``checked``: no row of it is in conflict.

    Raises psycopg.Error for a constraint that refuses it at this moment (a unique value that moved, an unexpected
    row), and UnexpectedRow where the destination does not hold what the source had; the caller then rolls all of it
    back.
    """
    if not checked and not written.table.enforced and compacted.may_meet_rows:
        raise UnexpectedRow  # no index would refuse a second row with the same key
    _require(_enough(loader, written, compacted.needed))
    _require(_delete(loader, written, compacted.deletes) == len(compacted.deletes))
    # After the others: by citext's "=" a passing key may be the first key of the same row.
    _require(_delete(loader, written, compacted.passing) == 0)
    for group in compacted.updates:
        _require(_update(loader, written, group) == len(group.rows))
    replay(loader, written, compacted.rowwise, _STRICT)
    if compacted.removed:
        _require(_remove(loader, written, compacted.removed) == sum([count for dummy, count in compacted.removed]))
    failpoint("before DML done")
    _insert(loader, written, compacted)


def encode(written: TargetTable, compacted: Compacted) -> None:
    """Encode what ``write_compacted`` will send by COPY, ahead of time, into the payloads. Raises ProtocolError."""
    for group in compacted.updates:
        if len(group.rows) > FEW:
            group.payload.extend(update_pieces(group.keys, group.rows, group.assigned, written.binary))
    columns = written.table.written
    if len(compacted.inserts) > FEW and columns:
        compacted.payload.extend(insert_pieces(compacted.inserts, columns, written.binary))


def _require(as_expected: bool) -> None:
    if not as_expected:
        raise UnexpectedRow


_STRICT = StrictHandler()


def unmet_expectations(loader: Loader, written: TargetTable, changes: Sequence[Change]) -> list[Key]:
    """Return the keys whose rows at the destination are not as a run of changes expects. Raises psycopg.Error."""
    expected = expectations(changes, written.table.shape)
    rows = [expectation.row for expectation in expected.values()]
    if not rows:
        return []
    counts = _counts(loader, written, rows)
    return [
        key
        for key, expectation, count in zip(expected, expected.values(), counts, strict=True)
        if not expectation.holds(count)
    ]


def _counts(loader: Loader, written: TargetTable, rows: Sequence[Row]) -> list[int]:
    """Return how many rows there are with each of these keys (in a keyless table: with this output text)."""
    table, statements = written.table, written.statements
    if table.shape.key is None and len(table.columns) >= MOST_COLUMNS:
        text = statements.count_by_text()
        return [int((loader.run(text, row_values(row, table.key)).fetchone() or (0,))[0]) for row in rows]
    columns = statements.stage_columns(True, ())
    columns.append((COUNT, "pg_catalog.int8"))
    number = binary_int8 if written.binary else text_int
    numbered = ([*row.values, number(n)] for n, row in enumerate(rows))
    stage = loader.stage("expect", columns, numbered, written.binary)
    counts = [0] * len(rows)
    for n, count in loader.join(statements.count_staged(stage), indexed=table.indexed).fetchall():
        counts[n] = count
    return counts


def _enough(loader: Loader, written: TargetTable, needed: Sequence[tuple[Row, int]]) -> bool:
    if not needed:
        return True
    counts = _counts(loader, written, [row for row, dummy in needed])
    return all(count >= least for count, (dummy, least) in zip(counts, needed, strict=True))


def few_statements(written: TargetTable, compacted: Compacted) -> list[OneRow] | None:
    """Return the net effect as statements of one row each, when they are few enough to be sent all at once.

    None when staging is faster, or when the result of one statement decides about the next.
    """
    table, statements = written.table, written.statements
    rows = len(compacted.deletes) + len(compacted.passing) + len(compacted.inserts)
    rows += sum([len(group.rows) for group in compacted.updates])
    if rows > FEW_AT_ONCE or compacted.rowwise or compacted.removed or compacted.needed or not table.written:
        return None
    if not table.enforced and compacted.may_meet_rows:
        return None
    found: list[OneRow] = [
        (statements.delete_one(), key_values(key, written.binary), count)
        for keys, count in ((compacted.deletes, 1), (compacted.passing, 0))
        for key in keys
    ]
    for group in compacted.updates:
        if any(at in table.identities for at in group.assigned):
            return None
        text, settable = statements.update_one(group.assigned), statements.settable(group.assigned)
        found.extend(
            [
                (text, row_values(row, settable) + key_values(key, written.binary), 1)
                for key, row in zip(group.keys, group.rows, strict=True)
            ]
        )
    found.extend([(statements.insert_one(), row_values(row, table.written), 1) for row in compacted.inserts])
    size = sum([len(value.data) for dummy, values, dummy2 in found for value in values if value is not None])
    return None if size > BYTES_AT_ONCE else found


def _as_parameters(rows: Sequence[Row], columns: Sequence[int]) -> bool:
    if len(rows) > FEW:
        return False
    values = [row.values[at] for row in rows for at in columns]
    return sum([len(value) for value in values if value is not None]) <= BYTES_AS_PARAMETERS


def _insert(loader: Loader, written: TargetTable, compacted: Compacted) -> None:
    """Insert complete new rows: by COPY straight into the table, or a few as parameters."""
    rows, columns = compacted.inserts, written.table.written
    statements = written.statements
    if not rows:
        return
    if not columns:
        loader.run(statements.insert_empty(), [len(rows)])
    elif _as_parameters(rows, columns):
        for row in rows:
            loader.run(statements.insert_one(), row_values(row, columns))
    else:
        pieces = compacted.payload or insert_pieces(rows, columns, written.binary)
        loader.send(statements.copy_in(written.binary), pieces)


def _delete(loader: Loader, written: TargetTable, keys: Sequence[Key]) -> int:
    """Delete rows by key; return how many there were."""
    statements = written.statements
    if len(keys) <= FEW:
        return sum([loader.run(statements.delete_one(), key_values(key, written.binary)).rowcount for key in keys])
    stage = loader.stage("delete", statements.stage_columns(True, ()), keys, written.binary)
    return loader.join(statements.delete_staged(stage), indexed=written.table.indexed).rowcount


def _update(loader: Loader, written: TargetTable, group: UpdateGroup) -> int:
    """Update rows by their first key; return how many there were."""
    statements = written.statements
    rows, assigned = group.rows, group.assigned
    moves_identity = any(at in written.table.identities for at in assigned)
    too_wide = len(written.table.key) + len(assigned) > MOST_COLUMNS
    if (too_wide or _as_parameters(rows, assigned)) and not moves_identity:
        text, settable = statements.update_one(assigned), statements.settable(assigned)
        one_by_one = [
            loader.run(text, row_values(row, settable) + key_values(key, written.binary)).rowcount
            for key, row in zip(group.keys, rows, strict=True)
        ]
        return sum(one_by_one)
    columns = statements.stage_columns(True, assigned)
    pieces = group.payload or update_pieces(group.keys, rows, assigned, written.binary)
    stage = loader.stage_pieces("update", columns, pieces, written.binary)
    replaced = 0
    if moves_identity:
        replaced = loader.join(statements.replace_staged(assigned, stage), indexed=written.table.indexed).rowcount
    updated = loader.join(statements.update_staged(assigned, stage), indexed=written.table.indexed).rowcount
    # A row whose identity was replaced without its key is met by both statements.
    return replaced + updated if group.key_changed else updated


def _remove(loader: Loader, written: TargetTable, removed: Sequence[tuple[Row, int]]) -> int:
    """Delete so many rows of each text from a keyless table; return how many there were."""
    statements = written.statements
    if len(written.table.columns) >= MOST_COLUMNS:
        return _remove_one_by_one(loader, written, removed)
    columns = statements.stage_columns(True, ())
    columns.append((COUNT, "pg_catalog.int8"))
    number = binary_int8 if written.binary else text_int
    rows = ([*row.values, number(count)] for row, count in removed)
    stage = loader.stage("remove", columns, rows, written.binary)
    return loader.join(statements.remove_counted(stage), indexed=False).rowcount


def _remove_one_by_one(loader: Loader, written: TargetTable, removed: Sequence[tuple[Row, int]]) -> int:
    found = 0
    for row, count in removed:
        for dummy in range(count):
            values = row_values(row, written.table.key)
            place = loader.run(written.statements.row_by_text(), values).fetchone()
            if place is not None:
                found += loader.run(written.statements.delete_at(), [place[0]]).rowcount
    return found
