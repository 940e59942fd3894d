# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration of a worker process: one file for each migration on the worker host, readable by its owner only.

Only this file holds the passwords: not argv, not the environment. It is read again at every reconnect.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ...errors import SpecError
from ...postgres.connect import Endpoint

CONFIG_FILE = "config.json"
LOG_FILE = "worker.log"
PID_FILE = "worker.pid"


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """One worker's configuration. ``engine`` names the unpacked engine that it runs; ``metrics_port`` 0: no metrics."""

    name: str
    state_schema: str
    source: Endpoint
    destination: Endpoint
    engine: str = field(default="")
    metrics_port: int = 0

    def text(self) -> str:
        """Return the file's content, which is the same for the same values."""
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
    """Return what the content of the file at ``path`` says. Raises SpecError, which quotes nothing of it."""
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
    """Read the file, or its copy in systemd's credentials where the file itself cannot be read.

    The file comes first, since a credential holds the password of the time when the unit started. Raises SpecError.
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
        why = getattr(exc, "strerror", None) or "it is not UTF-8 text"
        raise SpecError("reading the configuration of a CDC worker", path, why, _WRITE_AGAIN) from exc
    return parse_config(text, path)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, atomically: a reader sees the old or the new content."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
