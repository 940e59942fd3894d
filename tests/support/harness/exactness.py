# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole migration through the real modules, beside clients that write all the time and remember what they were told.

The tables stand at both ends before; from identities to the last drain everything is done by the modules.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import secrets
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support import witness
from support.harness.modules import Migration
from support.harness.streaming import unpack_engine
from support.loads.clients import ROWS, TABLES, Clients


@dataclasses.dataclass
class Journey:
    """One migration of schema public of a pair: the phases, and what a hostile operator does to them."""

    pair: Any
    home: pathlib.Path
    migration: Migration
    settings: dict[str, Any]

    @property
    def name(self) -> str:
        return self.migration.name

    @property
    def slot(self) -> str:
        return f"dts_sync_{self.name}"

    def prepare(self, identity: str = "full") -> None:
        """Identities, publication, slot."""
        self.migration.run("pg_replica_identity", identity=identity)
        self.migration.run("pg_publication")
        self.migration.run("pg_repl_slot")

    def copy(self, **more: Any) -> dict[str, Any]:
        return self.migration.run("pg_full_copy", **{"parallel": 2, **more})

    def task(self, state: str = "started", **more: Any) -> dict[str, Any]:
        home = {"worker_home": str(self.home), "worker_python": sys.executable, "supervisor": "none"}
        return self.migration.run("pg_cdc_task", state=state, **{**home, **self.settings, **more})

    def drained(self) -> int:
        """Start what does not run, wait until what the source holds has come, and compare; the number of rows."""
        self.task(wait="caught_up", wait_timeout=120)
        assert self.progress("conflicts") == 0
        return witness.assert_identical(self.pair, ["public"])

    def progress(self, column: str) -> Any:
        return self.pair.destination.value(
            f"SELECT {column} FROM causeway.cdc_progress WHERE migration = %s", [self.name]
        )

    def marks(self) -> dict[str, str]:
        rows = self.pair.destination.query("SELECT table_name, mark::text FROM causeway.table_copy")
        return dict(rows)

    def forget(self, table: str) -> None:
        """As if the copy of this table had not been complete."""
        count = self.pair.destination.run(
            "UPDATE causeway.table_copy SET state = 'copying' WHERE table_name = %s AND state = 'complete'", [table]
        )
        assert count == 1

    def worker(self) -> int:
        """The process id of the worker that has the lock."""
        return int(self.progress("pid"))

    def kill_worker(self) -> None:
        os.kill(self.worker(), signal.SIGKILL)

    def confirmed(self) -> Any:
        return self.pair.source.value(
            "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = %s", [self.slot]
        )

    def exactly_once(self, clients: Clients) -> None:
        """Every commit that was answered stands at both ends, once, and nothing that nobody has written."""
        assert not clients.errors, clients.errors[:3]
        assert len(clients.told) > 50
        for end in self.pair.ends:
            found = Counter(end.query("SELECT client, number FROM told"))
            assert clients.told <= found.keys(), sorted(clients.told - found.keys())[:5]
            assert found.keys() <= clients.told | clients.unsure
            assert set(found.values()) == {1}
            assert end.value("SELECT count(*) FROM log WHERE line = 'never'") == 0

    def reconnect(self) -> None:
        self.pair = self.pair.reconnect()

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self.task("absent")
        for gid in self.pair.source.query("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"):
            self.pair.source.run(f"ROLLBACK PREPARED '{gid[0]}'")


MakeJourney = Callable[..., Journey]


@pytest.fixture
def make_journey(make_pair: Callable[..., Any], tmp_path: pathlib.Path) -> Iterator[MakeJourney]:
    """C(make_journey(ddl, rows, **settings of the pair)): tables at both ends, rows at the source."""
    made: list[Journey] = []

    def make(ddl: str = TABLES, rows: str = ROWS, task: dict[str, Any] | None = None, **versions: Any) -> Journey:
        pair = make_pair(**versions)
        pair.run(ddl)
        pair.source.run(rows)
        unpack_engine(tmp_path, f"engine-{len(made)}")
        more = {"types": ["full", "incremental"], "allow_keyless": True}
        name = f"exact_{secrets.token_hex(4)}"
        migration = Migration(name, pair.source.endpoint, pair.destination.endpoint, [{"schema": "public"}], more)
        made.append(Journey(pair, tmp_path, migration, {"batch_age": 0.05, **(task or {})}))
        return made[-1]

    yield make
    for journey in made:
        journey.close()
