# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The limits of statements that work on whole tables of the destination."""

from __future__ import annotations

from dataclasses import dataclass

_MEGABYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class BuildLimits:
    """The number of indexes built, or foreign keys validated, at once, and the bytes of memory that they share."""

    jobs: int = 2
    memory: int = 512 * _MEGABYTE

    @property
    def setting(self) -> str:
        """Return maintenance_work_mem of one session; the server accepts no less than 1 MB."""
        return f"{max(1, self.memory // max(1, self.jobs) // _MEGABYTE)}MB"
