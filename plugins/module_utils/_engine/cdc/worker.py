# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The CDC worker: takes up the stream where the destination stands, applies it, and does what the control row wants."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from .. import names
from .._psycopg import psycopg
from ..catalog import Catalog, observe_catalog
from ..connect import connect, server_error
from ..errors import EngineError, StateError
from ..lsn import Lsn, format_lsn, parse_lsn
from ..selection import SchemaRule, select
from ..server import identify_system
from ..slots import observe_slot
from ..state import MigrationState, StateStore
from .apply import Applier
from .batch import Batcher
from .control import read_control
from .destination_table import observe_uniques
from .part_marks import PartMarks, part_marks
from .slot_guard import (
    check_slot,
    copied_too_late,
    copy_again,
    heartbeat_tables,
    position_after_switch,
    read_history,
    require_primary,
)
from .slot_watch import SlotWatch
from .state import Step, Trouble, after_failure, kind_of, next_step
from .store import Claimant, Progress, ProgressStore, pin_applying_session, record_state
from .stream import ReplicationStream
from .watch import Positions, Watcher
from .worker_config import TaskSettings, WorkerConfig, load_config, task_settings

if TYPE_CHECKING:
    from ..connect import Connection
    from ..server import System
    from .pieces import Piece

EXIT_DONE: Final = 0
EXIT_FAILED: Final = 1
EXIT_NO_STATE: Final = 3

_TAKE = 0.2
_RECORD_EVERY = 1.0
_LOCK_TIMEOUT = 30.0
_DRAIN_TIMEOUT = 15.0
"""How long a large source transaction may go on after a stop was asked for; then it is taken back and comes again."""


@dataclass(frozen=True, slots=True)
class Ends:
    """The sessions and facts of one connection to both ends."""

    store: StateStore
    progress: ProgressStore
    migration: MigrationState
    watcher: Watcher


