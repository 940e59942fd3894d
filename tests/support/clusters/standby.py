# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A physical standby of a cluster of ours, by pg_basebackup, that keeps the logical slots of its primary in step."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import shutil
import time
from collections.abc import Iterator

import psycopg
from psycopg import conninfo
from support.clusters import servers
from support.clusters.local import Clusters, Server
from support.clusters.pairs import End

PHYSICAL_SLOT = "standby_1"
STANDBY = {"hot_standby_feedback": "on", "sync_replication_slots": "on", "primary_slot_name": PHYSICAL_SLOT}


@contextlib.contextmanager
def standby_of(clusters: Clusters, primary: Server, dbname: str) -> Iterator[Server]:
    """A running standby. The primary waits for it before it shows a change to a failover slot."""
    with primary.connect() as admin:
        admin.execute("SELECT pg_create_physical_replication_slot(%s)", [PHYSICAL_SLOT])
    old = primary.cluster
    name = f"{old.name}-standby"
    folder = servers.own_folder(clusters.folder / name)
    # What primary_conninfo needs for syncing slots is a database; the password stands in a file of the server's user.
    to_primary = conninfo.make_conninfo(old.dsn(dbname), application_name=PHYSICAL_SLOT)
    settings = {**old.settings, **STANDBY, "primary_conninfo": to_primary}
    new = dataclasses.replace(old, name=name, folder=str(folder), port=servers.free_port(), settings=settings)
    for part in ("data", "log", "run"):
        (folder / part).mkdir()
        servers.give(folder / part, new.user, 0o700)
    service = folder / "run" / "primary.conninfo"
    try:
        _base_backup(new, old, service)
        servers.write_settings(new)
        signal_file = pathlib.Path(new.data_dir) / "standby.signal"
        signal_file.touch()
        servers.give(signal_file, new.user, 0o600)
        servers.start(new)
        with primary.connect() as admin:
            admin.execute(f"ALTER SYSTEM SET synchronized_standby_slots = '{PHYSICAL_SLOT}'")
            admin.execute("SELECT pg_reload_conf()")
        yield Server(new.dsn(), new)
    finally:
        with contextlib.suppress(servers.ClusterError):
            servers.stop(new, "immediate")
        shutil.rmtree(folder, ignore_errors=True)


def _base_backup(new: servers.Cluster, old: servers.Cluster, file: pathlib.Path) -> None:
    """The password goes through a file, not through the arguments."""
    file.write_text(f"127.0.0.1:{old.port}:*:{old.superuser}:{old.password}\n", encoding="utf-8")
    servers.give(file, new.user, 0o600)
    where = f"host=127.0.0.1 port={old.port} user={old.superuser} passfile={file}"
    done = servers.run_program(
        new, "pg_basebackup", "-D", new.data_dir, "-d", where, "-X", "stream", "--checkpoint=fast", "--no-sync"
    )
    assert done.returncode == 0, done.stdout


def end_on(server: Server, dbname: str) -> End:
    return End(server, dbname, server.connect(dbname))


def wait_synced(server: Server, slot: str, primary: End, seconds: float = 60) -> None:
    """Wait until the standby has the slot, good for use after a promotion.

    The slot's catalog_xmin has to reach what the standby has seen. Under a load in which a transaction is always open it
    moves only when a catalog changes, as it does in any database but a test's.
    """
    deadline = time.monotonic() + seconds
    query = (
        "SELECT synced AND NOT temporary AND invalidation_reason IS NULL FROM pg_replication_slots WHERE slot_name = %s"
    )
    with server.connect() as standby:
        while True:
            row = standby.execute(query, [slot]).fetchone()
            if row and row[0]:
                return
            assert time.monotonic() < deadline, f"the standby has not synced the slot: {row}"
            primary.run("CREATE TABLE pg_temp.changes_a_catalog (); DROP TABLE pg_temp.changes_a_catalog")
            primary.value("SELECT pg_log_standby_snapshot()")
            time.sleep(0.5)


def wait_replayed(primary: Server, standby: Server, seconds: float = 60) -> None:
    """Wait until the standby has replayed all that the primary has written by now."""
    deadline = time.monotonic() + seconds
    with primary.connect() as source, standby.connect() as copy:
        row = source.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
        while not (copy.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", row).fetchone() or (False,))[0]:
            assert time.monotonic() < deadline, "the standby does not follow"
            time.sleep(0.05)


def promote(server: Server) -> None:
    with server.connect() as standby:
        standby.execute("SELECT pg_promote(true, 60)")


def pause_replay(server: Server) -> None:
    """From here on the standby gets no more WAL: its receiver's connection is refused and what it has stays."""
    with server.connect() as standby, contextlib.suppress(psycopg.Error):
        standby.execute("ALTER SYSTEM SET primary_conninfo = ''")
        standby.execute("SELECT pg_reload_conf()")
    deadline = time.monotonic() + 30
    while True:
        with server.connect() as standby:
            row = standby.execute("SELECT count(*) FROM pg_stat_wal_receiver").fetchone()
        if row == (0,):
            return
        assert time.monotonic() < deadline
        time.sleep(0.05)
