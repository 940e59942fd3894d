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
import random
import secrets
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from support import witness
from support.harness.modules import Migration
from support.harness.streaming import unpack_engine

TABLES = """
CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL, note text);
CREATE TABLE entry (id bigserial PRIMARY KEY, account int NOT NULL, delta int NOT NULL, paper text);
ALTER TABLE entry ALTER paper SET STORAGE EXTERNAL;
CREATE TABLE log (client int, line text);
CREATE TABLE bag (v int, w numeric);
CREATE TABLE day (id int, at date, v int, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE day_1 PARTITION OF day FOR VALUES FROM ('2020-01-01') TO ('2020-07-01');
CREATE TABLE day_2 PARTITION OF day FOR VALUES FROM ('2020-07-01') TO ('2021-01-01');
CREATE TABLE seat (id int PRIMARY KEY, place int NOT NULL UNIQUE);
CREATE TABLE told (client int, number int);
"""
"""log and told have no key and are only added to; bag has none and is changed as well."""

ROWS = """
INSERT INTO account SELECT n, 0, repeat('n', 50) FROM generate_series(1, 300) n;
INSERT INTO entry (account, delta, paper) SELECT n % 300 + 1, 0, repeat(md5(n::text), 80) FROM generate_series(1, 2000) n;
INSERT INTO bag SELECT n % 7, n % 3 FROM generate_series(1, 200) n;
INSERT INTO day SELECT n, date '2020-01-01' + n, n FROM generate_series(0, 360) n;
INSERT INTO seat SELECT n, n FROM generate_series(1, 40) n;
"""


class Clients:
    """Writers at the source until told to stop; they live through a restart of it.

    ``told`` holds (client, number) of every commit that was answered; what was under way when a server went may stand
    or not.
    """

    def __init__(self, end: Any, clients: int = 8, settings: str = "", pause: float = 0.004) -> None:
        self._end = end
        self._settings = settings
        self._pause = pause
        self._stop = threading.Event()
        self.told: set[tuple[int, int]] = set()
        self.unsure: set[tuple[int, int]] = set()
        self.errors: list[str] = []
        self._threads = [threading.Thread(target=self._write, args=(n,), daemon=True) for n in range(clients)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *dummy: object) -> None:
        self.end()

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _write(self, client: int) -> None:
        dice = random.Random(client)
        number = 0
        while not self._stop.is_set():
            try:
                with self._end.connect(application_name="client") as connection:
                    if self._settings:
                        connection.execute(self._settings)
                    while not self._stop.is_set():
                        number += 1
                        self._transaction(connection, dice, client, number)
                        time.sleep(dice.random() * self._pause)
            except psycopg.OperationalError as exc:
                if exc.sqlstate and exc.sqlstate[:2] not in ("57", "08", "40"):
                    self.errors.append(str(exc))
                time.sleep(0.05)
            except psycopg.Error as exc:
                self.errors.append(str(exc))
                return

    def _transaction(self, connection: psycopg.Connection[Any], dice: random.Random, client: int, number: int) -> None:
        """One transaction of several statements; some wait in the middle, so that others begin later and end sooner."""
        self.unsure.add((client, number))
        with connection.transaction():
            connection.execute("INSERT INTO told VALUES (%s, %s)", [client, number])
            for step in dice.sample(STEPS, dice.randint(1, 3)):
                step(connection, dice, client)
                if dice.random() < 0.1:
                    time.sleep(dice.random() * 0.05)
        self.told.add((client, number))
        self.unsure.discard((client, number))


def _account(connection: psycopg.Connection[Any], dice: random.Random, client: int) -> None:
    chosen = sorted(dice.sample(range(1, 301), 2))  # in one order, or clients would wait for each other in a ring
    if dice.random() < 0.2:
        connection.execute("DELETE FROM account WHERE id = %s", chosen[:1])
        connection.execute("INSERT INTO account VALUES (%s, 0, 'again') ON CONFLICT DO NOTHING", chosen[:1])
    else:
        connection.execute("UPDATE account SET balance = balance + 1 WHERE id = ANY (%s)", [chosen[1:]])


def _entry(connection: psycopg.Connection[Any], dice: random.Random, client: int) -> None:
    what = dice.random()
    mine = [client, dice.randint(1, 200)]
    if what < 0.6:
        connection.execute(
            "INSERT INTO entry (account, delta, paper) VALUES (%s, 1, %s)",
            [dice.randint(1, 300), "p" * dice.choice((0, 10, 9000))],
        )
    elif what < 0.8:  # the paper is not sent again
        connection.execute("UPDATE entry SET delta = delta + 1 WHERE id %% 8 = %s AND id %% 200 = %s", mine)
    elif what < 0.9:  # the key changes, the paper is not sent again
        connection.execute("UPDATE entry SET id = -id WHERE id %% 8 = %s AND id %% 200 = %s", mine)
    else:
        connection.execute("DELETE FROM entry WHERE id %% 8 = %s AND id %% 200 = %s", mine)


def _log(connection: psycopg.Connection[Any], dice: random.Random, client: int) -> None:
    connection.execute("INSERT INTO log SELECT %s, 'line' || n %% 3 FROM generate_series(1, 4) n", [client])
    with contextlib.suppress(psycopg.errors.DivisionByZero), connection.transaction():
        connection.execute("INSERT INTO log VALUES (%s, 'never')", [client])
        connection.execute("SELECT 1 / 0")
    connection.execute(
        "DO $$ BEGIN FOR n IN 1..3 LOOP BEGIN INSERT INTO log VALUES (0, 'block');"
        " IF n = 2 THEN RAISE EXCEPTION 'no'; END IF; EXCEPTION WHEN raise_exception THEN NULL; END; END LOOP; END $$"
    )


def _bag(connection: psycopg.Connection[Any], dice: random.Random, client: int) -> None:
    one = "ctid = (SELECT ctid FROM bag LIMIT 1 OFFSET %s FOR UPDATE SKIP LOCKED)"
    connection.execute("INSERT INTO bag VALUES (%s, '1.00'), (%s, '1.0')", [dice.randint(0, 6), dice.randint(0, 6)])
    connection.execute(f"UPDATE bag SET v = v + 1 WHERE {one}", [dice.randint(0, 150)])
    connection.execute(f"DELETE FROM bag WHERE {one}", [dice.randint(0, 150)])


def _day(connection: psycopg.Connection[Any], dice: random.Random, client: int) -> None:
    mine = dice.randint(0, 44) * 8 + client % 8
    connection.execute(
        "UPDATE day SET at = date '2020-01-01' + (%s::int), v = v + 1 WHERE id = %s", [dice.randint(0, 360), mine]
    )


def _seat(connection: psycopg.Connection[Any], dice: random.Random, client: int) -> None:
    """Two seats of this client's own exchange their places, and their keys, in one transaction."""
    first, second = client % 8 * 5 + 1, client % 8 * 5 + 2
    free = 1000 + client
    for column in dice.sample(("place", "id"), dice.randint(1, 2)):
        for old, new in ((first, free), (second, first), (free, second)):
            connection.execute(f"UPDATE seat SET {column} = %s WHERE {column} = %s", [new, old])


STEPS: list[Callable[[psycopg.Connection[Any], random.Random, int], None]] = [_account, _entry, _log, _bag, _day, _seat]


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
