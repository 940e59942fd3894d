# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The SQL that writes one table of the destination, composed once and kept as text.

Two forms of each: one row with its values as parameters ``$1, $2 …``, and a whole staging table ``s`` joined to the
table ``t``. Staging columns are ``k<n>`` for the n-th key column, ``v<position>`` for a value, ``n`` for a count.
``ONLY`` everywhere; operators of types from extensions are named with their schema, since search_path is empty.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Concatenate, Final, ParamSpec

from ...postgres._psycopg import sql
from ...postgres.versions import has

if TYPE_CHECKING:
    from psycopg.sql import Composable

    from .destination_table import DestinationTable, FoundColumn

COUNT: Final = "n"

Arguments = ParamSpec("Arguments")


def composed(
    compose: Callable[Concatenate[TableStatements, Arguments], Composable],
) -> Callable[Concatenate[TableStatements, Arguments], str]:
    """Make a method that composes a statement return its text, which is composed once for each set of arguments.

    The arguments are positional. Every statement that is sent passes here, so a known one costs one look-up.
    """
    name = compose.__name__

    @wraps(compose)
    def text_of(self: TableStatements, /, *arguments: Arguments.args, **none: Arguments.kwargs) -> str:
        key = (name, arguments)
        text = self.known.get(key)
        if text is None:
            text = self.known[key] = compose(self, *arguments, **none).as_string(None)
        return text

    return text_of


