# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of the CDC task, checked and typed."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..cdc.control.settings import TaskSettings
from ..errors import SpecError

_SETTINGS = frozenset({field.name for field in fields(TaskSettings)})


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """The module's options. ``wait`` is none or caught_up; timeouts in seconds; ``settings`` holds only given settings."""

    state: str
    home: Path
    python: str
    engine: str
    wait: str
    wait_timeout: float
    stop_timeout: float
    metrics_port: int
    supervisor: str
    memory_max: str
    cpu_quota: str
    settings: Mapping[str, Any]


def task_options(options: Mapping[str, Any]) -> TaskOptions:
    """Return the module's own options, typed. Raises SpecError."""
    return TaskOptions(
        state=str(options["state"]),
        home=Path(options["worker_home"]),
        python=str(options.get("worker_python") or sys.executable),
        engine=str(options.get("engine") or ""),
        wait=str(options["wait"]),
        wait_timeout=float(options["wait_timeout"]),
        stop_timeout=float(options["stop_timeout"]),
        metrics_port=_port(int(options.get("metrics_port") or 0)),
        supervisor=str(options["supervisor"]),
        memory_max=str(options.get("memory_max") or ""),
        cpu_quota=str(options.get("cpu_quota") or ""),
        settings={name: value for name, value in options.items() if name in _SETTINGS},
    )


def _port(number: int) -> int:
    if not 0 <= number < 65536:
        raise SpecError(
            "reading the options of the CDC task",
            "metrics_port",
            f"{number} is not a port",
            "Use 1 to 65535, or 0 for none.",
        )
    return number
