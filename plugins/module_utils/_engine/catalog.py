# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalog of one database as frozen values, read by a handful of set-based queries whatever the number of tables.

System schemas, temporary objects and everything that an extension owns (`pg_depend.deptype = 'e'`) are left out.
Names are PostgreSQL's own, unquoted; `qualified()` prints them as PostgreSQL does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import catalog_queries as queries
from .connect import speaking

if TYPE_CHECKING:
    from .connect import Connection, End

Name = tuple[str, str]
"""(schema, name)."""

_PLAIN = re.compile(r"[a-z_][a-z0-9_$]*\Z")


def quoted(name: str) -> str:
    """An identifier for a person to read: quoted where PostgreSQL would (keywords apart). Never used to build SQL."""
    return name if _PLAIN.match(name) else '"' + name.replace('"', '""') + '"'


def qualified(name: Name) -> str:
    """``schema.name`` for a person to read."""
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
    """A unique index. ``columns`` are its key columns in order; empty strings stand for expressions."""

    name: str
    columns: tuple[str, ...]
    primary: bool
    immediate: bool
    partial: bool
    valid: bool
    all_not_null: bool

    @property
    def usable_as_key(self) -> bool:
        """Whether a row can be found by it: immediate, whole, valid, without NULLs or expressions (design: Keys)."""
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
        """A partitioned table has no rows of its own."""
        return self.kind == "r"

    @property
    def binary_safe(self) -> bool:
        """Whether all columns that are copied mean the same bytes in binary at another cluster."""
        return all(column.binary_safe for column in self.columns if not column.generated)

    @property
    def keys(self) -> tuple[UniqueIndex, ...]:
        """The indexes by which a row can be found, the primary key first. A generated column is not in the stream."""
        generated = {column.name for column in self.columns if column.generated}
        usable = (i for i in self.unique_indexes if i.usable_as_key and generated.isdisjoint(i.columns))
        return tuple(sorted(usable, key=lambda index: (not index.primary, index.name)))

    def __str__(self) -> str:
        return qualified(self.qualified_name)


@dataclass(frozen=True, slots=True)
class Sequence:
    """A sequence. ``owner_table`` and ``owner_column`` are set for owned ones; ``identity`` tells a column's own.

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

    def table_named(self, name: Name) -> Table | None:
        """The table of that name, or None."""
        return next((t for t in self.tables.values() if t.qualified_name == name), None)

    def tables_by_name(self) -> dict[Name, Table]:
        """All tables by (schema, name)."""
        return {table.qualified_name: table for table in self.tables.values()}

    def children_of(self, oid: int) -> tuple[Table, ...]:
        """Direct partitions or inheritance children."""
        return tuple(table for table in self.tables.values() if oid in table.parents)


def observe_catalog(conn: Connection, end: End, *, leave_out: tuple[str, ...] = ("causeway",)) -> Catalog:
    """Read the catalog in six queries. ``leave_out`` names schemas of our own. Raises ServerError."""
    left_out = list(leave_out)
    with speaking("reading the catalog of the", end):
        version = conn.info.server_version
        schemas: dict[str, str] = dict(conn.execute(queries.SCHEMAS, (left_out,)).fetchall())
        tables = conn.execute(queries.TABLES, (left_out,)).fetchall()
        columns = _grouped(conn.execute(queries.columns(version), (left_out,)).fetchall())
        indexes = _grouped(conn.execute(queries.UNIQUE_INDEXES, (left_out,)).fetchall())
        parents = _grouped(conn.execute(queries.PARENTS).fetchall())
        sequences = conn.execute(queries.SEQUENCES, (left_out,)).fetchall()
    return Catalog(
        end=end,
        tables={
            row[0]: _table(
                row,
                columns.get(row[0], []),
                indexes.get(row[0], []),
                tuple(p[0] for p in parents.get(row[0], [])),
            )
            for row in tables
        },
        sequences={row[0]: Sequence(*(*row[:7], tuple(row[7]))) for row in sequences},
        schemas=schemas,
    )


def _grouped(rows: list[tuple[Any, ...]]) -> dict[int, list[tuple[Any, ...]]]:
    """Rows by their first column, which is left off."""
    groups: dict[int, list[tuple[Any, ...]]] = {}
    for row in rows:
        groups.setdefault(row[0], []).append(row[1:])
    return groups


def _table(
    row: tuple[Any, ...], columns: list[tuple[Any, ...]], indexes: list[tuple[Any, ...]], parents: tuple[int, ...]
) -> Table:
    oid, schema, name, kind, persistence, owner, identity, identity_index, is_partition, pages, rows, size = row
    return Table(
        oid=oid,
        schema=schema,
        name=name,
        kind=kind,
        persistence=persistence,
        owner=owner,
        replica_identity=identity,
        identity_index=identity_index or "",
        parents=parents,
        is_partition=is_partition,
        pages=pages,
        rows=rows,
        bytes=size,
        columns=tuple(Column(*values) for values in columns),
        unique_indexes=tuple(UniqueIndex(i[0], tuple(i[1]), i[2], i[3], i[4], i[5], i[6]) for i in indexes),
    )
