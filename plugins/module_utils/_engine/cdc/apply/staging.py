# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How rows reach the destination: COPY into a table or a staging table, or a few as parameters.

Values are the bytes of the stream, unchanged. Staging tables are temporary, of base types without constraints, and live
as long as the session: creating one for each batch would bloat the destination's catalog.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from ...failpoints import failpoint
from ...postgres._psycopg import psycopg, sql
from ..changes.copy_format import copy_binary, copy_text
from ..changes.messages import BINARY, Row
from .statements import copy_command

if TYPE_CHECKING:
    from ...postgres.connect import Connection

    Cursor = psycopg.Cursor[tuple[Any, ...]]

_KEPT = 48
"""Staging tables of one session at most: each is truncated at every commit."""


class TextValue:
    """The bytes of a value as its output function wrote it."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


class BinaryValue:
    """The bytes of a value as its send function wrote it."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


Value: TypeAlias = "TextValue | BinaryValue | None"


def row_values(row: Row, positions: Sequence[int]) -> list[Value]:
    """Return the values at these positions as parameters, each in the format that it came in."""
    values: list[Value] = []
    for at in positions:
        data = row.values[at]
        if data is None:
            values.append(None)
        else:
            values.append(BinaryValue(data) if row.kinds[at] == BINARY else TextValue(data))
    return values


def key_values(key: Sequence[bytes | None], binary: bool) -> list[Value]:
    """Return a key as parameters."""
    kind = BinaryValue if binary else TextValue
    return [None if data is None else kind(data) for data in key]


def take_raw_values(conn: Connection) -> None:
    """Register dumpers that pass TextValue and BinaryValue on unchanged, of the type that the statement names."""

    class TextDumper(psycopg.adapt.Dumper):
        format = psycopg.pq.Format.TEXT

        def dump(self, obj: TextValue) -> bytes:
            return obj.data

    class BinaryDumper(psycopg.adapt.Dumper):
        format = psycopg.pq.Format.BINARY

        def dump(self, obj: BinaryValue) -> bytes:
            return obj.data

    conn.adapters.register_dumper(TextValue, TextDumper)
    conn.adapters.register_dumper(BinaryValue, BinaryDumper)
    conn.prepared_max = 2000


class Loader:
    """Carries rows to the destination over the connection that applies."""

    def __init__(self, conn: Connection) -> None:
        self.conn = conn
        self._stages: OrderedDict[str, bool] = OrderedDict()
        take_raw_values(conn)
        self.rolled_back()  # an earlier stream of this session may have left some

    def run(self, statement: str, values: Sequence[Value | int | str] = ()) -> Cursor:
        """Run one statement with ``$n`` parameters; in a pipeline it is only sent. Raises psycopg.Error.

        A statement that joins a staging table has none, and is not prepared: the server would keep a plan for the sizes
        of the first execution.
        """
        cursor: Cursor = psycopg.RawCursor(self.conn)
        return cursor.execute(statement.encode(), values, prepare=bool(values))

    def join(self, statement: str, *, indexed: bool) -> Cursor:
        """Run one statement that joins a staging table with the real one; ``indexed``: an index of the real one finds
        the rows. Raises psycopg.Error.
        """
        if indexed:
            return self.run(statement)
        # Without an index a nested loop would compare every row with every other.
        self.conn.execute("SET LOCAL enable_hashjoin = on")
        cursor = self.run(statement)
        self.conn.execute("SET LOCAL enable_hashjoin = off")
        return cursor

    def copy(self, command: str, rows: Iterable[Sequence[bytes | None]], columns: Sequence[int] | None) -> None:
        """COPY rows, in the format that the command names. Raises psycopg.Error."""
        make = copy_binary if command.endswith("(FORMAT binary)") else copy_text
        self.send(command, make(rows, columns))

    def send(self, command: str, pieces: Iterable[bytes]) -> None:
        """COPY data that is already in the command's format. Raises psycopg.Error."""
        with self.conn.cursor() as cursor, cursor.copy(command.encode()) as copy:
            for piece in pieces:
                copy.write(piece)

    def stage(
        self, purpose: str, columns: Sequence[tuple[str, str]], rows: Iterable[Sequence[bytes | None]], binary: bool
    ) -> str:
        """Fill a staging table of these columns (name, type as SQL) and return its name. Raises psycopg.Error.

        ``purpose`` distinguishes staging tables that are filled at the same time.
        """
        return self.stage_pieces(purpose, columns, copy_binary(rows) if binary else copy_text(rows), binary)

    def stage_pieces(
        self, purpose: str, columns: Sequence[tuple[str, str]], pieces: Iterable[bytes], binary: bool
    ) -> str:
        """Do what `stage` does, with data that is already in the format of COPY."""
        shape = f"{purpose}:{columns}"
        name = "causeway_" + hashlib.sha256(shape.encode()).hexdigest()[:16]
        self._make(name, columns)
        command = copy_command(sql.Identifier("pg_temp", name), [column for column, dummy in columns], binary)
        failpoint("before staging filled")
        self.send(command.as_string(None), pieces)
        failpoint("after staging filled")
        self._stages[name] = True
        return name

    def _make(self, name: str, columns: Sequence[tuple[str, str]]) -> None:
        stage = sql.Identifier("pg_temp", name)
        if name in self._stages:
            self._stages.move_to_end(name)
            if self._stages[name]:
                self.conn.execute(sql.SQL("TRUNCATE {}").format(stage))
            return
        while len(self._stages) >= _KEPT:
            oldest, dummy = self._stages.popitem(last=False)
            self.conn.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier("pg_temp", oldest)))
        fields = [sql.SQL("{} {}").format(sql.Identifier(n), sql.SQL(type_name)) for n, type_name in columns]
        self.conn.execute(
            sql.SQL("CREATE TEMPORARY TABLE {} ({}) ON COMMIT DELETE ROWS").format(stage, sql.SQL(", ").join(fields))
        )
        self._stages[name] = False

    def committed(self) -> None:
        """Note that the transaction has committed: every staging table exists and is empty."""
        for name in self._stages:
            self._stages[name] = False

    def rolled_back(self) -> None:
        """Look up which staging tables exist: those created in what was rolled back are gone."""
        rows = self.conn.execute(
            "SELECT c.relname FROM pg_catalog.pg_class c WHERE c.relnamespace = pg_catalog.pg_my_temp_schema()"
            " AND c.relkind = 'r' AND c.relname ~ '^causeway_[0-9a-f]{16}$'"
        ).fetchall()
        self._stages = OrderedDict([(row[0], True) for row in rows])
