# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes written one by one, in the order of the source: what no set-based statement could do, and conflicts.

The outcome of a conflict is defined here, for one change; it is one conflict however many rows it meets.

=========  =====================================================  ==================================
policy     overwrite                                              keep
=========  =====================================================  ==================================
insert     that meets a row: the row gets the source's values     the row stays as it is
update     of no row: inserted where it is known as a whole       nothing
update     to a key that another row has: it is deleted first     nothing
delete     of no row: nothing                                     nothing
=========  =====================================================  ==================================
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..changes.messages import UNCHANGED, Change, Delete, Insert, Row, Update
from ..changes.row_tracking import change_keys, overlay
from .conflicts import (
    DELETE_MISSED,
    INSERT_MET,
    KEEP,
    UPDATE_MET,
    UPDATE_MISSED,
    UPDATE_UNKNOWN,
    ConflictHandler,
)
from .staging import Value, row_values

if TYPE_CHECKING:
    from .staging import Loader
    from .target_table import TargetTable


def key_row(change: Change) -> Row:
    """Return the tuple with the key under which the destination should have the row, or gets it."""
    if isinstance(change, Insert):
        return change.new
    if change.old is not None:
        return change.old
    return change.new


def replay(loader: Loader, written: TargetTable, changes: Sequence[Change], judge: ConflictHandler) -> None:
    """Write the changes one by one. Raises psycopg.Error, and what the judge raises."""
    for change in changes:
        replay_one(loader, written, change, judge)


def replay_one(loader: Loader, written: TargetTable, change: Change, judge: ConflictHandler) -> None:
    """Write one change, or what remains of it after a conflict. Raises psycopg.Error, and what the judge raises."""
    if written.table.shape.key is None:
        _replay_keyless(loader, written, change, judge)
    elif isinstance(change, Insert):
        if _there(loader, written, change.new):
            judge.met(INSERT_MET, change.new)
            if judge.policy != KEEP:
                _overwrite(loader, written, change.new)
        else:
            add_row(loader, written, change.new)
    elif isinstance(change, Delete):
        values = row_values(change.old, written.table.key)
        if loader.run(written.statements.delete_one(), values).rowcount == 0:
            judge.met(DELETE_MISSED, change.old)
    else:
        _update(loader, written, change, judge)


def add_row(loader: Loader, written: TargetTable, row: Row) -> None:
    """Insert one complete row. Raises psycopg.Error."""
    if written.table.written:
        loader.run(written.statements.insert_one(), row_values(row, written.table.written))
    else:
        loader.run(written.statements.insert_empty(), [1])


def _there(loader: Loader, written: TargetTable, row: Row) -> bool:
    found = loader.run(written.statements.update_one(()), row_values(row, written.table.key))
    return found.rowcount > 0


def _overwrite(loader: Loader, written: TargetTable, row: Row) -> None:
    """Give the row that has this key the values that are known."""
    key = written.table.key
    assigned = tuple([at for at in range(len(written.table.columns)) if at not in key and row.kinds[at] != UNCHANGED])
    _set(loader, written, assigned, row_values(row, key), row)


def _set(loader: Loader, written: TargetTable, assigned: tuple[int, ...], old_key: list[Value], new: Row) -> int:
    """Give the row with this key its new values; return how many rows there were."""
    if any(at in written.table.identities for at in assigned):
        return _replace(loader, written, assigned, old_key, new)
    values = row_values(new, written.statements.settable(assigned)) + old_key
    return loader.run(written.statements.update_one(assigned), values).rowcount


def _update(loader: Loader, written: TargetTable, change: Update, judge: ConflictHandler) -> None:
    table, statements = written.table, written.statements
    before, after = change_keys(change, table.key)
    moved = before != after
    new = change.new
    if change.old is not None:
        # a row that moves gets every column that is known, as it does where a run is written as a whole
        new = overlay(new, change.old, None if moved and change.old_kind == "O" else table.key)
    assigned = tuple(
        [at for at in range(len(table.columns)) if new.kinds[at] != UNCHANGED and (moved or at not in table.key)]
    )
    old_key = row_values(change.new if change.old is None else change.old, table.key)
    in_the_way = moved and loader.run(statements.key_taken(), row_values(new, table.key) + old_key).rowcount > 0
    if not in_the_way:
        if _set(loader, written, assigned, old_key, new):
            return
        whole = overlay(new, change.old, None) if change.old is not None and change.old_kind == "O" else new
        known = UNCHANGED not in whole.kinds
        judge.met(UPDATE_MISSED if known else UPDATE_UNKNOWN, key_row(change))
        if known and judge.policy != KEEP:
            add_row(loader, written, whole)
        return
    judge.met(UPDATE_MET, new)
    if judge.policy == KEEP:
        return
    if _there(loader, written, key_row(change)):
        loader.run(statements.delete_one(), row_values(new, table.key))
        _set(loader, written, assigned, old_key, new)
    else:
        _overwrite(loader, written, new)


def _replace(loader: Loader, written: TargetTable, assigned: tuple[int, ...], old_key: list[Value], new: Row) -> int:
    """Update a row whose identity ALWAYS column gets a value, perhaps its present one; return how many there were."""
    statements = written.statements
    key = [None if value is None else value.data for value in old_key]
    row = [*key, *[new.values[at] for at in assigned]]
    stage = loader.stage("replace", statements.stage_columns(True, assigned), [row], written.binary)
    found = loader.run(statements.replace_staged(assigned, stage)).rowcount
    return found or loader.run(statements.update_staged(assigned, stage)).rowcount


def _replay_keyless(loader: Loader, written: TargetTable, change: Change, judge: ConflictHandler) -> None:
    if isinstance(change, Insert):
        add_row(loader, written, change.new)
        return
    table, statements = written.table, written.statements
    old = key_row(change)
    place = loader.run(statements.row_by_text(), row_values(old, table.key)).fetchone()
    if isinstance(change, Delete):
        if place is None:
            judge.met(DELETE_MISSED, old)
        else:
            loader.run(statements.delete_at(), [place[0]])
        return
    new = overlay(change.new, old, None)
    if place is not None and table.identities and not table.kept:
        loader.run(statements.delete_at(), [place[0]])  # such a column can be given in an INSERT and never SET
        add_row(loader, written, new)
        return
    if place is not None:
        values = row_values(new, statements.settable(table.written))
        loader.run(statements.update_at(table.written), [*values, place[0]])
        return
    judge.met(UPDATE_MISSED, old)
    if judge.policy != KEEP:
        add_row(loader, written, new)
