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

REFUSED = ("42501", "57P01", "57P02", "57P03", "08006", None)
"""What the fence does to a session: its rights are taken, it is ended, it cannot come back."""

CAUGHT = "tuple concurrently updated"
"""What a TRUNCATE gets that meets the REVOKE of the fence in pg_class: of two at once one has to give way."""


class Trading:
    """One session a role, each in a thread; C(used) gathers every value that a sequence gave, C(commits) counts."""

    def __init__(self, end: Any, roles: dict[str, str], owner: str) -> None:
        self.end, self.roles, self.owner = end, roles, owner
        self.used: dict[str, set[int]] = defaultdict(set)
        self.commits = 0
        self.refused: set[str] = set()
        self.unexpected: list[str] = []
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._trade, args=(role,), daemon=True) for role in roles]

    def __enter__(self) -> Trading:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *dummy: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(20)

    def _trade(self, role: str) -> None:
        dice = random.Random(role)
        while not self._stop.is_set():
            try:
                with contextlib.closing(self.end.connect(user=role, password=self.roles[role])) as session:
                    while not self._stop.wait(0.02):
                        self._transaction(session, dice, role)
            except psycopg.Error as exc:
                with self._lock:
                    if exc.sqlstate in REFUSED:
                        self.refused.add(role)
                    elif CAUGHT not in str(exc):
                        self.unexpected.append(f"{role}: {exc.sqlstate} {exc}")
                self._stop.wait(0.2)

    def _transaction(self, session: psycopg.Connection[Any], dice: random.Random, role: str) -> None:
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
