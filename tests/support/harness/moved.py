# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small database of three writers, brought as far as `validated` by the modules, and the load that goes on meanwhile.

The writers: one with grants of its own, one by membership, one that owns the tables. The reader holds one right to write
a column, given by another than the owner; the outsider holds none and may call a function of the owner's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql
from support.clusters.local import Clusters
from support.clusters.pairs import End, Pair
from support.harness.module_process import ModuleProcess
from support.harness.modules import Migration, ModuleFailed
from support.harness.streaming import unpack_engine, wait_stopped
from support.loads.sales import WRITE

SCHEMA = """
CREATE SCHEMA sales AUTHORIZATION {owner};
SET ROLE {owner};
CREATE TABLE sales.orders (id bigserial PRIMARY KEY, who text NOT NULL, note text, at timestamptz DEFAULT now());
CREATE TABLE sales.stock (item int PRIMARY KEY, amount int NOT NULL, tag text);
CREATE TABLE sales.parts (id int, kind int, PRIMARY KEY (id, kind)) PARTITION BY LIST (kind);
CREATE TABLE sales.parts_1 PARTITION OF sales.parts FOR VALUES IN (1);
CREATE TABLE sales.parts_2 PARTITION OF sales.parts FOR VALUES IN (2);
INSERT INTO sales.orders (who, note) SELECT 'first', 'note ' || n FROM generate_series(1, 500) n;
INSERT INTO sales.stock SELECT n, n, NULL FROM generate_series(1, 100) n;
INSERT INTO sales.parts SELECT n, 1 + n % 2 FROM generate_series(1, 100) n;
CREATE FUNCTION sales.note(text) RETURNS void LANGUAGE sql SECURITY DEFINER
    AS 'INSERT INTO sales.orders (who, note) VALUES (''outsider'', $1)';
GRANT USAGE ON SCHEMA sales TO {plain}, {team}, {reader}, {outsider};
GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA sales TO {plain}, {team};
GRANT UPDATE (tag) ON sales.stock TO {plain} WITH GRANT OPTION;
GRANT SELECT ON ALL TABLES IN SCHEMA sales TO {reader};
GRANT INSERT ON sales.stock TO {plain} WITH GRANT OPTION;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA sales TO {plain}, {team};
RESET ROLE;
SET ROLE {plain};
GRANT INSERT ON sales.stock TO {team};
GRANT UPDATE (tag) ON sales.stock TO {reader};
RESET ROLE
"""
STEPS = [
    *("catch up", "fence", "end sessions", "mark", "drain", "sequences", "compare", "close"),
    *("disarm", "triggers", "revoke writer"),
]
# As text; a NULL ACL is the owner's default, which a GRANT writes out, and the order of entries means nothing.
ACLS = """
SELECT c.relname, '', array(SELECT i::text FROM unnest(coalesce(c.relacl, acldefault(
           CASE c.relkind WHEN 'S' THEN 's'::"char" ELSE 'r'::"char" END, c.relowner))) i ORDER BY 1)
  FROM pg_class c WHERE c.relnamespace = 'sales'::regnamespace AND c.relkind IN ('r', 'p', 'S')
 UNION ALL
SELECT c.relname, a.attname, array(SELECT i::text FROM unnest(a.attacl) i ORDER BY 1)
  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
 WHERE c.relnamespace = 'sales'::regnamespace AND a.attacl IS NOT NULL AND a.attnum > 0
 ORDER BY 1, 2
"""


