# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans the CDC task of a migration: its control row, its worker's configuration and process on this host."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cdc.control.config import CONFIG_FILE, WorkerConfig, write_private
from ..cdc.control.settings import task_settings
from ..errors import StateError
from ..plan import Change, Plan
from ..state.copies import describe_uncopied, uncopied
from ..state.progress import mark_stopped
from ..state.task import ControlRow, control_statement, set_wanted
from ..units import size
from .caught_up import wait_caught_up
from .observe import ObservedTask, observe_task
from .options import TaskOptions, task_options
from .process import (
    Detached,
    end_process,
    first_progress,
    start_process,
    wait_paused,
    wake_process,
)
from .stop import plan_absent, stop_task
from .systemd import Systemd, find_systemd, installed_systemd
from .systemd_unit import Unit, check_limits, nameable, render
from .worker_home import config_changes, engine_folder, stored_process, worker_folder

if TYPE_CHECKING:
    from ..migration import Migration
    from ..runner import Runner


def plan(migration: Migration, options: Mapping[str, Any], runner: Runner) -> Plan:
    """Return the plan that brings the task into the requested state. Raises EngineError; SpecError for a setting out of
    its range."""
    wanted = task_options(options)
    task_settings(wanted.settings)
    check_limits(wanted.memory_max, wanted.cpu_quota)
    installed = installed_systemd(migration.name, runner)
    if wanted.state == "absent":
        return plan_absent(migration, worker_folder(wanted.home, migration.name), wanted.stop_timeout, installed)
    if not migration.spec.incremental:
        return Plan(
            result={"task": {"wanted": None, "running": False, "state": "completed"}},
            notes=("This migration has no incremental part: its task is completed when the full copy is.",),
        )
    if wanted.state in ("paused", "stopped"):
        return _plan_resting(migration, wanted, installed)
    return _Start(migration, wanted, runner, installed).plan()


def _settings(task: ObservedTask, wanted: TaskOptions) -> dict[str, object]:
    """Return the stored settings, with the given ones over them. Raises SpecError for a setting out of its range."""
    kept = dict(task.control.settings) if task.control else {}
    # Settings of another release that this one does not know are retained.
    return {**kept, **task_settings(wanted.settings, kept).stored()}


def _refuse_disarmed(migration: Migration, task: ObservedTask, doing: str) -> None:
    if task.control is not None and task.control.wanted == "disarmed":
        raise StateError(
            f"{doing} the CDC task of",
            migration.name,
            "it was disarmed for good when the destination was opened",
            "The destination is in production. To migrate into it again, set causeway_restart: true.",
        )


