# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What reaches a worker from outside its migration: signals; and what it tells whoever looks after its process."""

from __future__ import annotations

import select
import socket
from contextlib import suppress
from dataclasses import dataclass, field

from .sd_notify import Notifier, Pulse


class Flag:
    """Set by a signal's handler, waited for by whom it interrupts: unlike threading.Event it takes no lock, which the
    interrupted one might hold.
    """

    def __init__(self) -> None:
        self._set = False
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def set(self) -> None:
        """From now on nobody waits for it."""
        self._set = True
        with suppress(BlockingIOError):  # what is in there already wakes as well
            self._writer.send(b"x")

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._set

    def clear(self) -> None:
        """It can be waited for again."""
        self._set = False
        with suppress(BlockingIOError):
            while self._reader.recv(100):
                pass

    def wait(self, timeout: float) -> bool:
        """Until it is set, at most so many seconds; whether it is."""
        if not self._set:
            select.select([self._reader], [], [], timeout)
        return self._set


@dataclass(frozen=True, slots=True)
class Signals:
    """``stop`` ends the worker at a commit; ``wake`` ends a wait for the next attempt."""

    stop: Flag = field(default_factory=Flag)
    wake: Flag = field(default_factory=Flag)


@dataclass(slots=True)
class Supervisor:
    """``told`` is said in the words of systemd; the first time it also means that the worker is ready."""

    notifier: Notifier
    pulse: Pulse

    def told(self, what: str) -> None:
        """The worker applies, rests, or has said why it does neither."""
        self.pulse.beat()
        self.notifier.send(READY=1, STATUS=what)
