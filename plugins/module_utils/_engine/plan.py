# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan: the differences between what is observed and what is wanted, and the statements that remove them.

Modules observe, make a plan, and apply it; a dry run shows the same plan without applying it, so it cannot lie.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from .postgres.connect import explain_errors

if TYPE_CHECKING:
    from psycopg import sql

    from .postgres.connect import Connection

Place = Literal["source", "destination", "worker host"]


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between what is observed and what is wanted. ``before`` and ``after`` are plain data; None: absent.

    ``statements`` remove the difference, in order and readable; none holds a secret or a row.
    """

    place: Place
    what: str
    before: object
    after: object
    statements: tuple[str, ...] = ()


def _nothing() -> Mapping[str, object]:
    return {}


@dataclass(frozen=True, slots=True)
class Plan:
    """All changes of one module call.

    ``result`` is what was observed, returned whether the plan is applied or not; ``apply`` carries the changes out and
    returns results that are known only afterwards (it is never called for a plan without changes), a list ``warnings``
    among them is for the operator; ``notes`` says what
    the plan assumes, such as an earlier phase that has only been planned; ``warnings`` are for the operator. ``record``
    is work that changes nothing of the operator's, such as comparing contents and recording the verdict: a real run does
    it every time, and it is not a change.
    """

    changes: tuple[Change, ...] = ()
    result: Mapping[str, object] = field(default_factory=dict)
    apply: Callable[[], Mapping[str, object]] = _nothing
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    record: Callable[[], Mapping[str, object]] = _nothing

    @property
    def changed(self) -> bool:
        return bool(self.changes)

    def carry_out(self) -> Mapping[str, object]:
        """Apply the plan if it has changes. Return what was observed, updated with the results of applying it."""
        return {**self.result, **(self.apply() if self.changes else {})}

    def then(self, other: Plan) -> Plan:
        """Return one plan of this one followed by ``other``.

        Changes, notes and warnings are concatenated; each plan is applied if it has changes, and recorded, in this order.
        Of two results under one name lists are joined, of anything else the later one counts.
        """
        return Plan(
            changes=self.changes + other.changes,
            result=_merged(self.result, other.result),
            apply=lambda: _merged(self.carry_out(), other.carry_out()),
            notes=self.notes + other.notes,
            warnings=self.warnings + other.warnings,
            record=lambda: _merged(self.record(), other.record()),
        )


def _merged(first: Mapping[str, object], later: Mapping[str, object]) -> Mapping[str, object]:
    merged = {**first, **later}
    for name in first.keys() & later.keys():
        before, now = first[name], later[name]
        if isinstance(before, list) and isinstance(now, list):
            merged[name] = before + now
    return merged


@dataclass(frozen=True, slots=True)
class Leftover:
    """An object of this migration that could not be removed, and the statements that remove it by hand."""

    place: Place
    what: str
    why: str
    statements: tuple[str, ...]

    def as_result(self) -> Mapping[str, object]:
        """Return the same as data: an item of the return value ``left_behind``."""
        return {"end": self.place, "what": self.what, "why": self.why, "statements": list(self.statements)}

    def __str__(self) -> str:
        return f"left at the {self.place}: {self.what}, since {self.why}. By hand: {' '.join(self.statements)}"


@dataclass(frozen=True, slots=True)
class SqlChange:
    """A Change whose statements are SQL that can be executed unchanged, one after the other."""

    place: Place
    what: str
    before: object
    after: object
    statements: tuple[sql.Composed, ...]

    def as_change(self, conn: Connection) -> Change:
        """Return the same for display; names are quoted as this connection's server requires."""
        texts = tuple(statement.as_string(conn) for statement in self.statements)
        return Change(self.place, self.what, self.before, self.after, texts)

    def execute(self, conn: Connection, doing: str) -> None:
        """Execute the statements, in the caller's transaction or each by itself. Raises ServerError."""
        with explain_errors(doing, self.what):
            for statement in self.statements:
                conn.execute(statement)


def as_change(changes: Sequence[SqlChange], conn: Connection) -> tuple[Change, ...]:
    """Return several SqlChanges for display."""
    return tuple(change.as_change(conn) for change in changes)
