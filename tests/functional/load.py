# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writers at the source of a Streaming, their tables, and the comparison at the end."""

from __future__ import annotations

import contextlib
import random
import threading
import time

import psycopg
from functional.streaming import Streaming
from functional.witness import assert_identical

from .conftest import Pair

LOADED = """
CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL, note text);
CREATE TABLE entry (id bigserial PRIMARY KEY, account int NOT NULL, delta int NOT NULL);
CREATE TABLE log (line text);
ALTER TABLE log REPLICA IDENTITY FULL;
INSERT INTO account SELECT n, 0, repeat('n', 50) FROM generate_series(1, 200) n;
"""


class Load:
    """Writers at the source until told to stop; they survive a restart of it."""

    def __init__(self, pair: Pair, writers: int = 3, settings: str = "") -> None:
        self._pair = pair
        self._settings = settings
        self._stop = threading.Event()
        self.transactions = 0
        self._threads = [threading.Thread(target=self._write, args=(n,)) for n in range(writers)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *dummy: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _write(self, number: int) -> None:
        chance = random.Random(number)
        while not self._stop.is_set():
            try:
                with self._pair.source.connect() as connection:
                    connection.execute(self._settings or "SELECT 1")
                    while not self._stop.is_set():
                        self._transaction(connection, chance)
                        time.sleep(0.002)
            except psycopg.OperationalError:
                time.sleep(0.1)

    def _transaction(self, connection: psycopg.Connection[tuple[object, ...]], chance: random.Random) -> None:
        account, delta = chance.randint(1, 200), chance.randint(-100, 100)
        with connection.transaction():
            connection.execute("UPDATE account SET balance = balance + %s WHERE id = %s", [delta, account])
            connection.execute("INSERT INTO entry (account, delta) VALUES (%s, %s)", [account, delta])
            with contextlib.suppress(psycopg.errors.DivisionByZero), connection.transaction():
                connection.execute("INSERT INTO log VALUES ('never')")
                connection.execute("SELECT 1 / 0")
            connection.execute("INSERT INTO log VALUES (%s)", [f"line {chance.randint(1, 50)}"])
            if chance.random() < 0.1:
                connection.execute(
                    "DELETE FROM log WHERE ctid IN (SELECT ctid FROM log LIMIT 1 FOR UPDATE SKIP LOCKED)"
                )
            if chance.random() < 0.05:
                connection.execute("DELETE FROM entry WHERE account = %s", [account])
        self.transactions += 1


def identical(streaming: Streaming) -> None:
    streaming.drain(120)
    assert_identical(streaming.pair, ["public"])
    balances = "SELECT count(*), sum(balance) FROM account"
    assert streaming.pair.source.query(balances) == streaming.pair.destination.query(balances)
