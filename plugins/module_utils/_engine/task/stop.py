# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ends a CDC task: stops its worker at a commit boundary, or removes the task with all that it has on this host."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import StateError
from ..plan import Change, Plan
from ..postgres.connect import explain_errors
from ..state.progress import mark_stopped
from ..state.task import delete_control, read_control, set_wanted
from .observe import observe_task
from .process import end_process

if TYPE_CHECKING:
    from ..migration import Migration
    from .systemd import Systemd


def stop_task(migration: Migration, folder: Path, timeout: float, systemd: Systemd | None) -> None:
    """Stop the worker and wait until it has drained and ended. Raises TimeoutExpired, naming the session that applies."""
    control = read_control(migration.store) if migration.store.load() is not None else None
    if control is not None and control.wanted != "stopped":
        set_wanted(migration.store, "stopped")
    end_process(migration, folder, timeout)
    if systemd is not None:
        systemd.stop()  # which may be about to start it again
    if migration.store.load() is not None:
        mark_stopped(migration.store)


def plan_absent(migration: Migration, folder: Path, timeout: float, systemd: Systemd | None) -> Plan:
    """Return the plan that removes worker, task and folder; the position stays with the migration. Raises EngineError."""
    task = observe_task(migration, folder)
    changes: list[Change] = []
    if task.runs:
        changes.append(Change("worker host", f"CDC worker of {migration.name}", "running", None))
    if task.control is not None:
        before = {"wanted": task.control.wanted, "settings": dict(task.control.settings)}
        shown = (delete_control(migration.store).as_string(migration.destination),)
        changes.append(Change("destination", f"CDC task of {migration.name}", before, None, shown))
    if folder.exists():
        changes.append(Change("worker host", str(folder), "configuration and log of the worker", None))

    if systemd is not None:
        changes += systemd.changes(None)

    def apply() -> Mapping[str, object]:
        stop_task(migration, folder, timeout, systemd)
        if systemd is not None:
            systemd.remove()
        if task.control is not None:
            with explain_errors("removing the CDC task of", migration.name):
                migration.destination.execute(delete_control(migration.store))
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            raise StateError(
                "removing the CDC task of", migration.name, f"{folder} could not be removed", "Remove it by hand."
            )
        return {"task": observe_task(migration, folder).result()}

    return Plan(tuple(changes), {"task": task.result()}, apply)
