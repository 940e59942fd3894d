# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Progress of a CDC task at the destination: its position, its worker, and what may be confirmed to the source.

``applied`` is the commit END position of the last source transaction committed here; it moves in the transaction that
carries the rows, as a compare-and-set on the previous position and the worker's token. ``confirmable`` is what may be
confirmed to the source: never less than ``applied``, and durable here before it is confirmed.
"""

from __future__ import annotations

import select
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...errors import ConnectError, LossError, StateError
from ...failpoints import failpoint
from ...postgres._psycopg import pq, psycopg, sql
from ...postgres.connect import explain_errors
from ...postgres.lsn import Lsn, format_lsn
from ...state.advisory import lock_worker
from ...state.progress import FORWARD, HEARD, Direction, Progress, progress_table, read_progress, show_whole_progress

if TYPE_CHECKING:
    from ...postgres.connect import Connection
    from ...state.store import StateStore


@dataclass(slots=True)
class Tally:
    """Counts of one destination transaction, added to the counters of the task."""

    transactions: int = 0
    inserts: int = 0
    updates: int = 0
    deletes: int = 0
    truncates: int = 0
    conflicts: int = 0
    foreign_markers: int = 0
    """Messages in the shape of a marker that no state table knows: any role at the source may send some."""


@dataclass(frozen=True, slots=True)
class Claimant:
    """The worker that applies: a token that no other worker has, and where to find the process. ``place`` is where no
    other worker runs (`cdc.control.pidfile`)."""

    token: str
    host: str
    pid: int
    engine: str
    place: str = ""


class ProgressStore:
    """Reads and writes the progress of one direction of a migration over ``conn``, the connection that applies.

    After ``claim`` it knows the position that it expects to find; any other position aborts.
    """

    def __init__(self, conn: Connection, store: StateStore, claimant: Claimant, direction: Direction = FORWARD) -> None:
        self.store = store
        self._conn = conn
        self._name = store.name
        self._direction = direction
        self._table = progress_table(store, direction)
        self._claimant = claimant
        self.applied: Lsn = 0
        self.confirmable: Lsn = 0
        self._durable_at_commit = False

    def load(self) -> Progress | None:
        """Return the progress row, or None. Raises ServerError."""
        return read_progress(self.store, self._conn, self._direction)

    def take_lock(self, timeout: float) -> None:
        """Take the worker's lock on the connection that applies, waiting up to ``timeout`` seconds.

        Raises StateError, naming the holder; ConnectError, which is tried again, where its worker is not heard of.
        """
        try:
            lock_worker(self._conn, self._name, timeout, self._claimant.place)
        except StateError as exc:
            seen = show_whole_progress(self.store)
            age = seen.age if seen else None
            if age is not None and age < HEARD:
                raise
            since = f"for {age:.0f} s" if age is not None else "so far"
            raise ConnectError(
                exc.doing, exc.what, f"{exc.why}, and its worker has not been heard of {since}", exc.remedy
            ) from exc

    def begin(self) -> None:
        """Make the row this worker's, under the lock: from here on this worker reports the failures.

        A retry of the same worker retains its state and error until it runs again.
        """
        claimant = self._claimant
        with explain_errors("taking over the progress of migration", self._name):
            self._conn.execute(
                sql.SQL(
                    "UPDATE {} SET state = CASE WHEN again THEN state ELSE 'starting' END,"
                    " last_error = CASE WHEN again THEN last_error END,"
                    " retrying_since = CASE WHEN again THEN retrying_since END,"
                    " token = %s, host = %s, pid = %s, engine = %s, heartbeat = pg_catalog.clock_timestamp()"
                    " FROM (SELECT migration AS name, state = 'retrying' AND token = %s AS again FROM {}) AS now"
                    " WHERE migration = name AND name = %s"
                ).format(self._table, self._table),
                (claimant.token, claimant.host, claimant.pid, claimant.engine, claimant.token, self._name),
            )

    def claim(self, system: str, timeline: int, applied: Lsn, confirmable: Lsn) -> None:
        """Run from the position that was read. Raises LossError if the row has moved since."""
        self._durable_at_commit = self._commits_are_durable()
        with explain_errors("recording the progress of migration", self._name):
            cursor = self._conn.execute(
                sql.SQL(
                    "UPDATE {} SET state = 'running',"
                    " source_system = %s, timeline = %s, confirmable = %s::pg_lsn, last_error = NULL,"
                    " retrying_since = NULL, heartbeat = pg_catalog.clock_timestamp()"
                    " WHERE migration = %s AND token = %s AND applied = %s::pg_lsn"
                ).format(self._table),
                (system, timeline, format_lsn(confirmable), self._name, self._claimant.token, format_lsn(applied)),
            )
        self._one_row(cursor.rowcount)
        self.applied, self.confirmable = applied, confirmable
        self._wait_durable()

    def advance(self, position: Lsn, tally: Tally, received: Lsn, confirmed: Lsn) -> None:
        """Move the applied position, in the transaction that carries the rows. ``settle`` follows its commit.

        Raises LossError when the row is no longer as this worker left it.
        """
        failpoint("before progress written")
        with explain_errors("recording the progress of migration", self._name):
            cursor = self._conn.execute(
                sql.SQL(
                    "UPDATE {} SET applied = %s::pg_lsn, confirmable = greatest(confirmable, %s::pg_lsn),"
                    " received = %s::pg_lsn, confirmed = %s::pg_lsn, transactions = transactions + %s,"
                    " inserts = inserts + %s, updates = updates + %s, deletes = deletes + %s,"
                    " truncates = truncates + %s, conflicts = conflicts + %s, foreign_markers = foreign_markers + %s,"
                    " heartbeat = pg_catalog.clock_timestamp()"
                    " WHERE migration = %s AND token = %s AND applied = %s::pg_lsn"
                ).format(self._table),
                (
                    format_lsn(position),
                    format_lsn(position),
                    format_lsn(max(received, position)),
                    format_lsn(confirmed),
                    tally.transactions,
                    tally.inserts,
                    tally.updates,
                    tally.deletes,
                    tally.truncates,
                    tally.conflicts,
                    tally.foreign_markers,
                    self._name,
                    self._claimant.token,
                    format_lsn(self.applied),
                ),
                prepare=True,
            )
        self._one_row(cursor.rowcount)
        failpoint("after progress written")

    def commit(self) -> None:
        """COMMIT the transaction of `advance`. Raises psycopg.Error, after which the outcome is unknown."""
        pgconn = self._conn.pgconn
        failpoint("before commit sent")
        pgconn.send_query(b"COMMIT")
        while pgconn.flush():
            select.select([], [pgconn.socket], [])
        failpoint("after commit sent")
        failpoint("before commit answered")
        while pgconn.is_busy():
            select.select([pgconn.socket], [], [])
            pgconn.consume_input()
        result = pgconn.get_result()
        while pgconn.get_result() is not None:  # the end of the command
            pass
        if result is None or result.status != pq.ExecStatus.COMMAND_OK:
            raise psycopg.errors.error_from_result(result) if result else psycopg.OperationalError("no answer")
        if result.command_status != b"COMMIT":
            raise LossError(
                "committing at the destination of migration",
                self._name,
                "the destination has rolled the transaction back",
                "Nothing of it was applied; run the migrate playbook again, and report this if it happens again.",
            )
        failpoint("after commit answered")

    def settle(self, position: Lsn) -> None:
        """Record, after ``commit``, that ``position`` is durable and may be confirmed."""
        failpoint("before position recorded")
        self.applied = position
        self.confirmable = max(self.confirmable, position)
        self._wait_durable()
        failpoint("after position recorded")

    def record_confirmable(self, position: Lsn, received: Lsn, confirmed: Lsn) -> None:
        """Record the position of a keepalive, while nothing is pending; the applied one stays. Durable on return.

        Raises LossError when the row is no longer as this worker left it.
        """
        failpoint("before position recorded")
        with explain_errors("recording the progress of migration", self._name):
            cursor = self._conn.execute(
                sql.SQL(
                    "UPDATE {} SET confirmable = greatest(confirmable, %s::pg_lsn), received = %s::pg_lsn,"
                    " confirmed = %s::pg_lsn, heartbeat = pg_catalog.clock_timestamp()"
                    " WHERE migration = %s AND token = %s AND applied = %s::pg_lsn"
                ).format(self._table),
                (
                    format_lsn(position),
                    format_lsn(received),
                    format_lsn(confirmed),
                    self._name,
                    self._claimant.token,
                    format_lsn(self.applied),
                ),
                prepare=True,
            )
        self._one_row(cursor.rowcount)
        self.confirmable = max(self.confirmable, position)
        self._wait_durable()
        failpoint("after position recorded")

    def _one_row(self, count: int) -> None:
        if count != 1:
            raise LossError(
                "recording the progress of migration",
                self._name,
                "its row is not as this worker left it: another worker or another session has changed it",
                "Find the worker that applies (pg_locks, and the progress row); then run the migrate playbook again.",
            )

    def _commits_are_durable(self) -> bool:
        """Return whether an answered commit survives a crash of the destination: read from the session, not assumed."""
        with explain_errors("reading synchronous_commit at the destination for migration", self._name):
            row = self._conn.execute("SELECT pg_catalog.current_setting('synchronous_commit')").fetchone()
        return row is not None and row[0] not in ("off",)

    def _wait_durable(self) -> None:
        """Wait for the destination's flush position where a commit is answered before it is flushed."""
        if self._durable_at_commit:
            return
        with explain_errors("waiting until a commit is durable at the destination of migration", self._name):
            row = self._conn.execute("SELECT pg_catalog.pg_current_wal_insert_lsn()").fetchone()
            while row is not None:
                flushed = self._conn.execute(
                    "SELECT pg_catalog.pg_current_wal_flush_lsn() >= %s::pg_lsn", (str(row[0]),)
                ).fetchone()
                if flushed and flushed[0]:
                    return
                time.sleep(0.01)
