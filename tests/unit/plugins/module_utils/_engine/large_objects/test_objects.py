# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether large objects are to be copied, and the error for an OID that is taken."""

from __future__ import annotations

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.large_objects.objects import (
    ObjectWish,
    _shown,
    taken,
    waiting,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.state.large_objects import ObjectsCopied

COPYING = ObjectsCopied(1, "copying", 10, 3, 100, "")
COMPLETE = ObjectsCopied(1, "complete", 10, 10, 300, "2026-03-04")


@pytest.mark.parametrize(
    ("copied", "wish", "expected"),
    [
        (None, ObjectWish(), True),
        (COPYING, ObjectWish(), True),
        (COMPLETE, ObjectWish(), False),
        (COMPLETE, ObjectWish(again=True), True),
        (COMPLETE, ObjectWish(privileges=False), False),
        (None, ObjectWish(copied=False), False),
        (COPYING, ObjectWish(copied=False), False),
        (COMPLETE, ObjectWish(copied=False, again=True), False),
    ],
)
def test_they_are_copied_once_unless_wanted_again(
    copied: ObjectsCopied | None, wish: ObjectWish, expected: bool
) -> None:
    assert waiting(copied, wish) is expected


@pytest.mark.parametrize(
    ("oids", "what"),
    [
        ((7,), "7"),
        ((1, 2, 3, 4, 5), "1, 2, 3, 4, 5"),
        ((1, 2, 3, 4, 5, 6, 4294967295), "1, 2, 3, 4, 5 and 2 more"),
    ],
)
def test_the_first_oids_that_are_taken_are_named(oids: tuple[int, ...], what: str) -> None:
    error = taken(oids)
    assert (error.code, error.what) == ("mismatch", what)
    assert f"SELECT lo_unlink({oids[0]})" in error.remedy


def test_parameters_are_shown_by_their_names() -> None:
    assert _shown("SELECT f(%(object)s::oid, %(piece)b)", "SELECT 1") == ("SELECT f($object::oid, $piece)", "SELECT 1")
