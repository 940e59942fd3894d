# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A CDC worker on a real pair, set up by plain SQL: identities, publication, slot, marks, control row, configuration.

The modules do the same for a user; here a test sees the worker alone, and can start, kill and watch the process.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import pathlib
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql
from support.clusters.pairs import End, Pair
from support.clusters.servers import ROOT
from support.harness.module_process import ModuleProcess
from support.processes import state_of

from ansible_collections.causeway.postgresql.plugins.module_utils._engine import names
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.control.config import WorkerConfig
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres.connect import connect
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.spec import endpoint_of
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.state import markers, task
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.state.store import StateStore
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.state.tables import (
    STATE_FORMAT,
    create_statements,
)


@functools.cache
def _compiled_engine() -> pathlib.Path:
    """A copy of the engine with the bytecode that each of its workers would otherwise make anew."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="engine-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    source = ROOT / "plugins" / "module_utils" / "_engine"
    shutil.copytree(source, folder / "_engine", ignore=shutil.ignore_patterns("__pycache__"))
    done = [sys.executable, "-m", "compileall", "-q", str(folder)]
    subprocess.run(done, env={"PATH": os.environ["PATH"]}, check=True)
    return folder / "_engine"


def unpack_engine(home: pathlib.Path, name: str = "engine-under-test") -> pathlib.Path:
    """The engine as the role unpacks it: worker_home/engine/NAME/_engine, and the link C(current)."""
    folder = home / "engine" / name
    shutil.copytree(_compiled_engine(), folder / "_engine")
    link = home / "engine" / "current"
    if not link.is_symlink():
        link.symlink_to(name)
    return folder


def python_environment(engine: pathlib.Path) -> dict[str, str]:
    """What a worker's process gets; nothing of it is secret."""
    return {**{key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}, "PYTHONPATH": str(engine)}


