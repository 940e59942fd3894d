# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The replication stream: one thread owns the walsender's socket, reads and decodes beside the one that applies.

That thread also sends the feedback, so that nothing the destination does can keep it waiting. Between the two stands
a queue that is bounded in bytes: when it is full the socket is left alone, and TCP slows the source down.
(PostgreSQL manual, "Streaming Replication Protocol"; psycopg's Copy object refuses COPY_BOTH.)
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias, Union

from .._psycopg import pq, psycopg, sql
from ..connect import refusal, server_error
from ..errors import ConnectError, EngineError
from ..lsn import NO_LSN, Lsn, format_lsn
from ..policy import judge
from .messages import Keepalive, Message
from .pgoutput import PG_EPOCH_UNIX_US, XLOG_HEADER, decode, parse_envelope, standby_status_update

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..connect import Connection

    Item: TypeAlias = tuple[Union[Message, Keepalive], int]

QUEUE_BYTES = 32 * 1024 * 1024
"""What may wait undone, in bytes of messages; a larger message is taken when nothing else waits."""

_OBJECT_BYTES = 240
"""What a decoded message costs beyond its bytes: small ones count as what they are in memory."""

_HAND_OVER = 512
"""Messages that are handed over at once while more come in: a lock for each would cost more than its decoding."""

_POLL = 0.2
_FEEDBACK_AT_MOST = 1.0


class ReplicationStream:
    """One START_REPLICATION, from ``start`` to ``close``. A new connection needs a new one.

    ``timeout`` is the source's wal_sender_timeout in seconds, 0 when it has none: feedback goes at a third of it.
    """

    def __init__(self, walsender: Connection, timeout: float, queue_bytes: int = QUEUE_BYTES) -> None:
        self._walsender = walsender
        self._interval = min(timeout / 3, 10.0) if timeout > 0 else 10.0
        self._limit = queue_bytes
        self._changed = threading.Condition()
        self._queue: deque[list[Item]] = deque()
        self._queued = 0
        self._failure: Exception | None = None
        self._closing = False
        self._received: Lsn = NO_LSN
        self._confirmed: Lsn = NO_LSN
        self._sent: Lsn = NO_LSN
        self._reply_now = False
        self._thread: threading.Thread | None = None
        self._waker, self._woken = socket.socketpair()  # ends a wait for the source when the stream is closed
        self._chunk: list[Item] = []
        self._chunk_bytes = 0

    @property
    def received(self) -> Lsn:
        """The highest position that the source has named."""
        return self._received

    @property
    def confirmed(self) -> Lsn:
        """What the source has been told, or will be with the next feedback."""
        return self._confirmed

    def start(self, slot: str, position: Lsn, publication: str, *, binary: bool) -> None:
        """START_REPLICATION, and the thread that reads it. ``position`` is durable at the destination.

        Raises ServerError (55006 while another session reads the slot).
        """
        literal = sql.Literal(sql.Identifier(publication).as_string(None)).as_string(None).strip()
        options = [("proto_version", "'1'"), ("publication_names", literal)]
        if binary:
            options.append(("binary", "'true'"))
        command = "START_REPLICATION SLOT {} LOGICAL {} ({})".format(
            sql.Identifier(slot).as_string(None),
            format_lsn(position),
            ", ".join(f"{name} {value}" for name, value in options),
        )
        try:
            result = self._walsender.pgconn.exec_(command.encode())
        except psycopg.Error as exc:
            raise server_error(exc, "starting the stream from slot", slot) from exc
        if result.status != pq.ExecStatus.COPY_BOTH:
            raise refusal(result, "starting the stream from slot", slot)
        self._walsender.pgconn.nonblocking = 1
        self._received = self._confirmed = position
        self._thread = threading.Thread(target=self._read, name="stream", daemon=True)
        self._thread.start()

    def take(self, timeout: float) -> Sequence[Item]:
        """The next messages with their sizes, in order; empty when none came within ``timeout`` seconds.

        Raises what ended the stream, after all that came before has been taken.
        """
        with self._changed:
            if not self._queue and self._failure is None:
                self._changed.wait(timeout)
            if self._queue:
                chunk = self._queue.popleft()
                self._queued -= sum([size + _OBJECT_BYTES for dummy, size in chunk])
                self._changed.notify_all()
                return chunk
            if self._failure is not None:
                raise self._failure
            return ()

    @property
    def empty(self) -> bool:
        """Nothing waits to be taken."""
        return not self._queue

    def confirm(self, position: Lsn) -> None:
        """From now on the source may forget what lies before ``position``: it is recorded as durable."""
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
                    "reading the stream of the", "source", exc.strerror or "the socket failed", judge("").remedy
                )
            )
        except Exception as exc:  # noqa: BLE001 - a thread that dies silently would look like an idle source
            self._end(exc)

    def _end(self, failure: Exception) -> None:
        with self._changed:
            if self._chunk:
                self._queue.append(self._chunk)
                self._chunk = []
            self._failure = failure
            self._changed.notify_all()

    def _loop(self) -> None:
        pgconn, woken = self._walsender.pgconn, self._woken.fileno()
        due = time.monotonic()
        while not self._closing:
            due = self._feedback_if(due)
            if self._full():
                with self._changed:
                    if self._full() and not self._closing:
                        self._changed.wait(min(_POLL, max(due - time.monotonic(), 0.001)))
                continue
            length, data = pgconn.get_copy_data(1)
            if length > 0:
                self._accept(bytes(data))
                continue
            self._hand_over()
            if length < 0:
                raise self._ended()
            readable, dummy, dummy = select.select([pgconn.socket, woken], [], [], _POLL)
            if pgconn.socket in readable:
                pgconn.consume_input()
        self._send_feedback()

    def _accept(self, data: bytes) -> None:
        if data[:1] == b"w":
            self._chunk.append((decode(data, XLOG_HEADER), len(data)))
            position = int.from_bytes(data[1:9], "big")
        else:
            item = parse_envelope(data)
            if not isinstance(item, Keepalive):  # an XLogData starts with w
                return
            self._chunk.append((item, len(data)))
            position = item.wal_end
            self._reply_now = self._reply_now or item.reply_requested
        if position > self._received:
            self._received = position
        self._chunk_bytes += len(data) + _OBJECT_BYTES
        if len(self._chunk) >= _HAND_OVER or self._chunk_bytes > self._limit // 4:
            self._hand_over()

    def _full(self) -> bool:
        """Whether what waits has reached the limit; the chunk in hand counts."""
        if self._queued + self._chunk_bytes < self._limit:
            return False
        self._hand_over()
        return True

    def _hand_over(self) -> None:
        if self._chunk:
            with self._changed:
                self._queue.append(self._chunk)
                self._queued += self._chunk_bytes
                self._changed.notify_all()
            self._chunk = []
            self._chunk_bytes = 0

    def _feedback_if(self, due: float) -> float:
        """Send feedback when it is due, was asked for, or has news; returns when it is due next."""
        now = time.monotonic()
        news = self._confirmed > self._sent and now >= due - self._interval + min(_FEEDBACK_AT_MOST, self._interval)
        if now >= due or self._reply_now or news:
            self._send_feedback()
            return now + self._interval
        return due

    def _send_feedback(self) -> None:
        confirmed = self._confirmed
        now_us = int(time.time() * 1_000_000) - PG_EPOCH_UNIX_US
        written = max(self._received, confirmed)
        pgconn = self._walsender.pgconn
        pgconn.put_copy_data(standby_status_update(written, confirmed, confirmed, now_us))
        pgconn.flush()
        self._sent = confirmed
        self._reply_now = False

    def _ended(self) -> EngineError:
        """The source has ended the stream: why, as it says itself."""
        result = self._walsender.pgconn.get_result()
        if result is not None and result.status == pq.ExecStatus.FATAL_ERROR:
            return refusal(result, "reading the stream of the", "source")
        return ConnectError("reading the stream of the", "source", "the source ended it", judge("57P01").remedy)
