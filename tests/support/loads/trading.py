# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A light write load on the database of C(lifecycle.sql), by several roles at once, until the fence stops it."""

from __future__ import annotations

import contextlib
import random
import threading
from collections import defaultdict
from typing import Any

import psycopg
from support.loads.writers import Writers

REFUSED = ("42501", "57P01", "57P02", "57P03", "08006", None)
"""What the fence does to a session: its rights are taken, it is ended, it cannot come back."""

CAUGHT = "tuple concurrently updated"
"""What a TRUNCATE gets that meets the REVOKE of the fence in pg_class: of two at once one has to give way."""


class Trading(Writers):
    """One session a role, each in a thread; C(used) gathers every value that a sequence gave, C(commits) counts."""

    pause = 0.2

    def __init__(self, end: Any, roles: dict[str, str], owner: str) -> None:
        super().__init__(roles)
        self.end, self.roles, self.owner = end, roles, owner
        self.used: dict[str, set[int]] = defaultdict(set)
        self.commits = 0
        self.refused: set[str] = set()
        self.unexpected: list[str] = []
        self._lock = threading.Lock()
        self._dice = {role: random.Random(role) for role in roles}

    def connect(self, name: str) -> psycopg.Connection[Any]:
        session: psycopg.Connection[Any] = self.end.connect(user=name, password=self.roles[name])
        return session

    def transaction(self, session: psycopg.Connection[Any], name: str) -> None:
        if not self.stopping.wait(0.02):
            self._trade(session, self._dice[name], name)

    def failed(self, name: str, error: psycopg.Error) -> None:
        with self._lock:
            if error.sqlstate in REFUSED:
                self.refused.add(name)
            elif CAUGHT not in str(error):
                self.unexpected.append(f"{name}: {error.sqlstate} {error}")

    def _trade(self, session: psycopg.Connection[Any], dice: random.Random, role: str) -> None:
        """A few changes and, one time in eight, a rollback of all of them; sequences keep what they gave."""
        drawn: list[tuple[str, int]] = []

        def ask(statement: str) -> int:
            row = session.execute(statement).fetchone()
            return int(row[0]) if row else 0

        n = dice.randrange(1, 800)
        rolls_back = dice.random() < 0.125
        with contextlib.suppress(psycopg.Rollback), session.transaction():
            order = ask(
                "INSERT INTO shop.orders (region, customer, total) VALUES "
                f"((ARRAY['eu', 'us', 'asia'])[{1 + n % 3}], {n}, {n}) RETURNING id"
            )
            drawn.append(("shop.orders_id_seq", order))
            session.execute(f"UPDATE shop.orders SET region = 'us', amount = 3 WHERE id = {order} AND region = 'eu'")
            session.execute(f"UPDATE shop.customers SET name = name || '!', state = 'paid' WHERE id = {n}")
            drawn.append(("shop.countdown", ask("SELECT nextval('shop.countdown')")))
            session.execute(f"DELETE FROM shop.orders WHERE id = {order - 7}")
            session.execute(
                f"""INSERT INTO "Lager & Büro"."Buch 50%" VALUES ('Zeile {n % 40}', {n % 3}, '2024-02-29')"""
            )
            session.execute(
                f"""UPDATE "Lager & Büro"."Ärger; --" SET "Nr." = "Nr." + 1000 WHERE "select" = 'k{n % 600}'"""
            )
            if role == self.owner and n % 5 == 0:
                session.execute("TRUNCATE shop.emptied")
                session.execute("INSERT INTO shop.emptied SELECT generate_series(1, 5)")
            if rolls_back:
                raise psycopg.Rollback
        with self._lock:
            self.commits += not rolls_back
            for sequence, value in drawn:
                self.used[sequence].add(value)
