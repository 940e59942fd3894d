# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalog of one database as frozen values, read by a few set-based queries, however many tables there are.

System schemas, temporary objects and everything that an extension owns (`pg_depend.deptype = 'e'`) are left out.
Names are PostgreSQL's own, unquoted; `qualified()` prints them as PostgreSQL does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass
from sys import intern
from typing import TYPE_CHECKING, Any, TypeVar

from . import catalog_queries as queries
from ._psycopg import sql
from .connect import explain_errors

if TYPE_CHECKING:
    from .connect import Connection, End

Name = tuple[str, str]
"""(schema, name)."""

Made = TypeVar("Made")

_AT_ONCE = 200

_PLAIN = re.compile(r"[a-z_][a-z0-9_$]*\Z")


def quoted(name: str) -> str:
    """Return an identifier for messages, quoted where PostgreSQL would (keywords apart). Never used to build SQL."""
    return name if _PLAIN.match(name) else '"' + name.replace('"', '""') + '"'


def qualified(name: Name) -> str:
    """Return ``schema.name`` for messages."""
    return f"{quoted(name[0])}.{quoted(name[1])}"


@dataclass(frozen=True, slots=True)
class Column:
    """A column that is not dropped.

    ``type_name`` is format_type's; ``base_type_name`` that of the type under any domains; ``binary_safe`` says that
    its binary form means the same bytes at another cluster. ``generated`` is '' , 's' (stored) or 'v' (virtual);
    ``identity`` is '', 'a' (ALWAYS) or 'd' (BY DEFAULT).
    """

    number: int
    name: str
    type_oid: int
    typmod: int
    type_name: str
    base_type_oid: int
    base_type_name: str
    not_null: bool
    generated: str
    identity: str
    binary_safe: bool


@dataclass(frozen=True, slots=True)
class UniqueIndex:
    """A unique index. ``columns`` are its key columns in order; an empty string means an expression."""

    name: str
    columns: tuple[str, ...]
    primary: bool
    immediate: bool
    partial: bool
    valid: bool
    all_not_null: bool

    @property
    def usable_as_key(self) -> bool:
        """Return whether it identifies a row: immediate, not partial, valid, without NULLs or expressions."""
        return self.immediate and self.valid and not self.partial and self.all_not_null and "" not in self.columns


@dataclass(frozen=True, slots=True)
class Table:
    """A table, partitioned or ordinary.

    ``kind`` is 'r' or 'p'; ``persistence`` 'p', 'u' or 't'; ``replica_identity`` 'd', 'n', 'f' or 'i' (then
    ``identity_index`` names it). ``parents`` are its inheritance parents' OIDs, one for a partition. ``bytes`` counts
    heap and TOAST when they were last vacuumed or analyzed; ``rows`` is the planner's estimate, -1 when never counted.
    """

    oid: int
    schema: str
    name: str
    kind: str
    persistence: str
    owner: str
    replica_identity: str
    identity_index: str
    parents: tuple[int, ...]
    is_partition: bool
    pages: int
    rows: float
    bytes: int
    columns: tuple[Column, ...]
    unique_indexes: tuple[UniqueIndex, ...]

    @property
    def qualified_name(self) -> Name:
        return (self.schema, self.name)

    @property
    def holds_rows(self) -> bool:
        """Return whether the table has rows of its own: a partitioned one has none."""
        return self.kind == "r"

    @property
    def binary_safe(self) -> bool:
        """Return whether the binary form of all copied columns means the same at another cluster."""
        return all(column.binary_safe for column in self.columns if not column.generated)

    @property
    def keys(self) -> tuple[UniqueIndex, ...]:
        """Return the indexes that identify a row, the primary key first. A generated column is not in the stream."""
        generated = {column.name for column in self.columns if column.generated}
        usable = (i for i in self.unique_indexes if i.usable_as_key and generated.isdisjoint(i.columns))
        return tuple(sorted(usable, key=lambda index: (not index.primary, index.name)))

    def __str__(self) -> str:
        return qualified(self.qualified_name)


@dataclass(frozen=True, slots=True)
class Sequence:
    """A sequence. ``owner_table`` and ``owner_column`` are set for owned ones; ``identity`` for an identity column's.

    ``drawn_by`` are the tables, by OID, with a column whose default draws from it, owned or not.
    """

    oid: int
    schema: str
    name: str
    owner: str
    owner_table: int
    owner_column: str
    identity: bool
    drawn_by: tuple[int, ...] = ()

    @property
    def qualified_name(self) -> Name:
        return (self.schema, self.name)

    def __str__(self) -> str:
        return qualified(self.qualified_name)


