# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A source and a destination database, and login roles for them; each goes with the test that asked for it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import psycopg
import pytest
from psycopg import sql
from support.clusters.local import DEFAULT_VERSION, Clusters, Server
from support.clusters.outside import EXTERNAL


@dataclasses.dataclass(frozen=True)
class End:
    """One database of a pair, with the test's own connection to it (autocommit), which no module uses."""

    server: Server
    dbname: str
    sql: psycopg.Connection[Any]

    @property
    def dsn(self) -> str:
        return self.server.dsn(self.dbname)

    @property
    def endpoint(self) -> dict[str, Any]:
        return self.server.endpoint(self.dbname)

    def connect(self, **other: str) -> psycopg.Connection[Any]:
        return self.server.connect(self.dbname, **other)

    def query(self, statement: str, parameters: Any = None) -> list[Any]:
        """All rows, as tuples. One statement; C(%) is psycopg's placeholder only when there are parameters."""
        return self.sql.execute(statement, parameters).fetchall()

    def value(self, statement: str, parameters: Any = None) -> Any:
        """The first column of the first row, or None when there is no row."""
        row = self.sql.execute(statement, parameters).fetchone()
        return row[0] if row else None

    def run(self, statement: str, parameters: Any = None) -> int:
        """Run one statement, or several when there are no parameters; the number of rows that the last one touched."""
        return self.sql.execute(statement, parameters).rowcount


@dataclasses.dataclass(frozen=True)
class Pair:
    """A source and a destination database that nobody else uses."""

    source: End
    destination: End

    @property
    def ends(self) -> tuple[End, End]:
        return self.source, self.destination

    def run(self, statement: str) -> None:
        """The same statements at both ends."""
        for end in self.ends:
            end.run(statement)

    def reconnect(self) -> Pair:
        """The same pair with fresh connections, for after a restart; use the answer instead of the old one."""
        with contextlib.suppress(psycopg.Error):
            self.source.sql.close()
        with contextlib.suppress(psycopg.Error):
            self.destination.sql.close()
        return Pair(*(dataclasses.replace(end, sql=end.connect()) for end in self.ends))


def _create_database(admin: psycopg.Connection[Any], name: str) -> sql.Composed:
    """Return the statement; by copies of files, where the server knows a slower way too."""
    quicker = sql.SQL(" STRATEGY file_copy" if admin.info.server_version >= 150000 else "")
    return sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)) + quicker


def _drop_database(server: Server, dbname: str) -> None:
    """Drop a database with the slots and sessions that hold it."""
    with server.connect() as admin:
        mine = "SELECT slot_name, active_pid FROM pg_replication_slots WHERE database = %s"
        for slot, pid in admin.execute(mine, [dbname]).fetchall():
            if pid is not None:
                admin.execute("SELECT pg_terminate_backend(%s)", [pid])
            admin.execute("SELECT pg_sleep(0.2)" if pid is not None else "SELECT 1")
            with contextlib.suppress(psycopg.Error):  # a temporary slot goes with its session
                admin.execute("SELECT pg_drop_replication_slot(%s)", [slot])
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [dbname])
        force = sql.SQL(" WITH (FORCE)" if admin.info.server_version >= 130000 else "")
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(dbname)) + force)


@contextlib.contextmanager
def pairs(clusters: Clusters) -> Iterator[Callable[..., Pair]]:
    undo = contextlib.ExitStack()

    def server_of(
        role: str, version: str | None, private: bool, settings: Mapping[str, Any] | None, suffix: str
    ) -> Server:
        if not private and settings is None:
            return clusters.end(role, version)
        if os.environ.get(EXTERNAL[role]):
            pytest.skip("a server from outside is not stopped, restarted or configured")
        name = f"{role}-{suffix}"
        undo.callback(clusters.drop, name)
        return clusters.get(name, version or DEFAULT_VERSION, settings)

    def make(
        source: str | None = None,
        destination: str | None = None,
        *,
        private: bool = False,
        source_settings: Mapping[str, Any] | None = None,
        destination_settings: Mapping[str, Any] | None = None,
        dbname: str | None = None,
    ) -> Pair:
        suffix = secrets.token_hex(4)
        ends = []
        for role, version, settings in (
            ("source", source, source_settings),
            ("destination", destination, destination_settings),
        ):
            server = server_of(role, version, private, settings, suffix)
            name = dbname or f"{role[:3]}_{suffix}"
            with server.connect() as admin:
                admin.execute(_create_database(admin, name))
            if server.cluster is None or (not private and settings is None):
                undo.callback(_drop_database, server, name)
            connection = server.connect(name)
            undo.callback(connection.close)
            ends.append(End(server, name, connection))
        return Pair(*ends)

    with undo:
        yield make


@contextlib.contextmanager
def roles() -> Iterator[Callable[..., tuple[str, str]]]:
    made: list[tuple[Server, str]] = []

    def make(pair: Pair, attributes: str = "LOGIN", ends: tuple[End, ...] | None = None) -> tuple[str, str]:
        name, password = f"role_{secrets.token_hex(4)}", secrets.token_urlsafe(12)
        for end in ends or pair.ends:
            statement = sql.SQL("CREATE ROLE {} {} PASSWORD {}").format(
                sql.Identifier(name),
                sql.SQL(attributes),
                sql.Literal(password),
            )
            end.sql.execute(statement)
            made.append((end.server, name))
        return name, password

    try:
        yield make
    finally:
        for server, name in made:
            with contextlib.suppress(psycopg.OperationalError), server.connect() as admin:
                admin.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(name)))
