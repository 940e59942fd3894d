# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ranges of numeric options. A timeout of 0 means "no limit" to PostgreSQL, but not to the user who writes it."""

from __future__ import annotations

from collections.abc import Mapping

from ._engine.errors import SpecError

_SECONDS = 30 * 24 * 3600

RANGES: Mapping[str, tuple[int, int]] = {
    "lock_timeout": (1, _SECONDS),
    "lock_retries": (0, 1_000_000),
    "wait_timeout": (1, _SECONDS),
    "stop_timeout": (1, _SECONDS),
    "catch_up_timeout": (1, _SECONDS),
    "settle_timeout": (0, _SECONDS),
    "timeout": (1, _SECONDS),
    "parallel": (1, 256),
    "part_size": (1, 1 << 50),
    "assist_timeout": (1, _SECONDS),
    "max_queries": (0, 1_000_000_000),
    "max_rows": (0, 1_000_000_000_000),
    "max_megabytes": (0, 1_000_000_000),
    "max_source_lag": (0, _SECONDS),
    "max_active": (0, 1_000_000),
    "progress_interval": (0, _SECONDS),
    "index_jobs": (1, 64),
    "index_memory": (1, 1 << 30),
}
"""Least and most, by the option's name, which means the same wherever it occurs. The ranges of the CDC task's own
settings are in `cdc.control.config`."""


def require_ranges(options: Mapping[str, object]) -> None:
    """Raise SpecError for the first number that is out of its range."""
    for name, (least, most) in RANGES.items():
        value = options.get(name)
        if isinstance(value, (int, float)) and not least <= value <= most:
            raise SpecError(
                "reading the options of the module", name, f"{value} is out of range", f"Use {least} to {most}."
            )
