# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pause of a cutover that an earlier run began."""

from __future__ import annotations

import datetime

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cutover.opening import _pause

NOW = datetime.datetime(2026, 3, 4, 5, 6, 7, 89_000, tzinfo=datetime.timezone.utc)


@pytest.mark.parametrize(
    ("fenced_at", "milliseconds"),
    [
        ("", 0),
        ("2026-03-04T05:06:07.089+00:00", 0),
        ("2026-03-04T05:06:06.000+00:00", 1089),
        ("2026-03-04T07:06:06.089+02:00", 1000),
        ("2026-03-03T05:06:07.089+00:00", 86_400_000),
    ],
)
def test_the_pause_is_counted_from_the_fence_by_the_wall_clock(fenced_at: str, milliseconds: int) -> None:
    assert _pause(fenced_at, NOW) == milliseconds