@dataclasses.dataclass
class Moved:
    """A migration of schema sales at C(validated), its worker running; C(writers) are role and password by kind."""

    pair: Pair
    migration: Migration
    home: pathlib.Path
    writers: dict[str, tuple[str, str]]
    reader: tuple[str, str]
    outsider: tuple[str, str]
    acls: list[Any]

    def cut(self, **more: Any) -> dict[str, Any]:
        return self.migration.run("pg_cutover", **more)

    def refused(self, match: str, **more: Any) -> dict[str, Any]:
        """Run a cutover that must fail with a message like this; its answer."""
        with pytest.raises(ModuleFailed, match=match) as failure:
            self.cut(**more)
        return dict(failure.value.result)

    def task(self, **more: Any) -> dict[str, Any]:
        return self.migration.run(
            "pg_cdc_task", worker_home=str(self.home), worker_python=sys.executable, **{"supervisor": "none", **more}
        )

    def worker(self) -> int:
        """The worker's process."""
        return int(self.pair.destination.value("SELECT pid FROM causeway.cdc_progress"))

    def fence(self) -> str | None:
        """Return the state of the fence as the source has it, in the comment of the publication; None for none."""
        comment: str | None = self.pair.source.value(
            "SELECT obj_description(oid, 'pg_publication') FROM pg_publication WHERE pubname LIKE 'causeway%'"
        )
        return comment.removeprefix("causeway: ") if comment else None

    def connect(self, end: End, kind: str) -> psycopg.Connection[Any]:
        others = {"reader": self.reader, "outsider": self.outsider}
        role, password = {**self.writers, **others}[kind]
        return psycopg.connect(end.server.dsn(end.dbname, user=role, password=password), autocommit=True)

    def can_write(self, end: End, kind: str) -> str:
        """What an INSERT of this writer's on a new connection ends with: a SQLSTATE, empty when it is done."""
        try:
            with self.connect(end, kind) as conn:
                conn.execute(WRITE)
        except psycopg.Error as exc:
            return exc.sqlstate or "no connection"
        return ""

    def assert_writable(self, within: float = 10) -> float:
        """Every writer can write to the source again, soon, with exactly the rights that it had; the seconds it took."""
        began = time.monotonic()
        while any(self.can_write(self.pair.source, kind) for kind in self.writers):
            assert time.monotonic() - began < within, f"still fenced: {self.fence()}"
            time.sleep(0.05)
        took = time.monotonic() - began
        assert self.pair.source.query(ACLS) == self.acls
        return took

    def assert_fenced(self) -> None:
        """No writer can write to the source."""
        assert {kind: self.can_write(self.pair.source, kind) for kind in self.writers} == dict.fromkeys(
            self.writers, "42501"
        )

    def break_at(self, place: str, **more: Any) -> ModuleProcess:
        """A cutover that has stopped at a break point; it is a process group of its own."""
        os.environ["CAUSEWAY_FAILPOINT"] = place
        try:
            process = self.migration.start("pg_cutover", **more)
        finally:
            del os.environ["CAUSEWAY_FAILPOINT"]
        wait_stopped(process, place)
        return process

    def release(self) -> dict[str, Any]:
        """The steps of the release role; the answer of the last."""
        self.task(state="absent")
        for module in ("pg_repl_slot", "pg_publication", "pg_replica_identity"):
            self.migration.run(module, state="absent")
        return self.cut(state="released")

    def assert_released(self) -> None:
        """Nothing of ours stands at either end."""
        for end in self.pair.ends:
            assert end.value("SELECT count(*) FROM pg_namespace WHERE nspname = 'causeway'") == 0
        assert self.pair.source.value("SELECT count(*) FROM pg_publication") == 0
        slots = "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()"
        assert self.pair.source.value(slots) == 0

    def reconnect(self) -> None:
        self.pair = self.pair.reconnect()

    def close(self) -> None:
        with contextlib.suppress(ModuleFailed, RuntimeError):
            self.task(state="absent", stop_timeout=5)


def kill(process: ModuleProcess) -> None:
    """kill -9 of a module and all of its group."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=10)


MakeMoved = Callable[..., Moved]


def _run(end: End, statement: str, **names: str) -> None:
    end.sql.execute(sql.SQL(statement).format(**{key: sql.Identifier(name) for key, name in names.items()}))


@pytest.fixture
def make_moved(
    make_role: Callable[..., tuple[str, str]],
    make_pair: Callable[..., Pair],
    clusters: Clusters,
    tmp_path: pathlib.Path,
) -> Iterator[MakeMoved]:
    """C(make_moved(**what make_pair takes)): a migration at C(validated). C(prepare) may change the pair before it begins."""
    made: list[Moved] = []

    def make(extra: str = "", prepare: Callable[[Pair], Pair] | None = None, **versions: Any) -> Moved:
        pair = make_pair(**versions)
        plain, member, owner, reader, outsider = (make_role(pair) for dummy in range(5))
        team = make_role(pair, "NOLOGIN")
        for end in pair.ends:
            _run(end, "GRANT {team} TO {member}", team=team[0], member=member[0])
        names = {
            "plain": plain[0],
            "member": member[0],
            "owner": owner[0],
            "team": team[0],
            "reader": reader[0],
            "outsider": outsider[0],
        }
        _run(pair.source, SCHEMA + (";" + extra if extra else ""), **names)
        pair = prepare(pair) if prepare is not None else pair
        migration = Migration(
            f"cut_{secrets.token_hex(3)}",
            pair.source.endpoint,
            pair.destination.endpoint,
            [{"schema": "sales"}],
            clients=clusters.bin_dir("18"),
        )
        home = tmp_path / pair.source.dbname
        unpack_engine(home)
        writers = {"plain": plain, "member": member, "owner": owner}
        moved = Moved(pair, migration, home, writers, reader, outsider, pair.source.query(ACLS))
        made.append(moved)
        more: dict[str, Any] = {"client_bin": clusters.bin_dir("18")}
        for module, options in (
            ("pg_replica_identity", {}),
            ("pg_publication", {}),
            ("pg_repl_slot", {}),
            ("pg_schema_sync", {"section": "pre_data", **more}),
            ("pg_full_copy", {}),
            ("pg_schema_sync", {"section": "keys", **more}),
        ):
            migration.run(module, **options)
        moved.task(wait="caught_up")
        migration.run("pg_schema_sync", section="indexes", **more)
        migration.run("pg_schema_sync", section="foreign_keys", **more)
        migration.run("pg_data_validate")
        return moved

    yield make
    for moved in made:
        moved.close()


@pytest.fixture
def moved(make_moved: MakeMoved) -> Moved:
    return make_moved()
