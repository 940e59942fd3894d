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
    (monotonic); ``streams`` marks one that replicates: we answer it all the time, so only what it sends counts."""

    connection: weakref.ref[Connection[Any]]
    endpoint: Any
    purpose: str
    pid: int
    limit: float
    streams: bool = False
    due: float = 0.0

    def silent(self) -> float:
        """Return for how many seconds we have waited for an answer; 0 where we do not wait, or have not read one yet."""
        connection = self.connection()
        try:
            if connection is None or connection.closed:
                return 0.0
            if connection.pgconn.transaction_status != pq.TransactionStatus.ACTIVE:
                return 0.0
            return silence_of(connection.pgconn.socket, sent_counts=not self.streams)
        except psycopg.Error:
            return 0.0  # closed at this moment

    def cut(self) -> None:
        """Close the connection under whoever waits for it: the wait ends as it does when the server has gone."""
        connection = self.connection()
        with suppress(OSError, psycopg.Error):
            if connection is not None and not connection.closed:
                with socket.socket(fileno=os.dup(connection.pgconn.socket)) as ours:
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
    except OSError:
        return 0.0
    received = int(struct.unpack_from("=I", info, _LAST_RECEIVED)[0])
    sent = int(struct.unpack_from("=I", info, _LAST_SENT)[0])
    return (min(received, sent) if sent_counts else received) / 1000


def note(connection: Connection[Any], endpoint: Any, purpose: str, limit: float) -> None:
    """Add a session that has just been opened; it leaves with its connection."""
    pid = connection.info.backend_pid
    with _LOCK:
        _OPEN[connection] = OpenSession(weakref.ref(connection), endpoint, purpose, pid, limit)


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
