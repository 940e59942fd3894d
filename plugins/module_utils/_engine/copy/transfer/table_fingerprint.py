# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fingerprint of a table, as one session sees it: two of these are equal unless the table was changed in between.

TRUNCATE and rewrites are not MVCC-safe, and COPY names a table by a name that may have passed to another one: so what
the snapshot sees is compared with what an ordinary session sees while we hold a lock on the table.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ...postgres.catalog import Name
from ...postgres.versions import has

_STATEMENT = """
SELECT 0 AS number, c.relname::text, n.nspname::text, '' AS generated, false::text AS dropped,
       ROW(c.oid, c.relfilenode, c.xmin, c.relkind)::text
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = {oid}
UNION ALL
SELECT a.attnum::int, a.attname::text,
       CASE WHEN a.attisdropped THEN '' ELSE pg_catalog.format_type(a.atttypid, a.atttypmod) END,
       {generated}, a.attisdropped::text, ROW(a.atttypid, a.atttypmod, a.xmin)::text
  FROM pg_catalog.pg_attribute a WHERE a.attrelid = {oid} AND a.attnum > 0
 ORDER BY number
"""


@dataclass(frozen=True, slots=True)
class SeenColumn:
    """A column that exists and holds values of its own. ``type_name`` is format_type's."""

    name: str
    type_name: str


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The ``lines`` are compared as a whole; empty for a table that does not exist."""

    lines: tuple[tuple[str, ...], ...]

    @property
    def name(self) -> Name | None:
        """Return the table's name as this session sees it, or None."""
        return (self.lines[0][2], self.lines[0][1]) if self.lines and self.lines[0][0] == "0" else None

    @property
    def columns(self) -> tuple[SeenColumn, ...]:
        """Return the columns that a copy reads: neither dropped nor generated."""
        return tuple(
            SeenColumn(name, type_name)
            for number, name, type_name, generated, dropped, dummy in self.lines
            if number != "0" and not generated and dropped == "false"
        )


def statement(oid: str, server_version: int) -> str:
    """Return the query for the fingerprint of one table. ``oid`` is its number, which is all that a walsender takes, or
    a driver's own parameter: then one statement is prepared for all tables."""
    generated = "a.attgenerated::text" if has(server_version, "pg_attribute.attgenerated") else "''"
    return _STATEMENT.format(oid=oid, generated=generated)


def read(rows: Iterable[Sequence[object]]) -> Fingerprint:
    """Return the rows of `statement`, from either driver, as a Fingerprint."""
    return Fingerprint(tuple(tuple(str(value) for value in row) for row in rows))
