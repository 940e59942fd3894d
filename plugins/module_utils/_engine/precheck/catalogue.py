# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalogue of prechecks: every family, and what comes of them. docs/prechecks.md is its page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from ..errors import EngineError, SpecError
from . import connection, decoding, destination, host, objects
from .finding import SEVERITIES, Check, Finding, finding

if TYPE_CHECKING:
    from .observed import Observation

FAMILIES: Mapping[str, tuple[Check, ...]] = {
    "Connection and identity": connection.CHECKS,
    "Logical decoding": decoding.CHECKS,
    "Objects": objects.CHECKS,
    "Destination": destination.CHECKS,
    "Worker host": host.CHECKS,
}

CATALOGUE: Mapping[str, Check] = {check.id: check for checks in FAMILIES.values() for check in checks}

NEVER, ON_WARNING, ON_ERROR = "never", "warning", "error"


class PrecheckError(EngineError):
    """Findings that the caller wants to be stopped by."""

    code = "precheck_failed"


def judge(seen: Observation) -> tuple[Finding, ...]:
    """All findings of one observation, the worst first, in the catalogue's order."""
    found = [
        finding(check, one)
        for check in CATALOGUE.values()
        if seen.spec.incremental or not check.incremental
        for one in check.look(seen)
    ]
    return tuple(sorted(found, key=lambda one: SEVERITIES.index(one.severity)))


def require_ignorable(ids: Sequence[str]) -> None:
    """Raise SpecError for an id that the catalogue does not have, or that may never be ignored."""
    for name in ids:
        check = CATALOGUE.get(name)
        if check is None:
            raise _refused(name, "the catalogue has no check of that id", "Correct the id; docs/prechecks.md has all.")
        # what is an error by itself may be ignorable under an option, such as no_key with allow_keyless
        if check.severity != "ignorable" and name not in IGNORABLE_BY_OPTION:
            raise _refused(
                name,
                f"it is {'an error' if check.severity == 'error' else 'a ' + check.severity}, "
                "and only ignorable ones may be ignored",
                "Cure what it finds and take it out of ignore_checks.",
            )


IGNORABLE_BY_OPTION = frozenset({"no_key", "conflicting_tables"})
"""Errors that an option turns into something ignorable: causeway_allow_keyless, causeway_conflicting_tables."""


def _refused(name: str, why: str, remedy: str) -> SpecError:
    return SpecError("reading ignore_checks", name, why, remedy)


def without_ignored(findings: Iterable[Finding], ids: Sequence[str]) -> tuple[Finding, ...]:
    """The findings that count. Only an ignorable finding is left out, whatever its id."""
    return tuple(one for one in findings if one.severity != "ignorable" or one.id not in ids)


def counts(findings: Iterable[Finding]) -> dict[str, int]:
    """How many of each severity."""
    found = [one.severity for one in findings]
    return {severity: found.count(severity) for severity in SEVERITIES}


def stopping(findings: Sequence[Finding], fail_on: str) -> tuple[Finding, ...]:
    """What stops the caller, by ``fail_on``: error, warning (ignorable ones that are not ignored too), or never."""
    severities = {ON_ERROR: ("error",), ON_WARNING: ("error", "warning", "ignorable")}.get(fail_on, ())
    return tuple(one for one in findings if one.severity in severities)


def failure(stopped_by: Sequence[Finding], name: str, result: Mapping[str, object]) -> PrecheckError:
    """The error that findings are, with everything that was seen as its result."""
    number = len(stopped_by)
    ids = ", ".join(dict.fromkeys(one.id for one in stopped_by))
    return PrecheckError(
        "checking both ends of migration",
        name,
        f"{number} finding{'s' if number > 1 else ''} must be cured first: {ids}",
        "Each finding names its fix; nothing was changed. Then run the same playbook again.",
        result=result,
    )
