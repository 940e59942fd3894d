# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A second session at the destination, in a thread of its own, beside the one that applies.

It reads the control row (at once when notified, else every second) and records heartbeat, lag and rates, which the
operator wants to see while a large transaction is applied. The source's WAL position comes from `source_monitor`, so
that a source that does not answer delays no command.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...errors import EngineError
from ...flow.rates import RateMeter
from ...large_objects.writes import LargeObjectWatch
from ...postgres._psycopg import psycopg, sql
from ...postgres.connect import connect
from ...postgres.lsn import Lsn
from ...state.progress import UNREPLICATED, record_heartbeat
from ...state.store import StateStore
from ...state.task import ControlRow, channel, read_control
from .metrics import Reading
from .source_monitor import SourceWatch

if TYPE_CHECKING:
    from ...postgres.connect import Connection
    from ..control.config import WorkerConfig
    from ..control.sd_notify import Pulse

_POLL = 1.0
_PIECE = 0.05
_QUIET = 10.0
"""Seconds without a report after which the worker's session is looked up at the destination."""


@dataclass(frozen=True, slots=True)
class Positions:
    """The worker's positions: up to where nothing is left to do, what the source has sent, what was confirmed to it."""

    done: Lsn
    received: Lsn
    confirmed: Lsn


class LagMeter:
    """Lag in bytes and seconds, from samples of the source's position by one clock. Pure."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, Lsn]] = deque(maxlen=100_000)

    def sample(self, now: float, source: Lsn, done: Lsn) -> tuple[int, float]:
        """Return the bytes of WAL between both positions, and the seconds since the source passed ``done``."""
        self._samples.append((now, source))
        while self._samples and self._samples[0][1] <= done:
            self._samples.popleft()
        if not self._samples:
            return 0, 0.0
        return source - done, now - self._samples[0][0]


class Watcher:
    """The monitor's thread. ``control`` is the row as last read, None where it is missing; ``reading`` is updated.

    ``load`` reads the configuration again at each connect: a password may have changed. ``applying`` is false while
    the task is paused.
    """

    def __init__(
        self,
        load: Callable[[], WorkerConfig],
        store: StateStore,
        token: str,
        control: ControlRow,
        slot: str,
        positions: Callable[[], Positions],
        reading: Reading,
        pulse: Pulse,
    ) -> None:
        self.control: ControlRow | None = control
        self.applying = False
        self._load = load
        self._name, self._schema = store.name, store.schema
        self._token = token
        self._positions = positions
        self._reading = reading
        self._pulse = pulse
        self._applier = store.conn.info.backend_pid
        self._closing = threading.Event()
        self._lag = LagMeter()
        self._large_objects = LargeObjectWatch()
        self._meter = RateMeter()
        self.source = SourceWatch(load, store.name, slot, self._heartbeat_interval)
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        """Start the thread, and the one at the source."""
        self.source.start()
        self._thread.start()

    def close(self) -> None:
        """Stop watching; returns when the sessions are closed."""
        self._closing.set()
        self.source.close(_POLL)
        self._thread.join(_POLL * 5)

    def _heartbeat_interval(self) -> float:
        control = self.control
        if control is None or not self.applying:
            return 0.0
        return float(control.settings.get("heartbeat_interval", 10))

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                with connect(self._load().destination, f"watch {self._name}", settings=UNREPLICATED) as conn:
                    self._watch(conn)
            except (EngineError, psycopg.Error):
                # The session that applies meets the same failure, and reports it.
                self._closing.wait(_POLL)

    def _watch(self, conn: Connection) -> None:
        store = StateStore(conn, self._schema, self._name)
        conn.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel(self._name))))
        while not self._closing.is_set():
            self._read(store)
            self._beat(store)
            self._check_backend(conn)
            self._rest(conn)

    def _read(self, store: StateStore) -> None:
        before, now = self.control, read_control(store)
        if before is not None and now is not None and before.generation != now.generation:
            self._meter.begin_anew()
        self.control = now

    def _rest(self, conn: Connection) -> None:
        """Wait for a notification, `close` or the next beat, in short slices: a cutover waits for the close."""
        until = time.monotonic() + _POLL / 2
        while not self._closing.is_set() and time.monotonic() < until:
            if list(conn.notifies(timeout=_PIECE, stop_after=1)):
                return

    def _check_backend(self, conn: Connection) -> None:
        """Count a silent worker as alive while its session at the destination is active, or waits for a lock."""
        if self._pulse.age() < _QUIET:
            return
        row = conn.execute("SELECT state FROM pg_catalog.pg_stat_activity WHERE pid = %s", (self._applier,)).fetchone()
        if row is not None and row[0] == "active":
            self._pulse.beat()

    def _measure(self, at: Positions) -> None:
        now = time.monotonic()
        seen = self.source.sample(now)
        reading = self._reading
        reading.positions = {"applied": at.done, "received": at.received, "confirmed": at.confirmed}
        if seen is None:
            reading.lag = reading.rates = reading.retained = None
            return
        reading.lag = self._lag.sample(now, seen.position, at.done)
        reading.retained = seen.retained
        done = min(at.done, seen.position)
        reading.rates = self._meter.sample(now, seen.position, done) if self.applying else None

    def _beat(self, store: StateStore) -> None:
        at = self._positions()
        self._measure(at)
        counters = record_heartbeat(store, self._token, at.received, self._reading.lag, self._reading.rates)
        if counters is not None:
            self._reading.counters = counters
        if self.source.large_objects is not None:
            self._large_objects.compare(self.source.large_objects, store)
