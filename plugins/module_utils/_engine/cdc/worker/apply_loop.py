# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The apply loop: one run of the stream, from messages to batches to the destination, until the control row wants
something else. A large batch is written while the next one is prepared.
"""

from __future__ import annotations

import time
from concurrent.futures import wait
from typing import TYPE_CHECKING, Final

from ...objects.mapping import IDENTITY
from ...postgres.connect import explain_errors
from ...state import markers
from ...state.copies import table_copies
from ...state.source_schema import heartbeat_tables, sends_messages
from ..apply.applier import Applier
from ..apply.destination_table import observe_uniques
from ..apply.target_table import TargetTables
from ..changes.batcher import Batcher
from ..control.lifecycle import WorkerStep
from .resume import table_parts, wait_until_slot_inactive
from .stream import ReplicationStream

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor
    from contextlib import ExitStack

    from ...postgres.connect import Connection
    from ...postgres.lsn import Lsn
    from ..changes.batches import Batch
    from ..changes.keys import UniqueIndex
    from ..monitor.slot_monitor import SlotWatch
    from .connections import Sessions
    from .control import Control
    from .report import Reporter
    from .resume import ResumePoint

_LARGE: Final = 2_000
"""Rows from which a batch keeps the destination busy for longer than it takes to hand it to another thread."""

_LOOK_EVERY: Final = 0.02
_TAKE: Final = 0.2
_RECORD_EVERY: Final = 1.0
_SLOT_TIMEOUT: Final = 5.0
_DRAIN_TIMEOUT: Final = 15.0
"""Seconds for which a large source transaction may continue after a stop was requested; then it is rolled back, and the
source sends it again."""


class ApplyLoop:
    """One run of the stream to the destination.

    ``progressed`` is called with every position that has become durable at the destination, before it is confirmed to
    the source; ``done`` is the position from which the stream was resumed.
    """

    def __init__(
        self,
        sessions: Sessions,
        stream: ReplicationStream,
        batcher: Batcher,
        applier: Applier,
        done: Lsn,
        *,
        control: Control,
        slot_monitor: SlotWatch,
        reporter: Reporter,
        progressed: Callable[[Lsn], None],
    ) -> None:
        self.stream = stream
        self._sessions = sessions
        self._batcher = batcher
        self._applier = applier
        self._done = done
        self._control = control
        self._slot_monitor = slot_monitor
        self._reporter = reporter
        self._progressed = progressed
        self._urgent = False
        self._recorded_at = 0.0

    def run(self, writer: Executor) -> None:
        """Apply until the control row wants something else; ``writer`` has one thread, which writes large batches."""
        asked_at = 0.0
        while True:
            self._slot_monitor.require()
            if self._control.step() is not WorkerStep.APPLY:
                asked_at = asked_at or time.monotonic()
                if not self._applier.open or time.monotonic() - asked_at > _DRAIN_TIMEOUT:
                    self._applier.abandon()
                    return
            narrowed = self._control.look(self._batcher)
            self._applier.set_conflict_policy(self._control.settings.conflict_policy)
            if not self._applier.open:
                self._report_settings()
            batch = None if narrowed else self.stream.take(_TAKE)
            if narrowed or (batch is not None and not self._apply(batch, writer)):
                # Smaller batches are wanted than those gathered, or none: the source sends again what was not applied.
                self._applier.abandon()
                return
            batch = None  # or what it holds would live until the next has come
            self._confirm_idle()

    def _report_settings(self) -> None:
        """Write the settings that the operator has changed to the timeline."""
        for what in self._control.take_news():
            self._reporter.reading.tags = self._control.settings.tags
            self._reporter.announce(self._sessions.store, "settings changed", what)

    def _apply(self, batch: Batch, writer: Executor) -> bool:
        """Apply a batch as soon as the pace allows; return False when the control row no longer wants it applied."""
        if not self._control.admit(batch, self._batcher):
            return False
        if self._write(batch, writer):
            self._confirm()
        return True

    def _write(self, batch: Batch, writer: Executor) -> bool:
        """Write a batch; while the destination writes a large one, the next is prepared.

        Returns whether its transaction is committed and durable.
        """
        stream = self.stream
        if batch.changes < _LARGE:
            return self._applier.apply(batch, stream.received, stream.confirmed)
        written = writer.submit(self._applier.apply, batch, stream.received, stream.confirmed)
        prepared: Batch | None = None
        while not written.done():
            upcoming = stream.upcoming()
            if upcoming is not None and upcoming is not prepared:
                self._applier.prepare(upcoming)
                prepared = upcoming
            else:
                wait((written,), _LOOK_EVERY)
        return written.result()

    def _confirm_idle(self) -> None:
        """Record and confirm the position of a keepalive, while nothing is pending."""
        if self._applier.open:
            return
        position = self.stream.idle_position()
        if position <= self._done:
            return
        now = time.monotonic()
        self._urgent = self._urgent or self.stream.take_reply_request()
        if now - self._recorded_at < _RECORD_EVERY and not self._urgent:
            return
        self._sessions.progress.record_confirmable(position, self.stream.received, self.stream.confirmed)
        self._confirm()
        self._recorded_at, self._urgent = now, False

    def _confirm(self) -> None:
        """Confirm the position that is durable at the destination to the source."""
        self._done = self._sessions.progress.confirmable
        self._progressed(self._done)
        self.stream.confirm(self._done)


def open_apply_loop(
    stack: ExitStack,
    point: ResumePoint,
    sessions: Sessions,
    control: Control,
    slot_monitor: SlotWatch,
    reporter: Reporter,
    progressed: Callable[[Lsn], None],
) -> ApplyLoop:
    """Start the stream at ``point`` and return the loop that applies it; ``stack`` closes the stream.

    Raises EngineError.
    """
    store, parts = sessions.store, table_parts(sessions.store)
    limits = control.settings.batch_limits()
    ours = heartbeat_tables(point.source)
    batcher = Batcher(point.marks, ours, limits, point.applied, parts=parts, marker_prefix=markers.PREFIX)
    stream = ReplicationStream(point.walsender, point.patience, batcher, point.confirmable)
    stack.callback(stream.close)
    tables = TargetTables(
        store.conn,
        batcher.types,
        lambda oid: _uniques_at(point.source, oid),
        binary=point.binary,
        server_version=min(point.source.info.server_version, store.conn.info.server_version),
        mapping=IDENTITY,
        copied_as={oid: copy.name for oid, copy in table_copies(store).items()},
        cut_by={oid: part.column for oid, part in parts.items()},
    )
    applier = Applier(store.conn, sessions.progress, store.name, tables, control.settings.conflict_policy)
    wait_until_slot_inactive(point.source, point.slot, store.name, _SLOT_TIMEOUT)
    messages = sends_messages(point.source)
    stream.start(point.slot, point.publication, binary=point.binary, messages=messages)
    return ApplyLoop(
        sessions,
        stream,
        batcher,
        applier,
        point.confirmable,
        control=control,
        slot_monitor=slot_monitor,
        reporter=reporter,
        progressed=progressed,
    )


def _uniques_at(source: Connection, oid: int) -> tuple[UniqueIndex, ...]:
    with explain_errors("looking at the unique indexes of", f"table {oid} of the source"):
        return observe_uniques(source, oid)
