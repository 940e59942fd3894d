# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A session at the source, in a thread beside the stream: it samples the WAL position and writes the heartbeat.

The heartbeat is a change of the engine's own in the stream. Where the migrated database is idle and other databases of
the cluster write, it advances the applied position, so that the slot can release WAL. Nothing waits for this thread: of
a source that does not answer only the sample grows old.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...errors import EngineError
from ...large_objects.writes import written_rows
from ...postgres._psycopg import psycopg
from ...postgres.connect import connect
from ...postgres.lsn import Lsn, parse_lsn
from ...state.markers import beat

if TYPE_CHECKING:
    from ...postgres.connect import Connection
    from ..control.config import WorkerConfig

_EVERY = 0.5
_OLD = 5.0
_COUNTS_EVERY = 2.0
_SETTINGS = {"lock_timeout": "200ms", "default_transaction_read_only": "off"}
"""Where the heartbeat is a row, the cutover changes the fence in it: the heartbeat never waits for that lock."""

_SAMPLE = """
SELECT pg_catalog.pg_current_wal_flush_lsn()::text,
       (SELECT pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), s.restart_lsn)::bigint
          FROM pg_catalog.pg_replication_slots s WHERE s.slot_name = %s)
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample of time ``at`` (local clock): the flushed position, and the bytes the slot retains (None: no slot)."""

    at: float
    position: Lsn
    retained: int | None


class SourceWatch:
    """The thread at the source. ``load`` reads the configuration at each connect; ``beats`` returns the heartbeat's
    interval in seconds, 0 for none now.
    """

    def __init__(self, load: Callable[[], WorkerConfig], name: str, slot: str, beats: Callable[[], float]) -> None:
        self._load = load
        self._name = name
        self._slot = slot
        self._beats = beats
        self._sample: Sample | None = None
        self._beaten = time.monotonic()
        self._counted = 0.0
        self.large_objects: int | None = None
        """Rows of large objects that the source has counted as written; None before the first look."""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch source", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self, timeout: float) -> None:
        """Stop sampling; the session closes within ``timeout`` seconds, or with the answer that it waits for."""
        self._closing.set()
        self._thread.join(timeout)

    def sample(self, now: float) -> Sample | None:
        """Return the last sample; None where it is too old to count."""
        last = self._sample
        return last if last is not None and now - last.at < _OLD else None

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                with connect(self._load().source, f"watch {self._name}", settings=_SETTINGS) as conn:
                    while not self._closing.is_set():
                        self._look(conn)
                        self._closing.wait(_EVERY)
            except (EngineError, psycopg.Error):
                # The session that reads the stream meets the same failure, and reports it.
                self._closing.wait(1.0)

    def _look(self, conn: Connection) -> None:
        interval = self._beats()
        if interval and time.monotonic() - self._beaten >= interval:
            self._beaten = time.monotonic()
            self._beat(conn)
        if time.monotonic() - self._counted >= _COUNTS_EVERY:
            self._counted = time.monotonic()
            self.large_objects = written_rows(conn)
        row = conn.execute(_SAMPLE, (self._slot,), prepare=True).fetchone()
        if row and row[0]:
            self._sample = Sample(time.monotonic(), parse_lsn(row[0]), row[1])

    def _beat(self, conn: Connection) -> None:
        try:
            beat(conn, self._name)
        except psycopg.Error as exc:
            if not exc.sqlstate:
                raise
            # Refused or locked: the stream does not need it, and the next one is due in an interval.
