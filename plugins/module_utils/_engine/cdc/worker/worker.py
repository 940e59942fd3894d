# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The CDC worker: takes up the stream where the destination stands, applies it, and does what the control row wants."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from ... import names
from ...capture.publication_members import BEFORE as PUBLICATION
from ...capture.publication_members import require_members
from ...errors import EngineError, StateError
from ...objects.mapping import IDENTITY
from ...postgres._psycopg import psycopg
from ...postgres.catalog import observe_catalog
from ...postgres.connect import connect, explain_errors, server_error
from ...postgres.lsn import Lsn, format_lsn
from ...postgres.server import identify_system
from ...slot.timeline import require_primary
from ...state.copies import table_copies
from ...state.heartbeat import heartbeat_tables
from ...state.progress import asked_or_alive_recently, record_state
from ...state.store import StateStore
from ...state.task import read_control, set_wanted
from ..apply.applier import Applier
from ..apply.destination_table import observe_uniques
from ..apply.progress import Claimant, ProgressStore
from ..apply.session import pin_applying_session
from ..changes.batcher import Batcher
from ..changes.compiled import running_engine
from ..control.config import WorkerConfig, load_config
from ..control.lifecycle import RECOVERY_DAYS, FailureStreak, WorkerStep, after_failure, kind_of
from ..control.signals import Signals, Supervisor
from ..monitor.metrics import Metrics, Reading
from ..monitor.monitor import Positions, Watcher
from ..monitor.slot_monitor import SlotWatch
from .apply_loop import Pump, Sessions
from .control import Control
from .resume import binary_everywhere, resume_position, table_marks, table_parts, wait_until_slot_inactive
from .stream import ReplicationStream

if TYPE_CHECKING:
    from ...postgres.connect import Connection
    from ..changes.batches import Batch
    from ..changes.keys import UniqueIndex

EXIT_DONE: Final = 0
EXIT_FAILED: Final = 1
EXIT_NO_STATE: Final = 3

_TAKE = 0.2
_RECORD_EVERY = 1.0
_LOCK_TIMEOUT = 30.0
_SLOT_TIMEOUT = 5.0
_DRAIN_TIMEOUT = 15.0
"""How long a large source transaction may go on after a stop was asked for; then it is taken back and comes again."""


