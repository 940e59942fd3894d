# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What may go wrong in the middle of a copy: a clear error that names the object and what to do, nothing that was done
is lost, and the next run goes on."""

from __future__ import annotations

import contextlib
import os
import pathlib
import secrets
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from support import witness
from support.harness.modules import Migration, ModuleFailed
from support.harness.opened import open_migration
from support.waiting import until

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.capture.under_lock import Patience
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.copy.limits import Limits
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.copy.runs import copy_tables

from .test_copy_hosts import parts
from .test_full_copy import LARGE, LARGE_ROWS, held_up, waits_at_the_gate

pytestmark = pytest.mark.faults
CUT: dict[str, Any] = {"part_size": 300_000, "parallel": 1}


@pytest.fixture
def migration() -> Callable[..., Migration]:
    """C(migration(pair)): schema public, the rows alone."""
    return lambda pair: Migration(
        "copy", pair.source.endpoint, pair.destination.endpoint, [{"schema": "public"}], {"types": ["full"]}
    )


def interrupted(pair: Any, one: Migration, what: Callable[[], Any]) -> dict[str, Any]:
    """The error of a copy to which C(what) happens in mid-table, some of whose parts are done."""
    with held_up(pair.destination, "large", "NEW.id > 15000") as release:
        process = one.start("pg_full_copy", **CUT, lock_timeout=1, lock_retries=0)
        until(lambda: waits_at_the_gate(pair.destination))
        assert len(parts(pair.destination)) > 3
        what()
        release()
        with pytest.raises(ModuleFailed) as caught:
            one.finish("pg_full_copy", process)
    error: dict[str, Any] = caught.value.result["error"]
    return error


def end_copying(end: Any, function: str) -> Callable[[], None]:
    """C(function) of the session that reads or writes the table's rows at one end."""

    def now() -> None:
        query = (
            f"SELECT {function}(pid) FROM pg_stat_activity WHERE datname = %s AND backend_type = 'client backend'"
            " AND application_name LIKE 'causeway copy%%' AND query LIKE 'COPY%%' AND state = 'active'"
        )
        assert end.query(query, [end.dbname]) == [(True,)]

    return now


@pytest.mark.parametrize("function", ["pg_cancel_backend", "pg_terminate_backend"])
@pytest.mark.parametrize("end", ["source", "destination"])
def test_a_session_of_ours_is_ended(pair: Any, migration: Any, end: str, function: str) -> None:
    pair.run(LARGE)
    pair.source.run(LARGE_ROWS)
    # more than the sockets and the queue between take, so that the reader has not finished
    pair.source.run("INSERT INTO large SELECT n, repeat('x', 1000) FROM generate_series(20001, 60000) n")
    one = migration(pair)
    with held_up(pair.destination, "large", "NEW.id = 20500") as release:
        process = one.start("pg_full_copy", parallel=1)
        until(lambda: waits_at_the_gate(pair.destination))
        end_copying(getattr(pair, end), function)()
        release()
        with pytest.raises(ModuleFailed) as caught:
            one.finish("pg_full_copy", process)
    error = caught.value.result["error"]
    assert error["object"] == "public.large" and error["remedy"], error
    assert one.run("pg_full_copy")["changed"]
    assert witness.assert_identical(pair) == 60000


def test_the_account_loses_its_right_to_read(make_role: Any, pair: Any, migration: Any) -> None:
    name, password = make_role(pair)
    pair.run(f"{LARGE}; CREATE TABLE later (id int PRIMARY KEY)")
    pair.source.run(LARGE_ROWS + "; INSERT INTO later VALUES (1)")
    pair.source.run(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}")
    one = migration(pair)
    one.source.update(login_user=name, login_password=password)
    error = interrupted(pair, one, lambda: pair.source.run(f"REVOKE SELECT ON later FROM {name}"))
    assert (error["object"], error["sqlstate"]) == ("public.later", "42501") and "Grant" in error["remedy"], error
    assert pair.destination.value("SELECT state FROM causeway.table_copy WHERE table_name = 'large'") == "complete"
    pair.source.run(f"GRANT SELECT ON later TO {name}")
    stood = pair.destination.value("SELECT xmin::text FROM large WHERE id = 1")
    assert one.run("pg_full_copy")["parts"] == 1
    assert pair.destination.value("SELECT xmin::text FROM large WHERE id = 1") == stood
    assert witness.assert_identical(pair) == 20001


def test_a_table_is_dropped_during_the_run(pair: Any, migration: Any) -> None:
    """What is left of the selection is copied, by the same call."""
    pair.run(f"{LARGE}; CREATE TABLE gone (id int PRIMARY KEY); CREATE TABLE stays (id int PRIMARY KEY)")
    pair.source.run(LARGE_ROWS + "; INSERT INTO gone VALUES (1); INSERT INTO stays VALUES (1)")
    one = migration(pair)
    with held_up(pair.destination, "large", "NEW.id = 1") as release:
        process = one.start("pg_full_copy", parallel=1)
        until(lambda: waits_at_the_gate(pair.destination))
        pair.source.run("DROP TABLE gone")
        release()
        result = one.finish("pg_full_copy", process)
    pair.destination.run("DROP TABLE gone")
    assert {entry["table"] for entry in result["tables"]} == {"public.large", "public.stays"}
    assert witness.assert_identical(pair) == 20001


