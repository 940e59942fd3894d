# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An account that writes by a right that no catalog shows, as a cloud's privileged account does on PolarDB 11.

A stock server has no such right: here the account has an ordinary one, and the engine is kept from seeing it. Judged by
logging in as the account and writing. No account here is a superuser.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql
from support import witness
from support.clusters.local import Clusters
from support.clusters.pairs import End, Pair
from support.harness.moved import Moved
from support.harness.programs import Programs

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cutover.execute import Limits
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cutover.plan import plan_opened
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.drift.comparison import Drift
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import ServerError
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.migration import Migration
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.names import publication_name
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.spec import spec_of
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.writers import (
    attempts,
    fence,
    grants,
    revoke,
    situation,
)

SCHEMA = """
GRANT CREATE ON DATABASE {database} TO {owner}, {mover};
CREATE SCHEMA sales AUTHORIZATION {owner};
SET ROLE {owner};
CREATE TABLE sales.orders (id int PRIMARY KEY, note text);
CREATE TABLE sales.part (id int PRIMARY KEY) PARTITION BY HASH (id);
CREATE TABLE sales.part_0 PARTITION OF sales.part FOR VALUES WITH (MODULUS 1, REMAINDER 0);
GRANT USAGE ON SCHEMA sales TO {mover}, {app};
GRANT SELECT ON ALL TABLES IN SCHEMA sales TO {mover};
RESET ROLE
"""
WAYS = {
    "member": "GRANT {owner} TO {mover}",
    "chain": "GRANT {owner} TO {team}; GRANT {team} TO {mover}",
    "public": "GRANT INSERT ON sales.orders TO PUBLIC",
    "owner and public": "ALTER TABLE sales.orders OWNER TO {mover}; GRANT INSERT ON sales.orders TO PUBLIC",
    "pg_write_all_data": "GRANT pg_write_all_data TO {mover}",
    "owner and all": "ALTER TABLE sales.orders OWNER TO {mover}; GRANT pg_write_all_data TO {mover}",
}
INSERT = "INSERT INTO sales.orders VALUES (1, 'x')"
SETTING = "SELECT setconfig FROM pg_db_role_setting WHERE setrole = %s::regrole"
REVOKE = {"role": "", "end": "destination", "state": "revoked"}


class Shop:
    """Three tables of one owner at both ends; the migration's account may read them, and write by one way."""

    def __init__(self, pair: Pair, make_role: Callable[..., tuple[str, str]]) -> None:
        self.pair = pair
        self.owner, self.mover, self.app = make_role(pair), make_role(pair), make_role(pair)
        self.team = make_role(pair, "NOLOGIN")
        for end in pair.ends:
            self.run(end, SCHEMA)

    def run(self, end: End, statement: str) -> None:
        names = {"database": end.dbname, "owner": self.owner[0], "mover": self.mover[0], "app": self.app[0]}
        names["team"] = self.team[0]
        end.sql.execute(sql.SQL(statement).format(**{key: sql.Identifier(name) for key, name in names.items()}))

    @contextlib.contextmanager
    def migration(self, **destination: Any) -> Iterator[Migration]:
        ends = [end.server.endpoint(end.dbname, user=self.mover[0], password=self.mover[1]) for end in self.pair.ends]
        options: dict[str, Any] = {
            "name": "shop",
            "source": ends[0],
            "destination": {**ends[1], **destination},
            "objects": [{"schema": "sales"}],
            "types": ("full", "incremental"),
            "state_schema": "causeway",
            "allow_keyless": False,
            "conflicting_tables": "report",
            "restart": False,
        }
        with Migration(spec_of(options)) as migration:
            migration.ensure_registered()
            yield migration

    def answer(self, end: End, role: tuple[str, str], options: str = "") -> str:
        """What an INSERT as this role ends with in a new session: a SQLSTATE, empty for success; nothing stays."""
        with psycopg.connect(end.server.dsn(end.dbname, user=role[0], password=role[1], options=options)) as conn:
            try:
                conn.execute(INSERT)
            except psycopg.Error as exc:
                return exc.sqlstate or "?"
            finally:
                conn.rollback()
        return ""


@pytest.fixture
def shop(make_role: Callable[..., tuple[str, str]], pair: Pair) -> Shop:
    return Shop(pair, make_role)


