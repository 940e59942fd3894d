# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The limits at which a batch is full."""

from __future__ import annotations

from .batches import OBJECTS, Batch


class BatchLimits:
    """The limits of a batch: bytes of messages, rows, seconds since its first transaction began to arrive, and, for any
    limit of rows, the memory that it takes by `Batch.weight`. Checked for every change, so no dataclass.
    """

    __slots__ = ("max_age", "max_bytes", "max_changes", "max_weight")

    def __init__(
        self,
        max_bytes: int = 16 * 1024 * 1024,
        max_changes: int = 100_000,
        max_age: float = 1.0,
        max_weight: int = 64 * 1024 * 1024,
    ) -> None:
        self.max_bytes: int = max_bytes
        self.max_changes: int = max_changes
        self.max_age: float = max_age
        self.max_weight: int = max_weight

    def reached(self, batch: Batch) -> bool:
        """Return whether the batch is full by its size; the batcher checks its age."""
        changes = batch.inserts + batch.updates + batch.deletes
        if batch.size >= self.max_bytes or changes >= self.max_changes:
            return True
        return 2 * batch.size + OBJECTS * changes >= self.max_weight
