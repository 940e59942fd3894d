# -*- coding: utf-8 -*-
# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Follow a file of JSON lines that a module writes, and pass each line on as soon as it is complete."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

_LOOK = 0.2


class Follower:
    """Read in a thread until the context is left; lines that are written by then are passed on, too."""

    def __init__(self, path: Path, told: Callable[[Mapping[str, Any]], None]) -> None:
        self._path = path
        self._told = told
        self._read = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> Follower:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._look()

    def _follow(self) -> None:
        while not self._stop.wait(_LOOK):
            self._look()

    def _look(self) -> None:
        try:
            with self._path.open("rb") as stream:
                stream.seek(self._read)
                new = stream.read()
        except OSError:  # the module has not written yet
            return
        whole = new[: new.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            try:
                told = json.loads(line)
            except ValueError:
                continue
            if isinstance(told, dict):
                self._told(told)
