# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The worker's connection to the destination, and what belongs to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...state.store import MigrationState, StateStore
    from ..apply.progress import ProgressStore
    from ..monitor.monitor import Watcher


@dataclass(frozen=True, slots=True)
class Sessions:
    """One connection to the destination: its store and progress, the migration's row, and the monitor beside it."""

    store: StateStore
    progress: ProgressStore
    migration: MigrationState
    watcher: Watcher