class _Start:
    """Starts the task, or restarts its worker. Everything is observed at the beginning."""

    def __init__(self, migration: Migration, wanted: TaskOptions, runner: Runner, installed: Systemd | None) -> None:
        self._migration = migration
        self._wanted = wanted
        self._folder = worker_folder(wanted.home, migration.name)
        self._path = self._folder / CONFIG_FILE
        self._known = migration.state()
        self._task = observe_task(migration, self._folder) if self._known is not None else ObservedTask.none()
        _refuse_disarmed(migration, self._task, "starting")
        self._carried = bool(wanted.engine) or (wanted.home / "engine").exists()
        self._engine = self._find_engine() if self._carried else wanted.home / "engine" / "current"
        self._elsewhere = self._task.holder is not None and self._task.process is None
        self._systemd = find_systemd(wanted.supervisor, migration.name, runner)[0]
        paths = (self._folder, self._engine, wanted.python)
        if wanted.supervisor == "auto" and not all(nameable(str(path)) for path in paths):
            self._systemd = None
        # The unit of an earlier run, which is no longer wanted.
        self._leftover = installed if self._systemd is None else None
        self._unit = self._unit_text()
        self._again = self._starts_anew()
        self._keep = self._task.runs and not self._again
        self._settings = _settings(self._task, wanted)

    def _find_engine(self) -> Path:
        return engine_folder(self._wanted.home, self._wanted.engine, self._wanted.python)

    def _unit_text(self) -> str:
        """Return the text of the unit, with the engine that the worker runs until it is restarted."""
        if self._systemd is None:
            return ""
        wanted, kept = self._wanted, stored_process(self._path)[0]
        keeps = bool(kept) and self._task.runs and wanted.state != "restarted"
        engine = wanted.home / "engine" / kept if keeps else self._engine
        unit = Unit(
            name=self._systemd.unit,
            migration=self._migration.name,
            folder=str(self._folder),
            python=wanted.python,
            engine=str(engine),
            user=pwd.getpwuid(os.getuid()).pw_name if self._systemd.system else "",
            memory=wanted.memory_max,
            cpu=wanted.cpu_quota,
        )
        return render(unit)

    def _starts_anew(self) -> bool:
        if self._wanted.state != "restarted" or not self._task.runs:
            return False
        as_wanted = (self._engine.name, self._wanted.metrics_port)
        unit = self._systemd.changes(self._unit) if self._systemd else ()
        if stored_process(self._path) == as_wanted and not unit and not self._leftover:
            return False
        if self._elsewhere:
            raise StateError(
                "restarting the CDC worker of",
                self._migration.name,
                f"it runs on another host ({self._task.progress.get('host')}), or on this one under another worker_home",
                "Run this with that host as ansible_host.",
            )
        return True

    def _config(self, engine: str) -> WorkerConfig:
        spec = self._migration.spec
        ends = (spec.source, spec.destination)
        return WorkerConfig(self._migration.name, spec.state_schema, *ends, engine, self._wanted.metrics_port)

    def plan(self) -> Plan:
        task, name = self._task, self._migration.name
        changes = list(_control_changes(self._migration, task.control, "started", self._settings))
        self._written = (
            []
            if self._elsewhere
            else config_changes(self._path, self._config(self._engine.name), keep_engine=self._keep)
        )
        changes += self._written
        if not self._elsewhere:
            changes += self._systemd.changes(self._unit) if self._systemd else ()
        if self._leftover and (self._again or not task.runs):
            changes += self._leftover.changes(None)
        if self._again or not task.runs:
            before = f"running engine {stored_process(self._path)[0]}" if self._again else None
            after = f"running engine {self._engine.name}" if self._again else "running"
            by = (
                f"systemctl start {self._systemd.unit}" if self._systemd else f"{self._wanted.python} -m _engine.daemon"
            )
            changes.append(Change("worker host", f"CDC worker of {name}", before, after, (by,)))
        notes = _taken_for_granted(self._elsewhere, bool(self._known and self._known.slot), self._carried)
        return Plan(tuple(changes), {"task": self._result(task)}, self._apply, notes, record=self._caught_up)

    def _result(self, task: ObservedTask) -> Mapping[str, object]:
        return {**task.result(), "supervisor": self._systemd.unit if self._systemd else ""}

    def _apply(self) -> Mapping[str, object]:
        migration, folder, wanted, task = self._migration, self._folder, self._wanted, self._task
        _require_ready(migration)
        self._engine = self._find_engine()
        if self._again:
            end_process(migration, folder, wanted.stop_timeout)
            mark_stopped(migration.store)
        if not self._elsewhere:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
            kept = stored_process(self._path)[0] if self._keep else ""
            write_private(self._path, self._config(kept or self._engine.name).text())
            if self._systemd:
                self._unit = self._unit_text()
                self._systemd.install(self._unit)
        launch = self._again or not task.runs
        if launch and self._leftover:
            self._leftover.remove()
        if launch:
            first_progress(migration)
        if launch or _control_changes(migration, task.control, "started", self._settings):
            set_wanted(migration.store, "started", self._settings)
        if launch or (task.control and task.control.wanted != "started"):
            detached = Detached(folder, self._engine, wanted.python)
            start_process(migration, folder, (self._systemd or detached) if launch else None)
        elif self._written:
            wake_process(folder)
        migration.store.advance("replicating")
        return {"task": self._result(observe_task(migration, folder))}

    def _caught_up(self) -> Mapping[str, object]:
        """Write a marker and wait until it is applied, if that was requested; return the seconds."""
        migration, wanted = self._migration, self._wanted
        if wanted.wait != "caught_up":
            return {}
        seconds = wait_caught_up(migration, wanted.wait_timeout)
        task = self._result(observe_task(migration, self._folder))
        return {"caught_up": True, "waited": round(seconds, 3), "task": task}


