# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The replication stream: one thread owns the walsender's socket; it reads, decodes and batches beside the one that
applies.

That thread also sends the feedback, so that the destination can never delay it. The queue between the two is bounded in
bytes: when it is full the socket is not read, and TCP slows the source down.
(PostgreSQL manual, "Streaming Replication Protocol"; psycopg's Copy object refuses COPY_BOTH.)
"""

from __future__ import annotations

import select
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from ...errors import ConnectError, EngineError
from ...failpoints import failpoint
from ...postgres._psycopg import pq, psycopg, sql
from ...postgres.connect import refusal, server_error
from ...postgres.lsn import NO_LSN, Lsn, format_lsn
from ...postgres.open_sessions import streams
from ...postgres.sqlstates import policy_for
from ..changes.pgoutput import PG_EPOCH_UNIX_US, standby_status_update
from ..changes.receiver import DRY, ENDED, Receiver

if TYPE_CHECKING:
    from ...postgres.connect import Connection
    from ..changes.batcher import Batcher
    from ..changes.batches import Batch

QUEUE_BYTES = 48 * 1024 * 1024
"""Bytes of memory that the queue may take; only a single batch may exceed it."""

OUTSIZED = 24 * 1024 * 1024
"""Bytes of messages from which a batch, one that ends with a huge value, is applied before anything else is read."""

_ENOUGH = 8 * 1024 * 1024
"""Weight of a backlog that is applied at once when nothing else is being applied."""

_AT_ONCE = 32 * 1024
"""Bytes that are decoded before the other thread may have a turn."""

_DRY = 0.01
"""Seconds without a message after which the stream counts as idle."""

_NAP = 0.003
"""Seconds for which messages of a backlog are left to gather. The source sends each message by itself, and each costs a
packet and a wake-up where a reader waits for it: read at once, the same stream costs its sender twice as much.
"""

_POLL = 0.2
_FEEDBACK_AT_MOST = 1.0


def start_command(slot: str, publication: str, start: Lsn, *, binary: bool, messages: bool) -> str:
    """Return START_REPLICATION for pgoutput, whose options ``binary`` and ``messages`` came with PostgreSQL 14."""
    literal = sql.Literal(sql.Identifier(publication).as_string(None)).as_string(None).strip()
    options = [("proto_version", "'1'"), ("publication_names", literal)]
    if binary:
        options.append(("binary", "'true'"))
    if messages:
        options.append(("messages", "'true'"))
    return "START_REPLICATION SLOT {} LOGICAL {} ({})".format(
        sql.Identifier(slot).as_string(None), format_lsn(start), ", ".join(f"{name} {value}" for name, value in options)
    )


class ReplicationStream:
    """One START_REPLICATION, from ``start`` to ``close``. A new connection needs a new one, and a new ``batcher``.

    ``timeout`` is the seconds after which a source that says nothing is looked for, at most its wal_sender_timeout:
    feedback goes at a third of it.
    The stream begins at position ``start``, which is durable at the destination.
    """

    def __init__(
        self, walsender: Connection, timeout: float, batcher: Batcher, start: Lsn, queue_bytes: int = QUEUE_BYTES
    ) -> None:
        self._walsender = walsender
        self._interval = min(timeout / 3, 10.0) if timeout > 0 else 10.0
        self._timeout = timeout
        self._limit = queue_bytes
        self._changed = threading.Condition()  # held while the receiver is touched
        self._receiver = Receiver(batcher, start)
        self._start = start
        self._taker_waits = self._dry = False
        self._outsized = False  # the batch that was taken last, until the next is wanted
        self._failure: Exception | None = None
        self._heard = False  # since the last feedback
        self._closing = False
        self._confirmed: Lsn = start
        self._sent: Lsn = start
        self._thread: threading.Thread | None = None
        self._waker, self._woken = socket.socketpair()  # ends a wait for the source when the stream is closed

    @property
    def received(self) -> Lsn:
        """The highest position that the source has named."""
        return self._receiver.received

    @property
    def confirmed(self) -> Lsn:
        """The position that was confirmed to the source, or will be with the next feedback."""
        return self._confirmed

    def start(self, slot: str, publication: str, *, binary: bool, messages: bool) -> None:
        """Send START_REPLICATION, and start the thread that reads it; ``messages`` requests logical messages too.

        Raises ServerError (55006 while another session reads the slot).
        """
        command = start_command(slot, publication, self._start, binary=binary, messages=messages)
        try:
            result = self._walsender.pgconn.exec_(command.encode())
        except psycopg.Error as exc:
            raise server_error(exc, "starting the stream from slot", slot) from exc
        if result.status != pq.ExecStatus.COPY_BOTH:
            raise refusal(result, "starting the stream from slot", slot)
        self._walsender.pgconn.nonblocking = 1
        streams(self._walsender, self._timeout)
        self._thread = threading.Thread(target=self._read, name="stream", daemon=True)
        self._thread.start()

    def take(self, timeout: float) -> Batch | None:
        """Return the next batch for the destination; None when there was none within ``timeout`` seconds.

        Of an idle stream it holds what has come, at once; of a backlog it is large. Raises what ended the stream, after
        all that came completely before has been taken.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            if self._outsized:
                self._outsized = False
                self._changed.notify_all()
            while True:
                batch = self._receiver.take()
                if batch is None and (self._failure is not None or self._receiver.ready(_ENOUGH, self._dry)):
                    batch = self._receiver.batcher.flush()
                if batch is not None:
                    self._outsized = batch.size >= OUTSIZED
                    self._changed.notify_all()
                    return batch
                if self._failure is not None:
                    raise self._failure
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self._taker_waits = True
                self._changed.wait(left)
                self._taker_waits = False

    def upcoming(self) -> Batch | None:
        """Return what ``take`` will return next, if it is complete already, without taking it."""
        with self._changed:
            return self._receiver.batches[0] if self._receiver.batches else None

    def idle_position(self) -> Lsn:
        """Return the position of a keepalive before which everything received has been taken; 0 for none."""
        with self._changed:
            return self._receiver.keepalive if self._receiver.idle else NO_LSN

    def take_reply_request(self) -> bool:
        """Return whether the source has requested feedback since the last call."""
        asked, self._receiver.asked = self._receiver.asked, False
        return asked

    def confirm(self, position: Lsn) -> None:
        """Confirm ``position``, which is recorded as durable: the source may remove WAL before it from now on."""
        self._confirmed = max(self._confirmed, position)

    def close(self) -> None:
        """Send the last feedback, stop the thread and close the connection. Never raises."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            with suppress(OSError):  # closed before
                self._waker.send(b"x")
            self._thread.join(10)
        self._walsender.close()
        self._waker.close()
        self._woken.close()

    # The rest runs in the thread, and only there is the socket touched.

    def _read(self) -> None:
        try:
            self._loop()
        except psycopg.Error as exc:
            self._end(server_error(exc, "reading the stream of the", "source"))
        except EngineError as exc:
            self._end(exc)
        except OSError as exc:
            self._end(
                ConnectError(
                    "reading the stream of the", "source", exc.strerror or "the socket failed", policy_for("").remedy
                )
            )
        except Exception as exc:  # noqa: BLE001 - a thread that dies silently would look like an idle source
            self._end(exc)

    def _end(self, failure: Exception) -> None:
        with self._changed:
            self._failure = failure
            self._changed.notify_all()

    def _loop(self) -> None:
        pgconn, woken = self._walsender.pgconn, self._woken.fileno()
        due = time.monotonic()
        while not self._closing:
            due = self._feedback_if(due)
            with self._changed:
                if self._full():
                    self._changed.wait(min(_POLL, max(due - time.monotonic(), 0.001)))
                    continue
                got = self._receiver.read(pgconn.get_copy_data, _AT_ONCE)
                self._dry = False
                self._wake_taker()
            if got == ENDED:
                raise self._ended()
            if got == DRY and self._wait_for_source(pgconn.socket, woken):
                pgconn.consume_input()
                self._heard = True
        self._send_feedback()

    def _wait_for_source(self, source: int, woken: int) -> bool:
        """Wait until the source has sent something, or the loop is due; return whether it has."""
        if self._receiver.behind and not select.select([source], [], [], 0)[0]:
            select.select([woken], [], [], _NAP)
        if source in select.select([source, woken], [], [], _DRY)[0]:
            return True
        with self._changed:
            self._dry = True
            self._wake_taker()
        return source in select.select([source, woken], [], [], _POLL)[0]

    def _wake_taker(self) -> None:
        if self._taker_waits and self._receiver.ready(_ENOUGH, self._dry):
            self._changed.notify_all()

    def _full(self) -> bool:
        """Return whether the queue has reached the limit. Without a complete batch, the batcher's own limits hold."""
        receiver = self._receiver
        queued = bool(receiver.batches) and receiver.weight + receiver.batcher.weight >= self._limit
        return (queued or self._outsized) and not self._closing

    def _feedback_if(self, due: float) -> float:
        """Send feedback when it is due, requested, or confirms a new position; return when it is due next."""
        now = time.monotonic()
        news = self._confirmed > self._sent and now >= due - self._interval + min(_FEEDBACK_AT_MOST, self._interval)
        if now >= due or self._receiver.reply_requested or news:
            self._send_feedback()
            return now + self._interval
        return due

    def _send_feedback(self) -> None:
        confirmed = self._confirmed
        now_us = int(time.time() * 1_000_000) - PG_EPOCH_UNIX_US
        written = max(self._receiver.received, confirmed)
        pgconn = self._walsender.pgconn
        news = confirmed > self._sent
        if news:
            failpoint("before feedback sent")
        # An idle source says nothing as long as we answer: it is asked to, or a dead one would look the same.
        asks, self._heard = not self._heard, False
        pgconn.put_copy_data(standby_status_update(written, confirmed, confirmed, now_us, reply_requested=asks))
        pgconn.flush()
        if news:
            failpoint("after feedback sent")
        self._sent = confirmed
        self._receiver.reply_requested = False

    def _ended(self) -> EngineError:
        """Return the source's own reason for ending the stream, as an error."""
        result = self._walsender.pgconn.get_result()
        if result is not None and result.status == pq.ExecStatus.FATAL_ERROR:
            return refusal(result, "reading the stream of the", "source")
        return ConnectError("reading the stream of the", "source", "the source ended it", policy_for("57P01").remedy)