class Worker:
    """One process for one migration. ``config_path`` is read again at every reconnect; ``stop`` ends it from outside."""

    def __init__(self, config_path: str, log: logging.Logger, stop: threading.Event) -> None:
        self._path = config_path
        self._log = log
        self._stop = stop
        self._trouble: Trouble | None = None
        self._settings = TaskSettings()
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
            try:
                config = load_config(self._path)
                step = self._connected(config)
            except EngineError as exc:
                if not self._goes_on(exc, config):
                    return EXIT_FAILED
            except psycopg.Error as exc:
                if not self._goes_on(server_error(exc, "applying changes at the", "destination"), config):
                    return EXIT_FAILED
            except Exception as exc:  # noqa: BLE001 - whatever it is, the task must be seen to have failed
                self._log.exception("a bug of the worker")
                bug = EngineError("applying changes of migration", "", type(exc).__name__, "Report this as a bug.")
                self._goes_on(bug, config)
                return EXIT_FAILED
            else:
                self._log.info("leaving: %s", step.value)
                return EXIT_NO_STATE if step is Step.LEAVE else EXIT_DONE

    def _goes_on(self, error: EngineError, config: WorkerConfig | None) -> bool:
        """After a failure: say it, and wait before the next attempt, or give up."""
        verdict = after_failure(self._trouble, kind_of(error), time.monotonic(), self._settings.retry_limits())
        self._trouble = verdict.trouble
        state = "retrying" if verdict.again else "failed"
        self._log.error("%s: %s", state, error)
        if config is not None:
            self._tell(config, state, error)
        if verdict.again:
            self._stop.wait(verdict.wait)
        return verdict.again

    def _tell(self, config: WorkerConfig, state: str, error: EngineError) -> None:
        """Write state and error to the destination, if it can be reached at all."""
        try:
            with connect(config.destination, f"report {config.name}") as conn:
                store = StateStore(conn, config.state_schema, config.name)
                if store.load() is not None:
                    record_state(store, self._token, state, error.as_result())
                    if state == "failed":
                        store.event("replicating", "CDC worker failed", error.as_result())
        except (EngineError, psycopg.Error) as exc:
            self._log.warning("the destination could not be told: %s", type(exc).__name__)

    def _connected(self, config: WorkerConfig) -> Step:
        """From one connection to the destination to its end; what made it end."""
        with ExitStack() as stack:
            conn = stack.enter_context(connect(config.destination, f"worker {config.name}"))
            store = StateStore(conn, config.state_schema, config.name)
            migration = store.load()
            control = read_control(store) if migration is not None else None
            if migration is None or control is None:
                self._log.error("%s has no row of this migration", "migration" if migration is None else "cdc_task")
                return Step.LEAVE
            progress = ProgressStore(store, Claimant(self._token, socket.gethostname(), os.getpid(), config.engine))
            if progress.load() is None:
                self._log.error("cdc_progress has no row of this migration")
                return Step.LEAVE
            progress.take_lock(_LOCK_TIMEOUT)
            progress.begin()
            pin_applying_session(conn)
            watcher = Watcher(config, self._token, control, self._positions)
            stack.callback(watcher.close)
            watcher.start()
            if migration.slot:
                self._guard.start(str(migration.slot["name"]))
            return self._obey(config, Ends(store, progress, migration, watcher))

    def _obey(self, config: WorkerConfig, ends: Ends) -> Step:
        """Do what the control row wants, for as long as this connection lasts."""
        resting = False
        while True:
            step = self._step(ends.watcher)
            if step is Step.LEAVE:
                return step
            if step in (Step.STOP, Step.DISARM):
                record_state(ends.store, self._token, step.value)
                return step
            if step is Step.REST:
                if not resting:
                    record_state(ends.store, self._token, step.value)
                    self._log.info("paused")
                resting = True
                self._guard.require()
                self._stop.wait(_TAKE)
                continue
            resting = False
            self._stream_changes(config, ends)

    def _step(self, watcher: Watcher) -> Step:
        control = watcher.control
        return next_step(None if control is None else control.wanted, self._stop.is_set())

    def _positions(self) -> Positions:
        stream = self._stream
        return Positions(self._done, stream.received if stream else 0, stream.confirmed if stream else 0)

    def _stream_changes(self, config: WorkerConfig, ends: Ends) -> None:
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
            confirmable = self._agree(source, walsender, slot, row, system, ends.store)
            binary = binary_everywhere(source, catalog, ends.store.conn, config.state_schema, marks)
            ends.progress.claim(system.identifier, system.timeline, row.applied, confirmable)
            self._done = confirmable
            settings = task_settings(ends.watcher.control.settings if ends.watcher.control else {})
            self._settings = settings
            parts = table_parts(ends.store)
            batcher = Batcher(marks, heartbeat_tables(source), settings.batch_limits(), row.applied, parts=parts)
            stream = ReplicationStream(walsender, milliseconds / 1000, batcher, confirmable)
            stack.callback(stream.close)
            applier = Applier(
                ends.store.conn,
                ends.progress,
                config.name,
                batcher.types,
                lambda oid: observe_uniques(source, oid),
                binary=binary,
                copied_as={oid: copy.name for oid, copy in ends.store.table_copies().items()},
                cut_by={oid: part.column for oid, part in parts.items()},
                conflict_policy=settings.conflict_policy,
            )
            stream.start(slot["name"], names.publication_name(config.name), binary=binary)
            self._stream = stream
            self._log.info(
                "running: from %s on timeline %s, %s, %s tables",
                format_lsn(confirmable),
                system.timeline,
                "binary" if binary else "text",
                len(marks),
            )
            try:
                self._pump(Pump(ends, stream, batcher, applier))
            finally:
                self._stream = None

    def _agree(
        self,
        source: Connection,
        walsender: Connection,
        slot: dict[str, object],
        row: Progress,
        system: System,
        store: StateStore,
    ) -> Lsn:
        """The position from which the stream may be taken up, after all that is known of slot and timeline."""
        confirmable = row.confirmable
        found = observe_slot(source, str(slot["name"]))
        if system.timeline != row.timeline and system.identifier == row.source_system:
            confirmable = position_after_switch(row, system, read_history(walsender, system.timeline))
            self._log.warning("the source is on timeline %s now, not on %s", system.timeline, row.timeline)
        check_slot(str(slot["name"]), found, slot, system, confirmable)
        copies = store.table_copies().values()
        if any((copy.timeline or row.timeline) != system.timeline for copy in copies):
            history = read_history(walsender, system.timeline)
            late, point = copied_too_late(copies, row.timeline, system.timeline, history)
            if late:
                raise copy_again(store, late, system.timeline, point)
        return confirmable

    def _pump(self, pump: Pump) -> None:
        """Messages to pieces to the destination, until something else is wanted."""
        generation = -1
        asked_at = 0.0
        while True:
            control = pump.ends.watcher.control
            self._guard.require()
            if self._step(pump.ends.watcher) is not Step.APPLY:
                asked_at = asked_at or time.monotonic()
                if not pump.applier.open or time.monotonic() - asked_at > _DRAIN_TIMEOUT:
                    pump.applier.abandon()
                    return
            elif control is not None and control.generation != generation:
                generation = control.generation
                self._settings = task_settings(control.settings)
                pump.batcher.limits = self._settings.batch_limits()
                pump.applier.set_conflict_policy(self._settings.conflict_policy)
            piece = pump.stream.take(_TAKE)
            if piece is not None:
                self._apply(pump, piece)
            self._confirm_idle(pump)

    def _apply(self, pump: Pump, piece: Piece) -> None:
        if pump.applier.apply(piece, pump.stream.received, pump.stream.confirmed):
            self._trouble = None
            self._done = pump.ends.progress.confirmable
            pump.stream.confirm(self._done)

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


