# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A check and what it finds. A check is a pure function of what was observed: it asks no server."""

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
    """One thing that a check found. What is left empty is taken from the check.

    ``object`` is printed as PostgreSQL prints it; ``answer`` is what was seen, ``query`` how to see it again.
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
    """One entry of the catalogue. ``why`` and ``fix`` hold in general; ``lock`` is what carrying out the fix takes.

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
    """What a person is told: which check, about what, why it matters, how it was seen and what cures it."""

    id: str
    severity: Severity
    object: str
    why: str
    query: str
    answer: str
    fix: str
    lock: str

    def as_result(self) -> Mapping[str, Any]:
        """The same as plain data."""
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
    """What was found, completed by what the catalogue says of the check."""
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
    """A look that needs the source; without one there is nothing to say but that it could not be reached."""
    return lambda seen: look(seen, seen.source) if seen.source else ()


def at_destination(look: Callable[[Observation, DestinationView], Iterable[Found]]) -> Look:
    """A look that needs the destination."""
    return lambda seen: look(seen, seen.destination) if seen.destination else ()


def at_both(look: Callable[[Observation, SourceView, DestinationView], Iterable[Found]]) -> Look:
    """A look that needs both ends."""
    return lambda seen: look(seen, seen.source, seen.destination) if seen.source and seen.destination else ()
