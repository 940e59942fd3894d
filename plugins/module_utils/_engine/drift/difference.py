# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A difference between both ends: its id, the object, the cause and the statement that removes it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import MismatchError, SpecError

Severity = Literal["error", "warning", "note"]

IDS: Mapping[str, str] = {
    "definition_changed_at_source": "The application would find another definition at the destination than it has now.",
    "definition_changed_at_destination": "The application would find another definition than the migration created.",
    "definition_differs": "Both ends differ, and this migration has not created the object at the destination.",
    "definition_only_at_destination": "The source has no such object: it may refuse or change what the source accepts.",
    "definition_not_moved": "The destination lacks it, since the migration does not move what it needs.",
    "definitions_not_compared": "What is not compared may differ.",
    "database_level": "It belongs to no schema, so that the schema phase does not create it.",
    "subscription_at_source": "Rows that it receives after the cutover arrive at the source and nowhere else.",
}
"""All ids, and why each matters. docs/definitions.md has a row for each."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference. ``object`` is kind and name, ``cause`` what was found, ``fix`` SQL for the operator, or a sentence.

    ``fix`` may hold a definition, as a plan of the schema does, but no secret: no value of a setting that PostgreSQL
    does not know, no option of a foreign server or user mapping.
    """

    id: str
    severity: Severity
    object: str
    cause: str
    fix: str

    @property
    def name(self) -> str:
        """Return id and object: what ``ignore_differences`` takes."""
        return f"{self.id} {self.object}"

    def as_result(self, *, ignored: bool = False) -> Mapping[str, Any]:
        """Return it as a return value."""
        return {
            "id": self.id,
            "severity": self.severity,
            "object": self.object,
            "why": IDS[self.id],
            "cause": self.cause,
            "fix": self.fix,
            "ignored": ignored,
        }


def require_known(ignore: Iterable[str]) -> None:
    """Raise SpecError for an entry of ``ignore_differences`` that does not begin with an id, or names no object."""
    for entry in ignore:
        name, dummy, what = entry.partition(" ")
        if name not in IDS or not what.strip():
            raise SpecError(
                "reading ignore_differences",
                entry,
                "it is no id of a difference, a blank and an object" if name in IDS else f"there is no id {name}",
                "Write it as the comparison prints it, for instance: definition_changed_at_source view shop.totals.",
            )


def counting(found: Sequence[Difference], ignore: Collection[str]) -> tuple[Difference, ...]:
    """Return the errors that are not ignored."""
    return tuple(one for one in found if one.severity == "error" and one.name not in ignore)


def refusal(doing: str, errors: Sequence[Difference], result: Mapping[str, object]) -> MismatchError:
    """Return the error for these differences: it names each of the first, its cause, and how to go on."""
    named = "; ".join(f"{one.object}: {one.cause}" for one in errors[:5])
    more = f"; and {len(errors) - 5} more" if len(errors) > 5 else ""
    return MismatchError(
        doing,
        errors[0].object + (f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""),
        f"the ends differ in more than rows: {named}{more}",
        f"{errors[0].fix.splitlines()[0] if len(errors) == 1 and errors[0].fix else 'Each difference names its fix.'}"
        f' Or accept it: causeway_ignore_differences: ["{errors[0].name}"].',
        result=result,
    )
