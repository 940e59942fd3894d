# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The CDC task after a change as lines."""

from __future__ import annotations

from ansible_collections.causeway.postgresql.plugins.plugin_utils._blocks.task import task


def test_a_task_that_was_changed_says_what_resting_costs() -> None:
    found = {"wanted": "paused", "state": "paused", "slot_keeps_bytes": 1_200_000_000, "settings": {}}
    assert task({"changed": True, "task": found}, 100) == [
        "CDC task: paused (wanted: paused)",
        "  slot  retains 1.2 GB of WAL at the source",
    ]
    found = {"wanted": "started", "state": "running", "slot_keeps_bytes": 5, "settings": {"rows_per_second": 500}}
    assert task({"changed": True, "task": found}, 100)[1:] == ["  limits  500 rows/s"]
    assert task({"changed": False, "task": found}, 100) == []
