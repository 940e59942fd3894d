# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writers at the source of a Streaming, their tables, and the comparison at the end."""

from __future__ import annotations

import contextlib
import random
import time
from typing import Any

import psycopg
from support.clusters.pairs import Pair
from support.harness.streaming import Streaming
from support.loads.writers import Writers
from support.witness import assert_identical

LOADED = """
CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL, note text);
CREATE TABLE entry (id bigserial PRIMARY KEY, account int NOT NULL, delta int NOT NULL);
CREATE TABLE log (line text);
ALTER TABLE log REPLICA IDENTITY FULL;
INSERT INTO account SELECT n, 0, repeat('n', 50) FROM generate_series(1, 200) n;
"""


class AccountLoad(Writers):
    """Writers at the source; they survive a restart of it."""

    def __init__(self, pair: Pair, writers: int = 3, settings: str = "") -> None:
        super().__init__([str(number) for number in range(writers)])
        self._pair = pair
        self._settings = settings
        self._chances = {str(number): random.Random(number) for number in range(writers)}
        self.transactions = 0

    def connect(self, name: str) -> psycopg.Connection[Any]:
        connection: psycopg.Connection[Any] = self._pair.source.connect()
        connection.execute(self._settings or "SELECT 1")
        return connection

    def transaction(self, session: psycopg.Connection[Any], name: str) -> None:
        self._write(session, self._chances[name])
        time.sleep(0.002)

    def failed(self, name: str, error: psycopg.Error) -> None:
        if not isinstance(error, psycopg.OperationalError):
            raise error

    def _write(self, connection: psycopg.Connection[Any], chance: random.Random) -> None:
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
