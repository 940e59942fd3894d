# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients that write all the time and remember what they were told, on tables of many kinds."""

from __future__ import annotations

import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import psycopg
from support.loads.writers import Writers, WritesNoMore

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


class Clients(Writers):
    """Writers at the source until told to stop; they live through a restart of it.

    ``told`` holds (client, number) of every commit that was answered; what was under way when a server went may stand
    or not.
    """

    pause = 0.05

    def __init__(self, end: Any, clients: int = 8, settings: str = "", between: float = 0.004) -> None:
        super().__init__([str(client) for client in range(clients)])
        self._end = end
        self._settings = settings
        self._between = between
        self._dice = [random.Random(client) for client in range(clients)]
        self._numbers: Counter[int] = Counter()
        self.told: set[tuple[int, int]] = set()
        self.unsure: set[tuple[int, int]] = set()
        self.errors: list[str] = []

    def connect(self, name: str) -> psycopg.Connection[Any]:
        session: psycopg.Connection[Any] = self._end.connect(application_name="client")
        if self._settings:
            session.execute(self._settings)
        return session

    def transaction(self, session: psycopg.Connection[Any], name: str) -> None:
        client = int(name)
        self._numbers[client] += 1
        self._write(session, self._dice[client], client, self._numbers[client])
        time.sleep(self._dice[client].random() * self._between)

    def failed(self, name: str, error: psycopg.Error) -> None:
        """Remember what no stop or crash of the server explains; a client whose statement was refused ends."""
        refused = not isinstance(error, psycopg.OperationalError)
        if refused or (error.sqlstate and error.sqlstate[:2] not in ("57", "08", "40")):
            self.errors.append(str(error))
        if refused:
            raise WritesNoMore

    def _write(self, connection: psycopg.Connection[Any], dice: random.Random, client: int, number: int) -> None:
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
