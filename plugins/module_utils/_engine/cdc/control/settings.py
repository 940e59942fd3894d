# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings of a CDC task that may change while it runs, and their ranges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ...errors import SpecError
from ..apply.conflicts import OVERWRITE, POLICIES
from ..changes.batch_limits import BatchLimits
from .lifecycle import RETRY_CONNECTION_MINUTES, RETRY_OTHER_MINUTES, RetryLimits
from .pace import Pace


@dataclass(frozen=True, slots=True)
class TaskSettings:
    """Settings that may change while the task runs, kept in the control row. Minutes, rows, seconds, 10^6 bytes.

    A pace of 0 means no limit; ``tags`` are the user's own words for the migration.
    """

    retry_connection: int = RETRY_CONNECTION_MINUTES[1]
    retry_other: int = RETRY_OTHER_MINUTES[1]
    batch_size: int = BatchLimits().max_changes
    batch_age: float = BatchLimits().max_age
    conflict_policy: str = OVERWRITE
    rows_per_second: int = 0
    mb_per_second: float = 0.0
    heartbeat_interval: int = 10
    tags: Mapping[str, str] = field(default_factory=dict)

    def stored(self) -> Mapping[str, object]:
        """Return the settings as the control row holds them."""
        return asdict(self)

    def retry_limits(self) -> RetryLimits:
        """Return the retry limits, in seconds."""
        return RetryLimits(self.retry_connection * 60.0, self.retry_other * 60.0)

    def batch_limits(self) -> BatchLimits:
        """Return when a batch is full, by rows or age; earlier where the pace is limited."""
        return self.pace().narrowed(BatchLimits(max_changes=self.batch_size, max_age=self.batch_age))

    def pace(self) -> Pace:
        """Return how fast changes may be applied."""
        return Pace(float(self.rows_per_second), self.mb_per_second * 1e6)


_RANGES: Mapping[str, tuple[float, float]] = {
    "retry_connection": (RETRY_CONNECTION_MINUTES[0], RETRY_CONNECTION_MINUTES[2]),
    "retry_other": (RETRY_OTHER_MINUTES[0], RETRY_OTHER_MINUTES[2]),
    "batch_size": (1, 10_000_000),
    "batch_age": (0, 3600),
    "heartbeat_interval": (1, 3600),
}
_PACES: Mapping[str, tuple[float, float]] = {"rows_per_second": (10, 1e9), "mb_per_second": (0.1, 1e6)}
"""0 is no limit; a pace below the least could not be held within a tenth."""


def task_settings(stored: Mapping[str, Any], kept: Mapping[str, Any] | None = None) -> TaskSettings:
    """Return the settings from the control row or from a module's options; a missing one is as in ``kept``, else the
    default. Raises SpecError for a value out of its range.
    """
    found = {**asdict(TaskSettings()), **(kept or {}), **stored}
    settings = TaskSettings(
        retry_connection=int(found["retry_connection"]),
        retry_other=int(found["retry_other"]),
        batch_size=int(found["batch_size"]),
        batch_age=float(found["batch_age"]),
        rows_per_second=int(found["rows_per_second"]),
        mb_per_second=float(found["mb_per_second"]),
        heartbeat_interval=int(found["heartbeat_interval"]),
        conflict_policy=str(found["conflict_policy"]),
        tags={str(key): str(value) for key, value in dict(found["tags"]).items()},
    )
    for name, (least, most) in _RANGES.items():
        _in_range(name, getattr(settings, name), least, most)
    for name, (least, most) in _PACES.items():
        if getattr(settings, name) != 0:
            _in_range(name, getattr(settings, name), least, most, "0 for no limit, or ")
    if settings.conflict_policy not in POLICIES:
        raise SpecError(
            "reading the settings of the CDC task",
            "conflict_policy",
            "it is not a conflict policy",
            f"Use one of {', '.join(POLICIES)}.",
        )
    if settings.retry_other >= settings.retry_connection:
        raise SpecError(
            "reading the settings of the CDC task",
            "retry_other",
            f"{settings.retry_other} minutes is not less than retry_connection, {settings.retry_connection}",
            "Give retry_connection more minutes than retry_other.",
        )
    return settings


def _in_range(name: str, value: float, least: float, most: float, also: str = "") -> None:
    if not least <= value <= most:
        raise SpecError(
            "reading the settings of the CDC task",
            name,
            f"{value:g} is out of range",
            f"Use {also}{least:.15g} to {most:.15g}.",
        )
