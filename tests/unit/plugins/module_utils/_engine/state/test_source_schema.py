# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is made and dropped of the bookkeeping at the source, over who else uses it."""

from __future__ import annotations

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.state.source_schema import (
    Bookkeeping,
    drop_changes,
    make_changes,
)


def statements(changes: list) -> list[str]:
    return [" ".join(s.as_string(None).split()[:3]) for change in changes for s in change.statements]


@pytest.mark.parametrize(
    ("found", "made"),
    [
        (Bookkeeping(False, 0, 0, frozenset()), ["CREATE SCHEMA", "CREATE TABLE", "INSERT INTO"]),
        (Bookkeeping(True, 0, 8, frozenset()), ["CREATE TABLE", "INSERT INTO"]),
        (Bookkeeping(True, 9, 0, frozenset({"other"})), ["INSERT INTO"]),
        (Bookkeeping(True, 9, 0, frozenset({"mine"})), []),
    ],
)
def test_only_what_is_missing_is_made(found: Bookkeeping, made: list[str]) -> None:
    assert [" ".join(s.split()[:2]) for s in statements(make_changes(found, "mine"))] == made


@pytest.mark.parametrize(
    ("found", "dropped"),
    [
        (Bookkeeping(False, 0, 0, frozenset()), []),
        (Bookkeeping(True, 9, 0, frozenset({"other"})), []),
        (Bookkeeping(True, 9, 0, frozenset({"mine", "other"})), ["DELETE FROM"]),
        (Bookkeeping(True, 9, 0, frozenset({"mine"})), ["DROP TABLE", "DROP SCHEMA"]),
        # the source is also the destination of somebody: the schema holds their state
        (Bookkeeping(True, 9, 8, frozenset({"mine"})), ["DROP TABLE"]),
    ],
)
def test_the_last_one_takes_all_with_it(found: Bookkeeping, dropped: list[str]) -> None:
    assert [" ".join(s.split()[:2]) for s in statements(drop_changes(found, "mine"))] == dropped
