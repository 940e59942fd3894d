# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shop's customers: a write load by three roles, which follows the database to its new home.

Run as C(load.py CONFIG). The configuration is a JSON file that only its owner can read:
C({"source": {"host", "port", "dbname"}, "destination": {…}, "roles": [{"user", "password"}], "watcher": {…},
"migration", "rate", "sessions", "sabotage", "status"}). The load ends with SIGTERM, or with the process that started it.

What it does when the cutover comes: a session that is refused (42501) or ended (57P01) keeps trying at the source, so
that it goes on there when the fence is lifted again. A controller watches the migration's own state at the destination,
as a pooler's hook would be told; once the destination is open, it keeps a snapshot of it for the witness and lets the
sessions go there. The pause is what the sessions saw: from the last commit at the source to the first at the
destination.

The status file, written a few times a second: C({"state": "source" | "refused" | "destination" | "stopped",
"commits": {end: n}, "rate", "pause_ms", "pause_by_role_ms", "snapshot", "errors", "unexpected", "used"}).
"""

from __future__ import annotations

import json
import os
import pathlib
import signal
import sys
import threading
import time
from collections import Counter
from typing import Any

import psycopg
from psycopg import sql

try:
    from . import trade
except ImportError:  # run as a program
    import trade  # type: ignore[no-redef, import-not-found]

# The fence (no privilege, session ended, read only), a server that stops or starts; everything without a SQLSTATE is
# a lost connection.
REFUSALS = frozenset({"42501", "57P01", "57P02", "57P03", "25006", "08006", "08001", "08003", None})
# What an application that runs beside others expects, and simply does again.
COLLISIONS = frozenset({"40P01", "40001", "23505", "55P03"})
PROBE = "INSERT INTO shop.pulse DEFAULT VALUES RETURNING id"
SABOTAGE = "UPDATE shop.products SET name = name || ' (changed)' WHERE sku = 'SKU-000042'"


class Shared:
    """What the threads tell each other; everything under one lock."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.lock = threading.Lock()
        self.stop = threading.Event()
        self.released = threading.Event()
        self.commits: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.unexpected: list[str] = []
        self.refused: set[str] = set()
        self.last_at_source: dict[str, float] = {}
        self.first_at_destination: dict[str, float] = {}
        self.used: dict[str, set[int]] = {}
        self.used_twice: Counter[str] = Counter()
        self.snapshot: str | None = None
        self.released_at: str | None = None

    def committed(self, end: str, role: str, used: list[tuple[str, int]]) -> None:
        now = time.monotonic()
        with self.lock:
            self.commits[end] += 1
            if end == "source":
                self.last_at_source[role] = now
            else:
                self.first_at_destination.setdefault(role, now)
            for sequence, value in used:
                values = self.used.setdefault(sequence, set())
                if value in values:
                    self.used_twice[sequence] += 1
                values.add(value)

    def failed(self, error: BaseException, doing: str) -> None:
        state = getattr(error, "sqlstate", None)
        with self.lock:
            self.errors[state or "connection"] += 1
            if state not in REFUSALS | COLLISIONS and len(self.unexpected) < 20:
                first = (str(error).splitlines() or [""])[0]
                self.unexpected.append(f"{doing}: {state} {first}")

    def pauses(self) -> dict[str, float]:
        """Milliseconds without a write, by role, for those that have come through."""
        return {
            role: round((first - self.last_at_source[role]) * 1000, 1)
            for role, first in self.first_at_destination.items()
            if role in self.last_at_source
        }

    def status(self, rate: float) -> dict[str, Any]:
        with self.lock:
            pauses = self.pauses()
            overall = None
            if self.first_at_destination and self.last_at_source:
                overall = min(self.first_at_destination.values()) - max(self.last_at_source.values())
            everybody = len(self.first_at_destination) == len(self.config["roles"])
            return {
                "state": self._state(),
                "commits": dict(self.commits),
                "rate": round(rate, 1),
                "pause_ms": max(pauses.values()) if everybody and pauses else None,
                "pause_overall_ms": None if overall is None else round(overall * 1000, 1),
                "pause_by_role_ms": pauses,
                "snapshot": self.snapshot,
                "released_at": self.released_at,
                "errors": dict(self.errors),
                "unexpected": self.unexpected,
                "used": {
                    name: {"min": min(values), "max": max(values), "count": len(values)}
                    for name, values in self.used.items()
                },
                "used_twice": dict(self.used_twice),
            }

    def _state(self) -> str:
        if self.stop.is_set():
            return "stopped"
        if self.first_at_destination:
            return "destination"
        return "refused" if self.refused else "source"


def connect(config: dict[str, Any], end: str, who: dict[str, Any], **other: Any) -> psycopg.Connection[Any]:
    """A session of one role at one end; no session of the load waits for ever."""
    return psycopg.connect(
        **{**config[end], **who, "connect_timeout": 5, "application_name": f"shop {who['user']}", **other}
    )


