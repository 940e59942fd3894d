# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import dataclasses

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres.catalog import Table
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.state.copies import (
    TableCopy,
    describe_uncopied,
    uncopied,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.state.copy_queue import LockedCopy

T = Table(7, "public", "t", "r", "p", "me", "d", "", (), False, 0, -1, 0, (), ())
COMPLETE = TableCopy(7, ("public", "t"), "complete", True, 1, 100, 5, 50)


def test_a_table_is_copied_when_its_copy_is_complete_under_its_present_name() -> None:
    assert uncopied([T], {7: COMPLETE}) == []
    assert uncopied([T], {7: LockedCopy(("public", "t"), "complete", True, 1)}) == []


def test_a_table_is_not_copied_before_its_copy_is_complete_or_where_another_table_was() -> None:
    assert uncopied([T], {}) == [T]
    assert uncopied([T], {8: dataclasses.replace(COMPLETE, relation=8)}) == [T]
    for state in ("waiting", "copying"):
        assert uncopied([T], {7: dataclasses.replace(COMPLETE, state=state)}) == [T]


def test_tables_that_were_renamed_after_their_copy_are_not_copied() -> None:
    """Also where two exchanged their names, so that both names and both OIDs are known as copied."""
    other = dataclasses.replace(T, oid=8, name="s")
    copies = {7: COMPLETE, 8: dataclasses.replace(COMPLETE, relation=8, name=("public", "s"))}
    assert uncopied([T, other], copies) == []
    swapped = [dataclasses.replace(T, name="s"), dataclasses.replace(other, name="t")]
    assert uncopied(swapped, copies) == swapped
    moved = dataclasses.replace(T, schema="archive")
    assert uncopied([moved], copies) == [moved]


def test_what_is_not_copied_is_named_and_what_was_renamed_with_its_old_name() -> None:
    fresh = dataclasses.replace(T, oid=9, name="fresh")
    renamed = dataclasses.replace(T, name="Now")
    assert describe_uncopied([fresh, renamed], {7: COMPLETE}) == (
        '2 tables are not copied completely: public.fresh, public."Now" (copied as public.t)'
    )
    many = [dataclasses.replace(T, oid=oid, name=f"t{oid}") for oid in range(20, 40)]
    text = describe_uncopied(many, {})
    assert text.startswith("20 tables") and "public.t29" in text and "public.t30" not in text
