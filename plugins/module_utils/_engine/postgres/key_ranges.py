# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ranges of a table's rows, by a key or by pages of its heap, and the SQL that limits a statement to one.

The copy cuts tables into them, the state tables record them, and the stream empties those that a TRUNCATE came before.
Pure but for quoting.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ._psycopg import sql
from .key_order import TYPE_NAMES, literal

if TYPE_CHECKING:
    from psycopg.sql import Composed

Condition = tuple[str, str, str, str]
"""Column, operator, literal, and the literal's type."""


def _between(column: str, type_name: str, first: str | None, end: str | None) -> tuple[Condition, ...]:
    return tuple((column, op, value, type_name) for op, value in ((">=", first), ("<", end)) if value is not None)


@dataclass(frozen=True, slots=True)
class KeyRange:
    """Values of a column from ``low`` up to but not including ``high``, as `key_order` has them; None has no end."""

    column: str
    type_oid: int
    low: int | None = None
    high: int | None = None

    @property
    def limits(self) -> tuple[Condition, ...]:
        """The conditions that rows of it meet."""
        low, high = (None if value is None else literal(self.type_oid, value) for value in (self.low, self.high))
        return _between(self.column, TYPE_NAMES[self.type_oid], low, high)


@dataclass(frozen=True, slots=True)
class Part:
    """Heap pages ``first_page`` up to but not including ``end_page`` (None means to the end), or a range of a key.
    ``number`` counts from 0."""

    number: int
    first_page: int = 0
    end_page: int | None = None
    key: KeyRange | None = None

    @property
    def whole(self) -> bool:
        """Whether it is all of its table."""
        if self.key is not None:
            return self.key.low is None and self.key.high is None
        return self.first_page == 0 and self.end_page is None

    @property
    def limits(self) -> tuple[Condition, ...]:
        """The conditions that rows of it meet."""
        if self.key is not None:
            return self.key.limits
        first = f"({self.first_page},0)" if self.first_page else None
        end = f"({self.end_page},0)" if self.end_page is not None else None
        return _between("ctid", "tid", first, end)


WHOLE = (Part(0),)
"""A table that is not cut."""


def where(rows: KeyRange | Part) -> Composed:
    """The clause that limits a statement to these rows; empty for a whole table."""
    limits = [
        sql.SQL("{} {} {}::{}").format(
            sql.Identifier(column), sql.SQL(operator), sql.Literal(value), sql.SQL(type_name)
        )
        for column, operator, value, type_name in rows.limits
    ]
    return sql.SQL(" WHERE {}").format(sql.SQL(" AND ").join(limits)) if limits else sql.Composed([])
