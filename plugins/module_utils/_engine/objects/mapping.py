# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Maps the names of the source's objects to the destination's: schema, relation, type, column. Pure.

This is the only way from a name of the source to a name of the destination: code that reads or writes an object of the
destination maps its name here, once for each table and never for each row. Today every object keeps its name (`IDENTITY`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NewType

from ..postgres.catalog import Name, qualified

if TYPE_CHECKING:
    from ..postgres.catalog import Catalog, Table

DestinationName = NewType("DestinationName", tuple[str, str])
"""(schema, name) at the destination: a type of its own, so that the type checker finds a lookup by the source's name."""


@dataclass(frozen=True, slots=True)
class ColumnMapping:
    """One column at the destination. ``type_name`` is format_type's there, empty if it is the source's."""

    name: str
    type_name: str = ""


@dataclass(frozen=True, slots=True)
class TableMapping:
    """One table at both ends. ``columns`` holds, by the source's name, the columns whose name or type differs."""

    source: Name
    destination: DestinationName
    columns: Mapping[str, ColumnMapping] = field(default_factory=dict)

    def column(self, name: str) -> str:
        """Return the destination's name of a column."""
        mapped = self.columns.get(name)
        return mapped.name if mapped else name

    def source_column(self, name: str) -> str:
        """Return the source's name of a destination's column; empty if the source's column of that name is mapped away."""
        own = "" if name in self.columns else name
        return next((here for here, mapped in self.columns.items() if mapped.name == name), own)

    def type_name(self, column: str, at_source: str) -> str:
        """Return a column's type at the destination, given the one ``at_source`` (both as format_type prints them)."""
        mapped = self.columns.get(column)
        return mapped.type_name if mapped and mapped.type_name else at_source

    def __str__(self) -> str:
        """Return the source's name for display, with the destination's if it differs."""
        here, there = qualified(self.source), qualified(self.destination)
        return here if here == there else f"{here} ({there} at the destination)"


@dataclass(frozen=True)
class ObjectMapping:
    """The names that change: of ``schemas``; of ``relations`` and types by (schema, name); of ``columns`` by relation.

    What is not named here keeps its name, in its schema's mapped one. Indexes, constraints, triggers, rules and
    policies keep their own names and go with their relation.
    """

    schemas: Mapping[str, str] = field(default_factory=dict)
    relations: Mapping[Name, Name] = field(default_factory=dict)
    columns: Mapping[Name, Mapping[str, ColumnMapping]] = field(default_factory=dict)

    @property
    def is_identity(self) -> bool:
        """Return whether every object keeps its name."""
        return not (self.schemas or self.relations or self.columns)

    def schema(self, name: str) -> str:
        """Return the destination's name of a schema."""
        return self.schemas.get(name, name)

    def there(self, name: Name) -> DestinationName:
        """Return the destination's name of a table, sequence, view or type."""
        mapped = self.relations.get(name)
        return DestinationName(mapped if mapped else (self.schema(name[0]), name[1]))

    def index(self, table: Name, name: str) -> DestinationName:
        """Return the destination's name of an index: its own name, in the schema of its table there."""
        return DestinationName((self.there(table)[0], name))

    def back(self, name: DestinationName) -> Name:
        """Return the source's name of an object of the destination: the inverse of `there`."""
        explicit = self._relations_back.get(name)
        return explicit if explicit else (self._schemas_back.get(name[0], name[0]), name[1])

    def table(self, name: Name) -> TableMapping:
        """Return the mapping of one table with its columns."""
        return TableMapping(name, self.there(name), self.columns.get(name, {}))

    @cached_property
    def _relations_back(self) -> Mapping[Name, Name]:
        return {there: here for here, there in self.relations.items()}

    @cached_property
    def _schemas_back(self) -> Mapping[str, str]:
        return {there: here for here, there in self.schemas.items()}


IDENTITY = ObjectMapping()
"""Every object keeps its name."""


def tables_there(catalog: Catalog) -> dict[DestinationName, Table]:
    """Return the tables of the destination's catalog by name."""
    return {DestinationName(table.qualified_name): table for table in catalog.tables.values()}
