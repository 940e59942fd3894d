# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tombstone, which survives a release: a line in the destination database's comment that says that it was opened.

Release removes every object of Causeway. Without this line a later `migrate` could not distinguish a destination in
production from an empty one, and would write into it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..postgres._psycopg import sql
from ..postgres.connect import explain_errors

if TYPE_CHECKING:
    from psycopg.sql import Composed

    from ..postgres.connect import Connection

_LINE = re.compile(r"\n?\[causeway: migration (?P<name>.+) opened this database at (?P<at>[^\]\n]+)\]")


def _comment(conn: Connection) -> tuple[str, str]:
    """Return the database's name and comment."""
    with explain_errors("reading the comment of the", "destination database"):
        row = conn.execute(
            "SELECT datname, coalesce(pg_catalog.shobj_description(oid, 'pg_database'), '')"
            "  FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()"
        ).fetchone()
    return (row[0], row[1]) if row else ("", "")


def read_tombstone(conn: Connection, name: str) -> str:
    """Return when migration ``name`` opened this database; empty where no line says so."""
    for line in _LINE.finditer(_comment(conn)[1]):
        if line["name"] == name:
            return line["at"]
    return ""


def with_tombstone(conn: Connection, name: str, opened_at: str) -> Composed:
    """Return the statement that adds the line to the comment, and keeps the user's own text."""
    database, _others = _comment(conn)[0], _without(_comment(conn)[1], name)
    text = f"{_others}\n[causeway: migration {name} opened this database at {opened_at}]".lstrip("\n")
    return _statement(database, text)


def without_tombstone(conn: Connection, name: str) -> Composed:
    """Return the statement that removes the line."""
    database, text = _comment(conn)
    return _statement(database, _without(text, name))


def without_lines(comment: str) -> str:
    """Return a database's comment without our lines: the user's own text."""
    return _LINE.sub("", comment)


def _without(comment: str, name: str) -> str:
    return _LINE.sub(lambda line: "" if line["name"] == name else line[0], comment)


def _statement(database: str, text: str) -> Composed:
    value = sql.Literal(text) if text else sql.SQL("NULL")
    return sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(database), value)
