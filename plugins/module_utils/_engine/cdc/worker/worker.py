# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The CDC worker: connects, does what the control row wants, and retries what waiting cures. `apply_loop` applies."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ...errors import EngineError, StateError
from ...postgres._psycopg import psycopg
from ...postgres.connect import connect, server_error
from ...postgres.lsn import Lsn, format_lsn
from ...postgres.silence import Ended, explained, watching
from ...state.progress import asked_or_alive_recently, record_state
from ...state.store import StateStore
from ...state.task import read_control, set_wanted
from ..apply.progress import Claimant, ProgressStore
from ..apply.session import pin_applying_session
from ..changes.compiled import running_engine
from ..control.config import WorkerConfig, load_config
from ..control.lifecycle import RECOVERY_DAYS, FailureStreak, WorkerStep, after_failure, kind_of
from ..control.pidfile import place_of
from ..monitor.metrics import Metrics, Reading
from ..monitor.monitor import Positions, Watcher
from ..monitor.slot_monitor import SlotWatch
from .apply_loop import ApplyLoop, open_apply_loop
from .connections import Sessions
from .control import Control
from .report import Reporter
from .resume import resume

if TYPE_CHECKING:
    from ..control.signals import Signals, Supervisor

EXIT_DONE: Final = 0
EXIT_FAILED: Final = 1
EXIT_NO_STATE: Final = 3

_NAP: Final = 0.2
_LOCK_TIMEOUT: Final = 30.0


