# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The worker's files on its host: the folder of its migration with configuration, log and process id, and its engine."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

from .. import names
from ..cdc.control.config import WorkerConfig
from ..errors import MismatchError, StateError
from ..plan import Change


def worker_folder(home: Path, name: str) -> Path:
    """Return the folder of one migration's worker, with configuration, log and process id."""
    return home / names.folder_name(name)


def config_changes(path: Path, config: WorkerConfig, *, keep_engine: bool) -> list[Change]:
    """Return the change of the configuration if it differs; never its content, which holds the passwords."""
    kept = stored_process(path)[0] if keep_engine else ""
    try:
        present = path.read_text(encoding="utf-8")
    except OSError:
        present = None
    if present == with_engine(config, kept or config.engine).text():
        return []
    before = None if present is None else "other connection options or another engine"
    return [Change("worker host", str(path), before, "connection options of both ends")]


def with_engine(config: WorkerConfig, engine: str) -> WorkerConfig:
    """Return the same configuration for another engine."""
    return replace(config, engine=engine)


def stored_process(path: Path) -> tuple[str, int]:
    """Return the engine that a running worker was started with, which it does not change, and the port of its metrics."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return str(values.get("engine", "")), int(values.get("metrics_port", 0))
    except (OSError, ValueError, AttributeError, TypeError):
        return "", 0


def engine_folder(home: Path, engine: str, python: str) -> Path:
    """Return the unpacked engine to run: the named one, else the one that ``current`` points at, else the only one.

    Raises StateError if there is none.
    """
    engines = home / "engine"
    found = engines / (engine or "current")
    if not engine and not found.exists():
        unpacked = [entry for entry in sorted(engines.glob("*")) if (entry / "_engine" / "daemon.py").exists()]
        found = unpacked[0] if len(unpacked) == 1 else found
    if not (found / "_engine" / "daemon.py").exists():
        raise StateError(
            "starting the CDC worker",
            str(found),
            "there is no unpacked engine",
            "Run the worker role, which copies it there: ansible-playbook … causeway.postgresql.precheck --tags worker.",
        )
    if not os.access(python, os.X_OK):
        raise MismatchError("starting the CDC worker", python, "it cannot be run", "Correct worker_python.")
    return found.resolve()