@dataclass(frozen=True, slots=True)
class Catalog:
    """The tables, sequences and schemas of one database, keyed by OID, OID and name."""

    end: End
    tables: Mapping[int, Table]
    sequences: Mapping[int, Sequence]
    schemas: Mapping[str, str]
    """Each schema's owner."""

    def children(self) -> dict[int, list[Table]]:
        """Return the direct partitions or inheritance children of every table that has any, by its OID."""
        below: dict[int, list[Table]] = {}
        for table in self.tables.values():
            for parent in table.parents:
                below.setdefault(parent, []).append(table)
        return below


def observe_catalog(conn: Connection, end: End, *, leave_out: tuple[str, ...] = ("causeway",)) -> Catalog:
    """Read the catalog in seven queries. ``leave_out`` names schemas of our own. Raises ServerError."""
    left_out = (list(leave_out),)
    with explain_errors("reading the catalog of the", end):
        schemas: dict[str, str] = dict(conn.execute(queries.SCHEMAS, left_out).fetchall())
        tables = conn.execute(queries.TABLES, left_out).fetchall()
        columns = _grouped(conn.execute(queries.columns(conn.info.server_version), left_out), _shared(Column))
        indexes = _grouped(conn.execute(queries.unique_indexes(conn.info.server_version), left_out), _unique_index)
        parents = _grouped(conn.execute(queries.PARENTS), int)
        sequences = conn.execute(queries.SEQUENCES, left_out).fetchall()
        drawn = _grouped(conn.execute(queries.DRAWN), int)
    return Catalog(
        end=end,
        tables={
            row[0]: _table(row, columns.get(row[0], ()), indexes.get(row[0], ()), parents.get(row[0], ()))
            for row in tables
        },
        sequences={row[0]: Sequence(*(*row, tuple(drawn.get(row[0], ())))) for row in sequences},
        schemas=schemas,
    )


def _grouped(rows: Iterable[tuple[Any, ...]], make: Callable[..., Made]) -> dict[int, list[Made]]:
    """Group rows by their first column, and return what ``make`` makes of the other columns."""
    groups: dict[int, list[Made]] = {}
    for row in rows:
        groups.setdefault(row[0], []).append(make(*row[1:]))
    return groups


def _shared(make: Callable[..., Made]) -> Callable[..., Made]:
    """Return ``make`` with one shared object for equal rows: ten thousand tables have few kinds of columns."""
    made: dict[tuple[Any, ...], Made] = {}

    def shared(*values: Any) -> Made:
        found = made.get(values)
        if found is None:
            found = made[values] = make(*values)
        return found

    return shared


def _unique_index(name: str, columns: list[str], *flags: bool) -> UniqueIndex:
    return UniqueIndex(name, tuple(columns), *flags)


def _table(
    row: tuple[Any, ...], columns: Iterable[Column], indexes: Iterable[UniqueIndex], parents: Iterable[int]
) -> Table:
    oid, schema, name, kind, persistence, owner, identity, identity_index, is_partition, pages, rows, size = row
    return Table(
        oid=oid,
        schema=intern(schema),
        name=name,
        kind=intern(kind),
        persistence=intern(persistence),
        owner=intern(owner),
        replica_identity=intern(identity),
        identity_index=identity_index or "",
        parents=tuple(parents),
        is_partition=is_partition,
        pages=pages,
        rows=rows,
        bytes=size,
        columns=tuple(columns),
        unique_indexes=tuple(indexes),
    )


def holding_rows(conn: Connection, tables: Items[Name]) -> frozenset[Name]:
    """Return those of these tables of the destination that hold a row; 200 in one statement. Raises ServerError."""
    found: list[Name] = []
    for first in range(0, len(tables), _AT_ONCE):
        some = tables[first : first + _AT_ONCE]
        query = sql.SQL(" UNION ALL ").join(
            sql.SQL("SELECT {}::int WHERE EXISTS (SELECT FROM ONLY {})").format(
                sql.Literal(number), sql.Identifier(*name)
            )
            for number, name in enumerate(some)
        )
        with explain_errors("looking for rows in the selected tables at the", "destination"):
            found += [some[row[0]] for row in conn.execute(query)]
    return frozenset(found)
