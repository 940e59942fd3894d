# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one run of the stream goes by, and how its pieces come to the destination: a large one beside the next one's
preparation.
"""

from __future__ import annotations

from concurrent.futures import Executor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ...state.store import MigrationState, StateStore
    from ..apply.applier import Applier
    from ..apply.progress import ProgressStore
    from ..changes.batcher import Batcher
    from ..changes.batches import Batch
    from ..monitor.monitor import Watcher
    from .stream import ReplicationStream

_LARGE: Final = 2_000
"""Rows from which on a piece keeps the destination busy for longer than it takes to hand it to another thread."""

_LOOK_EVERY: Final = 0.02


@dataclass(frozen=True, slots=True)
class Sessions:
    """The sessions and facts of one connection to both ends."""

    store: StateStore
    progress: ProgressStore
    migration: MigrationState
    watcher: Watcher


class Pump:
    """From one run of the stream to the destination."""

    def __init__(
        self, ends: Sessions, stream: ReplicationStream, batcher: Batcher, applier: Applier, writer: Executor
    ) -> None:
        self.ends = ends
        self.stream = stream
        self.batcher = batcher
        self.applier = applier
        self.urgent = False
        self.recorded_at = 0.0
        self._writer = writer

    def write(self, batch: Batch) -> bool:
        """Apply a piece; of a large one the destination has work for a while, in which the next one is prepared."""
        if batch.changes < _LARGE:
            return self.applier.apply(batch, self.stream.received, self.stream.confirmed)
        written = self._writer.submit(self.applier.apply, batch, self.stream.received, self.stream.confirmed)
        prepared: Batch | None = None
        while not written.done():
            upcoming = self.stream.upcoming()
            if upcoming is not None and upcoming is not prepared:
                self.applier.prepare(upcoming)
                prepared = upcoming
            else:
                wait((written,), _LOOK_EVERY)
        return written.result()
