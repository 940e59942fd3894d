# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages to a supervisor: that the program is ready, what it does, and that it is alive (sd_notify(3)).

Each is a datagram to the socket that the environment names; without a socket nothing is sent.
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
    """The supervisor's socket. Never raises: a supervisor that does not listen must not stop the worker."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get(SOCKET, "")
        # An @ is the zero byte of the abstract namespace; vsock addresses, for virtual machines, are not supported.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        if not address.startswith(("/", "@")):
            self._address = ""

    def send(self, **fields: object) -> bool:
        """Send ``READY=1``, ``STATUS=…`` and the like in one message; return whether it was sent."""
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
    """Return the seconds of silence after which the supervisor acts; 0 where it does not watch this process."""
    if environ.get(WATCHDOG_PID, str(pid)) != str(pid):
        return 0.0
    try:
        return max(0, int(environ.get(WATCHDOG, "0"))) / 1e6
    except ValueError:
        return 0.0


class Pulse:
    """Whether the worker is alive: it reports itself, or the monitor sees its session active at the server. Pure.

    A statement may take hours, a lock may be waited for: in neither case does the worker hang.
    """

    def __init__(self, patience: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience = patience
        self._clock = clock
        self._last = clock()

    def beat(self) -> None:
        """Record that the worker, or the server for it, is at work now."""
        self._last = self._clock()

    def age(self) -> float:
        """Return the seconds since the last beat."""
        return self._clock() - self._last

    def lives(self) -> bool:
        """Return whether the last beat was within ``patience`` seconds."""
        return self.age() <= self._patience


class Watchdog:
    """A thread that notifies the supervisor while the worker is alive, three times in its interval."""

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
    """Return the watchdog that this process's environment asks for."""
    return Watchdog(notifier, pulse, watchdog_seconds(os.environ, os.getpid()))