def _taken_for_granted(elsewhere: bool, slot: bool, carried: bool) -> tuple[str, ...]:
    said = (
        (elsewhere, "The worker runs on another host, or on this one under another worker_home."),
        (not slot, "Slot and full copy are not complete yet; this plan assumes that they will be."),
        (
            not carried,
            "The engine is not on the worker host yet; this plan assumes that the worker role copies it there.",
        ),
    )
    return tuple([text for holds, text in said if holds])


def _require_ready(migration: Migration) -> None:
    """Raise StateError while the slot or the copy is missing: without either the stream would have a gap."""
    state = migration.state()
    remedy = "Run the migrate playbook: it takes the steps that come before."
    doing = "starting the CDC task of"
    if state is None or not state.slot or not state.slot.get("consistent_point"):
        raise StateError(doing, migration.name, "the migration has no replication slot yet", remedy)
    if "full" in migration.spec.types:
        copies = migration.copies()
        missing = uncopied(migration.selected().leaves, copies)
        if missing:
            raise StateError(doing, migration.name, describe_uncopied(missing, copies), remedy)


def _plan_resting(migration: Migration, wanted: TaskOptions, systemd: Systemd | None) -> Plan:
    """Return the plan that pauses or stops the task. In both cases the slot retains at the source what is not applied."""
    folder = worker_folder(wanted.home, migration.name)
    task = observe_task(migration, folder)
    paused = wanted.state == "paused"
    if paused:
        _refuse_disarmed(migration, task, "pausing")
    changes: list[Change] = []
    if task.control is not None and task.control.wanted != "disarmed":
        changes += _control_changes(migration, task.control, wanted.state, _settings(task, wanted))
    if task.runs and not paused:
        changes.append(Change("worker host", f"CDC worker of {migration.name}", "running", None))

    def apply() -> Mapping[str, object]:
        if changes and task.control is not None:
            set_wanted(migration.store, wanted.state, _settings(task, wanted))
        if not paused:
            stop_task(migration, folder, wanted.stop_timeout, systemd)
        elif task.runs:
            wait_paused(migration, wanted.stop_timeout)
        return {"task": observe_task(migration, folder).result()}

    return Plan(tuple(changes), {"task": task.result()}, apply, _cost(task))


def _cost(task: ObservedTask) -> tuple[str, ...]:
    """Return how much WAL the slot retains while the task is paused or stopped, as notes."""
    if task.control is None:
        return ("There is no CDC task yet.",)
    if task.retained is None:
        return ("The WAL that the slot retains is unknown: the source could not be reached, or has no such slot.",)
    return (
        f"The slot retains {size(task.retained)} of WAL at the source now, and all WAL that is written there until the"
        " task is started again.",
    )


def _control_changes(
    migration: Migration, before: ControlRow | None, wanted: str, settings: Mapping[str, object]
) -> tuple[Change, ...]:
    """Return the change of the control row; nothing if it is as wanted."""
    if before is not None and (before.wanted, dict(before.settings)) == (wanted, settings):
        return ()
    text = control_statement(migration.store, wanted, settings, exists=before is not None)
    return (
        Change(
            "destination",
            f"CDC task of {migration.name}",
            None if before is None else {"wanted": before.wanted, "settings": dict(before.settings)},
            {"wanted": wanted, "settings": dict(settings)},
            (text.as_string(migration.destination),),
        ),
    )
