# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The CDC task as a migration wants it: its control row, its worker's configuration and process on this host."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import names
from .._psycopg import sql
from ..connect import speaking
from ..errors import MismatchError, StateError
from ..marker import wait_applied, write_marker
from ..plan import Change, Plan
from .control import Control, Holder, holder, read_control, set_wanted
from .launch import held_by
from .process import end_process, first_progress, mark_stopped, start_process
from .worker_config import CONFIG_FILE, PID_FILE, TaskSettings, WorkerConfig, task_settings, write_private

if TYPE_CHECKING:
    from ..migration import Migration

_COLUMNS = (
    "state",
    "applied",
    "confirmable",
    "confirmed",
    "received",
    "timeline",
    "lag_bytes",
    "lag_seconds",
    "transactions",
    "inserts",
    "updates",
    "deletes",
    "truncates",
    "conflicts",
    "last_error",
    "engine",
    "host",
    "pid",
)


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """How the module was asked. ``wait`` is none or caught_up; timeouts in seconds."""

    state: str
    home: Path
    python: str
    engine: str
    wait: str
    wait_timeout: float
    stop_timeout: float
    settings: TaskSettings


def task_options(options: Mapping[str, Any]) -> TaskOptions:
    """The module's own options. Raises SpecError for a setting out of its range."""
    return TaskOptions(
        state=str(options["state"]),
        home=Path(options["worker_home"]),
        python=str(options.get("worker_python") or sys.executable),
        engine=str(options.get("engine") or ""),
        wait=str(options["wait"]),
        wait_timeout=float(options["wait_timeout"]),
        stop_timeout=float(options["stop_timeout"]),
        settings=task_settings(options),
    )


@dataclass(frozen=True, slots=True)
class ObservedTask:
    """The task as it is: its control row, who applies at the destination, which process runs here, its progress."""

    control: Control | None
    holder: Holder | None
    process: int | None
    progress: Mapping[str, Any]

    @property
    def runs(self) -> bool:
        return self.holder is not None or self.process is not None

    def result(self) -> Mapping[str, object]:
        """For the module's answer."""
        wanted = self.control.wanted if self.control else None
        return {"wanted": wanted, "running": self.runs, **self.progress}


def worker_folder(home: Path, name: str) -> Path:
    """Where the worker of one migration keeps configuration, log and process id."""
    return home / names.folder_name(name)


def observe_task(migration: Migration, folder: Path) -> ObservedTask:
    """Look at the task. Raises ServerError, and StateError for state tables that we do not know."""
    process = held_by(folder / PID_FILE)
    store = migration.store
    if store.load() is None:
        return ObservedTask(None, None, process, {})
    with speaking("reading the progress of migration", store.name):
        columns = sql.SQL(", ").join([sql.Identifier(column) for column in _COLUMNS])
        cursor = store.conn.execute(
            sql.SQL("SELECT {} FROM {} WHERE migration = %s").format(columns, store.table("cdc_progress")),
            (store.name,),
        )
        row = cursor.fetchone()
    progress = dict(zip(_COLUMNS, row, strict=True)) if row else {}
    return ObservedTask(read_control(store), holder(store.conn, store.name), process, progress)


def plan(migration: Migration, options: Mapping[str, Any]) -> Plan:
    """What makes the task as it is asked for. Raises EngineError."""
    wanted = task_options(options)
    if wanted.state == "absent":
        return _plan_absent(migration, wanted)
    if not migration.spec.incremental:
        return Plan(
            result={"task": {"wanted": None, "running": False, "state": "completed"}},
            notes=("This migration has no incremental part: its task is completed when the full copy is.",),
        )
    return _plan_stopped(migration, wanted) if wanted.state == "stopped" else _plan_started(migration, wanted)


