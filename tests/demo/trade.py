# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a session of the shop's application does: one small transaction after the other, drawn by weight.

Between them they do what makes replication hard: updates of keys, of rows whose large values stay as they are, rows
that exchange keys, rolled back savepoints, transactions that begin before and commit after others, rows that move
between partitions, deferred cycles, deferrable keys shifted by one, truncation.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable
from typing import Any

import psycopg

Cursor = psycopg.Cursor[Any]
Used = list[tuple[str, int]]
REGIONS = ("eu", "uk", "us", "asia")


class Rollback(Exception):
    """The transaction is given up on purpose."""


class Trader:
    """The transactions of one session. C(number) keeps the rows that it makes apart from those of other sessions."""

    def __init__(self, number: int, role: str) -> None:
        self.number = number
        self.owner = role == "shop_owner"
        self.random = random.Random(4711 + number)
        self.ids = (200_000_000 + 16 * n + number for n in itertools.count())
        self.doing = ""
        self.used: Used = []
        self.may_truncate = True
        self._forget()
        deeds: list[tuple[int, Callable[[Cursor], None]]] = [
            (50, self.order),
            (12, self.change_order),
            (8, self.move_order),
            (14, self.new_customer),
            (14, self.change_customer),
            (8, self.lose_customer),
            (40, self.tpcb),
            (12, self.retitle_document),
            (3, self.rewrite_document),
            (4, self.renumber_document),
            (12, self.swap_seats),
            (10, self.change_mind),
            (3, self.take_time),
            (14, self.voucher),
            (14, self.every_type),
            (12, self.shelf),
            (1, self.turn_queue),
            (1, self.bulk),
            (4, self.found_department),
            (6, self.draw_numbers),
            (6, self.give_up),
            (8, self.pulse),
        ]
        if self.owner:
            deeds += [(2, self.shift_ranking), (1, self.clear_notices)]
        self.deeds = [deed for _weight, deed in deeds]
        self.weights = list(itertools.accumulate(weight for weight, _deed in deeds))

    def moved(self) -> None:
        """The application is at another database. It truncates no more: a truncation is seen by every snapshot, and
        the witness looks at the new database through one that was taken before the application came."""
        self.may_truncate = False
        self._forget()

    def _forget(self) -> None:
        self.orders: list[tuple[int, str, Any]] = []
        self.customers: list[int] = []
        self.codes: list[tuple[str, int]] = []
        self.departments: list[int] = []
        self.shelves: list[int] = []

    def trade(self, connection: psycopg.Connection[Any]) -> tuple[str, Used]:
        """Do one transaction and commit it: what it was, and the values of sequences that it used."""
        (deed,) = self.random.choices(self.deeds, cum_weights=self.weights)
        self.doing, self.used = deed.__name__, []
        try:
            with connection.cursor() as cursor:
                deed(cursor)
            connection.commit()
        except Rollback:
            connection.rollback()
        return self.doing, self.used

    def _take(self, sequence: str, value: int) -> int:
        self.used.append((sequence, value))
        return value

    def _one(self, cursor: Cursor, query: str, values: Any = ()) -> tuple[Any, ...]:
        row = cursor.execute(query, values).fetchone()
        return () if row is None else tuple(row)

    def _pick(self, rows: list[Any]) -> Any:
        del rows[:-200]
        return rows[self.random.randrange(len(rows))] if rows else None

    # --- orders and stock ---

    def order(self, cursor: Cursor) -> None:
        region, days = self.random.choice(REGIONS), self.random.randrange(1000)
        row = self._one(
            cursor,
            "INSERT INTO shop.orders (region, placed_at, customer_id, total) "
            "VALUES (%s, timestamp '2024-01-01' + %s * interval '1 day 1.5 s', %s, %s) RETURNING id, receipt, placed_at",
            (region, days, self.random.randint(1, 100_000), self.random.random() * 1000),
        )
        order = self._take("shop.orders_id_seq", row[0])
        self._take("shop.receipt_number", row[1])
        for line in range(2):
            sku = self._sku()
            cursor.execute(
                "INSERT INTO shop.order_lines (order_id, line, sku, quantity, price) VALUES (%s, %s, %s, %s, %s)",
                (order, line, sku, self.random.randrange(9), 9.99),
            )
        cursor.execute(
            "UPDATE shop.stock SET amount = amount - 1, moved_at = clock_timestamp() WHERE sku = %s", (self._sku(),)
        )
        self.orders.append((order, region, row[2]))

    def _sku(self) -> str:
        return f"SKU-{self.random.randint(1, 10_000):06d}"

    def change_order(self, cursor: Cursor) -> None:
        known = self._pick(self.orders)
        if known:
            cursor.execute(
                "UPDATE shop.orders SET state = 'paid', comment = NULL WHERE id = %s AND region = %s AND placed_at = %s",
                known,
            )
            cursor.execute("UPDATE shop.order_lines SET quantity = quantity + 1 WHERE order_id = %s", known[:1])

    def move_order(self, cursor: Cursor) -> None:
        """An update that takes the row into another partition."""
        if self.orders:
            order, region, placed_at = self.orders.pop()
            other = self.random.choice([name for name in REGIONS if name != region])
            cursor.execute(
                "UPDATE shop.orders SET region = %s WHERE id = %s AND region = %s AND placed_at = %s",
                (other, order, region, placed_at),
            )
            self.orders.insert(0, (order, other, placed_at))

    def bulk(self, cursor: Cursor) -> None:
        first = self.random.randint(1, 200_000)
        cursor.execute(
            "UPDATE shop.order_lines SET price = price + 0.01 WHERE order_id BETWEEN %s AND %s", (first, first + 300)
        )

    def take_time(self, cursor: Cursor) -> None:
        """Begin early, commit late: others come in between."""
        cursor.execute("INSERT INTO shop.notices (said) VALUES ('slow')")
        time.sleep(0.05 + self.random.random() * 0.2)
        cursor.execute("UPDATE shop.stock SET amount = amount + 10 WHERE sku = %s", (self._sku(),))

    # --- customers ---

    def new_customer(self, cursor: Cursor) -> None:
        (number,) = self._one(
            cursor,
            "INSERT INTO shop.customers (email, name, mood, home, tags, profile) VALUES (%s, %s, 'glücklich', "
            "ROW('New street', '1 b', NULL, point(1, 2))::shop.address, %s, '{\"new\": true}') RETURNING id",
            (f"New{next(self.ids)}@Example.org", "Ñew cüstomer", ["a", None, "c,d"]),
        )
        self.customers.append(self._take("shop.customers_id_seq", number))
        cursor.execute(
            'INSERT INTO "Lager & Büro".invoices (id, customer_id, amount, due, lines) '
            "VALUES (gen_random_uuid(), %s, 12.50, current_date, '{\"a\":  1}')",
            (number,),
        )

    def change_customer(self, cursor: Cursor) -> None:
        cursor.execute(
            "UPDATE shop.customers SET profile = profile || jsonb_build_object('seen', clock_timestamp()), mood = 'sad' "
            "WHERE id = %s",
            (self.random.randint(1, 100_000),),
        )

    def lose_customer(self, cursor: Cursor) -> None:
        """The invoices go by cascade."""
        if self.customers:
            cursor.execute("DELETE FROM shop.customers WHERE id = %s", (self.customers.pop(),))

    # --- pgbench ---

    def tpcb(self, cursor: Cursor) -> None:
        account, delta = self.random.randint(1, 100_000), self.random.randint(-5000, 5000)
        teller, branch = self.random.randint(1, 10), 1 + self.number % 2
        cursor.execute("UPDATE pgbench_accounts SET abalance = abalance + %s WHERE aid = %s", (delta, account))
        cursor.execute("UPDATE pgbench_tellers SET tbalance = tbalance + %s WHERE tid = %s", (delta, teller))
        cursor.execute("UPDATE pgbench_branches SET bbalance = bbalance + %s WHERE bid = %s", (delta, branch))
        cursor.execute(
            "INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (%s, %s, %s, %s, current_timestamp)",
            (teller, branch, account, delta),
        )

    # --- large values ---

    def _document(self) -> int:
        """Sessions keep to documents of their own, so that renumbering does not lose them."""
        return self.random.randrange(37) * 16 + self.number + 1

    def retitle_document(self, cursor: Cursor) -> None:
        document = self._document()
        cursor.execute(
            "UPDATE shop.documents SET title = %s WHERE id IN (%s, %s)",
            (f"Title {self.random.random()}", document, document + 1_000_000),
        )

    def rewrite_document(self, cursor: Cursor) -> None:
        document = self._document()
        cursor.execute(
            "UPDATE shop.documents SET body = repeat(md5(%s::text), 400), meta = NULL WHERE id IN (%s, %s)",
            (self.random.random(), document, document + 1_000_000),
        )
        cursor.execute("UPDATE shop.documents SET title = title || '.' WHERE id = %s", (document,))

    def renumber_document(self, cursor: Cursor) -> None:
        """A new key for a row whose large values are not sent again."""
        document = self._document()
        cursor.execute(
            "UPDATE shop.documents SET id = CASE WHEN id > 1000000 THEN id - 1000000 ELSE id + 1000000 END "
            "WHERE id IN (%s, %s)",
            (document, document + 1_000_000),
        )

    # --- keys ---

    def swap_seats(self, cursor: Cursor) -> None:
        one, other = sorted(self.random.sample(range(1, 401), 2))
        both = "SELECT seat FROM shop.seats WHERE seat IN (%s, %s) ORDER BY seat FOR UPDATE"
        if len(cursor.execute(both, (one, other)).fetchall()) != 2:
            raise Rollback
        cursor.execute("UPDATE shop.seats SET seat = -seat WHERE seat = %s", (one,))
        cursor.execute("UPDATE shop.seats SET seat = %s WHERE seat = %s", (one, other))
        cursor.execute("UPDATE shop.seats SET seat = %s, since = clock_timestamp() WHERE seat = %s", (other, -one))

    def voucher(self, cursor: Cursor) -> None:
        code, campaign = f"N-{next(self.ids)}", self.random.randrange(5)
        cursor.execute(
            "INSERT INTO shop.vouchers VALUES (%s, %s, '1.50', daterange(current_date, NULL))", (code, campaign)
        )
        self.codes.append((code, campaign))
        known = self._pick(self.codes)
        cursor.execute("UPDATE shop.vouchers SET worth = worth + '0.01' WHERE code = %s AND campaign = %s", known)
        if len(self.codes) > 20:
            old = self.codes.pop(0)
            cursor.execute("UPDATE shop.vouchers SET campaign = campaign + 10 WHERE code = %s AND campaign = %s", old)
            cursor.execute("DELETE FROM shop.vouchers WHERE code = %s AND campaign = %s", self.codes.pop(0))

    def turn_queue(self, cursor: Cursor) -> None:
        """Every row takes the place of another one: unique again only when the statement ends."""
        cursor.execute("UPDATE shop.queue SET place = 201 - place")

    def shift_ranking(self, cursor: Cursor) -> None:
        """A deferrable primary key, moved by one: each row takes the key of the next."""
        cursor.execute(
            "UPDATE shop.ranking SET place = place + CASE WHEN (SELECT min(place) FROM shop.ranking) = 1 THEN 1 ELSE -1 END"
        )

    # --- types ---

    def every_type(self, cursor: Cursor) -> None:
        row, what = self.random.randint(1, 2000), self.random.randrange(3)
        if what == 0:
            cursor.execute(
                "UPDATE shop.every_type SET c_numeric = c_numeric * 1.10, c_float8 = random(), c_bytea = c_bytea || '\\x00', "
                "c_ints = array_append(c_ints, 7), c_timestamptz = clock_timestamp(), c_interval = c_interval + '1 s', "
                "c_varbit = c_varbit || B'1', c_moods = array_append(c_moods, 'happy'), c_bool = NULL WHERE id = %s",
                (row,),
            )
        elif what == 1:
            cursor.execute(
                "UPDATE shop.every_type SET c_xml = '<b/>', c_json = '{\"x\":  1.0}', c_money = c_money + '1', "
                "c_address = ROW('a', 'b', NULL, point(0, 0))::shop.address, c_prices = 'empty', c_mood = NULL, "
                "c_int4multirange = '{}', c_texts = c_texts || '{x,NULL}', c_tsvector = 'a:1 b', c_regclass = 'shop.orders' "
                "WHERE id = %s",
                (row,),
            )
        else:
            number = next(self.ids)
            cursor.execute(
                "INSERT INTO shop.every_type (id, c_text, c_numeric, c_jsonb, c_timetz, c_char) "
                "VALUES (%s, E'tab\\t', 'NaN', '[1.0]', '01:02:03+04', 'z')",
                (number,),
            )
            cursor.execute("UPDATE shop.every_type SET id = id + 8 WHERE id = %s", (number,))
            if self.random.random() < 0.5:
                cursor.execute("DELETE FROM shop.every_type WHERE id = %s", (number + 8,))

    def shelf(self, cursor: Cursor) -> None:
        article, palette = self._one(
            cursor,
            'INSERT INTO "Lager & Büro"."Bestände" ("select", "Größe", "日本語") VALUES (\'neu\', 1.50, \'新しい\') '
            'RETURNING "Artikel Nr.", "Palette"',
        )
        self._take('"Lager & Büro"."Bestände_Artikel Nr._seq"', article)
        self._take('"Lager & Büro"."Palette Nr."', palette)
        self.shelves.append(article)
        cursor.execute(
            'UPDATE "Lager & Büro"."Bestände" SET "Größe" = "Größe" + 1, "a""b" = NULL WHERE "Artikel Nr." = %s',
            (self._pick(self.shelves),),
        )

    # --- transactions ---

    def change_mind(self, cursor: Cursor) -> None:
        """Savepoints: one rolled back, one kept, one inside of the other."""
        sku = self._sku()
        cursor.execute("UPDATE shop.products SET attributes = '{\"a\": 1}' WHERE sku = %s", (sku,))
        cursor.execute("SAVEPOINT one")
        cursor.execute("DELETE FROM shop.stock_log WHERE id = (SELECT min(id) FROM shop.stock_log)")
        cursor.execute("INSERT INTO shop.notices (said) VALUES ('never seen')")
        cursor.execute("ROLLBACK TO SAVEPOINT one")
        cursor.execute("SAVEPOINT two")
        cursor.execute("INSERT INTO shop.notices (said) VALUES ('kept')")
        cursor.execute("SAVEPOINT three")
        cursor.execute("INSERT INTO shop.notices (said) VALUES ('kept, inside')")
        cursor.execute("RELEASE SAVEPOINT two")

    def give_up(self, cursor: Cursor) -> None:
        cursor.execute("INSERT INTO shop.notices (said) VALUES ('never committed')")
        cursor.execute("UPDATE shop.stock SET amount = 0 WHERE sku = %s", (self._sku(),))
        raise Rollback

    def found_department(self, cursor: Cursor) -> None:
        """Two rows that need each other, checked at commit."""
        number = next(self.ids)
        cursor.execute("INSERT INTO shop.departments VALUES (%s, 'New', %s)", (number, number))
        cursor.execute("INSERT INTO shop.employees VALUES (%s, 'Head', %s, NULL)", (number, number))
        self.departments.append(number)
        if len(self.departments) > 5:
            old = self.departments.pop(0)
            cursor.execute("DELETE FROM shop.departments WHERE id = %s", (old,))
            cursor.execute("DELETE FROM shop.employees WHERE id = %s", (old,))

    def draw_numbers(self, cursor: Cursor) -> None:
        down, receipt, shift = self._one(
            cursor, "SELECT nextval('shop.countdown'), nextval('shop.receipt_number'), nextval('shop.shift_of_day')"
        )
        if not 1 <= shift <= 3:
            raise ValueError(shift)
        self._take("shop.countdown", down)
        self._take("shop.receipt_number", receipt)
        self.pulse(cursor)

    def clear_notices(self, cursor: Cursor) -> None:
        cursor.execute("TRUNCATE shop.notices" if self.may_truncate else "DELETE FROM shop.notices WHERE id % 2 = 0")
        cursor.execute("INSERT INTO shop.notices (said) SELECT 'after truncation ' || n FROM generate_series(1, 10) n")

    def pulse(self, cursor: Cursor) -> None:
        (number,) = self._one(cursor, "INSERT INTO shop.pulse DEFAULT VALUES RETURNING id")
        self._take("shop.pulse_id_seq", number)