class TableStatements:
    """The statements of one table. Each method returns text that is ready to be sent."""

    def __init__(self, table: DestinationTable, server_version: int) -> None:
        """``server_version`` is that of the older end: the hash of a key is computed at both."""
        self._table = table
        self._server_version = server_version
        self._name = sql.Identifier(*table.mapping.destination)
        self.known: dict[tuple[str, tuple[object, ...]], str] = {}
        """What has been composed, by method and arguments."""

    @composed
    def copy_in(self, binary: bool, /) -> Composable:
        """Return COPY straight into the table."""
        return copy_command(self._name, [self._table.columns[at].name for at in self._table.written], binary)

    @composed
    def insert_one(self) -> Composable:
        """Insert one row; parameters are the written columns, in order."""
        values = [self._parameter(n, self._table.columns[at]) for n, at in enumerate(self._table.written, 1)]
        return sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE VALUES ({})").format(
            self._name, self._names(self._table.written), sql.SQL(", ").join(values)
        )

    @composed
    def insert_empty(self) -> Composable:
        """Insert ``$1`` rows into a table whose columns are all the destination's own, or that has none."""
        return sql.SQL("INSERT INTO {} SELECT FROM pg_catalog.generate_series(1, $1::pg_catalog.int4)").format(
            self._name
        )

    @composed
    def delete_one(self) -> Composable:
        """Delete by key; parameters are the key values."""
        return sql.SQL("DELETE FROM ONLY {} AS t WHERE {}").format(self._name, self._key_is_given(1))

    @composed
    def delete_staged(self, stage: str, /) -> Composable:
        """Delete by the keys in ``stage``."""
        return sql.SQL("DELETE FROM ONLY {} AS t USING {} AS s WHERE {}").format(
            self._name, _stage(stage), self._key_is_staged(())
        )

    def settable(self, assigned: Sequence[int]) -> tuple[int, ...]:
        """Return those of the columns that an UPDATE may set: no generated and no identity ALWAYS column."""
        columns = self._table.columns
        return tuple([at for at in assigned if not columns[at].generated and not columns[at].identity_always])

    @composed
    def update_one(self, assigned: tuple[int, ...], /) -> Composable:
        """Update one row by key; parameters are the settable values, then the key. With nothing to set it selects."""
        set_ = self.settable(assigned)
        return self._update_given(set_, self._key_is_given(len(set_) + 1))

    @composed
    def update_staged(self, assigned: tuple[int, ...], stage: str, /) -> Composable:
        """Update by the keys and values in ``stage``."""
        set_ = self.settable(assigned)
        where = self._key_is_staged(())
        if not set_:
            return sql.SQL("SELECT FROM ONLY {} AS t, {} AS s WHERE {}").format(self._name, _stage(stage), where)
        values = [sql.Identifier("s", f"v{at}") for at in set_]
        return sql.SQL("UPDATE ONLY {} AS t SET {} FROM {} AS s WHERE {}").format(
            self._name, self._assignments(set_, values), _stage(stage), where
        )

    @composed
    def key_taken(self) -> Composable:
        """Select another row that has the new key; parameters are the new key, then the present one."""
        key = self._table.key
        return sql.SQL("SELECT FROM ONLY {} AS t WHERE {} AND NOT ({})").format(
            self._name, self._key_is_given(1), self._key_is_given(len(key) + 1)
        )

    @composed
    def count_staged(self, stage: str, /) -> Composable:
        """Select each row's number in ``stage``, and how many rows have its key (keyless: its output text)."""
        same: Composable
        if self._table.shape.key is None:
            same = sql.SQL("{} = {}").format(self._text_of("t"), self._text_of("s"))
        else:
            same = self._key_is_staged(())
        return sql.SQL("SELECT s.{n}, pg_catalog.count(*) FROM {} AS s JOIN ONLY {} AS t ON {} GROUP BY s.{n}").format(
            _stage(stage), self._name, same, n=sql.Identifier(COUNT)
        )

    @composed
    def count_by_text(self) -> Composable:
        """Keyless: how many rows have the output text of the parameters, all columns in order."""
        return sql.SQL("SELECT pg_catalog.count(*) FROM ONLY {} AS t WHERE {}").format(
            self._name, self._text_is_given()
        )

    @composed
    def key_hash(self) -> Composable:
        """Select sixteen hex digits that identify a row without its values; parameters are the key values."""
        columns = [self._table.columns[at] for at in self._table.key]
        return sql.SQL("SELECT {}").format(self._hash_of([self._parameter(n, c) for n, c in enumerate(columns, 1)]))

    def find_by_hash(self, key_hash: str) -> str:
        """Return the query by which the operator finds the row, at either end."""
        key = [sql.Identifier(self._table.columns[at].name) for at in self._table.key]
        return (
            sql.SQL("SELECT * FROM ONLY {} WHERE {} = {}")
            .format(self._name, self._hash_of(key), sql.Literal(key_hash))
            .as_string(None)
        )

    @composed
    def replace_staged(self, assigned: tuple[int, ...], stage: str, /) -> Composable:
        """Delete and reinsert rows of which an identity ALWAYS column changes, all other columns kept, since such a
        column can be given in an INSERT and never SET.
        """
        table = self._table
        changed = [
            sql.SQL("t.{} IS DISTINCT FROM {}").format(
                sql.Identifier(table.columns[at].name), sql.Identifier("s", f"v{at}")
            )
            for at in table.identities
            if at in assigned
        ]
        columns: list[Composable] = [sql.Identifier(table.columns[at].name) for at in table.written]
        columns += [sql.Identifier(name) for name in table.kept]
        values: list[Composable] = [
            sql.Identifier("s", f"v{at}") if at in assigned else sql.Identifier("t", table.columns[at].name)
            for at in table.written
        ]
        values += [sql.Identifier("t", name) for name in table.kept]
        shown = [sql.SQL("{} AS {}").format(v, sql.Identifier(f"c{n}")) for n, v in enumerate(values)]
        return sql.SQL(
            "WITH gone AS (DELETE FROM ONLY {} AS t USING {} AS s WHERE {} AND ({}) RETURNING {})"
            " INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM gone"
        ).format(
            self._name,
            _stage(stage),
            self._key_is_staged(()),
            sql.SQL(" OR ").join(changed),
            sql.SQL(", ").join(shown),
            self._name,
            sql.SQL(", ").join(columns),
            sql.SQL(", ").join([sql.Identifier(f"c{n}") for n in range(len(values))]),
        )

    @composed
    def remove_counted(self, stage: str, /) -> Composable:
        """Delete as many rows of each output text as ``stage`` counts, for a keyless table."""
        return sql.SQL(
            "DELETE FROM ONLY {table} AS t USING (SELECT f.place FROM ("
            "SELECT t.ctid AS place, w.n, pg_catalog.row_number() OVER (PARTITION BY w.words) AS nth"
            " FROM ONLY {table} AS t JOIN (SELECT {ours} AS words, pg_catalog.sum(s.n) AS n FROM {stage} AS s GROUP BY 1)"
            " AS w ON w.words = {theirs}) AS f WHERE f.nth <= f.n) AS x WHERE t.ctid = x.place"
        ).format(table=self._name, theirs=self._text_of("t"), ours=self._text_of("s"), stage=_stage(stage))

    @composed
    def row_by_text(self) -> Composable:
        """Select the ctid of one row of a keyless table by its output text; parameters are all columns, in order."""
        return sql.SQL("SELECT t.ctid::pg_catalog.text FROM ONLY {} AS t WHERE {} LIMIT 1").format(
            self._name, self._text_is_given()
        )

    @composed
    def delete_at(self) -> Composable:
        """Delete the row at ctid ``$1``."""
        return sql.SQL("DELETE FROM ONLY {} AS t WHERE t.ctid = $1::pg_catalog.tid").format(self._name)

    @composed
    def update_at(self, assigned: tuple[int, ...], /) -> Composable:
        """Update the row at the ctid that follows the settable values."""
        set_ = self.settable(assigned)
        return self._update_given(set_, sql.SQL(f"t.ctid = ${len(set_) + 1}::pg_catalog.tid"))

    def stage_columns(self, keyed: bool, values: Sequence[int]) -> list[tuple[str, str]]:
        """Return a staging table's column names and types: the key first (if ``keyed``), then values by position."""
        columns = self._table.columns
        named = [(f"k{n}", columns[at].base_name) for n, at in enumerate(self._table.key)] if keyed else []
        return named + [(f"v{at}", columns[at].base_name) for at in values]

    def _names(self, positions: Sequence[int]) -> Composable:
        return sql.SQL(", ").join([sql.Identifier(self._table.columns[at].name) for at in positions])

    def _parameter(self, number: int, column: FoundColumn) -> Composable:
        return sql.SQL(f"${number}::") + sql.SQL(column.base_name)

    def _equal(self, column: FoundColumn, other: Composable) -> Composable:
        operator: Composable = sql.SQL("=")
        if column.equality_schema:
            operator = sql.SQL("OPERATOR({}.=)").format(sql.Identifier(column.equality_schema))
        return sql.SQL("t.{} {} {}").format(sql.Identifier(column.name), operator, other)

    def _key_is_given(self, first: int) -> Composable:
        columns = [self._table.columns[at] for at in self._table.key]
        return _all([self._equal(c, self._parameter(n, c)) for n, c in enumerate(columns, first)])

    def _key_is_staged(self, assigned: Sequence[int]) -> Composable:
        """Compare ``t`` with the staged key; with the new one where key columns are among ``assigned``."""
        parts = []
        for n, at in enumerate(self._table.key):
            staged = f"v{at}" if at in assigned else f"k{n}"
            parts.append(self._equal(self._table.columns[at], sql.Identifier("s", staged)))
        return _all(parts)

    def _assignments(self, positions: Sequence[int], values: Sequence[Composable]) -> Composable:
        pairs = [
            sql.SQL("{} = {}").format(sql.Identifier(self._table.columns[at].name), value)
            for at, value in zip(positions, values, strict=True)
        ]
        return sql.SQL(", ").join(pairs)

    def _update_given(self, set_: tuple[int, ...], which: Composable) -> Composable:
        """Update the row that ``which`` selects; parameters are the values to set, in order."""
        if not set_:
            return sql.SQL("SELECT FROM ONLY {} AS t WHERE {}").format(self._name, which)
        values = [self._parameter(n, self._table.columns[at]) for n, at in enumerate(set_, 1)]
        return sql.SQL("UPDATE ONLY {} AS t SET {} WHERE {}").format(self._name, self._assignments(set_, values), which)

    def _text_of(self, prefix: str) -> Composable:
        """Return a keyless row's output text: of the whole of ``t``, or of the key staged in ``s``."""
        names = [
            sql.Identifier(prefix, column.name if prefix == "t" else f"k{at}")
            for at, column in enumerate(self._table.columns)
        ]
        return sql.SQL("ROW({})::pg_catalog.text").format(sql.SQL(", ").join(names))

    def _text_is_given(self) -> Composable:
        values = [self._parameter(n, column) for n, column in enumerate(self._table.columns, 1)]
        return sql.SQL("{} = ROW({})::pg_catalog.text").format(self._text_of("t"), sql.SQL(", ").join(values))

    def _hash_of(self, key: Sequence[Composable]) -> Composable:
        row = sql.SQL("pg_catalog.convert_to(ROW({})::pg_catalog.text, 'UTF8')").format(sql.SQL(", ").join(key))
        sha = "pg_catalog.encode(pg_catalog.sha256({}), 'hex')"
        digits = sql.SQL(sha if has(self._server_version, "sha256") else "pg_catalog.md5({})").format(row)
        return sql.SQL("pg_catalog.left({}, 16)").format(digits)


def copy_command(name: Composable, columns: Sequence[str], binary: bool) -> Composable:
    """Return ``COPY … FROM STDIN``."""
    return sql.SQL("COPY {} ({}) FROM STDIN{}").format(
        name,
        sql.SQL(", ").join([sql.Identifier(column) for column in columns]),
        sql.SQL(" (FORMAT binary)" if binary else ""),
    )


def _stage(name: str) -> Composable:
    return sql.Identifier("pg_temp", name)


def _all(parts: Sequence[Composable]) -> Composable:
    return sql.SQL(" AND ").join(parts) if parts else sql.SQL("true")
