# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The signals that reach a worker, and its reports to the supervisor of its process."""

from __future__ import annotations

import select
import socket
from contextlib import suppress
from dataclasses import dataclass, field

from .sd_notify import Notifier, Pulse


class Flag:
    """A flag that a signal handler sets and the interrupted thread waits for. Unlike threading.Event it takes no lock,
    which the interrupted thread might hold.
    """

    def __init__(self) -> None:
        self._set = False
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def set(self) -> None:
        """Set the flag, and end a wait for it."""
        self._set = True
        with suppress(BlockingIOError):  # what is in there already wakes as well
            self._writer.send(b"x")

    def is_set(self) -> bool:
        """Return whether the flag is set."""
        return self._set

    def clear(self) -> None:
        """Clear the flag, so that `wait` waits again."""
        self._set = False
        with suppress(BlockingIOError):
            while self._reader.recv(100):
                pass

    def wait(self, timeout: float) -> bool:
        """Wait until the flag is set, at most ``timeout`` seconds; return whether it is."""
        if not self._set:
            select.select([self._reader], [], [], timeout)
        return self._set


@dataclass(frozen=True, slots=True)
class Signals:
    """The flags of a worker: ``stop`` ends it at a commit; ``wake`` ends the wait for the next attempt."""

    stop: Flag = field(default_factory=Flag)
    wake: Flag = field(default_factory=Flag)


@dataclass(slots=True)
class Supervisor:
    """Reports to systemd through ``notifier``; the first report also means that the worker is ready."""

    notifier: Notifier
    pulse: Pulse

    def told(self, what: str) -> None:
        """Report that the worker applies, is paused, or has said why it does neither."""
        self.pulse.beat()
        self.notifier.send(READY=1, STATUS=what)
