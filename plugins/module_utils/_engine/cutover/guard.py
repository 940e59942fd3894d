# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A process of its own that gives the writers back what the fence took, if the cutover dies or runs out of time.

It is forked before the fence goes up and holds the read end of a pipe: `kill -9` of the module closes the other end.
The module's host may die with it; then the next run of the cutover, or `status`, finds the fence.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable
from typing import NoReturn

_RELEASED = b"r"
_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 5.0
_PATIENCE = 3600.0
"""Seconds for which a source that cannot be reached is tried again."""


class Guard:
    """The parent's end. `release` ends the child without undoing anything; so does nothing else."""

    def __init__(self, pid: int, pipe: int) -> None:
        self.pid = pid
        self._pipe = pipe

    def release(self) -> None:
        """The fence stands for good, or was taken back already: the child may go. Idempotent."""
        if self._pipe < 0:
            return
        try:
            os.write(self._pipe, _RELEASED)
        except BrokenPipeError:
            pass  # it ran out of time and has gone: what it did is in the fence row
        os.close(self._pipe)
        self._pipe = -1
        try:
            os.waitpid(self.pid, 0)
        except ChildProcessError:
            pass  # whoever started us reaps for us


def start_guard(timeout: float, undo: Callable[[], bool]) -> Guard:
    """Fork the guard. ``undo`` opens a connection of its own, gives back, and says whether it could be told what to do.

    It is called when the parent is gone or ``timeout`` seconds have passed, and again, with pauses, while it raises.
    Only the calling thread may exist.
    """
    read_end, write_end = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(write_end)
        _guard(read_end, timeout, undo)
    os.close(read_end)
    return Guard(pid, write_end)


def _guard(pipe: int, timeout: float, undo: Callable[[], bool]) -> NoReturn:
    """The child: never returns, and never runs the parent's finalizers, which would end the parent's sessions."""
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        _let_go_of_everything_but(pipe)
        if not _released(pipe, timeout):
            _undo_for(undo)
    finally:
        os._exit(0)


def _let_go_of_everything_but(pipe: int) -> None:
    """Ansible waits until nobody holds the module's output, and the parent's sockets are the parent's."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    os.closerange(3, pipe)
    os.closerange(pipe + 1, os.sysconf("SC_OPEN_MAX") if os.sysconf("SC_OPEN_MAX") < 65536 else 65536)


def _released(pipe: int, timeout: float) -> bool:
    """Whether the parent said that all is well; false when it is gone or has taken too long."""
    ready, dummy, dummy2 = select.select([pipe], [], [], timeout)
    return bool(ready) and os.read(pipe, 1) == _RELEASED


def _undo_for(undo: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    pause = _FIRST_PAUSE
    while time.monotonic() < deadline:
        try:
            undo()
            return
        except Exception:  # noqa: BLE001 - whatever it is, the source is still fenced and nobody else will open it
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
