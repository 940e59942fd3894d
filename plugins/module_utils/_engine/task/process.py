# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts the worker's process from a module, waits until it applies, and ends it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..cdc.control.config import CONFIG_FILE, LOG_FILE, PID_FILE
from ..cdc.control.pidfile import held_by, place_of
from ..errors import StateError, TimeoutExpired
from ..postgres.silence import unwatched
from ..state.advisory import holder, wait_gone
from ..state.progress import TABLE as PROGRESS_TABLE
from ..state.progress import create_progress, read_progress
from .detach import launch, worker_environment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..migration import Migration

_START_TIMEOUT = 90.0
_OUTPUT_FILE = "worker.out"
"""The output of the interpreter itself, before the log is open or when it crashes."""


def first_progress(migration: Migration) -> None:
    """Create the progress row at the slot's consistent point; if it exists, reset only the state.

    Raises StateError if it existed once and is missing: changes that were applied since would be applied again.
    """
    state = migration.state()
    slot = state.slot if state and state.slot else {}
    store = migration.store
    if state is not None and state.reached("replicating") and _observed(migration)[0] == "absent":
        raise StateError(
            "starting the CDC worker of",
            migration.name,
            f"its row in {store.schema}.{PROGRESS_TABLE} is missing: the position up to which changes were applied is lost",
            "Restore the row from a backup of this moment; otherwise release the migration and begin again.",
        )
    create_progress(store, slot)


class Launcher(Protocol):
    """Starts the worker's process, and reports why it has ended."""

    def start(self) -> None:
        """Start the process. Raises StateError."""

    def gone(self) -> str:
        """Return why the process has ended; empty while it is alive."""


class Detached:
    """An unsupervised process: only the next run restarts it."""

    def __init__(self, folder: Path, engine: Path, python: str) -> None:
        self._folder = folder
        self._engine = engine
        self._python = python
        self._pid = 0

    def start(self) -> None:
        """Start the process, in a session of its own. Raises StateError."""
        argv = [self._python, "-m", "_engine.daemon", "--config", str(self._folder / CONFIG_FILE)]
        environment = worker_environment(os.environ, str(self._engine))
        with unwatched():  # it forks
            self._pid = launch(argv, environment, self._folder, self._folder / _OUTPUT_FILE)

    def gone(self) -> str:
        """Return the last line of its output once it has ended; empty while it is alive."""
        if _lives(self._pid) or held_by(self._folder / PID_FILE) is not None:
            return ""
        return f"its process ended at once: {_last_line(self._folder / _OUTPUT_FILE)}"


def start_process(migration: Migration, folder: Path, launcher: Launcher | None) -> None:
    """Start the worker, or only wake a paused one, and wait until it applies.

    Raises StateError with the worker's own error if it fails, TimeoutExpired if it neither runs nor fails.
    """
    if launcher is not None:
        launcher.start()
    deadline = time.monotonic() + _START_TIMEOUT
    while True:
        state, error = _observed(migration)
        if state == "running" and holder(migration.destination, migration.name) is not None:
            return
        if state == "failed":
            raise StateError(
                f"starting the CDC worker: {error.get('doing', '')}",
                str(error.get("object", "")),
                str(error.get("why", "it failed")),
                str(error.get("remedy", "") or f"See {folder / LOG_FILE}."),
                sqlstate=str(error.get("sqlstate", "")),
            )
        gone = launcher.gone() if launcher is not None else ""
        if gone and _observed(migration)[0] not in ("failed", "running"):
            raise StateError(
                "starting the CDC worker of",
                migration.name,
                gone,
                f"See {folder / LOG_FILE} on the worker host.",
            )
        if time.monotonic() > deadline:
            raise TimeoutExpired(
                "starting the CDC worker of",
                migration.name,
                f"after {_START_TIMEOUT:g} s it is {state}: {error.get('why', 'no error so far')}",
                str(error.get("remedy", "") or f"See {folder / LOG_FILE} on the worker host."),
            )
        time.sleep(0.05)


def wait_paused(migration: Migration, timeout: float) -> None:
    """Wait until the worker has drained to a commit boundary and is paused, or has failed or ended: it applies nothing then.

    Raises TimeoutExpired.
    """
    deadline = time.monotonic() + timeout
    while True:
        state = _observed(migration)[0]
        if state in ("paused", "failed", "stopped") or holder(migration.destination, migration.name) is None:
            return
        if time.monotonic() > deadline:
            raise TimeoutExpired(
                "waiting for the CDC worker to pause in migration",
                migration.name,
                f"after {timeout:g} s it is still {state}",
                "It drains to a commit boundary first: wait longer with stop_timeout, or stop it.",
            )
        time.sleep(0.05)


def wake_process(folder: Path) -> None:
    """Notify the process on this host of a changed configuration: one that waits before a retry retries now."""
    pid = held_by(folder / PID_FILE)
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGHUP)


def _observed(migration: Migration) -> tuple[str, Mapping[str, Any]]:
    """Return the state and last error of the task; ``absent`` if there is no row."""
    row = read_progress(migration.store)
    return (row.state, row.error) if row else ("absent", {})


def _lives(pid: int) -> bool:
    """Return whether the process is alive. A zombie counts as dead."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return True
    return not status.rpartition(")")[2].strip().startswith("Z")


def _last_line(path: Path) -> str:
    try:
        lines = [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    except OSError:
        lines = []
    return lines[-1][:300] if lines else "it said nothing"


_AT_LEAST = 5.0
"""Seconds for which a session may end after its process, however long that took."""


def end_process(migration: Migration, folder: Path, timeout: float) -> None:
    """Stop the process on this host, and wait until it has ended and no session applies.

    Raises TimeoutExpired, naming the session that still applies.
    """
    deadline = time.monotonic() + timeout
    pid = held_by(folder / PID_FILE)
    if pid is not None:
        try:
            os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:
            pass  # it has ended by itself
    while held_by(folder / PID_FILE) is not None:
        if time.monotonic() > deadline:
            raise TimeoutExpired(
                "waiting for the CDC worker to stop in migration",
                migration.name,
                f"process {pid} on the worker host still runs after {timeout:g} s",
                "Wait longer, or end that process: nothing that was committed is lost.",
            )
        time.sleep(0.05)
    if migration.store.load() is not None:
        left = max(_AT_LEAST, deadline - time.monotonic())
        wait_gone(migration.destination, migration.name, left, former=place_of(folder / CONFIG_FILE))
