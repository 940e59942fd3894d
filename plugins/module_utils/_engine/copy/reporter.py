# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports one host's part in a copy to the other hosts twice a second, and derives this host's rate limit from theirs.

It is a thread with sessions of its own, so that neither a COPY nor an index build delays a new limit.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ..errors import EngineError
from ..postgres.connect import connect, explain_errors
from ..postgres.lsn import Lsn, parse_lsn
from ..state.copy_pace import HostReport, report_host
from ..state.store import StateStore
from .progress import show_copy_progress
from .transfer.pace import Pace, Throttle, pace_of

if TYPE_CHECKING:
    from ..migration import Migration
    from ..postgres.connect import Connection

TICK = 0.5
"""Seconds between two reports: a changed limit is in effect within two of them."""

LARGE = 100_000_000
"""Bytes from which the completion of a table is reported."""

_STANDBYS = """
SELECT pg_catalog.pg_current_wal_lsn()::text, (pg_catalog.array_agg(r.replay_lsn ORDER BY r.replay_lsn))[1]::text
  FROM pg_catalog.pg_stat_replication r LEFT JOIN pg_catalog.pg_replication_slots s ON s.active_pid = r.pid
 WHERE coalesce(s.slot_type, 'physical') = 'physical' AND r.application_name NOT LIKE 'causeway%'
   AND r.application_name NOT LIKE 'pg_basebackup%'
"""

_ACTIVE = """
SELECT count(*) FROM pg_catalog.pg_stat_activity
 WHERE state = 'active' AND backend_type = 'client backend' AND application_name NOT LIKE 'causeway%'
   AND pid <> pg_catalog.pg_backend_pid()
"""


class LagMeter:
    """The lag of the source's slowest standby in time, from observed positions. Pure."""

    def __init__(self) -> None:
        self._written: deque[tuple[float, Lsn]] = deque(maxlen=4000)

    def lag(self, now: float, written: Lsn, replayed: Lsn | None) -> float:
        """Return the lag in seconds; 0 without a standby. A standby behind our first observation lags at least since then."""
        self._written.append((now, written))
        if replayed is None or replayed >= written:
            return 0.0
        while len(self._written) > 1 and self._written[1][1] <= replayed:
            self._written.popleft()
        return now - self._written[0][0]


def held_up(pace: Pace, lag: float, active: int, before: str) -> str:
    """Return what pauses the copy, for display, or nothing. A pause ends at four fifths of a limit, so as not to flutter."""
    ease = 0.8 if before else 1.0
    if pace.source_lag and lag > pace.source_lag * ease:
        return f"a standby of the source lags {lag:.1f} s (max_source_lag {pace.source_lag:g})"
    if pace.active and active > pace.active * ease:
        return f"{active} sessions are active at the source (max_active {pace.active})"
    return ""


def share_of(own: int, others: int) -> float:
    """Return this host's share of the limits, by the number of copying workers. One that is about to begin counts."""
    return max(1, own) / (max(1, own) + others)


class CopyReporter:
    """Counts and reports what this host does, and sets its rate limit. Leaving the context reports for the last time."""

    def __init__(self, migration: Migration, progress_file: str = "", interval: float = 0.0) -> None:
        self.throttle = Throttle()
        self.active = self.rows = self.bytes = self.size = 0
        self.waits_for = ""
        """What this host waits for before it can read, for display."""
        self._migration = migration
        self._key = (socket.gethostname(), os.getpid())
        self._file, self._interval, self._told = progress_file, interval, 0.0
        self._lines: IO[str] | None = None
        self._large: deque[dict[str, Any]] = deque()
        self._sizes: deque[tuple[float, int]] = deque(maxlen=21)
        self._lag = LagMeter()
        self._stack = ExitStack()
        self._conn: Connection | None = None
        self._source: Connection | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> CopyReporter:
        if self._file and self._interval:
            self._lines = self._stack.enter_context(Path(self._file).open("a", encoding="utf-8"))
        self._tick()
        self._thread.start()
        return self

    def __exit__(self, *dummy: object) -> None:
        self._stop.set()
        self._thread.join()
        self.active = 0
        with suppress(EngineError):
            self._tick(last=True)
        self._stack.close()

    @contextmanager
    def working(self) -> Iterator[None]:
        """Return a context in which one of this host's workers copies a part."""
        self.active += 1
        try:
            yield
        finally:
            self.active -= 1

    def complete(self, table: str, rows: int, size: int, seconds: float) -> None:
        """Count a complete table; a large one gets a line of its own."""
        if size >= LARGE:
            self._large.append({"table": table, "rows": rows, "bytes": size, "seconds": round(seconds, 1)})

    def _watch(self) -> None:
        while not self._stop.wait(TICK):
            try:
                self._tick()
            except EngineError:  # the workers report what is wrong with the server; try again
                self._conn = self._source = None

    def _tick(self, *, last: bool = False) -> None:
        now = time.monotonic()
        if self._conn is None:
            self._conn = self._open(self._migration.spec.destination)
        store = StateStore(self._conn, self._migration.spec.state_schema, self._migration.name)
        self._sizes.append((now, self.size))
        began, before = self._sizes[0]
        rate = (self.size - before) / (now - began) if now > began else 0.0
        report = HostReport(
            *self._key,
            self.active,
            self.rows,
            self.bytes,
            self.size,
            rate=rate,
            held=self.throttle.held or self.waits_for,
        )
        settings, others = report_host(store, report)
        pace = pace_of(settings)
        self.throttle.tell(pace, share_of(self.active, others), self._held(pace, now))
        if self._lines is not None and (last or self._large or now - self._told >= self._interval):
            self._write(store, now, last=last)

    def _held(self, pace: Pace, now: float) -> str:
        """Return what pauses the copy; observed only if the operator has set such a limit."""
        if not pace.source_lag and not pace.active:
            return ""
        if self._source is None:
            self._source = self._open(self._migration.spec.source)
        lag, active = 0.0, 0
        with explain_errors("looking at the load of the", "source"):
            standbys = self._source.execute(_STANDBYS).fetchone() if pace.source_lag else None
            sessions = self._source.execute(_ACTIVE).fetchone() if pace.active else None
        if standbys is not None:
            lag = self._lag.lag(now, parse_lsn(standbys[0]), parse_lsn(standbys[1]) if standbys[1] else None)
        if sessions is not None:
            active = int(sessions[0])
        return held_up(pace, lag, active, self.throttle.held)

    def _open(self, endpoint: Any) -> Connection:
        conn = connect(endpoint, f"gauge {self._migration.name}", settings={"synchronous_commit": "off"})
        self._stack.callback(conn.close)
        return conn

    def _write(self, store: StateStore, now: float, *, last: bool) -> None:
        """Write JSON lines: large tables that are complete, and the progress of the copy."""
        lines = []
        while self._large:
            lines.append(self._large.popleft())
        if last or now - self._told >= self._interval:
            self._told = now
            lines.append(dict(show_copy_progress(store)))
        if self._lines is not None:
            for line in lines:
                if line:
                    self._lines.write(json.dumps(line) + "\n")
            self._lines.flush()
