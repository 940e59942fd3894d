# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalogue of prechecks: every family, and how its findings are judged. docs/prechecks.md is its page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from ..errors import EngineError, SpecError
from . import connection, decoding, destination, host, objects, source_harm
from .finding import SEVERITIES, Check, Finding, finding

if TYPE_CHECKING:
    from .observed import Observation

FAMILIES: Mapping[str, tuple[Check, ...]] = {
    "Connection and identity": connection.CHECKS,
    "Logical decoding": decoding.CHECKS,
    "The source's production": source_harm.CHECKS,
    "Objects": objects.CHECKS,
    "Destination": destination.CHECKS,
    "Worker host": host.CHECKS,
}

CATALOGUE: Mapping[str, Check] = {check.id: check for checks in FAMILIES.values() for check in checks}

NEVER, ON_WARNING, ON_ERROR = "never", "warning", "error"


class PrecheckError(EngineError):
    """Findings that stop the caller, by its ``fail_on``."""

    code = "precheck_failed"


def judge(seen: Observation) -> tuple[Finding, ...]:
    """Return all findings of one observation, the worst first, then in the catalogue's order."""
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
        # an option can make an error ignorable, such as allow_keyless for no_key
        if check.severity != "ignorable" and name not in IGNORABLE_BY_OPTION:
            raise _refused(
                name,
                f"it is {'an error' if check.severity == 'error' else 'a ' + check.severity}, "
                "and only ignorable checks may be ignored",
                "Fix what it finds and remove it from ignore_checks.",
            )


IGNORABLE_BY_OPTION = frozenset({"no_key", "conflicting_tables"})
"""Errors that an option makes ignorable: causeway_allow_keyless, causeway_conflicting_tables."""


def _refused(name: str, why: str, remedy: str) -> SpecError:
    return SpecError("reading ignore_checks", name, why, remedy)


def without_ignored(findings: Iterable[Finding], ids: Sequence[str]) -> tuple[Finding, ...]:
    """Return the findings that count. Only ignorable findings are ever left out, even if ``ids`` names others."""
    return tuple(one for one in findings if one.severity != "ignorable" or one.id not in ids)


def counts(findings: Iterable[Finding]) -> dict[str, int]:
    """Return the number of findings of each severity."""
    found = [one.severity for one in findings]
    return {severity: found.count(severity) for severity in SEVERITIES}


def stopping(findings: Sequence[Finding], fail_on: str) -> tuple[Finding, ...]:
    """Return the findings that stop the caller, by ``fail_on``: error, warning (then ignorable ones too), or never."""
    severities = {ON_ERROR: ("error",), ON_WARNING: ("error", "warning", "ignorable")}.get(fail_on, ())
    return tuple(one for one in findings if one.severity in severities)


def failure(stopped_by: Sequence[Finding], name: str, result: Mapping[str, object]) -> PrecheckError:
    """Return the error to raise for these findings; its ``result`` is the whole result of the precheck."""
    number = len(stopped_by)
    ids = ", ".join(dict.fromkeys(one.id for one in stopped_by))
    return PrecheckError(
        "checking both ends of migration",
        name,
        f"{number} finding{'s' if number > 1 else ''} must be fixed first: {ids}",
        "Each finding names its fix; nothing was changed. Then run the same playbook again.",
        result=result,
    )