class Streaming:
    """One migration of a pair whose tables stand at both ends, empty or equal, when C(begin) is called."""

    def __init__(self, pair: Pair, home: pathlib.Path) -> None:
        self.pair = pair
        self.name = f"cdc_{secrets.token_hex(4)}"
        self.folder = home / self.name
        self.folder.mkdir(parents=True)
        self.engine = unpack_engine(home) if not (home / "engine").exists() else home / "engine" / "engine-under-test"
        self.process: subprocess.Popen[bytes] | None = None
        self.slot = names.slot_name(self.name)

    def begin(self, schemas: tuple[str, ...] = ("public",), wanted: str = "started", **settings: Any) -> None:
        """Publish every table of the schemas as it stands, make the slot, and record all tables as copied there."""
        slot = self.begin_without_task(schemas)
        self.write_task(slot, wanted, settings)
        self.configure()

    def begin_without_task(self, schemas: tuple[str, ...] = ("public",)) -> dict[str, Any]:
        """The same up to where pg_cdc_task takes over; the slot."""
        source = self.pair.source
        tables = self._tables(schemas)
        listed = sql.SQL(", ").join(
            [sql.SQL("ONLY {}").format(sql.Identifier(schema, name)) for dummy, schema, name in tables]
        )
        source.sql.execute(
            sql.SQL("CREATE PUBLICATION {} FOR TABLE {}").format(
                sql.Identifier(names.publication_name(self.name)), listed
            )
        )
        slot = self._make_slot()
        self._write_state(schemas, tables, slot)
        return slot

    def _tables(self, schemas: tuple[str, ...]) -> list[tuple[int, str, str]]:
        return self.pair.source.query(
            "SELECT c.oid::bigint, n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = ANY (%s) AND c.relkind = 'r' ORDER BY 2, 3",
            [list(schemas)],
        )

    def _make_slot(self) -> dict[str, Any]:
        source = self.pair.source
        with psycopg.connect(source.dsn, autocommit=True, replication="database") as walsender:
            created = walsender.pgconn.exec_(f'CREATE_REPLICATION_SLOT "{self.slot}" LOGICAL pgoutput'.encode())
            point = created.get_value(0, 1)
            system = walsender.pgconn.exec_(b"IDENTIFY_SYSTEM")
            assert point is not None
            return {
                "name": self.slot,
                "plugin": "pgoutput",
                "database": source.dbname,
                "consistent_point": point.decode(),
                "system_identifier": (system.get_value(0, 0) or b"").decode(),
                "timeline": int(system.get_value(0, 1) or b"0"),
                "failover": False,
            }

    def _write_state(self, schemas: tuple[str, ...], tables: list[tuple[int, str, str]], slot: dict[str, Any]) -> None:
        destination = self.pair.destination
        if not destination.value("SELECT 1 FROM pg_namespace WHERE nspname = 'causeway'"):
            for statement in create_statements("causeway"):
                destination.sql.execute(statement)
        spec = {
            "objects": [{"schema": schema, "tables": [], "exclude": []} for schema in schemas],
            "types": ["full", "incremental", "schema"],
        }
        point = slot["consistent_point"]
        destination.run(
            "INSERT INTO causeway.migration (name, state_format, phase, spec, source_system, source_database, slot)"
            " VALUES (%s, %s, 'copied', %s, %s, %s, %s)",
            [self.name, STATE_FORMAT, json.dumps(spec), slot["system_identifier"], slot["database"], json.dumps(slot)],
        )
        for oid, schema, name in tables:
            destination.run(
                "INSERT INTO causeway.table_copy (migration, relation, schema_name, table_name, state, mark)"
                " VALUES (%s, %s, %s, %s, 'complete', %s)",
                [self.name, oid, schema, name, point],
            )

    def write_task(self, slot: dict[str, Any], wanted: str, settings: dict[str, Any]) -> None:
        """Control row and first progress, as pg_cdc_task writes them."""
        destination = self.pair.destination
        point = slot["consistent_point"]
        destination.run(
            "INSERT INTO causeway.cdc_task (migration, wanted, settings) VALUES (%s, %s, %s)",
            [self.name, wanted, json.dumps(settings)],
        )
        destination.run(
            "INSERT INTO causeway.cdc_progress (migration, state, applied, confirmable, source_system, timeline)"
            " VALUES (%s, 'starting', %s, %s, %s, %s)",
            [self.name, point, point, slot["system_identifier"], slot["timeline"]],
        )

    def configure(self, **other: Any) -> None:
        """Write the worker's configuration, as pg_cdc_task does; ``source`` and ``destination`` may be other endpoints."""
        config = WorkerConfig(
            self.name,
            "causeway",
            endpoint_of("source", other.get("source") or self.pair.source.endpoint),
            endpoint_of("destination", other.get("destination") or self.pair.destination.endpoint),
            self.engine.name,
        )
        path = self.folder / "config.json"
        path.write_text(config.text(), encoding="utf-8")
        path.chmod(0o600)

    def start(self, break_at: str = "") -> subprocess.Popen[bytes]:
        """Start the worker's process; with a break point, return when it has stopped itself there."""
        argv = [sys.executable, "-m", "_engine.daemon", "--config", str(self.folder / "config.json")]
        environment = python_environment(self.engine)
        if break_at:
            environment["CAUSEWAY_FAILPOINT"] = break_at
        self.process = subprocess.Popen(argv, env=environment, cwd=self.folder)
        if break_at:
            wait_stopped(self.process, break_at)
        return self.process

    def kill(self) -> None:
        """SIGKILL, as an out-of-memory killer does."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(10)
            self.process = None

    def stop(self, timeout: float = 30) -> int:
        """SIGTERM; the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(timeout)
        self.process = None
        return status

    def wait_exit(self, timeout: float = 30) -> int:
        """Wait until the worker ends by itself; the exit status."""
        assert self.process is not None
        status = self.process.wait(timeout)
        self.process = None
        return status

    def drain(self, timeout: float = 60) -> None:
        """Write a marker at the source and wait until the worker has applied it; what came before stands then."""
        end = self.pair.source
        with connect(endpoint_of("source", end.endpoint), "test") as source, self.store() as store:
            written = markers.write_marker(store, source)
            try:
                markers.wait_applied(store, written, timeout)
            except Exception as exc:
                raise AssertionError(f"{exc}\n{self.log()[-3000:]}") from exc

    @contextlib.contextmanager
    def store(self) -> Any:
        """The state of the migration over a connection of its own."""
        with connect(endpoint_of("destination", self.pair.destination.endpoint), "test") as conn:
            yield StateStore(conn, "causeway", self.name)

    def want(self, wanted: str, settings: dict[str, object] | None = None) -> None:
        """Change the control row."""
        with self.store() as store:
            task.set_wanted(store, wanted, settings)

    def progress(self, column: str) -> Any:
        """One column of the progress row."""
        statement = sql.SQL("SELECT {} FROM causeway.cdc_progress WHERE migration = %s").format(sql.Identifier(column))
        row = self.pair.destination.sql.execute(statement, [self.name]).fetchone()
        return row[0] if row else None

    def wait_state(self, state: str, timeout: float = 30) -> None:
        """Wait until the task is observed in this state."""
        deadline = time.monotonic() + timeout
        while self.progress("state") != state:
            if time.monotonic() > deadline:
                raise AssertionError(f"{self.progress('state')}, not {state}\n{self.log()[-3000:]}")
            time.sleep(0.05)

    def log(self) -> str:
        """The worker's log."""
        path = self.folder / "worker.log"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def reconnect(self) -> None:
        """After a restart of a server."""
        self.pair = self.pair.reconnect()

    def close(self) -> None:
        """End the worker."""
        self.kill()


def wait_stopped(process: subprocess.Popen[bytes] | ModuleProcess, place: str) -> None:
    """Wait until a process has stopped itself at a break point."""
    deadline = time.monotonic() + 60
    while state_of(process.pid) != "T":
        if process.poll() is not None:
            raise AssertionError(f"it did not stop at {place}: {process.communicate()}")
        assert time.monotonic() < deadline, f"it never came to {place}"
        time.sleep(0.01)


MakeStreaming = Callable[..., Streaming]


@pytest.fixture
def make_streaming(make_pair: Callable[..., Pair], tmp_path: pathlib.Path) -> Iterator[MakeStreaming]:
    """C(make_streaming(ddl, **versions)): the same DDL at both ends of a fresh pair, and a worker for it."""
    made: list[Streaming] = []

    def make(ddl: str, pair: Pair | None = None, **versions: Any) -> Streaming:
        pair = pair or make_pair(**versions)
        pair.run(ddl)
        streaming = Streaming(pair, tmp_path)
        made.append(streaming)
        return streaming

    yield make
    for streaming in made:
        streaming.close()


def slot_position(end: End, slot: str) -> Any:
    """confirmed_flush_lsn of a slot, as text."""
    return end.value("SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = %s", [slot])
