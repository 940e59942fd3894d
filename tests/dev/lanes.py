# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stages side by side: each lane runs its stages one after the other; what they print is shown stage by stage, in order."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from .stages import Stages, find
from .workspace import Workspace


@dataclass
class Result:
    """What came of one stage."""

    name: str
    outcome: str
    seconds: float


@dataclass
class _Run:
    """A stage that runs, has run or will run, and the file that it prints to."""

    name: str
    log: Path
    ended: threading.Event = field(default_factory=threading.Event)
    result: Result | None = None


def carry_out(stages: Stages, workspace: Workspace, name: str) -> Result:
    """Run one stage, end what it left running, and return what came of it."""
    started = time.monotonic()
    passed = find(stages, name)()
    left = workspace.end_processes(name)
    if left:
        stages.say(f"{name} left processes running: {', '.join(f'{left[pid]} ({pid})' for pid in sorted(left))}")
    return Result(name, "passed" if passed and not left else "failed", time.monotonic() - started)


class Lanes:
    """Runs stages in lanes. C(make) returns the Stages that print to a file, for one stage."""

    def __init__(self, workspace: Workspace, make: Callable[[str, IO[str]], Stages]) -> None:
        self._workspace = workspace
        self._make = make
        self._ended = False
        self._running: dict[str, Stages] = {}

    def run(self, lanes: Iterable[Sequence[str]], order: Sequence[str]) -> list[Result]:
        """Run all lanes to their end, show their output, and return the results in this order."""
        runs = {name: _Run(name, self._workspace.folder / f"{name}.log") for name in order}
        for run in runs.values():
            run.log.touch()
        threads = [threading.Thread(target=self._lane, args=([runs[name] for name in lane],)) for lane in lanes]
        for thread in threads:
            thread.start()
        try:
            for run in runs.values():
                print(f"\n=== {run.name}", flush=True)
                _show(run)
        except BaseException as interrupt:
            self._end(told=isinstance(interrupt, KeyboardInterrupt))
            raise
        finally:
            for thread in threads:
                thread.join()
        return [run.result or Result(run.name, "failed", 0.0) for run in runs.values()]

    def _lane(self, runs: Sequence[_Run]) -> None:
        for run in runs:
            try:
                if not self._ended:
                    self._stage(run)
            finally:
                run.ended.set()  # or whoever shows its output would wait for ever

    def _stage(self, run: _Run) -> None:
        started = time.monotonic()
        with run.log.open("w", encoding="utf-8") as log:
            try:
                stages = self._running[run.name] = self._make(run.name, log)
                if self._ended:  # between the lane's look and the line above
                    return
                run.result = carry_out(stages, self._workspace, run.name)
            except Exception:  # noqa: BLE001 - the other stages still run, and the summary says that this one failed
                traceback.print_exc(file=log)
                run.result = Result(run.name, "failed", time.monotonic() - started)

    def _end(self, told: bool) -> None:
        """Start nothing more, and end the commands that run, all at once."""
        self._ended = True
        ends = [threading.Thread(target=stages.end, args=(not told,)) for stages in list(self._running.values())]
        for end in ends:
            end.start()
        for end in ends:
            end.join()


def _show(run: _Run) -> None:
    """Copy what a stage prints to standard output until the stage has ended."""
    with run.log.open(encoding="utf-8", errors="replace") as log:
        while True:
            ended = run.ended.wait(0.3)
            while text := log.read(1 << 16):
                sys.stdout.write(text)
            sys.stdout.flush()
            if ended:
                return