class Pump:
    """What one run of the stream goes by."""

    def __init__(self, ends: Ends, stream: ReplicationStream, batcher: Batcher, applier: Applier) -> None:
        self.ends = ends
        self.stream = stream
        self.batcher = batcher
        self.applier = applier
        self.urgent = False
        self.recorded_at = 0.0


_RUN_MIGRATE = "Run the migrate playbook: it takes the steps that come before."


def table_marks(store: StateStore, migration: MigrationState, catalog: Catalog) -> dict[int, Lsn]:
    """The mark of every table, by source OID. Raises StateError while a selected table is not copied completely."""
    rules = tuple([SchemaRule(o["schema"], tuple(o["tables"]), tuple(o["exclude"])) for o in migration.spec["objects"]])
    leaves = select(rules, catalog).leaves
    if "full" not in migration.spec["types"]:
        point = parse_lsn(str((migration.slot or {})["consistent_point"]))
        return {table.oid: point for table in leaves}
    copies = store.table_copies()
    marks = {oid: copy.mark for oid, copy in copies.items() if copy.state == "complete"}
    missing = [str(table) for table in leaves if table.oid not in marks]
    if missing:
        raise StateError(
            "starting the CDC worker of",
            migration.name,
            f"{len(missing)} tables are not copied completely: {', '.join(missing[:10])}",
            "Run the migrate playbook: the full copy comes before the changes.",
        )
    return marks


def table_parts(store: StateStore) -> dict[int, PartMarks]:
    """The marks of the parts of every table that was copied in ranges of a key at different moments, by source OID."""
    found: dict[int, PartMarks] = {}
    for oid, ranges in store.parts_of_several_marks().items():
        column, type_oid, *dummy = ranges[0]
        parts = part_marks(column, type_oid, [(low, high, mark) for *dummy, low, high, mark in ranges])
        if parts is not None:
            found[oid] = parts
    return found


def binary_everywhere(
    source: Connection, catalog: Catalog, destination: Connection, state_schema: str, marks: dict[int, Lsn]
) -> bool:
    """Whether every column that is sent means the same bytes at both ends, and the source can send binary at all."""
    if source.info.server_version < 140000:
        return False
    there = observe_catalog(destination, "destination", leave_out=("causeway", state_schema)).tables_by_name()
    for oid in marks:
        table = catalog.tables.get(oid)
        if table is None:
            continue
        other = there.get(table.qualified_name)
        if not table.binary_safe or other is None or not other.binary_safe:
            return False
    return True