class Worker:
    """One process for one migration. ``config_path`` is read again at every reconnect."""

    def __init__(self, config_path: str, log: logging.Logger, orders: Signals, supervision: Supervisor) -> None:
        self._path = config_path
        self._log = log
        self._stop = orders.stop
        self._wake = orders.wake
        self._supervision = supervision
        self._trouble: FailureStreak | None = None
        self._control = Control(orders.stop, log, supervision.pulse)
        self._reading = Reading()
        self._metrics = Metrics(self._reading)
        self._ran = self._rested = False
        self._token = secrets.token_hex(12)
        self._place = place_of(Path(config_path))
        self._reporter = Reporter(self._token, log, supervision, self._reading)
        self._slot_monitor = SlotWatch(lambda: load_config(self._path), self._token, log)
        self._done: Lsn = 0
        self._loop: ApplyLoop | None = None

    def run(self) -> int:
        """Work until stopped, or until a failure that waiting does not cure. Returns the exit status."""
        try:
            with watching(self._gave_up):
                return self._work()
        finally:
            self._slot_monitor.close()

    def _gave_up(self, ended: Ended) -> None:
        """Log a session that got no answer: also one that only watches, whose end shows nowhere else."""
        self._log.warning("given up: %s", ended, extra={"event": "silence", "fields": {"end": ended.end}})

    def _work(self) -> int:
        while True:
            config: WorkerConfig | None = None
            self._supervision.pulse.beat()
            try:
                config = load_config(self._path)
                step = self._connected(config)
            except EngineError as exc:
                if not self._should_retry(explained(exc), config):
                    return EXIT_FAILED
            except psycopg.Error as exc:
                error = server_error(exc, "applying changes at the", "destination")
                if not self._should_retry(explained(error), config):
                    return EXIT_FAILED
            except Exception as exc:  # noqa: BLE001 - any exception must show as a failed task
                self._log.exception("a bug of the worker")
                bug = EngineError("applying changes of migration", "", type(exc).__name__, "Report this as a bug.")
                self._should_retry(bug, config)
                return EXIT_FAILED
            else:
                self._log.info("leaving: %s", step.value)
                return EXIT_NO_STATE if step is WorkerStep.LEAVE else EXIT_DONE
            if self._stop.is_set():
                return EXIT_DONE  # the source sends again what is not committed

    def _should_retry(self, error: EngineError, config: WorkerConfig | None) -> bool:
        """Report a failure, and wait before the next attempt; return False to give up."""
        verdict = after_failure(self._trouble, kind_of(error), time.monotonic(), self._control.settings.retry_limits())
        first = self._trouble is None or self._trouble.kind is not verdict.trouble.kind
        self._trouble = verdict.trouble
        self._reporter.failed(config, error, again=verdict.again, event=first or not verdict.again)
        if verdict.again:
            self._wake.wait(verdict.wait)
            self._wake.clear()
        return verdict.again

    def _connected(self, config: WorkerConfig) -> WorkerStep:
        """Work over one connection to the destination; return the step that ended it."""
        with ExitStack() as stack:
            conn = stack.enter_context(connect(config.destination, f"worker {config.name}"))
            store = StateStore(conn, config.state_schema, config.name)
            migration = store.load()
            control = read_control(store) if migration is not None else None
            if migration is None or control is None:
                self._log.error("there is no %s of this name", "migration" if migration is None else "CDC task")
                return WorkerStep.LEAVE
            progress = ProgressStore(
                conn,
                store,
                Claimant(self._token, socket.gethostname(), os.getpid(), running_engine(config.engine), self._place),
            )
            if progress.load() is None:
                self._log.error("the CDC task has no progress row")
                return WorkerStep.LEAVE
            progress.take_lock(_LOCK_TIMEOUT)
            recent = self._ran or asked_or_alive_recently(store, RECOVERY_DAYS)
            progress.begin()
            if not recent:
                raise self._abandoned_error(store)
            self._reading.migration, self._reading.engine = config.name, config.engine
            self._metrics.serve(config.metrics_port)
            pin_applying_session(conn)
            slot = str((migration.slot or {}).get("name", ""))
            watcher = Watcher(
                lambda: load_config(self._path),
                store,
                self._token,
                control,
                slot,
                self._positions,
                self._reading,
                self._supervision.pulse,
            )
            stack.callback(watcher.close)
            watcher.start()
            self._control.follow(watcher)
            self._reading.tags = self._control.settings.tags
            if migration.slot:
                self._slot_monitor.start(str(migration.slot["name"]))
            return self._control_loop(config, Sessions(store, progress, migration, watcher))

    def _control_loop(self, config: WorkerConfig, sessions: Sessions) -> WorkerStep:
        """Do what the control row wants while this connection lasts; return the step that ends the worker."""
        while True:
            step = self._control.step()
            if step is WorkerStep.LEAVE:
                return step
            if step in (WorkerStep.STOP, WorkerStep.DISARM):
                record_state(sessions.store, self._token, step.value)
                self._reporter.announce(sessions.store, step.value, {"applied": format_lsn(self._done)})
                return step
            if step is WorkerStep.REST:
                self._rest(sessions)
            else:
                self._stream_changes(config, sessions)

    def _rest(self, sessions: Sessions) -> None:
        """Pause: keep process and lock, disconnected from the source, until the control row wants something else."""
        record_state(sessions.store, self._token, WorkerStep.REST.value)
        self._reading.state = WorkerStep.REST.value
        seen = sessions.watcher.source.sample(time.monotonic())
        kept = {"slot_keeps_bytes": seen.retained} if seen else {}
        self._reporter.announce(sessions.store, WorkerStep.REST.value, {"applied": format_lsn(self._done), **kept})
        self._rested = True
        while self._control.step() is WorkerStep.REST:
            self._slot_monitor.require()
            self._stop.wait(_NAP)

    def _abandoned_error(self, store: StateStore) -> StateError:
        """Stop the task until the operator starts it, and return the error: a worker that starts by itself must not
        surprise.
        """
        set_wanted(store, "stopped")
        return StateError(
            "starting the CDC worker of",
            store.name,
            f"it was down for more than {RECOVERY_DAYS} days, and no run has asked for it since",
            "Check both ends with the status playbook; the migrate playbook starts the worker again.",
        )

    def _positions(self) -> Positions:
        loop = self._loop
        return Positions(self._done, loop.stream.received if loop else 0, loop.stream.confirmed if loop else 0)

    def _progressed(self, position: Lsn) -> None:
        """Note a position that has become durable at the destination, which ends a streak of failures."""
        self._trouble = None
        self._done = position

    def _stream_changes(self, config: WorkerConfig, sessions: Sessions) -> None:
        """Apply the stream over one connection to the source, after checking that it may be resumed here."""
        with ExitStack() as stack:
            point = resume(stack, config, sessions, self._log)
            self._done = point.confirmable
            loop = open_apply_loop(
                stack, point, sessions, self._control, self._slot_monitor, self._reporter, self._progressed
            )
            self._loop = loop
            try:
                self._announce_running(sessions.store, {**point.described(), "engine": config.engine})
                sessions.watcher.applying = True
                loop.run(stack.enter_context(ThreadPoolExecutor(1, "writer")))
            finally:
                self._loop = None
                sessions.watcher.applying = False

    def _announce_running(self, store: StateStore, fields: dict[str, object]) -> None:
        again = "resumed" if self._rested else "running again" if self._ran else "running"
        if again != "running again" or self._reading.state != "running":  # else only settings changed
            self._reporter.announce(store, again, fields)
        self._ran, self._rested = True, False
        self._reading.state = "running"
