# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random schedules of interleaved transactions with savepoints, through the worker; both ends are compared."""

from __future__ import annotations

import os
import random
from typing import Any

import psycopg
import pytest
from functional.streaming import MakeStreaming
from functional.witness import assert_identical

SEEDS = 60 if os.environ.get("HYPOTHESIS_PROFILE") == "fuzz" else 6
COLUMNS = "id int NOT NULL, part text NOT NULL, u int, n numeric, big text, doc jsonb, flags bit(4)"
TABLES = {
    "plain": ("PRIMARY KEY (id), UNIQUE (u)", "DEFAULT"),
    "whole": ("PRIMARY KEY (id, part), UNIQUE (u)", "FULL"),
    "by_index": ("PRIMARY KEY (id), UNIQUE (part, id)", "USING INDEX by_index_part_id_key"),
    "deferred": ("PRIMARY KEY (id) DEFERRABLE INITIALLY DEFERRED", "FULL"),
    "keyless": ("CHECK (id IS NOT NULL)", "FULL"),
    "counted": (
        "x int GENERATED ALWAYS AS IDENTITY, g int GENERATED ALWAYS AS (id * 2) STORED, PRIMARY KEY (id)",
        "DEFAULT",
    ),
}
OWN = "CREATE TYPE mood AS ENUM ('sad', 'happy'); ALTER TABLE plain ADD m mood; ALTER TABLE keyless ADD m mood;"


def tables(own_types: bool) -> str:
    made = [
        f"CREATE TABLE {name} ({COLUMNS}, {more}); ALTER TABLE {name} ALTER big SET STORAGE EXTERNAL;"
        f"ALTER TABLE {name} REPLICA IDENTITY {identity};"
        for name, (more, identity) in TABLES.items()
    ]
    return "".join(made) + (OWN if own_types else "")


def statement(chance: random.Random) -> str:
    """One that may fail, as an application's does: then its savepoint, or its transaction, is rolled back."""
    table = chance.choice(list(TABLES))
    one, other = chance.randint(1, 25), chance.randint(1, 25)
    unique = chance.choice(["NULL", str(chance.randint(1, 30))])
    big = chance.choice(["'small'", "repeat(md5(random()::text), 300)", "NULL"])
    values = (
        f"{one}, '{chance.choice('abc')}', {unique}, {chance.choice(['1.0', '1.00', 'NULL'])}, {big}, '{{}}', B'1010'"
    )
    names = "id, part, u, n, big, doc, flags"
    choices = [
        f"INSERT INTO {table} ({names}) VALUES ({values})",
        f"INSERT INTO {table} ({names}) VALUES ({values})",
        f"INSERT INTO {table} ({names}) SELECT i, 'a', NULL, i, {big}, NULL, NULL FROM generate_series({one}, {one + 6}) i",
        f"UPDATE {table} SET n = coalesce(n, 0) + 1 WHERE id = {one}",
        f"UPDATE {table} SET big = {big} WHERE id = {one}",
        f"UPDATE {table} SET id = {other} WHERE id = {one}",
        f"UPDATE {table} SET part = 'z', u = {unique} WHERE id = {one}",
        f"UPDATE {table} SET id = id + 100, u = NULL WHERE id < {one} AND id < 100",
        f"UPDATE {table} SET id = -id WHERE id BETWEEN {min(one, other)} AND {max(one, other)}",
        f"DELETE FROM {table} WHERE id = {one}",
        f"DELETE FROM {table} WHERE id > 100 OR id < 0",
        f"UPDATE {table} SET doc = '{{\"k\": {one}}}', flags = NULL WHERE part = 'a'",
    ]
    if table == "deferred":
        choices.append("UPDATE deferred SET id = id + 1")
    if chance.random() < 0.03:
        return f"TRUNCATE {table}"
    return chance.choice(choices)


class Writer:
    """One session of the application, in the middle of a transaction or between two."""

    def __init__(self, connection: psycopg.Connection[Any], chance: random.Random) -> None:
        self.connection = connection
        self.chance = chance
        connection.execute("SET lock_timeout = '20ms'")
        self.depth = 0
        self.open = False

    def step(self) -> None:
        """One statement, savepoint, rollback or commit."""
        try:
            self._step()
        except (psycopg.IntegrityError, psycopg.OperationalError):
            self.connection.execute(f"ROLLBACK TO s{self.depth}" if self.depth else "ROLLBACK")
            self.open = self.open and self.depth > 0

    def _step(self) -> None:
        if not self.open:
            self.connection.execute("BEGIN")
            self.open, self.depth = True, 0
        what = self.chance.random()
        if what < 0.12 and self.depth < 3:
            self.depth += 1
            self.connection.execute(f"SAVEPOINT s{self.depth}")
        elif what < 0.18 and self.depth:
            self.connection.execute(f"ROLLBACK TO s{self.depth}")
        elif what < 0.24 and self.depth:
            self.connection.execute(f"RELEASE s{self.depth}")
            self.depth -= 1
        elif what < 0.40:
            self.end()
        else:
            self.connection.execute(statement(self.chance))

    def end(self) -> None:
        """Commit, or now and then roll back."""
        if self.open:
            self.open, self.depth = False, 0
            self.connection.execute("COMMIT" if self.chance.random() < 0.9 else "ROLLBACK")


@pytest.mark.fuzz
@pytest.mark.parametrize("seed", range(SEEDS))
def test_random_schedules(make_streaming: MakeStreaming, seed: int) -> None:
    chance = random.Random(seed)
    streaming = make_streaming(tables(own_types=seed % 2 == 1))
    streaming.begin(batch_size=chance.choice([5, 60, 100000]), batch_age=chance.choice([0, 0.3, 2]))
    source = streaming.pair.source
    streaming.start()
    streaming.wait_state("running")
    with source.connect() as one, source.connect() as two, source.connect() as three:
        writers = [Writer(connection, chance) for connection in (one, two, three)]
        for dummy in range(6):
            streaming.want("paused" if chance.random() < 0.5 else "started")
            for dummy2 in range(150):
                chance.choice(writers).step()
            for writer in writers:
                try:
                    writer.end()
                except psycopg.errors.IntegrityError:  # a deferred constraint
                    writer.open = False
            streaming.want("started")
            streaming.drain()
            assert_identical(streaming.pair, ["public"])
    assert streaming.progress("conflicts") == 0
