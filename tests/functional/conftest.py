# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real servers for the functional tests, by the same program as the role C(local_clusters).

What a test asks for:

* C(pair): a fresh database at either end (C(pair.source), C(pair.destination)), on shared clusters of version 17;
* C(make_pair(source="14", destination="17")): the same on other versions; with C(private=True) on clusters of its
  own, which may be stopped, crashed and restarted (C(pair.source.server.restart("immediate")));
* C(clusters): the factory behind both, also for C(clusters.bin_dir("17")).

CAUSEWAY_TEST_SOURCE and CAUSEWAY_TEST_DESTINATION, two libpq connection strings of accounts that may create
databases, replace the local clusters; tests that need a restart or a version are then skipped.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import os
import pathlib
import secrets
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import psycopg
import pytest
import servers
from psycopg import conninfo, sql

# their fixtures are for every test here
pytest_plugins = ["functional.streaming", "functional.tasks", "functional.moved", "functional.exactness"]

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEFAULT_VERSION = "17"
# Quick, and still safe when a server is crashed: what was written has reached the operating system.
TEST_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_wal_size": "2GB",
    "shared_buffers": "64MB",
    # what is to be analyzed is part of some plans: between a dry run and the real one nobody may come first
    "autovacuum": "off",
}
# They run whole playbooks.
LONG = ("test_lifecycle", "test_side_by_side", "test_copy_hosts", "test_worker_compile")
EXTERNAL = {"source": "CAUSEWAY_TEST_SOURCE", "destination": "CAUSEWAY_TEST_DESTINATION"}
ENDPOINT_WORDS = {
    "host": "login_host",
    "port": "login_port",
    "user": "login_user",
    "password": "login_password",
    "dbname": "login_db",
    "sslmode": "ssl_mode",
    "sslrootcert": "ca_cert",
    "sslcert": "ssl_cert",
    "sslkey": "ssl_key",
}


@dataclasses.dataclass(frozen=True)
class Server:
    """A server that a test may use: a local cluster, or one from outside (then C(cluster) is None)."""

    conninfo: str = dataclasses.field(repr=False)
    cluster: Any = None

    def dsn(self, dbname: str | None = None, **other: str) -> str:
        """A libpq connection string; C(user=, password=) and the like replace parts of it."""
        return conninfo.make_conninfo(self.conninfo, **({"dbname": dbname} if dbname else {}), **other)

    def connect(self, dbname: str | None = None, **other: str) -> psycopg.Connection[Any]:
        """An ordinary autocommit connection."""
        return psycopg.connect(self.dsn(dbname, **other), autocommit=True)

    def endpoint(self, dbname: str, **other: str) -> dict[str, Any]:
        """The C(source) or C(destination) argument of the modules."""
        parts = {key: value for key, value in conninfo.conninfo_to_dict(self.dsn(dbname, **other)).items() if value}
        words: dict[str, Any] = {ENDPOINT_WORDS[key]: parts.pop(key) for key in list(parts) if key in ENDPOINT_WORDS}
        words["login_port"] = int(words.get("login_port", 5432))
        return {**words, **({"connect_params": parts} if parts else {})}

    def _own(self) -> Any:
        if self.cluster is None:
            pytest.skip("a server from outside is not stopped or restarted")
        return self.cluster

    def stop(self, mode: str = "fast") -> None:
        """Stop the server; C(immediate) is a crash as far as the data goes."""
        servers.stop(self._own(), mode)

    def start(self) -> None:
        servers.start(self._own())

    def restart(self, mode: str = "fast") -> None:
        servers.restart(self._own(), mode)


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


