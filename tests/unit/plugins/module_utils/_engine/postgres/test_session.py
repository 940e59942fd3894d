# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings in the startup packet, and the timeouts that cannot be there."""

from __future__ import annotations

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres.session import (
    later_timeouts,
    startup_options,
)


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({}, ""),
        ({"lock_timeout": "0"}, "-c lock_timeout=0"),
        ({"search_path": ""}, "-c search_path="),
        ({"DateStyle": "ISO, MDY", "TimeZone": "UTC"}, r"-c DateStyle=ISO,\ MDY -c TimeZone=UTC"),
        ({"a": "back\\slash"}, r"-c a=back\\slash"),
        ({"a": "x\\ y"}, r"-c a=x\\\ y"),
        ({"a": "größe"}, "-c a=größe"),
    ],
)
def test_the_server_splits_options_at_blanks_that_are_not_escaped(settings: dict[str, str], options: str) -> None:
    assert startup_options(settings) == options


@pytest.mark.parametrize(
    ("version", "timeouts"),
    [
        (100000, {}),
        (130022, {}),
        (140000, {"idle_session_timeout": "0"}),
        (160009, {"idle_session_timeout": "0"}),
        (170000, {"idle_session_timeout": "0", "transaction_timeout": "0"}),
    ],
)
def test_a_server_is_sent_only_the_timeouts_that_it_knows(version: int, timeouts: dict[str, str]) -> None:
    assert later_timeouts(version) == timeouts