@contextlib.contextmanager
def disk(owner: os.stat_result, megabytes: int) -> Iterator[pathlib.Path]:
    """A file system of its own with so much room, for a server that runs as C(owner)."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    folder = pathlib.Path("/var/tmp") / f"causeway-disk-{secrets.token_hex(4)}"
    folder.mkdir()
    try:
        if mount(f"size={megabytes}m", folder).returncode:
            pytest.skip("no file system can be mounted here")
        os.chown(folder, owner.st_uid, owner.st_gid)
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)
        folder.rmdir()


def mount(options: str, folder: pathlib.Path) -> subprocess.CompletedProcess[bytes]:
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    return subprocess.run(command, capture_output=True, check=False)


def data_of(end: Any) -> pathlib.Path:
    return pathlib.Path(end.value("SHOW data_directory"))


@contextlib.contextmanager
def small_tablespace(end: Any, megabytes: int) -> Iterator[str]:
    name = f"small_{secrets.token_hex(4)}"
    with disk(data_of(end).stat(), megabytes) as folder:
        end.run(f"CREATE TABLESPACE {name} LOCATION '{folder}'")
        try:
            yield name
        finally:
            end.run("DROP TABLE IF EXISTS large")
            end.run(f"DROP TABLESPACE IF EXISTS {name}")


def test_the_destination_s_disk_is_full(make_pair: Any, migration: Any) -> None:
    pair = make_pair(private=True)
    pair.run(LARGE)
    pair.source.run(LARGE_ROWS)
    pair.source.run("INSERT INTO large SELECT n, repeat('y', 100) FROM generate_series(20001, 80000) n")
    one = migration(pair)
    with small_tablespace(pair.destination, 6) as name:
        pair.destination.run(f"ALTER TABLE large SET TABLESPACE {name}")
        with pytest.raises(ModuleFailed) as caught:
            one.run("pg_full_copy", **CUT)
        error = caught.value.result["error"]
        assert (error["object"], error["sqlstate"]) == ("public.large", "53100"), error
        assert "Free disk space" in error["remedy"]
        before = parts(pair.destination)
        assert before
        pair.destination.run("ALTER TABLE large SET TABLESPACE pg_default")
        assert one.run("pg_full_copy", **CUT)["changed"]
        assert witness.assert_identical(pair) == 80000


def fill(end: Any) -> None:
    """Write until the server has no room for its WAL any more, and goes down."""
    with pytest.raises(psycopg.OperationalError):
        while True:
            end.run("CREATE TABLE filler AS SELECT repeat('z', 500) FROM generate_series(1, 20000); DROP TABLE filler")


def test_the_source_s_disk_is_full(make_pair: Any, migration: Any) -> None:
    """A source without room for its WAL goes down in the middle of the copy."""
    pair = make_pair(private=True)
    pair.run(LARGE)
    pair.source.run(LARGE_ROWS)
    one = migration(pair)
    data, server = data_of(pair.source), pair.source.server
    server.stop()
    with disk(data.stat(), 80) as folder:
        shutil.copytree(data / "pg_wal", folder / "pg_wal")
        for path in (folder / "pg_wal", *(folder / "pg_wal").rglob("*")):
            os.chown(path, data.stat().st_uid, data.stat().st_gid)
        (data / "pg_wal").rename(data / "pg_wal_before")
        (data / "pg_wal").symlink_to(folder / "pg_wal")
        server.start()
        pair = pair.reconnect()
        error = interrupted(pair, one, lambda: fill(pair.source))
        assert error["code"] == "connect_failed" and ("large" in error["object"] or "source" in error["object"]), error
        assert error["remedy"]
        assert mount("remount,size=400m", folder).returncode == 0
        server.restart("immediate")  # it may have come up by itself, and may not
        pair = pair.reconnect()
        assert one.run("pg_full_copy", **CUT)["changed"]
        assert witness.assert_identical(pair) == 20000
        server.stop("immediate")


def test_writers_never_wait_behind_us_for_longer_than_lock_timeout(pair: Any) -> None:
    """Where tables are locked for a moment, and somebody's transaction keeps us from it: who comes after us goes on."""
    pair.run("CREATE TABLE busy (id int)")
    pair.source.run("INSERT INTO busy VALUES (0)")
    longest = [0.0]
    stop = threading.Event()

    def write() -> None:
        with pair.source.connect() as session:
            while not stop.is_set():
                began = time.monotonic()
                session.execute("INSERT INTO busy VALUES (1)")
                longest[0] = max(longest[0], time.monotonic() - began)
                time.sleep(0.01)

    waits = "SELECT count(*) FROM pg_locks WHERE mode = 'ShareLock' AND NOT granted AND relation = 'busy'::regclass"
    with open_migration(pair) as migration, ThreadPoolExecutor(2) as pool, pair.source.connect() as holder:
        holder.execute("BEGIN; INSERT INTO busy VALUES (2)")
        copying = pool.submit(copy_tables, migration, Limits(patience=Patience(0.5, 1000)), "share")
        writing = pool.submit(write)
        until(lambda: pair.source.value(waits))
        held = time.monotonic()
        until(lambda: time.monotonic() - held > 8)
        assert not copying.done()
        holder.execute("COMMIT")
        assert copying.result(60).runs == 1
        stop.set()
        writing.result(10)
    assert 0 < longest[0] < 4, f"a writer waited {longest[0]} s"
