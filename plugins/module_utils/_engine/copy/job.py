# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The job of a copy run: one table, with its parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..postgres.key_ranges import WHOLE, KeyRange, Part
from .transfer.columns import FREEZE_FROM

if TYPE_CHECKING:
    from ..postgres.catalog import Table


@dataclass(frozen=True, slots=True)
class Job:
    """One table that a run has to copy.

    ``heap`` and ``size`` are bytes, the latter with TOAST: it decides the order. ``merge`` is set for a table that held
    rows before us. ``key``: parts that are ranges of it may have snapshot LSNs of their own; ``fingerprint`` is then the
    table's present one, and ``resumes`` says that an earlier run's parts are retained and ``parts`` are the remaining.
    """

    source: Table
    destination: Table
    parts: tuple[Part, ...]
    heap: int = 0
    size: int = 0
    merge: bool = False
    key: KeyRange | None = None
    fingerprint: str = ""
    resumes: bool = False

    @property
    def may_freeze(self) -> bool:
        """Return whether its rows may be written frozen: COPY does that only in the transaction that emptied the table."""
        return not self.merge and self.parts == WHOLE and self.size >= FREEZE_FROM
