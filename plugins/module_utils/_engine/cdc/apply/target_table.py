# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of the destination that changes are written to, each checked against its Relation message first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...errors import ConnectError, MismatchError
from ...postgres.catalog import qualified, quoted
from .destination_table import DestinationTable, fit, observe_table
from .statements import TableStatements

if TYPE_CHECKING:
    from ...objects.mapping import ObjectMapping
    from ...postgres.catalog import Name
    from ...postgres.connect import Connection
    from ..changes.keys import UniqueIndex
    from ..changes.messages import Relation, Type


@dataclass(slots=True)
class TargetTable:
    """A table of the destination with its statements; ``binary``: its values come in binary format."""

    table: DestinationTable
    statements: TableStatements
    binary: bool


class TargetTables:
    """All tables of one stream, by source OID in ``known``.

    ``types`` are the stream's names of types that are not built in; ``source_uniques`` returns the unique indexes of a
    source table by OID; ``mapping`` gives each table's name at the destination; ``binary`` is the format of the values;
    ``server_version`` that of the older end;
    ``copied_as`` is the name under which each table, by source OID, was copied; ``cut_by`` the column by whose ranges a
    table was copied under several snapshot LSNs.
    """

    def __init__(
        self,
        conn: Connection,
        types: Mapping[int, Type],
        source_uniques: Callable[[int], Sequence[UniqueIndex]],
        *,
        binary: bool,
        server_version: int,
        mapping: ObjectMapping,
        copied_as: Mapping[int, Name] | None = None,
        cut_by: Mapping[int, str] | None = None,
    ) -> None:
        self.known: dict[int, TargetTable] = {}
        self.mapping = mapping
        self._conn = conn
        self._types = types
        self._source_uniques = source_uniques
        self._binary = binary
        self._server_version = server_version
        self._copied_as = copied_as or {}
        self._cut_by = cut_by or {}

    def learn(self, relation: Relation, previous: Relation | None) -> None:
        """Match a table as the stream describes it from here on. Raises MismatchError where it does not fit."""
        found = observe_table(self._conn, self.mapping.there((relation.schema, relation.name)))
        uniques = self._source_uniques(relation.oid) if relation.identity in ("f", "n") else ()
        table = fit(relation, self._types, found, uniques, self.mapping, previous)
        self._require_own_rows(relation)
        self._require_cut_in_key(relation, table)
        self._require_binary(table)
        self.known[relation.oid] = TargetTable(table, TableStatements(table, self._server_version), self._binary)

    def _require_own_rows(self, relation: Relation) -> None:
        """Raise MismatchError where tables have exchanged names at the source: the table of that name may fit, and yet
        hold another table's rows.
        """
        name, copied = (relation.schema, relation.name), self._copied_as.get(relation.oid)
        if copied is None or copied == name or observe_table(self._conn, self.mapping.there(copied)) is None:
            return
        raise MismatchError(
            "applying changes to",
            qualified(name),
            f"the source has given this name to the table whose rows were copied to {qualified(copied)}",
            "Run the migrate playbook: it copies the renamed tables again.",
        )

    def _require_binary(self, table: DestinationTable) -> None:
        """Raise ConnectError, so that the worker reconnects, where a column added since the stream began needs text."""
        other = [
            quoted(c.name)
            for c, there in zip(table.relation.columns, table.columns, strict=True)
            if not there.binary_safe
        ]
        if self._binary and other:
            raise ConnectError(
                "applying changes to",
                str(table),
                f"values of column {', '.join(other)} have to come as text, and the stream is binary",
                "Nothing: the worker reconnects and requests text.",
            )

    def _require_cut_in_key(self, relation: Relation, table: DestinationTable) -> None:
        """Raise MismatchError where the key lacks the column that a table was cut by: until the newest snapshot LSN is
        passed, a row may be in two parts, and its key must distinguish them.
        """
        column = self._cut_by.get(relation.oid)
        key = table.shape.key or ()
        if column is None or any(relation.columns[at].name == column for at in key):
            return
        raise MismatchError(
            "applying changes to",
            str(table),
            f"it was copied in ranges of column {column} at different moments, and rows are found by another key now",
            "Copy the table again: run the full_copy role with the table in causeway_resync.",
        )
