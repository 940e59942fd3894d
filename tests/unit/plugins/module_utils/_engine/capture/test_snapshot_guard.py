# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.capture.snapshot_guard import (
    Xids,
    has_passed,
    is_before,
    parse_snapshot,
)


def test_a_snapshot_is_read_even_where_its_xmin_lies_above_its_xmax() -> None:
    """A slot gives such a one, and the type pg_snapshot refuses it."""
    assert parse_snapshot("5682:5681:") == Xids(5682, 5681, frozenset())
    assert parse_snapshot("10:20:10,14") == Xids(10, 20, frozenset({10, 14}))
    assert parse_snapshot("5682:5681:").calls_finished(5681)


@pytest.mark.parametrize(
    ("now", "seen", "passed"),
    [
        ("10:10:", "10:10:", True),
        ("10:12:10", "10:12:10", True),  # both call it running
        ("10:12:10", "12:12:", False),  # the slot calls 10 finished, and it is not
        ("10:12:10,11", "10:12:10", False),
        ("10:11:", "10:12:", False),  # 11 has not been given out, or has not ended
        ("13:15:13", "10:12:", True),  # younger than the snapshot
        ("5681:5681:", "5682:5681:", False),  # 5681 lies below xmin: finished, says the slot
        ("5682:5682:", "5682:5681:", True),
    ],
)
def test_the_guard(now: str, seen: str, passed: bool) -> None:
    assert has_passed(parse_snapshot(now), parse_snapshot(seen)) is passed


xids = st.integers(3, 40)
snapshots = st.builds(lambda a, b, r: Xids(a, b, frozenset(r)), xids, xids, st.sets(xids))


@given(now=snapshots, seen=snapshots)
def test_nothing_that_still_runs_is_called_finished_once_the_guard_has_let_us_pass(now: Xids, seen: Xids) -> None:
    if has_passed(now, seen):
        running = [xid for xid in range(60) if xid >= now.xmax or xid in now.running]
        assert not [xid for xid in running if seen.calls_finished(xid)]


def test_transaction_ids_wrap_around() -> None:
    assert is_before(5, 6)
    assert not is_before(6, 6)
    assert not is_before(7, 6)
    assert is_before(0xFFFFFFF0, 5)
    assert not is_before(5, 0xFFFFFFF0)
