# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A second session at the destination, in a thread of its own, beside the one that applies.

It reads the control row (at once when notified, else every second) and writes what a person wants to know while a
large transaction is applied: heartbeat and lag. A third session asks the source how far its WAL has come.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .._psycopg import psycopg, sql
from ..connect import connect
from ..errors import EngineError
from ..lsn import Lsn, format_lsn, parse_lsn
from ..state import StateStore
from .control import Control, channel, read_control
from .large_objects import LargeObjectWatch

if TYPE_CHECKING:
    from ..connect import Connection
    from .worker_config import WorkerConfig

_POLL = 1.0
_PIECE = 0.05


@dataclass(frozen=True, slots=True)
class Positions:
    """Where the worker stands: up to where nothing is left to do, and what the source has named."""

    done: Lsn
    received: Lsn
    confirmed: Lsn


class LagMeter:
    """Lag in bytes and seconds, from samples of the source's position by one clock. Pure."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, Lsn]] = deque(maxlen=100_000)

    def sample(self, now: float, source: Lsn, done: Lsn) -> tuple[int, float]:
        """Bytes of WAL between both positions, and for how long the source has been past ``done``."""
        self._samples.append((now, source))
        while self._samples and self._samples[0][1] <= done:
            self._samples.popleft()
        if not self._samples:
            return 0, 0.0
        return source - done, now - self._samples[0][0]


class Watcher:
    """The thread. ``control`` is the row as last read, None where there is none."""

    def __init__(self, config: WorkerConfig, token: str, control: Control, positions: Callable[[], Positions]) -> None:
        self.control: Control | None = control
        self._config = config
        self._token = token
        self._positions = positions
        self._closing = threading.Event()
        self._lag = LagMeter()
        self._source: Connection | None = None
        self._large_objects = LargeObjectWatch()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def close(self) -> None:
        """Stop watching; returns when the sessions are closed."""
        self._closing.set()
        self._thread.join(_POLL * 5)

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                with connect(self._config.destination, f"watch {self._config.name}") as conn:
                    self._watch(conn)
            except (EngineError, psycopg.Error):
                # The session that applies meets the same trouble, and says it.
                self._closing.wait(_POLL)
            finally:
                if self._source is not None:
                    self._source.close()
                    self._source = None

    def _watch(self, conn: Connection) -> None:
        store = StateStore(conn, self._config.state_schema, self._config.name)
        conn.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel(self._config.name))))
        while not self._closing.is_set():
            self.control = read_control(store)
            self._beat(store)
            self._rest(conn)

    def _rest(self, conn: Connection) -> None:
        """Until notified, told to close, or the next beat. In short pieces: a cutover waits for us to close."""
        until = time.monotonic() + _POLL / 2
        while not self._closing.is_set() and time.monotonic() < until:
            if list(conn.notifies(timeout=_PIECE, stop_after=1)):
                return

    def _beat(self, store: StateStore) -> None:
        at = self._positions()
        position = self._source_position()
        size, seconds = (None, None) if position is None else self._lag.sample(time.monotonic(), position, at.done)
        store.conn.execute(
            sql.SQL(
                "UPDATE {} SET heartbeat = pg_catalog.clock_timestamp(), lag_bytes = coalesce(%s, lag_bytes),"
                " lag_seconds = coalesce(%s, lag_seconds), received = greatest(received, %s::pg_lsn)"
                " WHERE migration = %s AND token = %s"
            ).format(store.table("cdc_progress")),
            (size, seconds, format_lsn(at.received), store.name, self._token),
            prepare=True,
        )
        if self._source is not None:
            self._large_objects.look(self._source, store)

    def _source_position(self) -> Lsn | None:
        """How far the source's WAL is flushed; None while it cannot be asked."""
        try:
            if self._source is None:
                self._source = connect(self._config.source, f"watch {self._config.name}")
            row = self._source.execute("SELECT pg_catalog.pg_current_wal_flush_lsn()::text").fetchone()
        except (EngineError, psycopg.Error):
            if self._source is not None:
                self._source.close()
                self._source = None
            return None
        return parse_lsn(row[0]) if row and row[0] else None
