# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A write load on schema sales of a Moved, by its writers, until the fence stops it."""

from __future__ import annotations

import time
from typing import Any

import psycopg
from support.loads.writers import Writers

WRITE = "INSERT INTO sales.orders (who, note) VALUES (current_user, 'x')"
WRITES = (
    WRITE,
    "UPDATE sales.stock SET amount = amount + 1 WHERE item = 1 + (random() * 50)::int",
    "DELETE FROM sales.orders WHERE id = (SELECT min(id) FROM sales.orders)",
)


class SalesLoad(Writers):
    """Three writers that write to the source until they may not any more, and reconnect at once."""

    pause = 0.01

    def __init__(self, moved: Any) -> None:
        super().__init__(moved.writers)
        self._moved = moved
        self.done: dict[str, int] = dict.fromkeys(moved.writers, 0)
        self.refused: dict[str, int] = dict.fromkeys(moved.writers, 0)
        self.longest = 0.0

    def connect(self, name: str) -> psycopg.Connection[Any]:
        session: psycopg.Connection[Any] = self._moved.connect(self._moved.pair.source, name)
        return session

    def failed(self, name: str, error: psycopg.Error) -> None:
        self.refused[name] += 1

    def transaction(self, session: psycopg.Connection[Any], name: str) -> None:
        began = time.monotonic()
        try:
            with session.transaction():
                for statement in WRITES:
                    session.execute(statement)
        finally:
            self.longest = max(self.longest, time.monotonic() - began)
        self.done[name] += 1
        time.sleep(0.002)
