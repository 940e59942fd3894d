# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The columns, the format and the statements of a copy. Pure but for quoting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from ...errors import MismatchError
from ...postgres._psycopg import sql
from ...postgres.key_ranges import Part, where
from .table_fingerprint import SeenColumn

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from psycopg.sql import Composed

    from ...objects.mapping import TableMapping
    from ...postgres.catalog import Column, Table

Format = Literal["binary", "text"]

BINARY_SINCE = 140000
"""Binary is used where both ends are at least of this version."""

STAGE = "causeway_stage"


def stored(table: Table) -> tuple[Column, ...]:
    """Return the columns that hold values of their own: a generated one is computed again at the destination."""
    return tuple(column for column in table.columns if not column.generated)


def check_columns(mapping: TableMapping, seen: Iterable[SeenColumn], destination: Table) -> None:
    """Compare the columns that the snapshot sees with those that they are mapped to at the destination.

    Raises MismatchError, naming all of them.
    """
    here = {mapping.column(column.name): mapping.type_name(column.name, column.type_name) for column in seen}
    there = {column.name: column.type_name for column in stored(destination)}
    wrong = [f"{name} ({here[name]}) is missing at the destination" for name in here if name not in there]
    wrong += [f"{name} ({there[name]}) exists at the destination only" for name in there if name not in here]
    wrong += [
        f"{name} is {here[name]} at the source and {there[name]} at the destination"
        for name in here
        if name in there and here[name] != there[name]
    ]
    if wrong:
        raise MismatchError(
            "copying table",
            str(mapping),
            "its columns differ: " + "; ".join(wrong),
            "Make the destination's table like the source's (or drop it and run the migrate playbook again).",
        )


def format_of(source: Table, source_version: int, destination_version: int) -> Format:
    """Return binary if every copied column has the same bytes at both ends; the types are compared before the copy."""
    modern = min(source_version, destination_version) >= BINARY_SINCE
    return "binary" if modern and source.binary_safe else "text"


def select_statement(schema: str, name: str, columns: Sequence[str], part: Part) -> Composed:
    """Return the query whose result is copied: one part of one table, without its inheritance children."""
    fields = sql.SQL(", ").join(sql.Identifier(column) for column in columns)
    statement = sql.SQL("SELECT {} FROM ONLY {}").format(fields, sql.Identifier(schema, name))
    return sql.SQL("{}{}").format(statement, where(part))


def copy_out_statement(schema: str, name: str, columns: Sequence[str], part: Part, form: Format) -> Composed:
    """Return the COPY that the source executes."""
    query = select_statement(schema, name, columns, part)
    return sql.SQL("COPY ({}) TO STDOUT (FORMAT {})").format(query, sql.SQL(form))


FREEZE_FROM = 1 << 20
"""Bytes from which a table is worth the new file that TRUNCATE creates."""

# Whether a table that we have locked can be emptied once more, so that its rows may arrive frozen: it is empty, no
# foreign key forbids it, and the account may.
EMPTIABLE = """
SELECT NOT EXISTS (SELECT FROM ONLY {table})
   AND pg_catalog.has_table_privilege({relation}::oid, 'TRUNCATE')
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k
                    WHERE k.contype = 'f' AND k.confrelid = {relation} AND k.conrelid <> k.confrelid)
"""


def emptying_statements(table: Table) -> tuple[str, str, str]:
    """Return statements: lock the destination's table if no session uses it; ask if it may be emptied; empty it."""
    name = sql.Identifier(table.schema, table.name)
    lock = sql.SQL("LOCK TABLE ONLY {} IN ACCESS EXCLUSIVE MODE NOWAIT").format(name)
    ask = sql.SQL(EMPTIABLE).format(table=name, relation=sql.Literal(table.oid))
    return lock.as_string(None), ask.as_string(None), truncate_statement(table.schema, table.name).as_string(None)


def truncate_statement(schema: str, name: str) -> Composed:
    """Return the statement that empties one table and nothing else."""
    return sql.SQL("TRUNCATE ONLY {}").format(sql.Identifier(schema, name))


def copy_in_statement(
    schema: str, name: str, columns: Sequence[str], form: Format, *, freeze: bool = False
) -> Composed:
    """Return the COPY that the destination executes. A table without columns of its own takes no list of them."""
    fields = sql.SQL(" ({})").format(sql.SQL(", ").join(sql.Identifier(c) for c in columns)) if columns else sql.SQL("")
    options = sql.SQL(f"{form}, FREEZE" if freeze else form)
    return sql.SQL("COPY {}{} FROM STDIN (FORMAT {})").format(sql.Identifier(schema, name), fields, options)


def stage_statements(schema: str, name: str, columns: Sequence[str]) -> tuple[Composed, Composed]:
    """Return statements: create a staging table; insert from it what is missing by key, if a table held rows before."""
    fields = sql.SQL(", ").join(sql.Identifier(column) for column in columns)
    table, stage = sql.Identifier(schema, name), sql.Identifier("pg_temp", STAGE)
    return (
        sql.SQL("CREATE TEMPORARY TABLE {} ON COMMIT DROP AS SELECT {} FROM ONLY {} WITH NO DATA").format(
            sql.Identifier(STAGE), fields, table
        ),
        sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {} ON CONFLICT DO NOTHING").format(
            table, fields, fields, stage
        ),
    )
