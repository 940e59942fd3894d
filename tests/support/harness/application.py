# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The application's own roles at the source, the witness that the migration does not hurt it; and a foreign subscriber.

Each role tries INSERT, UPDATE, DELETE and TRUNCATE on every table, in a transaction that is rolled back. What counts is
an error that was not there before the migration began.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import psycopg
from psycopg import sql
from support.clusters.pairs import End

TABLES = """
SELECT n.nspname, c.relname,
       array(SELECT a.attname::text FROM pg_attribute a
              WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attidentity <> 'a'
                AND coalesce(to_jsonb(a) ->> 'attgenerated', '') = '' ORDER BY a.attnum)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = ANY (%s) AND c.relkind IN ('r', 'p') ORDER BY 1, 2
"""
# The row that is changed exists, so that the identity, triggers and policies have their say.
WRITES = {
    "INSERT": "INSERT INTO {table} DEFAULT VALUES",
    "INSERT of a row": "INSERT INTO {table} ({columns}) SELECT {columns} FROM {table} LIMIT 1",
    "UPDATE": "UPDATE {table} SET {column} = {column} WHERE ctid IN (SELECT ctid FROM {table} LIMIT 1)",
    "DELETE": "DELETE FROM {table} WHERE ctid IN (SELECT ctid FROM {table} LIMIT 1)",
    "TRUNCATE": "TRUNCATE {table} CASCADE",
}
Refusals = dict[tuple[str, str, str], str]


@dataclasses.dataclass
class Application:
    """The roles (name and password) that write to the tables of C(schemas), and what they were refused at the start."""

    end: End
    roles: Mapping[str, str]
    schemas: Iterable[str]
    before: Refusals = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self.before = self.refusals()

    def refusals(self) -> Refusals:
        """The error of each statement that is refused, by role, table and kind; empty where all may do everything."""
        found: Refusals = {}
        tables = self.end.query(TABLES, [list(self.schemas)])
        assert tables, f"no table in {', '.join(self.schemas)}"
        for role, password in self.roles.items():
            with self.end.connect(user=role, password=password) as session:
                session.execute("SET lock_timeout = '500ms'")
                for schema, name, columns in tables:
                    for kind, state in _tried(session, sql.Identifier(schema, name), columns):
                        found[role, f"{schema}.{name}", kind] = state
        return found

    def new_refusals(self) -> Refusals:
        """What is refused that was not at the start, or with another error."""
        return {what: why for what, why in self.refusals().items() if self.before.get(what) != why}

    def assert_goes_on(self) -> None:
        refused = self.new_refusals()
        assert not refused, refused


def _tried(session: psycopg.Connection[Any], table: sql.Identifier, columns: list[str]) -> Iterator[tuple[str, str]]:
    listed = sql.SQL(", ").join(map(sql.Identifier, columns))
    for kind, statement in WRITES.items():
        if not columns and "{column" in statement:
            continue
        text = sql.SQL(statement).format(table=table, columns=listed, column=sql.Identifier(*columns[:1] or [""]))
        for dummy in range(20):
            why = _refusal(session, text)
            if why[:5] not in ("55P03", "40P01"):  # another session is in the way for a moment
                break
        # whether a key exists or a row is referenced depends on the rows, which a load changes
        if why and why[:2] != "23":
            yield kind, why


def _refusal(session: psycopg.Connection[Any], statement: sql.Composed) -> str:
    try:
        with session.transaction(force_rollback=True):
            session.execute(statement)
    except psycopg.Error as exc:
        return f"{exc.sqlstate}: {exc.diag.message_primary}"
    return ""


@contextlib.contextmanager
def consumer(end: End, schemas: Iterable[str]) -> Iterator[Consumer]:
    """A publication of another tool, on every table with a key of these schemas, and the slot that it is read through."""
    names = [f"{name[0]}.{name[1]}" for name in end.query(KEYED, [list(schemas)])]
    made = Consumer(end, f"foreign_{end.dbname}"[:60])
    end.run(f"CREATE PUBLICATION {made.name} FOR TABLE {', '.join(names)}")
    end.value("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [made.name])
    try:
        yield made
    finally:
        end.value("SELECT pg_drop_replication_slot(%s)", [made.name])
        end.run(f"DROP PUBLICATION {made.name}")


@contextlib.contextmanager
def subscriber(publisher: Consumer, there: End) -> Iterator[Subscriber]:
    """Subscribe a database of another product's to the publication that C(publisher) reads, for the length of the context."""
    for schema, table in publisher.end.query(PUBLISHED, [publisher.name]):
        there.run(f"CREATE SCHEMA IF NOT EXISTS {schema}")
        there.run(f"CREATE TABLE {schema}.{table} ({publisher.end.value(COLUMNS, [f'{schema}.{table}'])})")
    made = Subscriber(publisher, there, f"s_{publisher.name}"[:60])
    words = {name: sql.Identifier(name) for name in (made.name, publisher.name)}
    there.sql.execute(
        sql.SQL("CREATE SUBSCRIPTION {} CONNECTION {} PUBLICATION {}").format(
            words[made.name], sql.Literal(publisher.end.dsn), words[publisher.name]
        )
    )
    try:
        yield made
    finally:
        there.run(f"DROP SUBSCRIPTION {made.name}")


PUBLISHED = "SELECT quote_ident(schemaname), quote_ident(tablename) FROM pg_publication_tables WHERE pubname = %s"
COLUMNS = """
SELECT string_agg(quote_ident(a.attname) || ' ' || format_type(a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum)
       || ', ' || (SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = a.attrelid AND contype = 'p')
  FROM pg_attribute a WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped
 GROUP BY a.attrelid
"""
KEYED = """
SELECT quote_ident(n.nspname), quote_ident(c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = ANY (%s) AND c.relkind = 'r' AND NOT c.relispartition
   AND EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary) ORDER BY 1, 2
"""
_READ = """
SELECT chr(get_byte(data, 0)), data FROM pg_logical_slot_get_binary_changes(%s, NULL, NULL, 'proto_version', '1',
                                                                           'publication_names', %s)
"""


@dataclasses.dataclass(frozen=True)
class Consumer:
    """What reads a publication of its own at the source, as another tool's subscriber does."""

    end: End
    name: str

    def read(self) -> list[str]:
        """The kinds of messages since the last call: B, C, R, I, U, D, T. Raises where the stream cannot be read."""
        return [kind for kind, dummy in self.end.query(_READ, [self.name, self.name])]


@dataclasses.dataclass(frozen=True)
class Subscriber:
    """A native subscription, whose apply worker is PostgreSQL's own."""

    publisher: Consumer
    end: End
    name: str

    def assert_keeps_up(self, seconds: float = 60) -> int:
        """Wait until it has each table's rows as the publisher has them now; return the number of rows."""
        tables = [f"{schema}.{table}" for schema, table in self.publisher.end.query(PUBLISHED, [self.publisher.name])]
        wanted = {table: sorted(self.publisher.end.query(ROWS.format(table=table))) for table in tables}
        deadline = time.monotonic() + seconds
        while {table: sorted(self.end.query(ROWS.format(table=table))) for table in tables} != wanted:
            assert time.monotonic() < deadline, f"the subscriber lags: {self.end.query(PROGRESS)}"
            time.sleep(0.1)
        return sum(map(len, wanted.values()))


ROWS = "SELECT t::text FROM {table} t"
PROGRESS = "SELECT subname, pid, received_lsn, latest_end_time::text FROM pg_stat_subscription"
