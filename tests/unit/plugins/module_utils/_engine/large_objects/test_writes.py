# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many rows of large objects were written since a count."""

from __future__ import annotations

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.large_objects.writes import written_since


@pytest.mark.parametrize(
    ("written", "first", "rows"), [(0, 0, 0), (10, 10, 0), (15, 10, 5), (15, 0, 15), (3, 10, 3), (0, 10, 0)]
)
def test_a_lower_count_began_again_at_zero(written: int, first: int, rows: int) -> None:
    assert written_since(written, first) == rows
