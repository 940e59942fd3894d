# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.units import count, duration, size


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (1_234_000_000, "1.2 GB"),
        (99_940_000, "99.9 MB"),
        (99_960_000, "100 MB"),
        (999_960, "1.0 MB"),
        (5e18, "5000 PB"),
    ],
)
def test_size(value: float, text: str) -> None:
    assert size(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 ms"),
        (0.0421, "42 ms"),
        (0.9996, "1.0 s"),
        (4.21, "4.2 s"),
        (42.4, "42 s"),
        (59.97, "1 min"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
        (3600, "1 h"),
        (273_600, "3 d 4 h"),
    ],
)
def test_duration(value: float, text: str) -> None:
    assert duration(value) == text


def test_count() -> None:
    assert [count(number) for number in (0, 999, 1000, 1234567)] == ["0", "999", "1 000", "1 234 567"]
