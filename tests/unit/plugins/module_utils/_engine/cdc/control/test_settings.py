# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings of a task: defaults, what stays as it was, and ranges."""

from __future__ import annotations

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.control.settings import (
    TaskSettings,
    task_settings,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import SpecError


def test_settings_have_defaults_and_come_back() -> None:
    assert task_settings({}) == TaskSettings()
    changed = TaskSettings(retry_connection=20, retry_other=5, batch_size=10, batch_age=0.5, conflict_policy="keep")
    assert task_settings(changed.stored()) == changed
    assert changed.retry_limits().connection == 1200
    assert changed.batch_limits().max_changes == 10


def test_what_is_not_given_is_as_it_was_kept() -> None:
    kept = {"retry_connection": 1000, "rows_per_second": 50, "tags": {"a": "b"}}
    found = task_settings({"rows_per_second": 0}, kept)
    assert (found.retry_connection, found.rows_per_second, found.tags) == (1000, 0, {"a": "b"})
    with pytest.raises(SpecError, match="retry_other"):
        task_settings({"retry_other": 1000}, kept)


@pytest.mark.parametrize(
    ("stored", "name"),
    [
        ({"retry_connection": 9}, "retry_connection"),
        ({"retry_connection": 1441}, "retry_connection"),
        ({"retry_other": 0}, "retry_other"),
        ({"retry_other": 720}, "retry_other"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_age": -1}, "batch_age"),
        ({"conflict_policy": "guess"}, "conflict_policy"),
        ({"rows_per_second": 9}, "rows_per_second"),
        ({"rows_per_second": -1}, "rows_per_second"),
        ({"mb_per_second": 0.05}, "mb_per_second"),
        ({"heartbeat_interval": 0}, "heartbeat_interval"),
    ],
)
def test_settings_out_of_their_range_are_named(stored: dict[str, object], name: str) -> None:
    with pytest.raises(SpecError, match=name):
        task_settings(stored)