class Worker:
    """One process for one migration. ``config_path`` is read again at every reconnect."""

    def __init__(self, config_path: str, log: logging.Logger, orders: Signals, supervision: Supervisor) -> None:
        self._path = config_path
        self._log = log
        self._stop = orders.stop
        self._wake = orders.wake
        self._supervision = supervision
        self._trouble: FailureStreak | None = None
        self._steering = Control(orders.stop, log, supervision.pulse)
        self._reading = Reading()
        self._metrics = Metrics(self._reading)
        self._ran = self._rested = False
        self._token = secrets.token_hex(12)
        self._guard = SlotWatch(lambda: load_config(self._path), self._token, log)
        self._done: Lsn = 0
        self._stream: ReplicationStream | None = None

    def run(self) -> int:
        """Work until told to stop, or until a failure that waiting does not cure. Returns the exit status."""
        try:
            return self._work()
        finally:
            self._guard.close()

    def _work(self) -> int:
        while True:
            config: WorkerConfig | None = None
            self._supervision.pulse.beat()
            try:
                config = load_config(self._path)
                step = self._connected(config)
            except EngineError as exc:
                if not self._should_retry(exc, config):
                    return EXIT_FAILED
            except psycopg.Error as exc:
                if not self._should_retry(server_error(exc, "applying changes at the", "destination"), config):
                    return EXIT_FAILED
            except Exception as exc:  # noqa: BLE001 - whatever it is, the task must be seen to have failed
                self._log.exception("a bug of the worker")
                bug = EngineError("applying changes of migration", "", type(exc).__name__, "Report this as a bug.")
                self._should_retry(bug, config)
                return EXIT_FAILED
            else:
                self._log.info("leaving: %s", step.value)
                return EXIT_NO_STATE if step is WorkerStep.LEAVE else EXIT_DONE
            if self._stop.is_set():
                return EXIT_DONE  # what is not committed comes again

    def _should_retry(self, error: EngineError, config: WorkerConfig | None) -> bool:
        """After a failure: say it, and wait before the next attempt, or give up."""
        verdict = after_failure(self._trouble, kind_of(error), time.monotonic(), self._steering.settings.retry_limits())
        first = self._trouble is None or self._trouble.kind is not verdict.trouble.kind
        self._trouble = verdict.trouble
        self._reading.retries += verdict.again
        state = "retrying" if verdict.again else "failed"
        self._reading.state = state
        self._log.error("%s: %s", state, error, extra={"event": state, "fields": dict(error.as_result())})
        if config is not None:
            self._report(config, state, error, event=first or not verdict.again)
        self._supervision.told(f"{state}: {error.doing} {error.what}")
        if verdict.again:
            self._wake.wait(verdict.wait)
            self._wake.clear()
        return verdict.again

    def _report(self, config: WorkerConfig, state: str, error: EngineError, *, event: bool) -> None:
        """Write state and error to the destination, if it can be reached at all; of a row of failures one event."""
        try:
            with connect(config.destination, f"report {config.name}") as conn:
                store = StateStore(conn, config.state_schema, config.name)
                if store.load() is not None:
                    record_state(store, self._token, state, error.as_result())
                    if event:
                        store.event("replicating", f"CDC worker {state}", error.as_result())
        except (EngineError, psycopg.Error) as exc:
            self._log.warning("the destination could not be told: %s", type(exc).__name__)

    def _connected(self, config: WorkerConfig) -> WorkerStep:
        """From one connection to the destination to its end; what made it end."""
        with ExitStack() as stack:
            conn = stack.enter_context(connect(config.destination, f"worker {config.name}"))
            store = StateStore(conn, config.state_schema, config.name)
            migration = store.load()
            control = read_control(store) if migration is not None else None
            if migration is None or control is None:
                self._log.error("there is no %s of this name", "migration" if migration is None else "CDC task")
                return WorkerStep.LEAVE
            progress = ProgressStore(
                conn, store, Claimant(self._token, socket.gethostname(), os.getpid(), running_engine(config.engine))
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
            self._steering.follow(watcher)
            self._reading.tags = self._steering.settings.tags
            if migration.slot:
                self._guard.start(str(migration.slot["name"]))
            return self._control_loop(config, Sessions(store, progress, migration, watcher))

    def _control_loop(self, config: WorkerConfig, ends: Sessions) -> WorkerStep:
        """Do what the control row wants, for as long as this connection lasts."""
        while True:
            step = self._steering.step()
            if step is WorkerStep.LEAVE:
                return step
            if step in (WorkerStep.STOP, WorkerStep.DISARM):
                record_state(ends.store, self._token, step.value)
                self._announce(ends, step.value, {"applied": format_lsn(self._done)})
                return step
            if step is WorkerStep.REST:
                self._rest(ends)
            else:
                self._stream_changes(config, ends)

    def _rest(self, ends: Sessions) -> None:
        """Keep process and lock, let go of the source, until something else is wanted."""
        record_state(ends.store, self._token, WorkerStep.REST.value)
        self._reading.state = WorkerStep.REST.value
        seen = ends.watcher.source.sample(time.monotonic())
        kept = {"slot_keeps_bytes": seen.retained} if seen else {}
        self._announce(ends, WorkerStep.REST.value, {"applied": format_lsn(self._done), **kept})
        self._rested = True
        while self._steering.step() is WorkerStep.REST:
            self._guard.require()
            self._stop.wait(_TAKE)

    def _announce(self, ends: Sessions, what: str, fields: dict[str, object]) -> None:
        """Log what the worker does now, and write it to the timeline. Only between destination transactions."""
        self._supervision.told(what)
        self._log.info("%s", what, extra={"event": what, "fields": fields})
        ends.store.event("replicating", f"CDC worker {what}", fields)

    def _abandoned_error(self, store: StateStore) -> StateError:
        """What starts by itself must not surprise: the task is stopped, until a person wants it."""
        set_wanted(store, "stopped")
        return StateError(
            "starting the CDC worker of",
            store.name,
            f"it was down for more than {RECOVERY_DAYS} days, and nobody has asked for it since",
            "Look with the status playbook what has become of both ends; the migrate playbook starts it again.",
        )

    def _positions(self) -> Positions:
        stream = self._stream
        return Positions(self._done, stream.received if stream else 0, stream.confirmed if stream else 0)

    def _stream_changes(self, config: WorkerConfig, ends: Sessions) -> None:
        """One connection to the source: check that the stream may be taken up here, and apply it."""
        slot = dict(ends.migration.slot or {})
        row = ends.progress.load()
        if not slot or row is None:
            raise StateError("starting the CDC worker of", config.name, "the migration has no slot", _RUN_MIGRATE)
        with ExitStack() as stack:
            source = stack.enter_context(connect(config.source, f"worker {config.name}"))
            require_primary(source)
            catalog = observe_catalog(source, "source", leave_out=("causeway",))
            marks = table_marks(ends.store, ends.migration, catalog)
            timeout = source.execute(
                "SELECT setting::int FROM pg_catalog.pg_settings WHERE name = 'wal_sender_timeout'"
            )
            milliseconds = (timeout.fetchone() or (60000,))[0]
            walsender = stack.enter_context(connect(config.source, f"stream {config.name}", replication=True))
            system = identify_system(walsender, config.source)
            confirmable = resume_position(source, walsender, slot, row, system, ends.store, self._log)
            publication = names.publication_name(config.name)
            require_members(source, publication, ends.migration.before_image.get(PUBLICATION, {}))
            binary = binary_everywhere(source, catalog, ends.store.conn, config.state_schema, marks, IDENTITY)
            ends.progress.claim(system.identifier, system.timeline, row.applied, confirmable)
            self._done = confirmable
            limits = self._steering.settings.batch_limits()
            parts = table_parts(ends.store)
            batcher = Batcher(marks, heartbeat_tables(source), limits, row.applied, parts=parts)
            stream = ReplicationStream(walsender, milliseconds / 1000, batcher, confirmable)
            stack.callback(stream.close)
            applier = Applier(
                ends.store.conn,
                ends.progress,
                config.name,
                batcher.types,
                lambda oid: _uniques_at(source, oid),
                binary=binary,
                mapping=IDENTITY,
                copied_as={oid: copy.name for oid, copy in table_copies(ends.store).items()},
                cut_by={oid: part.column for oid, part in parts.items()},
                conflict_policy=self._steering.settings.conflict_policy,
            )
            wait_until_slot_inactive(source, slot["name"], _SLOT_TIMEOUT)
            stream.start(slot["name"], publication, binary=binary)
            self._stream = stream
            self._say_running(
                ends,
                {
                    "from": format_lsn(confirmable),
                    "timeline": system.timeline,
                    "format": "binary" if binary else "text",
                    "tables": len(marks),
                    "engine": config.engine,
                },
            )
            ends.watcher.applying = True
            try:
                writer = stack.enter_context(ThreadPoolExecutor(1, "writer"))
                self._pump(Pump(ends, stream, batcher, applier, writer))
            finally:
                self._stream = None
                ends.watcher.applying = False

    def _say_running(self, ends: Sessions, fields: dict[str, object]) -> None:
        again = "resumed" if self._rested else "running again" if self._ran else "running"
        if again != "running again" or self._reading.state != "running":  # else it was for other settings alone
            self._announce(ends, again, fields)
        self._ran, self._rested = True, False
        self._reading.state = "running"

    def _pump(self, pump: Pump) -> None:
        """Messages to pieces to the destination, until something else is wanted."""
        asked_at = 0.0
        while True:
            self._guard.require()
            if self._steering.step() is not WorkerStep.APPLY:
                asked_at = asked_at or time.monotonic()
                if not pump.applier.open or time.monotonic() - asked_at > _DRAIN_TIMEOUT:
                    pump.applier.abandon()
                    return
            narrowed = self._steering.look(pump.batcher)
            pump.applier.set_conflict_policy(self._steering.settings.conflict_policy)
            if not pump.applier.open:
                self._tell_changes(pump.ends)
            batch = None if narrowed else pump.stream.take(_TAKE)
            if narrowed or (batch is not None and not self._apply(pump, batch)):
                # Other pieces are wanted than those that have been made, or none: what was not applied comes again.
                pump.applier.abandon()
                return
            self._confirm_idle(pump)

    def _tell_changes(self, ends: Sessions) -> None:
        """The settings that a person has changed, in the timeline."""
        for what in self._steering.take_news():
            self._reading.tags = self._steering.settings.tags
            self._announce(ends, "settings changed", what)

    def _apply(self, pump: Pump, batch: Batch) -> bool:
        if not self._steering.admit(batch, pump.batcher):
            return False
        if pump.write(batch):
            self._trouble = None
            self._done = pump.ends.progress.confirmable
            pump.stream.confirm(self._done)
        return True

    def _confirm_idle(self, pump: Pump) -> None:
        """While nothing is pending, the position of a keepalive may be recorded, and then confirmed."""
        if pump.applier.open:
            return
        position = pump.stream.idle_position()
        if position <= self._done:
            return
        now = time.monotonic()
        pump.urgent = pump.urgent or pump.stream.take_reply_request()
        if now - pump.recorded_at < _RECORD_EVERY and not pump.urgent:
            return
        pump.ends.progress.record_confirmable(position, pump.stream.received, pump.stream.confirmed)
        self._trouble = None
        self._done = pump.ends.progress.confirmable
        pump.stream.confirm(self._done)
        pump.recorded_at, pump.urgent = now, False


def _uniques_at(source: Connection, oid: int) -> tuple[UniqueIndex, ...]:
    with explain_errors("looking at the unique indexes of", f"table {oid} of the source"):
        return observe_uniques(source, oid)


_RUN_MIGRATE = "Run the migrate playbook: it takes the steps that come before."
