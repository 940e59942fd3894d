# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the control row wants of a running worker: whether it continues, how fast, and with which settings.

The worker asks before every batch. While the pace delays one, a command or a new setting takes effect at once, and
nothing else of the worker waits: other threads send feedback and heartbeat.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ...errors import SpecError
from ..control.lifecycle import WorkerStep, next_step
from ..control.pace import Throttle
from ..control.settings import TaskSettings, task_settings

if TYPE_CHECKING:
    import logging

    from ..changes.batcher import Batcher
    from ..changes.batches import Batch
    from ..control.sd_notify import Pulse
    from ..control.signals import Flag
    from ..monitor.monitor import Watcher

_SLICE = 0.05


class Control:
    """The control of one worker; ``follow`` sets the monitor whose control row it reads, at every connection."""

    def __init__(self, stop: Flag, log: logging.Logger, pulse: Pulse) -> None:
        self.settings = TaskSettings()
        self.throttle = Throttle()
        self._news: list[dict[str, object]] = []
        self._stop = stop
        self._log = log
        self._pulse = pulse
        self._watcher: Watcher | None = None
        self._generation = -1

    def follow(self, watcher: Watcher) -> None:
        """Use this monitor's control row from now on, and take its settings."""
        self._watcher = watcher
        self._generation = -1
        self._take_settings(tell=False)

    def step(self) -> WorkerStep:
        """Return the next step. Also feeds the watchdog: a worker that asks is alive."""
        self._pulse.beat()
        control = self._watcher.control if self._watcher else None
        return next_step(None if control is None else control.wanted, self._stop.is_set())

    def look(self, batcher: Batcher) -> bool:
        """Take new settings, if there are any. Returns whether batches must be smaller than those gathered already:
        what was gathered for a faster pace exceeds a slower one, and is read from the source again.
        """
        control = self._watcher.control if self._watcher else None
        if control is None or control.generation == self._generation:
            return False
        self._take_settings(tell=True)
        before, now = batcher.limits, self.settings.batch_limits()
        batcher.limits = now
        return now.max_changes < before.max_changes or now.max_bytes < before.max_bytes

    def _take_settings(self, *, tell: bool) -> None:
        control = self._watcher.control if self._watcher else None
        if control is None:
            return
        self._generation = control.generation
        before = self.settings
        try:
            self.settings = task_settings(control.settings)
        except (SpecError, TypeError, ValueError):
            # The module refuses these: the row was edited by hand, and the worker keeps its present settings.
            self._log.warning("settings out of range are ignored")
            return
        self.throttle.set(self.settings.pace(), time.monotonic())
        was, now = before.stored(), self.settings.stored()
        what = {name: [was[name], now[name]] for name in now if was[name] != now[name]}
        if what and tell:
            self._news.append(dict(what))

    def take_news(self) -> list[dict[str, object]]:
        """Return what the operator has changed since the last call, by setting: the value before and the one now."""
        news, self._news = self._news, []
        return news

    def admit(self, batch: Batch, batcher: Batcher) -> bool:
        """Wait until the pace admits the batch; return False when the control row no longer wants it applied."""
        while True:
            now = time.monotonic()
            wait = self.throttle.wait(batch.changes, batch.size, now)
            if wait <= 0:
                self.throttle.take(batch.changes, batch.size, now)
                return True
            self._stop.wait(min(wait, _SLICE))
            if self.step() is not WorkerStep.APPLY:
                return False
            if self.look(batcher):
                return False
