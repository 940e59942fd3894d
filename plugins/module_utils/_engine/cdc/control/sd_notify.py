# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a supervisor wants to hear: that the program is ready, what it does, and that it still lives (sd_notify(3)).

A datagram to the socket that the environment names; without one nothing is sent.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Mapping

SOCKET = "NOTIFY_SOCKET"
WATCHDOG = "WATCHDOG_USEC"
WATCHDOG_PID = "WATCHDOG_PID"


class Notifier:
    """Never raises: a supervisor that does not listen must not stop the work."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get(SOCKET, "")
        # An @ stands for the zero byte of the abstract namespace; vsock is for virtual machines, not for us.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        if not address.startswith(("/", "@")):
            self._address = ""

    def send(self, **fields: object) -> bool:
        """Send ``READY=1``, ``STATUS=…`` and the like in one message. Whether it went out."""
        if not self._address:
            return False
        text = "\n".join(f"{name}={str(value).replace(chr(10), ' ')}" for name, value in fields.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto(text.encode(), self._address)
        except OSError:
            return False
        return True


def watchdog_seconds(environ: Mapping[str, str], pid: int) -> float:
    """After how many seconds without a sign of life the supervisor acts; 0 where it does not watch this process."""
    if environ.get(WATCHDOG_PID, str(pid)) != str(pid):
        return 0.0
    try:
        return max(0, int(environ.get(WATCHDOG, "0"))) / 1e6
    except ValueError:
        return 0.0


class Pulse:
    """Whether the worker still works: it says so itself, or somebody sees that a server works for it. Pure.

    A statement may take hours, a lock may be waited for: neither is a worker that hangs.
    """

    def __init__(self, patience: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience = patience
        self._clock = clock
        self._last = clock()

    def beat(self) -> None:
        """The worker, or the server for it, has just been seen at work."""
        self._last = self._clock()

    def age(self) -> float:
        """Seconds since then."""
        return self._clock() - self._last

    def lives(self) -> bool:
        """Whether that was within the patience."""
        return self.age() <= self._patience


class Watchdog:
    """A thread that tells the supervisor for as long as the pulse can be felt, three times in its interval."""

    def __init__(self, notifier: Notifier, pulse: Pulse, interval: float) -> None:
        self._notifier = notifier
        self._pulse = pulse
        self._interval = interval
        if interval > 0:
            threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    def _run(self) -> None:
        while True:
            if self._pulse.lives():
                self._notifier.send(WATCHDOG=1)
            time.sleep(self._interval / 3)


def own_watchdog(notifier: Notifier, pulse: Pulse) -> Watchdog:
    """The one that this process's environment asks for."""
    return Watchdog(notifier, pulse, watchdog_seconds(os.environ, os.getpid()))
