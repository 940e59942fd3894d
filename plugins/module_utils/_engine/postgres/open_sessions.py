# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sessions that this process has open, and for how long each has waited for its server without a byte.

The kernel tells when the last byte came (TCP_INFO, on Linux), so nothing has to be noted where a session is used. A Unix
socket has no network in between, and is not looked at.
"""

from __future__ import annotations

import array
import fcntl
import os
import socket
import struct
import termios
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ._psycopg import pq, psycopg

if TYPE_CHECKING:
    from psycopg import Connection

_LAST_SENT, _LAST_RECEIVED = 44, 52
"""Offsets in Linux's struct tcp_info of the milliseconds since data was sent, and since some was received."""

_LOCK = threading.Lock()
_OPEN: weakref.WeakKeyDictionary[Any, OpenSession] = weakref.WeakKeyDictionary()


@dataclass(slots=True)
class OpenSession:
    """A session. ``limit`` is the seconds after which a server that says nothing is looked for, not before ``due``
    (monotonic); ``streams`` marks one that replicates: we answer it all the time, so only what it sends counts.

    ``descriptor`` returns its socket, -1 once it is closed; ``waits`` whether we wait for an answer, None where the driver
    does not tell.
    """

    endpoint: Any
    purpose: str
    pid: int
    limit: float
    descriptor: Callable[[], int]
    waits: Callable[[], bool | None]
    streams: bool = False
    due: float = 0.0

    def silent(self) -> float:
        """Return for how many seconds we have waited for an answer; 0 where we do not wait, or have not read one yet."""
        try:
            if self.waits() is False:
                return 0.0
            return silence_of(self.descriptor(), sent_counts=not self.streams)
        except psycopg.Error:
            return 0.0  # closed at this moment

    def cut(self) -> None:
        """Close the connection under whoever waits for it: the wait ends as it does when the server has gone."""
        with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(self.descriptor())) as ours:
            ours.shutdown(socket.SHUT_RDWR)


def silence_of(descriptor: int, *, sent_counts: bool) -> float:
    """Return the seconds since data came over a TCP connection, or with ``sent_counts`` went; 0 while some is unread.

    0 too for another socket and on another system than Linux.
    """
    kind = getattr(socket, "TCP_INFO", None)
    if kind is None:
        return 0.0
    unread = array.array("i", [0])
    try:
        fcntl.ioctl(descriptor, termios.FIONREAD, unread)
        if unread[0]:
            return 0.0
        with socket.socket(fileno=os.dup(descriptor)) as ours:
            if ours.family not in (socket.AF_INET, socket.AF_INET6):
                return 0.0
            info = ours.getsockopt(socket.IPPROTO_TCP, kind, 104)
    except (OSError, ValueError):  # closed at this moment
        return 0.0
    received = int(struct.unpack_from("=I", info, _LAST_RECEIVED)[0])
    sent = int(struct.unpack_from("=I", info, _LAST_SENT)[0])
    return (min(received, sent) if sent_counts else received) / 1000


def note(connection: Connection[Any], endpoint: Any, purpose: str, limit: float) -> None:
    """Add a session of psycopg that has just been opened; it leaves with its connection."""
    there = weakref.ref(connection)

    def descriptor() -> int:
        now = there()
        return -1 if now is None or now.closed else now.pgconn.socket

    def waits() -> bool:
        now = there()
        return now is not None and now.pgconn.transaction_status == pq.TransactionStatus.ACTIVE

    with _LOCK:
        pid = connection.info.backend_pid
        _OPEN[connection] = OpenSession(endpoint, purpose, pid, limit, descriptor, waits)


def note_async(session: Any, endpoint: Any, purpose: str, limit: float) -> None:
    """Add a session of asyncpg that has just been opened, and bound its waits in the kernel, as libpq does its own."""
    there = weakref.ref(session)

    def descriptor() -> int:
        now = there()
        transport = None if now is None or now.is_closed() else now._transport
        ours = transport.get_extra_info("socket") if transport is not None else None
        return -1 if ours is None else int(ours.fileno())

    _keep_alive(descriptor(), limit)
    with _LOCK:
        _OPEN[session] = OpenSession(endpoint, purpose, session.get_server_pid(), limit, descriptor, lambda: None)


def _keep_alive(descriptor: int, limit: float) -> None:
    wanted = (
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 30),
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 10),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", 3),
        (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", int(limit * 1000)),
    )
    for level, name, value in wanted:
        if hasattr(socket, name):
            with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as ours:  # a Unix socket knows none
                ours.setsockopt(level, getattr(socket, name), value)


def streams(connection: Connection[Any], limit: float) -> None:
    """Note that the session replicates now; its server is looked for after ``limit`` seconds, where that is sooner."""
    with _LOCK:
        known = _OPEN.get(connection)
        if known is not None:
            known.limit = min(known.limit, limit)
            known.streams = True


def open_sessions() -> tuple[OpenSession, ...]:
    """Return all that are open now."""
    with _LOCK:
        return tuple(_OPEN.values())
