# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The operator's options of a copy: layout, parallelism, limits."""

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
    """How large tables are cut: the bytes of heap in a part, and whether parts are ranges of pages or of a key."""

    part_size: int = 1 << 30
    part_by: PartBy = "auto"


@dataclass(frozen=True, slots=True)
class ProgressFile:
    """The file to which progress is written as JSON lines, and the interval in seconds; empty or 0 for none."""

    path: str = ""
    interval: float = 0.0


@dataclass(frozen=True, slots=True)
class Limits:
    """``parallel`` parts are copied at once; ``pace`` None retains the limits of an earlier call."""

    parallel: int = 2
    layout: Layout = field(default_factory=Layout)
    patience: Patience = field(default_factory=lambda: Patience(2.0, 60))
    build: BuildLimits = field(default_factory=BuildLimits)
    objects: ObjectWish = field(default_factory=ObjectWish)
    pace: Pace | None = None
    progress: ProgressFile = field(default_factory=ProgressFile)

    @property
    def slot_patience(self) -> float:
        """Return the seconds to wait for transactions that were open when a slot was requested. No session waits behind us
        then."""
        return self.patience.timeout * max(1, self.patience.retries)
