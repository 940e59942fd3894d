# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A separate process that lifts the fence if the cutover dies or runs out of time.

It is forked before the fence is raised and holds the read end of a pipe: `kill -9` of the module closes the other end.
The module's host may die with it; then the next run of the cutover, or `status`, finds the fence.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable
from typing import NoReturn

from ..errors import StateError
from ..postgres.silence import watching

_RELEASED = b"r"
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_MOST_DESCRIPTORS = 65536
_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 5.0
_PATIENCE = 3600.0
"""Seconds for which a source that cannot be reached is tried again."""


class Guard:
    """The parent's end. Only `release` ends the child without undoing anything. `let_go` leaves it to the child to
    look."""

    def __init__(self, pid: int, pipe: int) -> None:
        self.pid = pid
        self._pipe = pipe

    def release(self) -> None:
        """End the child: the fence stays for good, or was lifted already. Idempotent."""
        if self._pipe < 0:
            return
        try:
            os.write(self._pipe, _RELEASED)
        except BrokenPipeError:
            pass  # it ran out of time and has ended: what it did is in the fence row
        os.close(self._pipe)
        self._pipe = -1
        try:
            os.waitpid(self.pid, 0)
        except ChildProcessError:
            pass  # reaped already: the process that started us ignores SIGCHLD

    def let_go(self) -> None:
        """Leave an unknown fence to the child, which looks, and lifts it if it is still raised."""
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1


def start_guard(timeout: float, undo: Callable[[], bool]) -> Guard:
    """Fork the guard and return its handle. ``undo`` opens a connection of its own and lifts a fence that is raised.

    It is called when the parent is gone or ``timeout`` seconds have passed, and again, with pauses, while it raises.
    Only the calling thread may exist. Returns once no signal to our process group reaches the guard.
    """
    read_end, write_end = os.pipe()
    ready, tell = os.pipe()
    # A signal to the group between fork and setsid must not take the guard along.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _IGNORED)
    try:
        pid = os.fork()
        if not pid:
            _guard(read_end, tell, timeout, undo)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    os.close(read_end)
    os.close(tell)
    stands = os.read(ready, 1)
    os.close(ready)
    if not stands:
        os.close(write_end)
        raise StateError("starting the guard of the cutover", "", "it died at once", "Run the cutover again.")
    return Guard(pid, write_end)


def _guard(pipe: int, tell: int, timeout: float, undo: Callable[[], bool]) -> NoReturn:
    """Run the child: never returns, and never runs the parent's finalizers, which would end the parent's sessions."""
    try:
        os.setsid()
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _IGNORED)
        os.write(tell, _RELEASED)
        _let_go_of_everything_but(pipe)
        if not _released(pipe, timeout):
            with watching():  # a source that says nothing is tried again too
                _undo_for(undo)
    finally:
        os._exit(0)


def _let_go_of_everything_but(pipe: int) -> None:
    """Close all descriptors but ``pipe``: Ansible waits while the module's output is open; sockets are the parent's."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    os.closerange(3, pipe)
    limit = os.sysconf("SC_OPEN_MAX")
    os.closerange(pipe + 1, limit if 0 < limit < _MOST_DESCRIPTORS else _MOST_DESCRIPTORS)


def _released(pipe: int, timeout: float) -> bool:
    """Return whether the parent said that all is well; False if it is gone or has taken too long."""
    ready, dummy, dummy2 = select.select([pipe], [], [], timeout)
    return bool(ready) and os.read(pipe, 1) == _RELEASED


def _undo_for(undo: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    pause = _FIRST_PAUSE
    while time.monotonic() < deadline:
        try:
            undo()
            return
        except Exception:  # noqa: BLE001 - for any reason: the source is still fenced, and only the guard lifts that
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
