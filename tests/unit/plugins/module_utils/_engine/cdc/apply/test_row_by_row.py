# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Under which tuple the destination should have a row."""

from __future__ import annotations

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.apply.row_by_row import key_row
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes.messages import (
    Delete,
    Insert,
    Row,
    Update,
)

OLD, NEW = Row(b"tn", [b"1", None]), Row(b"tt", [b"2", b"x"])


def test_an_inserted_row_is_found_by_its_new_key() -> None:
    assert key_row(Insert(1, NEW)) is NEW


def test_a_removed_row_is_found_by_its_old_key() -> None:
    assert key_row(Delete(1, "K", OLD)) is OLD
    assert key_row(Delete(1, "O", OLD)) is OLD


def test_a_changed_row_is_found_by_the_old_key_where_one_came() -> None:
    assert key_row(Update(1, "K", OLD, NEW)) is OLD
    assert key_row(Update(1, "O", OLD, NEW)) is OLD
    assert key_row(Update(1, "", None, NEW)) is NEW
