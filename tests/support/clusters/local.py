# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Local clusters of one test run, by the same program as the role C(local_clusters), and servers from outside.

CAUSEWAY_TEST_SOURCE and CAUSEWAY_TEST_DESTINATION, two libpq connection strings of accounts that may create
databases, replace the local clusters; tests that need a restart or a version are then skipped.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import os
import pathlib
import shutil
import threading
from collections.abc import Mapping
from typing import Any

import psycopg
import pytest
from psycopg import conninfo
from support.clusters import outside, servers
from support.clusters.outside import EXTERNAL
from support.scratch import scratch

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
        text = self._text(dbname, **other)
        return text if self.cluster is not None else outside.durable(text)

    def _text(self, dbname: str | None = None, **other: str) -> str:
        return conninfo.make_conninfo(self.conninfo, **({"dbname": dbname} if dbname else {}), **other)

    def connect(self, dbname: str | None = None, **other: str) -> psycopg.Connection[Any]:
        """An ordinary autocommit connection."""
        return psycopg.connect(self.dsn(dbname, **other), autocommit=True)

    def endpoint(self, dbname: str, **other: str) -> dict[str, Any]:
        """The C(source) or C(destination) argument of the modules."""
        parts = {key: value for key, value in conninfo.conninfo_to_dict(self._text(dbname, **other)).items() if value}
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


def _home() -> pathlib.Path:
    """Return the folder of this account that holds the clusters of all runs."""
    if os.environ.get(servers.HOME_VARIABLE):
        return pathlib.Path(servers.default_home())
    return servers.own_folder(scratch() / f"causeway-tests-{os.geteuid()}")


class Clusters:
    """Local clusters of one test run, made when first asked for, all in one folder that goes at the end."""

    def __init__(self) -> None:
        self.folder = servers.own_folder(_home() / f"tests-{os.getpid()}")
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

    def own(self, name: str, version: str) -> Server:
        """The same, for a test that is about these servers and not about those from outside."""
        if outside.named():
            pytest.skip("servers from outside: it is about clusters of its own")
        return self.get(name, version)

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


def sweep() -> None:
    """Remove what a run left behind that was killed with SIGKILL."""
    home = _home()
    for folder in home.glob("tests-*") if home.exists() else []:
        pid = folder.name.partition("-")[2]
        if pid.isdigit() and not pathlib.Path("/proc", pid).exists():
            with contextlib.suppress(FileNotFoundError):  # another run sweeps at the same time
                for cluster in list(folder.iterdir()):
                    servers.destroy(cluster)
            shutil.rmtree(folder, ignore_errors=True)
