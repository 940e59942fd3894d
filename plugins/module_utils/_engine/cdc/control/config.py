# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a worker process is told: one file of its migration on the worker host, for its owner's eyes only.

It holds the passwords, so nothing else does: not argv, not the environment. It is read again at every reconnect.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...errors import SpecError
from ...postgres.connect import Endpoint
from ..apply.conflicts import OVERWRITE, POLICIES
from ..changes.batch_limits import BatchLimits
from .lifecycle import RETRY_CONNECTION_MINUTES, RETRY_OTHER_MINUTES, RetryLimits
from .pace import Pace

CONFIG_FILE = "config.json"
LOG_FILE = "worker.log"
PID_FILE = "worker.pid"


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """``engine`` is the name of the unpacked engine that the worker runs; ``metrics_port`` 0 for none."""

    name: str
    state_schema: str
    source: Endpoint
    destination: Endpoint
    engine: str = field(default="")
    metrics_port: int = 0

    def text(self) -> str:
        """The file's content, the same for the same values."""
        values = {
            "name": self.name,
            "state_schema": self.state_schema,
            "engine": self.engine,
            "metrics_port": self.metrics_port,
            "source": asdict(self.source),
            "destination": asdict(self.destination),
        }
        return json.dumps(values, indent=1, sort_keys=True) + "\n"


def parse_config(text: str, path: str) -> WorkerConfig:
    """The content of the file at ``path``. Raises SpecError, without any of it in its words."""
    try:
        values = json.loads(text)
        return WorkerConfig(
            name=str(values["name"]),
            state_schema=str(values["state_schema"]),
            source=Endpoint(**values["source"]),
            destination=Endpoint(**values["destination"]),
            engine=str(values["engine"]),
            metrics_port=int(values.get("metrics_port", 0)),
        )
    except (ValueError, KeyError, TypeError):
        raise SpecError(
            "reading the configuration of a CDC worker", path, "it is not what pg_cdc_task wrote", _WRITE_AGAIN
        ) from None


_WRITE_AGAIN = "Run the migrate playbook, which writes it again."


def load_config(path: str, environ: Mapping[str, str] | None = None) -> WorkerConfig:
    """Read the file, or the copy that systemd hands over as a credential where the file itself is out of reach.

    The file comes first, since a credential keeps the password that was right when the unit started. Raises SpecError.
    """
    folder = (os.environ if environ is None else environ).get("CREDENTIALS_DIRECTORY", "")
    credential = Path(folder, Path(path).name)
    try:
        try:
            text = Path(path).read_text(encoding="utf-8")
        except OSError:
            if not folder or not credential.exists():
                raise
            text = credential.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        why = getattr(exc, "strerror", None) or "it is no text"
        raise SpecError("reading the configuration of a CDC worker", path, why, _WRITE_AGAIN) from exc
    return parse_config(text, path)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, in one step: a reader sees the old or the new content."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


@dataclass(frozen=True, slots=True)
class TaskSettings:
    """What may be changed while the task runs; it stands in the control row. Minutes, rows, seconds, 10^6 bytes.

    A pace of 0 is none; ``tags`` are the user's own words for the migration.
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
        """As the control row keeps them."""
        return asdict(self)

    def retry_limits(self) -> RetryLimits:
        """In seconds."""
        return RetryLimits(self.retry_connection * 60.0, self.retry_other * 60.0)

    def batch_limits(self) -> BatchLimits:
        """A batch of so many rows, or so old; smaller ones where the pace is limited."""
        return self.pace().narrowed(BatchLimits(max_changes=self.batch_size, max_age=self.batch_age))

    def pace(self) -> Pace:
        """How fast changes may be applied."""
        return Pace(float(self.rows_per_second), self.mb_per_second * 1e6)


_RANGES: Mapping[str, tuple[float, float]] = {
    "retry_connection": (RETRY_CONNECTION_MINUTES[0], RETRY_CONNECTION_MINUTES[2]),
    "retry_other": (RETRY_OTHER_MINUTES[0], RETRY_OTHER_MINUTES[2]),
    "batch_size": (1, 10_000_000),
    "batch_age": (0, 3600),
    "heartbeat_interval": (1, 3600),
}
_PACES: Mapping[str, tuple[float, float]] = {"rows_per_second": (10, 1e9), "mb_per_second": (0.1, 1e6)}
"""0 is no limit; slower than the least a limit could not be kept within a tenth."""


def task_settings(stored: Mapping[str, Any], kept: Mapping[str, Any] | None = None) -> TaskSettings:
    """Settings as they stand in the control row, or as a module was given them; what is missing is as ``kept``, or the
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
            "it is none of the policies",
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