class Clusters:
    """Local clusters of one test run, made when first asked for, all in one folder that goes at the end."""

    def __init__(self) -> None:
        home = servers.own_folder(servers.default_home())
        self.folder = servers.own_folder(home / f"tests-{os.getpid()}")
        self._servers: dict[str, Server] = {}
        self._lock = threading.Lock()
        atexit.register(self.close)

    @staticmethod
    def bin_dir(version: str = DEFAULT_VERSION) -> str:
        """The folder with pg_dump, psql, pgbench of a major version."""
        return str(servers.bin_dir(version))

    def get(self, name: str, version: str = DEFAULT_VERSION, settings: Mapping[str, Any] | None = None) -> Server:
        """The cluster of this name, shared by all who ask for it."""
        with self._lock:
            if name not in self._servers:
                wanted = {**TEST_SETTINGS, **(settings or {})}
                cluster = servers.ensure(self.folder / name, name, version, wanted)[0]
                self._servers[name] = Server(cluster.dsn(), cluster)
            return self._servers[name]

    def end(self, role: str, version: str | None = None) -> Server:
        """The shared server for C(source) or C(destination): from outside when one is named and no version is."""
        outside = os.environ.get(EXTERNAL[role])
        if outside and version not in (None, DEFAULT_VERSION):
            pytest.skip(f"{EXTERNAL[role]} is set, and this test is about version {version}")
        return (
            Server(outside) if outside else self.get(f"{role}-{version or DEFAULT_VERSION}", version or DEFAULT_VERSION)
        )

    def drop(self, name: str) -> None:
        with self._lock:
            self._servers.pop(name, None)
            servers.destroy(self.folder / name)

    def close(self) -> None:
        for name in [entry.name for entry in self.folder.iterdir()] if self.folder.exists() else []:
            self.drop(name)
        shutil.rmtree(self.folder, ignore_errors=True)


def _sweep() -> None:
    """Remove what a run left behind that was killed with SIGKILL."""
    home = servers.default_home()
    for folder in home.glob("tests-*") if home.exists() else []:
        pid = folder.name.partition("-")[2]
        if pid.isdigit() and not pathlib.Path("/proc", pid).exists():
            with contextlib.suppress(FileNotFoundError):  # another run sweeps at the same time
                for cluster in list(folder.iterdir()):
                    servers.destroy(cluster)
            shutil.rmtree(folder, ignore_errors=True)


def pytest_configure(config: pytest.Config) -> None:
    """SIGTERM ends a run as Ctrl-C does, so that its servers go too."""

    def interrupt(_number: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, interrupt)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take minutes first, so that none of them keeps the end waiting for itself."""
    items.sort(key=lambda item: item.path.stem not in LONG)


@pytest.fixture(scope="session")
def clusters() -> Iterator[Clusters]:
    _sweep()
    made = Clusters()
    yield made
    made.close()


@pytest.fixture(scope="session")
def source_cluster(clusters: Clusters) -> Server:
    return clusters.end("source")


@pytest.fixture(scope="session")
def destination_cluster(clusters: Clusters) -> Server:
    return clusters.end("destination")


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
def _pairs(clusters: Clusters) -> Iterator[Callable[..., Pair]]:
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
                admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
            if server.cluster is None or (not private and settings is None):
                undo.callback(_drop_database, server, name)
            connection = server.connect(name)
            undo.callback(connection.close)
            ends.append(End(server, name, connection))
        return Pair(*ends)

    with undo:
        yield make


@pytest.fixture
def make_pair(clusters: Clusters) -> Iterator[Callable[..., Pair]]:
    """C(make_pair(source=version, destination=version, private=bool, source_settings={}, destination_settings={})).

    Versions are major versions as strings, None for the default. C(private) clusters belong to the one test and go
    with it; settings need them.
    """
    with _pairs(clusters) as make:
        yield make


@pytest.fixture(scope="module")
def make_lasting_pair(clusters: Clusters) -> Iterator[Callable[..., Pair]]:
    """The same, for pairs that the tests of one file look at in turn."""
    with _pairs(clusters) as make:
        yield make


@pytest.fixture
def pair(make_pair: Callable[..., Pair]) -> Pair:
    return make_pair()


@contextlib.contextmanager
def _roles() -> Iterator[Callable[..., tuple[str, str]]]:
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


@pytest.fixture
def make_role() -> Iterator[Callable[..., tuple[str, str]]]:
    """C(make_role(pair, "NOLOGIN")): a login role at both ends (one that is given the attributes); name, password.

    It goes after the test, so write C(make_role) before C(pair) in the test's arguments: the databases go first.
    """
    with _roles() as make:
        yield make


@pytest.fixture(scope="module")
def make_lasting_role() -> Iterator[Callable[..., tuple[str, str]]]:
    """The same, for C(make_lasting_pair)."""
    with _roles() as make:
        yield make