def _plan_started(migration: Migration, wanted: TaskOptions) -> Plan:
    folder = worker_folder(wanted.home, migration.name)
    known = migration.state()
    task = observe_task(migration, folder) if known is not None else ObservedTask(None, None, None, {})
    if task.control is not None and task.control.wanted == "disarmed":
        raise StateError(
            "starting the CDC task of",
            migration.name,
            "it was disarmed for good when the destination was opened",
            "The destination is in production. To migrate into it again, set causeway_restart: true.",
        )
    carried = bool(wanted.engine) or (wanted.home / "engine").exists()
    engine = engine_folder(wanted) if carried else wanted.home / "engine" / "current"
    elsewhere = task.holder is not None and task.process is None
    settings = {**(task.control.settings if task.control else {}), **wanted.settings.stored()}
    changes: list[Change] = []
    if task.control is None or (task.control.wanted, dict(task.control.settings)) != ("started", settings):
        changes.append(_control_change(migration, task.control, "started", settings))
    config = WorkerConfig(
        migration.name, migration.spec.state_schema, migration.spec.source, migration.spec.destination, engine.name
    )
    path = folder / CONFIG_FILE
    if not elsewhere:
        changes += _config_changes(path, config, keep_engine=task.runs)
    if not task.runs:
        what = f"CDC worker of {migration.name}"
        changes.append(Change("worker host", what, None, "running", (f"{wanted.python} -m _engine.daemon",)))
    notes: tuple[str, ...] = (
        ("The worker runs on another host, or on this one under another worker_home.",) if elsewhere else ()
    )
    if known is None or not known.slot:
        notes += ("Slot and full copy are taken as made by then.",)
    if not carried:
        notes += ("The engine is taken as carried over by then, which the worker role does.",)

    def apply() -> Mapping[str, object]:
        _require_ready(migration)
        engine = engine_folder(wanted)
        if not elsewhere:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
            kept = _stored_engine(path) if task.runs else ""
            write_private(path, _with_engine(config, kept or engine.name).text())
        if not task.runs:
            first_progress(migration)
        set_wanted(migration.store, "started", settings)
        if not task.runs or (task.control and task.control.wanted != "started"):
            start_process(migration, folder, engine, wanted.python, launch_it=not task.runs)
        migration.store.advance("replicating")
        return {"task": observe_task(migration, folder).result()}

    return Plan(
        tuple(changes), {"task": task.result()}, apply, notes, record=partial(_caught_up, migration, wanted, folder)
    )


def _caught_up(migration: Migration, wanted: TaskOptions, folder: Path) -> Mapping[str, object]:
    """Write a marker and wait until it is applied, if that was asked for."""
    if wanted.wait != "caught_up":
        return {}
    seconds = wait_applied(migration.store, write_marker(migration.source, migration.name), wanted.wait_timeout)
    return {"caught_up": True, "waited": round(seconds, 3), "task": observe_task(migration, folder).result()}


def _require_ready(migration: Migration) -> None:
    """Raise StateError while the slot or the copy is missing: without either the stream would have a gap."""
    state = migration.state()
    remedy = "Run the migrate playbook: it takes the steps that come before."
    doing = "starting the CDC task of"
    if state is None or not state.slot or not state.slot.get("consistent_point"):
        raise StateError(doing, migration.name, "the migration has no replication slot yet", remedy)
    if "full" in migration.spec.types:
        copies = migration.copies()
        missing = [
            str(table)
            for table in migration.selected().leaves
            if table.oid not in copies or copies[table.oid].state != "complete"
        ]
        if missing:
            why = f"{len(missing)} tables are not copied completely: {', '.join(missing[:10])}"
            raise StateError(doing, migration.name, why, remedy)


def _plan_stopped(migration: Migration, wanted: TaskOptions) -> Plan:
    folder = worker_folder(wanted.home, migration.name)
    task = observe_task(migration, folder)
    changes: list[Change] = []
    if task.control is not None and task.control.wanted not in ("stopped", "disarmed"):
        changes.append(_control_change(migration, task.control, "stopped", task.control.settings))
    if task.runs:
        changes.append(Change("worker host", f"CDC worker of {migration.name}", "running", None))

    def apply() -> Mapping[str, object]:
        stop_task(migration, folder, wanted.stop_timeout)
        return {"task": observe_task(migration, folder).result()}

    return Plan(tuple(changes), {"task": task.result()}, apply)


def stop_task(migration: Migration, folder: Path, timeout: float) -> None:
    """Ask the worker to stop and wait until it has drained and gone. Raises TimeoutExpired, naming who applies."""
    if migration.store.load() is not None and read_control(migration.store) is not None:
        set_wanted(migration.store, "stopped")
    end_process(migration, folder, timeout)
    if migration.store.load() is not None:
        mark_stopped(migration)