class Session(threading.Thread):
    """One of the application's connections."""

    def __init__(self, shared: Shared, number: int, who: dict[str, Any], rate: float) -> None:
        super().__init__(name=f"{who['user']}-{number}", daemon=True)
        self.shared = shared
        self.who = who
        self.interval = 1.0 / rate
        self.trader = trade.Trader(number, who["user"])
        self.end = "source"
        self.connection: psycopg.Connection[Any] | None = None

    def run(self) -> None:
        due = time.monotonic()
        while not self.shared.stop.is_set():
            due = max(due + self.interval, time.monotonic() - 0.5)  # no burst after a stall
            self.shared.stop.wait(max(0.0, due - time.monotonic()))
            self.one()
        self.close()

    def close(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.close()

    def one(self) -> None:
        """One transaction, wherever the application is at home now."""
        doing = "connect"
        try:
            if self.connection is None:
                self.connection = connect(self.shared.config, self.end, self.who)
            doing, used = self.trader.trade(self.connection)
            self.shared.committed(self.end, self.who["user"], used)
        except psycopg.Error as error:
            doing = self.trader.doing if doing == "connect" and self.connection is not None else doing
            self.shared.failed(error, doing)
            self.after(error)

    def after(self, error: psycopg.Error) -> None:
        """Roll back and go on, or, when the database does not want us any more, wait for the one that does."""
        if error.sqlstate not in REFUSALS and self.connection is not None and not self.connection.closed:
            self.connection.rollback()
            return
        self.close()
        if self.end == "destination":
            self.shared.stop.wait(0.02)
            return
        with self.shared.lock:
            self.shared.refused.add(self.name)
        while not self.shared.stop.is_set():
            if self.shared.released.wait(0.1):
                self.end = "destination"
                self.trader.moved()
                break
            if self.source_takes_writes():
                break
        with self.shared.lock:
            self.shared.refused.discard(self.name)

    def source_takes_writes(self) -> bool:
        try:
            if self.connection is None:
                self.connection = connect(self.shared.config, "source", self.who)
            row = self.connection.execute(PROBE).fetchone()
            self.connection.commit()
        except psycopg.Error as error:
            self.shared.failed(error, "probe")
            if self.connection is not None and (self.connection.closed or error.sqlstate != "42501"):
                self.close()
            elif self.connection is not None:
                self.connection.rollback()
            return False
        self.shared.committed("source", self.who["user"], [("shop.pulse_id_seq", row[0])] if row else [])
        return True


class Controller(threading.Thread):
    """Watches for the opening of the destination, in the way that a hook for a pooler would be told of it."""

    def __init__(self, shared: Shared) -> None:
        super().__init__(name="controller", daemon=True)
        self.shared = shared
        self.holder: psycopg.Connection[Any] | None = None

    def run(self) -> None:
        connection: psycopg.Connection[Any] | None = None
        while not self.shared.stop.wait(0.05):
            try:
                if connection is None or connection.closed:
                    watcher = self.shared.config["watcher"]
                    connection = connect(self.shared.config, "destination", watcher, autocommit=True)
                if self.is_open(connection):
                    self.release(connection)
                    break
            except psycopg.Error as error:
                self.shared.failed(error, "watch")
        self.shared.stop.wait()
        for held in (connection, self.holder):
            if held is not None:
                held.close()

    def is_open(self, connection: psycopg.Connection[Any]) -> bool:
        config = self.shared.config
        table = sql.Identifier(config.get("state_schema", "causeway"), "migration")
        query = sql.SQL("SELECT opened_at IS NOT NULL FROM {} WHERE name = %s").format(table)
        try:
            row = connection.execute(query, [config["migration"]]).fetchone()
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
            return False  # nothing has begun yet
        return bool(row and row[0])

    def release(self, connection: psycopg.Connection[Any]) -> None:
        """Keep what the destination holds at this moment, before anybody writes to it, and let the sessions go."""
        if self.shared.config.get("sabotage"):
            connection.execute(SABOTAGE)
        self.holder = connect(self.shared.config, "destination", self.shared.config["watcher"])
        self.holder.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        row = self.holder.execute("SELECT pg_export_snapshot()").fetchone()
        with self.shared.lock:
            self.shared.snapshot = row[0] if row else None
            self.shared.released_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.shared.released.set()


def write_status(path: pathlib.Path, status: dict[str, Any]) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(status), encoding="utf-8")
    partial.replace(path)


def main(config_file: str) -> int:
    config: dict[str, Any] = json.loads(pathlib.Path(config_file).read_text(encoding="utf-8"))
    shared = Shared(config)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_ignored: shared.stop.set())
    sessions_each = config.get("sessions", 2)
    total = sessions_each * len(config["roles"])
    threads: list[threading.Thread] = [
        Session(shared, number, config["roles"][number % len(config["roles"])], config.get("rate", 350) / total)
        for number in range(total)
    ]
    controller = Controller(shared)
    status_file = pathlib.Path(config["status"])
    for thread in [*threads, controller]:
        thread.start()
    parent, counted, at = os.getppid(), 0, time.monotonic()
    rate = 0.0
    while not shared.stop.wait(0.2):
        now, commits = time.monotonic(), sum(shared.commits.values())
        rate = 0.8 * rate + 0.2 * (commits - counted) / (now - at) if rate else (commits - counted) / (now - at)
        counted, at = commits, now
        write_status(status_file, shared.status(rate))
        if os.getppid() != parent:
            shared.stop.set()
    for thread in [*threads, controller]:
        thread.join(10)
    write_status(status_file, shared.status(rate))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
