# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells the operator at once what a phase waits for at the source: a line of progress, the timeline, and a warning."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import EngineError, StateError
from ..postgres.locks import named

if TYPE_CHECKING:
    from ..state.store import StateStore


class Waits:
    """What one call has waited for. ``progress_file`` gets a line of JSON for each wait, empty for none."""

    def __init__(self, store: StateStore, phase: str, progress_file: str = "") -> None:
        self.warnings: list[str] = []
        self._store = store
        self._phase = phase
        self._file = progress_file

    def __call__(self, what: str, holders: Sequence[str]) -> None:
        """Tell that ``what`` waits for a lock that these sessions hold. Raises StateError for a file it cannot write."""
        said = f"{what} waits for a lock at the source, held by {named(holders)}"
        self.warnings.append(said)
        if self._file:
            try:
                with Path(self._file).open("a", encoding="utf-8") as lines:
                    lines.write(json.dumps({"waits": said}) + "\n")
            except OSError as exc:
                why = exc.strerror or type(exc).__name__
                raise StateError("writing the progress to", self._file, why, "Correct progress_file.") from exc
        try:
            self._store.event(self._phase, "waiting for a lock at the source", {"what": what, "held_by": list(holders)})
        except EngineError:
            pass  # what needs the destination reports it; the wait goes on