def _plan_absent(migration: Migration, wanted: TaskOptions) -> Plan:
    folder = worker_folder(wanted.home, migration.name)
    task = observe_task(migration, folder)
    changes: list[Change] = []
    if task.runs:
        changes.append(Change("worker host", f"CDC worker of {migration.name}", "running", None))
    if task.control is not None:
        statement = _delete_control(migration)
        before = {"wanted": task.control.wanted, "settings": dict(task.control.settings)}
        changes.append(
            Change(
                "destination",
                f"CDC task of {migration.name}",
                before,
                None,
                (statement.as_string(migration.destination),),
            )
        )
    if folder.exists():
        changes.append(Change("worker host", str(folder), "configuration and log of the worker", None))

    def apply() -> Mapping[str, object]:
        stop_task(migration, folder, wanted.stop_timeout)
        if task.control is not None:
            with speaking("removing the CDC task of", migration.name):
                migration.destination.execute(_delete_control(migration))
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            raise StateError(
                "removing the CDC task of", migration.name, f"{folder} could not be removed", "Remove it by hand."
            )
        return {"task": observe_task(migration, folder).result()}

    return Plan(tuple(changes), {"task": task.result()}, apply)


def _delete_control(migration: Migration) -> sql.Composed:
    return sql.SQL("DELETE FROM {} WHERE migration = {}").format(
        migration.store.table("cdc_task"), sql.Literal(migration.name)
    )


def _control_change(
    migration: Migration, before: Control | None, wanted: str, settings: Mapping[str, object]
) -> Change:
    text = (
        sql.SQL("INSERT INTO {table} (migration, wanted, settings) VALUES ({name}, {wanted}, {settings})")
        if before is None
        else sql.SQL("UPDATE {table} SET wanted = {wanted}, settings = {settings} WHERE migration = {name}")
    ).format(
        table=migration.store.table("cdc_task"),
        name=sql.Literal(migration.name),
        wanted=sql.Literal(wanted),
        settings=sql.Literal(json.dumps(settings, sort_keys=True)),
    )
    return Change(
        "destination",
        f"CDC task of {migration.name}",
        None if before is None else {"wanted": before.wanted, "settings": dict(before.settings)},
        {"wanted": wanted, "settings": dict(settings)},
        (text.as_string(migration.destination),),
    )


def _config_changes(path: Path, config: WorkerConfig, *, keep_engine: bool) -> list[Change]:
    """The configuration where it differs; never its content, which holds the passwords."""
    kept = _stored_engine(path) if keep_engine else ""
    try:
        present = path.read_text(encoding="utf-8")
    except OSError:
        present = None
    if present == _with_engine(config, kept or config.engine).text():
        return []
    before = None if present is None else "other connection options or another engine"
    return [Change("worker host", str(path), before, "connection options of both ends")]


def _with_engine(config: WorkerConfig, engine: str) -> WorkerConfig:
    return WorkerConfig(config.name, config.state_schema, config.source, config.destination, engine)


def _stored_engine(path: Path) -> str:
    """A running worker keeps the engine that it was started with."""
    try:
        return str(json.loads(path.read_text(encoding="utf-8")).get("engine", ""))
    except (OSError, ValueError, AttributeError):
        return ""


def engine_folder(wanted: TaskOptions) -> Path:
    """The unpacked engine to run: the one that is named, else the one that ``current`` points at, else the only one.

    Raises StateError where there is none.
    """
    engines = wanted.home / "engine"
    found = engines / (wanted.engine or "current")
    if not wanted.engine and not found.exists():
        unpacked = [entry for entry in sorted(engines.glob("*")) if (entry / "_engine" / "daemon.py").exists()]
        found = unpacked[0] if len(unpacked) == 1 else found
    if not (found / "_engine" / "daemon.py").exists():
        raise StateError(
            "starting the CDC worker",
            str(found),
            "there is no unpacked engine",
            "Run the worker role, which carries it over: ansible-playbook … causeway.postgresql.precheck --tags worker.",
        )
    if not os.access(wanted.python, os.X_OK):
        raise MismatchError("starting the CDC worker", wanted.python, "it cannot be run", "Correct worker_python.")
    return found.resolve()
