# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A finding is completed by its check, and a check looks only where there is something to see."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.precheck.finding import (
    Check,
    Finding,
    Found,
    at_both,
    at_destination,
    at_source,
    finding,
)

CHECK = Check("a_check", "warning", "the check's why", "the check's fix", lambda seen: (), "ShareLock", True)


def test_a_finding_has_the_texts_of_its_check() -> None:
    found = finding(CHECK, Found('s."größe"', "7"))
    assert found == Finding(
        "a_check", "warning", 's."größe"', "the check's why", "", "7", "the check's fix", "ShareLock"
    )
    assert found.as_result() == {
        "id": "a_check",
        "severity": "warning",
        "object": 's."größe"',
        "why": "the check's why",
        "evidence": {"query": "", "answer": "7"},
        "fix": "the check's fix",
        "lock": "ShareLock",
    }


def test_its_own_texts_come_first() -> None:
    found = finding(CHECK, Found("s.t", "7", "SELECT 7", "own fix", "own why", "error"))
    assert found == Finding("a_check", "error", "s.t", "own why", "SELECT 7", "7", "own fix", "ShareLock")


def observation(source: str | None, destination: str | None) -> Any:
    return SimpleNamespace(source=source, destination=destination)


def said(*what: Any) -> tuple[Found, ...]:
    """Find what the check was given to look at, behind the observation."""
    return (Found(" ".join(what[1:]), ""),)


@pytest.mark.parametrize(
    ("source", "destination", "seen"),
    [
        ("s", "d", ("s", "d", "s d")),
        ("s", None, ("s", None, None)),
        (None, "d", (None, "d", None)),
        (None, None, (None, None, None)),
    ],
)
def test_a_check_looks_at_the_ends_that_it_needs(
    source: str | None, destination: str | None, seen: tuple[str | None, ...]
) -> None:
    observed = observation(source, destination)
    for look, expected in zip((at_source(said), at_destination(said), at_both(said)), seen, strict=True):
        assert [found.object for found in look(observed)] == ([expected] if expected else [])
