# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The evidence that a cutover collects for its certificate: names, counts, positions; no row, no secret."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from ..postgres.lsn import format_lsn
from ..state.markers import Marker
from ..validate.verdicts import Verdict


@dataclass(slots=True)
class Evidence:
    """The evidence of one run. ``fenced_at`` and ``opened_after`` are on the monotonic clock, in seconds; ``fenced_on``
    is the first as wall-clock time (ISO 8601), for a run that finishes what another has closed."""

    fenced_at: float = 0.0
    opened_after: float = 0.0
    roles: tuple[str, ...] = ()
    bypassing: tuple[str, ...] = ()
    sessions_ended: int = 0
    marker: Marker | None = None
    drain_seconds: float = 0.0
    sequences: int = 0
    verdicts: Mapping[int, Verdict] = field(default_factory=dict)
    writer: Mapping[str, object] = field(default_factory=dict)
    triggers: int = 0
    definitions: Mapping[str, object] = field(default_factory=dict)
    fenced_on: str = ""
    steps: list[dict[str, object]] = field(default_factory=list)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Record how long the body took as a step."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.steps.append({"name": name, "seconds": round(time.monotonic() - began, 3)})

    @property
    def pause_ms(self) -> int:
        """Return milliseconds from the commit of the fence to the opening: the application can write nowhere then."""
        return round((self.opened_after - self.fenced_at) * 1000) if self.opened_after and self.fenced_at else 0

    def closed_part(self) -> dict[str, object]:
        """Return what was proved when the source was closed: it is stored, since a crash may follow."""
        marker = self.marker
        return {
            "fenced_roles": list(self.roles),
            "bypassing_roles": list(self.bypassing),
            "sessions_ended": self.sessions_ended,
            "marker": {"token": marker.token, "position": format_lsn(marker.position)} if marker else None,
            "drain_seconds": round(self.drain_seconds, 3),
            "sequences": self.sequences,
            "tables": len(self.verdicts),
            "rows": sum(verdict.source_rows for verdict in self.verdicts.values()),
            "verdict": "identical",
            "definitions": dict(self.definitions),
            "fenced_at": self.fenced_on,
            "steps": list(self.steps),
        }