@pytest.fixture
def unseen(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """C(unseen(role, …)): the engine's look at the catalogs leaves these roles out from now on."""

    def leave_out(*roles: str) -> None:
        def observe(conn: Any, tables: Any) -> Any:
            return tuple(writer for writer in grants.observe_writers(conn, tables) if writer.role not in roles)

        monkeypatch.setattr(situation, "observe_writers", observe)
        monkeypatch.setattr(fence, "observe_writers", observe)

    return leave_out


@pytest.mark.parametrize("way", WAYS)
def test_what_can_still_write_is_braked_and_told(way: str, shop: Shop, unseen: Callable[..., None]) -> None:
    end = shop.pair.destination
    shop.run(end, WAYS[way])
    unseen(shop.mover[0])
    assert shop.answer(end, shop.mover) == ""
    with shop.migration() as migration:
        before = witness.fingerprint(end.sql)
        revoke.plan(migration, REVOKE)
        assert witness.fingerprint(end.sql) == before
        first = revoke.plan(migration, REVOKE)
        result = first.carry_out()
        assert shop.answer(end, shop.mover) == "25006"
        assert shop.answer(end, shop.mover, "-c default_transaction_read_only=off") == ""  # a brake, and no lock
        assert result["verified"] and result["read_only_sessions"] and result["writable"]
        ways = result["remaining"]
        assert isinstance(ways, list) and [one["path"] for one in ways] == ["unknown"]
        late: Any = result["warnings"]
        warnings = [*first.warnings, *late]
        assert len(warnings) == 1 and f"role {shop.mover[0]} can still write at the destination" in warnings[0]
        again = revoke.plan(migration, REVOKE)
        assert not again.changed and again.result["verified"] and again.warnings
        revoke.plan(migration, {**REVOKE, "state": "granted"}).carry_out()
    assert shop.answer(end, shop.mover) == ""
    assert end.query(SETTING, [shop.mover[0]]) == []


def test_a_brake_that_does_not_hold_is_told(shop: Shop, unseen: Callable[..., None]) -> None:
    end = shop.pair.destination
    shop.run(end, WAYS["owner and all"])
    unseen(shop.mover[0])
    with shop.migration(connect_params={"options": "-c default_transaction_read_only=off"}) as migration:
        result = revoke.plan(migration, REVOKE).carry_out()
    assert not result["verified"] and result["read_only_sessions"] is False
    assert "can write at the destination in new sessions too" in str(result["warnings"])
    assert end.query(SETTING, [shop.mover[0]]) == [(["default_transaction_read_only=on"],)]


def test_a_right_that_the_account_may_not_revoke_is_told(shop: Shop) -> None:
    end = shop.pair.destination
    shop.run(end, "GRANT INSERT, DELETE ON sales.orders TO {mover}")  # a REVOKE by another than the owner only warns
    with shop.migration() as migration:
        result: Any = revoke.plan(migration, REVOKE).carry_out()
    (way,) = result["remaining"]
    assert (way["path"], way["via"], way["tables"]) == ("grant", shop.owner[0], 1)
    assert result["verified"] and shop.answer(end, shop.mover) == "25006"
    assert shop.answer(end, shop.mover, "-c default_transaction_read_only=off") == ""
    statement = way["remedy"].replace(" …", "").split(", as ")[0]
    end.run(f"SET ROLE {shop.owner[0]}; {statement}; RESET ROLE")
    assert shop.answer(end, shop.mover, "-c default_transaction_read_only=off") == "42501"


@pytest.mark.parametrize("way", ["GRANT {owner} TO {mover}", "GRANT SELECT ON sales.orders TO {mover}"])
def test_a_locked_table_is_not_waited_for_and_said_so(shop: Shop, way: str) -> None:
    """In a new session that is read-only, and in the attempt itself where the catalogs show no right."""
    end = shop.pair.destination
    shop.run(end, way)
    with shop.migration() as migration:
        with end.server.connect(end.dbname) as other, other.transaction():
            other.execute("LOCK TABLE sales.orders, sales.part, sales.part_0 IN ACCESS EXCLUSIVE MODE")
            began = time.monotonic()
            result: Any = revoke.plan(migration, REVOKE).carry_out()
            assert time.monotonic() - began < 20
        assert not result["verified"] and "is locked by another session" in result["unverified"]
        assert "Run pg_revoke_writer to try again" in str(result["warnings"])
        again: Any = revoke.plan(migration, REVOKE).carry_out()
    assert again["verified"] and "unverified" not in again


def test_a_server_that_refuses_the_brake_does_not_keep_the_destination_closed(
    shop: Shop, unseen: Callable[..., None]
) -> None:
    """As the owner the account may not set what its login does by default."""
    end = shop.pair.destination
    shop.run(end, "GRANT {owner} TO {mover}")
    with shop.migration(session_role=shop.owner[0]) as migration:
        result: Any = revoke.revoke_own(migration)
        with pytest.raises(ServerError, match="permission denied"):
            revoke.plan(migration, REVOKE).carry_out()
    assert not result["verified"] and result["writable"]
    assert any("could not be revoked" in warning and "permission denied" in warning for warning in result["warnings"])
    assert end.query(SETTING, [shop.mover[0]]) == []
    assert shop.answer(end, shop.mover) == ""


def test_another_role_is_braked_too_and_not_called_verified(shop: Shop, unseen: Callable[..., None]) -> None:
    end = shop.pair.destination
    shop.run(
        end, "GRANT pg_write_all_data TO {app}; GRANT {app} TO {mover} WITH ADMIN OPTION; ALTER ROLE {mover} CREATEROLE"
    )
    unseen(shop.app[0])
    with shop.migration() as migration:
        result = revoke.plan(migration, {**REVOKE, "role": shop.app[0]}).carry_out()
    assert not result["verified"] and result["writable"]
    assert shop.answer(end, shop.app) == "25006"
    shop.run(end, "ALTER ROLE {mover} NOCREATEROLE")


def test_a_role_that_is_refused_is_left_alone(shop: Shop) -> None:
    end = shop.pair.destination
    with shop.migration() as migration:
        plan = revoke.plan(migration, REVOKE)
        assert not plan.changed and plan.result["verified"] and not plan.warnings
    assert end.query(SETTING, [shop.mover[0]]) == []


@pytest.mark.parametrize("version", ["14", "17"])
def test_the_fence_names_what_it_does_not_stop(
    version: str, make_role: Any, make_pair: Any, unseen: Callable[..., None]
) -> None:
    shop = Shop(make_pair(version, version), make_role)
    source = shop.pair.source
    shop.run(source, "GRANT {owner} TO {mover}; GRANT INSERT ON sales.orders TO {app}")
    with shop.migration() as migration:
        migration.source.execute(f"CREATE PUBLICATION {publication_name('shop')}")
        tables = migration.selected().tables
        found = fence.observe(migration)
        fence.raise_fence(migration.source, "shop", found)
        assert fence.found_bypassing(migration.source, tables, found) == ()
        assert {shop.answer(source, role) for role in (shop.owner, shop.mover, shop.app)} == {"42501"}
        # rights that are not revoked, and that the engine does not see: the account's own, and another role's
        shop.run(source, "GRANT pg_write_all_data TO {mover}, {app}")
        unseen(shop.mover[0], shop.app[0])
        hidden = fence.observe(migration)
        assert not {shop.mover[0], shop.app[0]} & set(hidden.bypassing)
        assert fence.found_bypassing(migration.source, tables, hidden) == tuple(sorted((shop.mover[0], shop.app[0])))
        assert shop.answer(source, shop.app) == ""
        # what only the attempt finds: the server is not asked
        with pytest.MonkeyPatch.context() as only:
            only.setattr(attempts, "_WRITERS_LEFT", "SELECT ''::text WHERE %s::oid[] IS NULL")
            assert fence.found_bypassing(migration.source, tables, hidden) == (shop.mover[0],)
        # a lock in the way of the attempt says nothing, and is not waited for
        with source.server.connect(source.dbname) as other, other.transaction():
            other.execute("LOCK TABLE sales.orders, sales.part, sales.part_0 IN ACCESS EXCLUSIVE MODE")
            assert fence.found_bypassing(migration.source, tables, hidden) == tuple(
                sorted((shop.mover[0], shop.app[0]))
            )
        assert fence.reopen(migration.source, "shop", found)


def test_the_cutover_opens_says_so_and_brakes(
    moved: Moved, make_role: Callable[..., tuple[str, str]], unseen: Callable[..., None], clusters: Clusters
) -> None:
    end = moved.pair.destination
    heir = make_role(moved.pair, ends=(end,))
    groups = sql.SQL(", ").join(map(sql.Identifier, (end.value("SELECT current_user"), moved.writers["owner"][0])))
    end.sql.execute(sql.SQL("GRANT {} TO {}").format(groups, sql.Identifier(heir[0])))
    unseen(heir[0])
    options: dict[str, Any] = {
        "name": moved.migration.name,
        "source": moved.pair.source.endpoint,
        "destination": end.server.endpoint(end.dbname, user=heir[0], password=heir[1]),
        "objects": [{"schema": "sales"}],
        "types": ("schema", "full", "incremental"),
        "state_schema": "causeway",
        "allow_keyless": False,
        "conflicting_tables": "report",
        "restart": False,
    }
    with Migration(spec_of(options)) as migration:
        drift = Drift(migration, Programs(), clusters.bin_dir("18"), ())
        result = plan_opened(migration, Limits(fence=60, catch_up=60, stop=10, parallel=2), drift).carry_out()
    certificate: Any = result["certificate"]
    writer = certificate["writer"]
    assert writer["verified"] and writer["read_only_sessions"] and writer["writable"]
    assert [way["path"] for way in writer["remaining"]] == ["unknown"]
    assert f"role {heir[0]} can still write at the destination" in str(result["warnings"])
    dsn = end.server.dsn(end.dbname, user=heir[0], password=heir[1])
    with psycopg.connect(dsn) as conn, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        conn.execute("INSERT INTO sales.stock VALUES (100000, 1)")
    moved.assert_fenced()
    witness.assert_identical(moved.pair, ["sales"])
    end.sql.execute(sql.SQL("REVOKE {} FROM {}").format(groups, sql.Identifier(heir[0])))
