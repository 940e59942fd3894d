# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The error for tables that are missing at the destination."""

from __future__ import annotations

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.copy.layout import missing_tables


@pytest.mark.parametrize(
    ("names", "what"),
    [
        ([("s", "a")], "s.a"),
        ([("S", 'a"b'), ("s", "größe")], '"S"."a""b", s."größe"'),
        ([("s", name) for name in "abcde"], "s.a, s.b, s.c, s.d, s.e"),
        ([("s", name) for name in "abcdefgh"], "s.a, s.b, s.c, s.d, s.e and 3 more"),
    ],
)
def test_five_tables_are_named_and_the_others_counted(names: list[tuple[str, str]], what: str) -> None:
    error = missing_tables(names)
    assert (error.code, error.what) == ("mismatch", what)
