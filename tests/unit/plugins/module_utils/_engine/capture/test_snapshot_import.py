# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When two sessions see one snapshot, by what the server says of either."""

from __future__ import annotations

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.capture.snapshot_import import (
    import_statement,
    same_view,
)


@pytest.mark.parametrize(
    ("holder", "importer", "same"),
    [
        ("10:10:", "10:10:", True),
        ("10:20:10,14", "10:20:10,14", True),
        ("5682:5681:", "5682:5681:", True),  # a slot's
        ("10:20:10,14", "10:20:10", False),
        ("10:20:10", "10:21:10", False),
        ("9:20:10", "10:20:10", False),
        ("35083:35085:0,9431", "35083:35085:0,24", False),  # PolarDB 11
        ("35083:35084:0", "35083:35084:0", False),  # the same, by chance: nothing that could run
        ("10:20:20", "10:20:20", False),
        ("", "", False),
        ("10:20", "10:20", False),
        ("10:20:x", "10:20:x", False),
    ],
)
def test_a_snapshot_may_be_imported_where_both_sessions_see_the_same(holder: str, importer: str, same: bool) -> None:
    assert same_view(holder, importer, None) is same


@pytest.mark.parametrize(
    ("seen", "same"),
    [
        ("10:11:10", True),
        ("9:20:9,10", True),
        ("11:11:", False),
        ("10:11:", False),
        ("9:20:9", False),
        ("10:10:", False),
    ],
)
def test_equal_lists_prove_nothing_unless_they_hold_a_transaction_that_runs(seen: str, same: bool) -> None:
    """Two empty lists are equal on an idle server that decides by commit sequence numbers, too."""
    assert same_view(seen, seen, 10) is same


def test_the_name_of_a_snapshot_is_quoted() -> None:
    assert import_statement("00000003-0000001B-1").as_string(None) == "SET TRANSACTION SNAPSHOT '00000003-0000001B-1'"
    assert import_statement("a'b").as_string(None) == "SET TRANSACTION SNAPSHOT 'a''b'"
