# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module's options as the task's: defaults where nothing is given, settings only where they are."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import SpecError
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.task.options import task_options

GIVEN: dict[str, Any] = {
    "state": "started",
    "worker_home": "/var/lib/causeway",
    "wait": "none",
    "wait_timeout": 600,
    "stop_timeout": 60,
    "supervisor": "auto",
}


def test_what_is_not_given_has_a_default_and_is_no_setting() -> None:
    options = task_options({**GIVEN, "batch_size": 10})
    assert options.home == Path("/var/lib/causeway")
    assert options.python == sys.executable
    assert (options.engine, options.memory_max, options.cpu_quota, options.metrics_port) == ("", "", "", 0)
    assert options.settings == {"batch_size": 10}


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_out_of_range_is_named(port: int) -> None:
    with pytest.raises(SpecError, match=f"{port} is not a port"):
        task_options({**GIVEN, "metrics_port": port})
