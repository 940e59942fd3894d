# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The snapshot of a copy run: its mark, the guard before anything is read, and what happens where it cannot be made."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.copy import guard, snapshot
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import TimeoutExpired
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.lsn import format_lsn
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.migration import Migration, spec_of


@pytest.fixture
def migrate() -> Iterator[Callable[..., Migration]]:
    """C(migrate(pair, types=[...])): a migration of schema public as a module call would open it."""
    opened: list[Migration] = []

    def make(pair: Any, types: tuple[str, ...] = ("schema", "full", "incremental")) -> Migration:
        options = {
            "name": "snap",
            "source": pair.source.endpoint,
            "destination": pair.destination.endpoint,
            "objects": [{"schema": "public"}],
            "types": types,
            "state_schema": "causeway",
            "allow_keyless": False,
            "conflicting_tables": "report",
            "restart": False,
        }
        opened.append(Migration(spec_of(options)))
        return opened[-1]

    yield make
    for migration in opened:
        migration.__exit__(None, None, None)


def read_under(end: Any, name: str, query: str) -> Any:
    with end.connect() as reader, reader.transaction():
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        reader.execute(psycopg.sql.SQL("SET TRANSACTION SNAPSHOT {}").format(psycopg.sql.Literal(name)))
        return reader.execute(query).fetchone()[0]


def test_what_commits_after_the_mark_is_not_seen_and_lies_behind_it(pair: Any, migrate: Any) -> None:
    pair.source.run("CREATE TABLE t (id int); INSERT INTO t VALUES (1)")
    with snapshot.open_snapshot(migrate(pair)) as taken:
        before = pair.source.value("SELECT pg_current_wal_insert_lsn()")
        pair.source.run("INSERT INTO t VALUES (2)")
        assert taken.form == "slot"
        assert read_under(pair.source, taken.name, "SELECT count(*) FROM t") == 1
        assert pair.source.value("SELECT %s::pg_lsn <= %s::pg_lsn", [format_lsn(taken.mark), before])
        assert pair.source.query("SELECT 1 FROM pg_replication_slots WHERE database = current_database()") == []


def test_without_changes_that_follow_no_slot_is_made(pair: Any, migrate: Any) -> None:
    pair.source.run("CREATE TABLE t (id int); INSERT INTO t VALUES (1)")
    with snapshot.open_snapshot(migrate(pair, ("schema", "full"))) as taken:
        pair.source.run("INSERT INTO t VALUES (2)")
        assert (taken.form, read_under(pair.source, taken.name, "SELECT count(*) FROM t")) == ("plain", 1)
        assert taken.mark > 0
