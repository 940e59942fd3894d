# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A check and its findings. A check is a pure function of an observation: it asks no server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from .observed import DestinationView, Observation, SourceView

Severity = Literal["error", "warning", "ignorable", "note"]

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "ignorable", "note")
"""The worst first: blocks; must be fixed; may be ignored by id; good to know."""


@dataclass(frozen=True, slots=True)
class Found:
    """One thing that a check found. Fields that are left empty are taken from the check.

    ``object`` is named as PostgreSQL prints it; ``answer`` is the observed value, ``query`` how to observe it again.
    """

    object: str
    answer: str
    query: str = ""
    fix: str = ""
    why: str = ""
    severity: Severity | None = None


Look = Callable[["Observation"], Iterable[Found]]


@dataclass(frozen=True, slots=True)
class Check:
    """One entry of the catalogue. ``why`` and ``fix`` are the general texts; ``lock`` is the lock that the fix takes.

    ``incremental`` checks matter only where changes are captured.
    """

    id: str
    severity: Severity
    why: str
    fix: str
    look: Look
    lock: str = "none"
    incremental: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding as the operator reads it: check, object, why it matters, the evidence and the fix."""

    id: str
    severity: Severity
    object: str
    why: str
    query: str
    answer: str
    fix: str
    lock: str

    def as_result(self) -> Mapping[str, Any]:
        """Return the finding as plain data, for the module's result."""
        return {
            "id": self.id,
            "severity": self.severity,
            "object": self.object,
            "why": self.why,
            "evidence": {"query": self.query, "answer": self.answer},
            "fix": self.fix,
            "lock": self.lock,
        }


def finding(check: Check, found: Found) -> Finding:
    """Return the finding, completed by the general texts of its check."""
    return Finding(
        id=check.id,
        severity=found.severity or check.severity,
        object=found.object,
        why=found.why or check.why,
        query=found.query,
        answer=found.answer,
        fix=found.fix or check.fix,
        lock=check.lock,
    )


def at_source(look: Callable[[Observation, SourceView], Iterable[Found]]) -> Look:
    """Return a look that needs the source: it finds nothing where the source is unreachable, a finding by itself."""
    return lambda seen: look(seen, seen.source) if seen.source else ()


def at_destination(look: Callable[[Observation, DestinationView], Iterable[Found]]) -> Look:
    """Return a look that needs the destination."""
    return lambda seen: look(seen, seen.destination) if seen.destination else ()


def at_both(look: Callable[[Observation, SourceView, DestinationView], Iterable[Found]]) -> Look:
    """Return a look that needs both ends."""
    return lambda seen: look(seen, seen.source, seen.destination) if seen.source and seen.destination else ()
