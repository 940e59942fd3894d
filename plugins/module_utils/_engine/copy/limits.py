# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a copy is done, as the operator wants it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ..capture.under_lock import Patience
from ..large_objects.objects import ObjectWish
from ..schema.build_limits import BuildLimits
from .transfer.pace import Pace

PartBy = Literal["auto", "ctid", "key"]


@dataclass(frozen=True, slots=True)
class Layout:
    """How large tables are cut: bytes of heap in a part, and what parts are ranges of."""

    part_size: int = 1 << 30
    part_by: PartBy = "auto"


@dataclass(frozen=True, slots=True)
class ProgressFile:
    """Where progress is written as JSON lines, and every how many seconds; empty or 0 for nowhere."""

    path: str = ""
    interval: float = 0.0


@dataclass(frozen=True, slots=True)
class Limits:
    """``parallel`` parts are copied at once; ``pace`` is None where the limits of an earlier call are to stay."""

    parallel: int = 2
    layout: Layout = field(default_factory=Layout)
    patience: Patience = field(default_factory=lambda: Patience(2.0, 60))
    build: BuildLimits = field(default_factory=BuildLimits)
    objects: ObjectWish = field(default_factory=ObjectWish)
    pace: Pace | None = None
    progress: ProgressFile = field(default_factory=ProgressFile)

    @property
    def slot_patience(self) -> float:
        """Seconds to wait for transactions that were open when a slot was asked for: no other session waits behind us."""
        return self.patience.timeout * max(1, self.patience.retries)
