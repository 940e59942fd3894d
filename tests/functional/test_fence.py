# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fence by itself, through an account that is no superuser: who is cut, whose sessions end, what comes back."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql
from support.clusters.pairs import End, Pair
from support.waiting import until

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import ServerError, StateError
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.migration import Migration
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.names import publication_name
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.spec import spec_of
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.writers import fence, sessions

SCHEMA = """
GRANT CREATE ON DATABASE {database} TO {owner};
CREATE SCHEMA sales AUTHORIZATION {owner};
SET ROLE {owner};
CREATE TABLE sales.a (id int PRIMARY KEY);
CREATE TABLE sales.b (id int PRIMARY KEY);
GRANT ALL ON ALL TABLES IN SCHEMA sales TO {app};
GRANT INSERT ON sales.a TO PUBLIC;
GRANT USAGE ON SCHEMA sales TO PUBLIC;
RESET ROLE
"""
ACLS = "SELECT relname, array(SELECT i::text FROM unnest(relacl) i ORDER BY 1) FROM pg_class"
ACLS += " WHERE relnamespace = 'sales'::regnamespace AND relkind = 'r' ORDER BY 1"


class Shop:
    """Two tables, their owner (with whose account we work) and another role that writes."""

    def __init__(self, pair: Pair, make_role: Callable[..., tuple[str, str]]) -> None:
        self.pair = pair
        self.owner, self.app = make_role(pair), make_role(pair)
        self.source: End = pair.source
        names = {"database": pair.source.dbname, "owner": self.owner[0], "app": self.app[0]}
        pair.source.sql.execute(sql.SQL(SCHEMA).format(**{key: sql.Identifier(name) for key, name in names.items()}))
        self.acls = pair.source.query(ACLS)

    @contextlib.contextmanager
    def migration(self) -> Iterator[Migration]:
        options: dict[str, Any] = {
            "name": "shop",
            "source": self.source.server.endpoint(self.source.dbname, user=self.owner[0], password=self.owner[1]),
            "destination": self.pair.destination.endpoint,
            "objects": [{"schema": "sales", "tables": []}],
            "types": ("full", "incremental"),
            "state_schema": "causeway",
            "allow_keyless": False,
            "conflicting_tables": "report",
            "restart": False,
        }
        with Migration(spec_of(options)) as migration:
            if not self.source.value("SELECT count(*) FROM pg_publication"):
                migration.source.execute(f"CREATE PUBLICATION {publication_name('shop')}")
            yield migration

    def connect(self, role: tuple[str, str]) -> psycopg.Connection[Any]:
        return psycopg.connect(self.source.server.dsn(self.source.dbname, user=role[0], password=role[1]))


@pytest.fixture
def shop(make_role: Callable[..., tuple[str, str]], pair: Pair) -> Shop:
    return Shop(pair, make_role)


def refused(shop: Shop, role: tuple[str, str], statement: str) -> bool:
    with shop.connect(role) as conn:
        try:
            conn.execute(statement)
        except psycopg.errors.InsufficientPrivilege:
            return True
        finally:
            conn.rollback()
    return False


def test_an_application_with_our_own_account_is_fenced_too(shop: Shop) -> None:
    with shop.migration() as migration, shop.connect(shop.owner) as application:
        application.execute("INSERT INTO sales.a VALUES (1)")
        found = fence.observe(migration)
        assert set(found.roles) >= {shop.owner[0], shop.app[0]}
        fence.raise_fence(migration.source, "shop", found)
        tables = migration.selected().written
        fence.require_taken(migration.source, tables)
        assert sessions.end_sessions(migration.source, found, tables, 5) == 1
        with pytest.raises(psycopg.OperationalError):
            application.commit()
        assert shop.source.value("SELECT count(*) FROM sales.a") == 0
        assert refused(shop, shop.owner, "INSERT INTO sales.a VALUES (1)")
        assert refused(shop, shop.app, "TRUNCATE sales.b")
        assert fence.reopen(migration.source, "shop", found)
        assert not fence.reopen(migration.source, "shop", found)
    assert shop.source.query(ACLS) == shop.acls
    assert not refused(shop, shop.owner, "INSERT INTO sales.a VALUES (1)")


SEQUENCES = """
CREATE SEQUENCE sales.receipt; GRANT USAGE ON SEQUENCE sales.receipt TO {app};
CREATE SEQUENCE sales.ticket; GRANT UPDATE ON SEQUENCE sales.ticket TO {app} WITH GRANT OPTION;
CREATE SEQUENCE sales.anyone; GRANT ALL ON SEQUENCE sales.anyone TO PUBLIC;
CREATE TABLE sales.counted (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n serial);
GRANT USAGE ON SEQUENCE sales.counted_id_seq, sales.counted_n_seq TO {app};
GRANT SELECT ON SEQUENCE sales.receipt TO {app};
SET ROLE {app}; GRANT UPDATE ON SEQUENCE sales.ticket TO PUBLIC
"""
RIGHTS = "SELECT relname, array(SELECT i::text FROM unnest(relacl) i ORDER BY 1) FROM pg_class"
RIGHTS += " WHERE relnamespace = 'sales'::regnamespace AND relkind = 'S' ORDER BY 1"
DRAWN = ("receipt", "ticket", "anyone", "counted_id_seq", "counted_n_seq")


def test_nobody_draws_a_number_behind_the_fence(shop: Shop) -> None:
    shop.source.run(f"SET ROLE {shop.owner[0]}; {SEQUENCES.format(app=shop.app[0])}; RESET ROLE")
    rights = shop.source.query(RIGHTS)
    draws = [f"SELECT nextval('sales.{name}')" for name in DRAWN]
    sets = [f"SELECT setval('sales.{name}', 7)" for name in ("ticket", "anyone")]
    with shop.migration() as migration:
        found = fence.observe(migration)
        with pytest.raises(ServerError, match=r"GRANT \S+ TO \S+\.") as refused_to_us:
            fence.raise_fence(migration.source, "shop", found)
        # what the application has granted itself can be taken only in its name
        shop.source.run(refused_to_us.value.remedy.rpartition(": ")[2].rstrip("."))
        found = fence.observe(migration)
        fence.raise_fence(migration.source, "shop", found)
        fence.require_taken(migration.source, migration.selected().written)
        for role in (shop.app, shop.owner):
            assert all(refused(shop, role, statement) for statement in (*draws, *sets))
        assert not refused(shop, shop.app, "SELECT last_value FROM sales.receipt")
        assert fence.reopen(migration.source, "shop", found)
    # a NULL ACL and its default written out are the same rights
    owner = shop.owner[0]
    written = {name: acl or [f"{owner}=rwU/{owner}"] for name, acl in rights}
    assert dict(shop.source.query(RIGHTS)) == written
    assert not any(refused(shop, shop.app, statement) for statement in (*draws, *sets))


def test_a_statement_that_goes_on_drawing_is_ended(shop: Shop) -> None:
    shop.source.run(
        f"SET ROLE {shop.owner[0]}; {SEQUENCES.format(app=shop.app[0])}; RESET ROLE;"
        f"GRANT pg_signal_backend, {shop.app[0]} TO {shop.owner[0]}"
    )
    ended = threading.Event()

    def draw() -> None:
        with contextlib.suppress(psycopg.Error), shop.connect(shop.app) as session:
            session.execute("SELECT sum(nextval('sales.receipt')) FROM (SELECT generate_series(1, 1000000000)) n")
        ended.set()

    with shop.migration() as migration:
        threading.Thread(target=draw, daemon=True).start()
        until(lambda: shop.source.value("SELECT last_value > 1000 FROM sales.receipt"))
        found = fence.observe(migration)
        fence.raise_fence(migration.source, "shop", found)
        sessions.end_sessions(migration.source, found, migration.selected().written, 10)
        assert ended.wait(10)
        before = shop.source.value("SELECT last_value FROM sales.receipt")
        time.sleep(0.2)
        assert shop.source.value("SELECT last_value FROM sales.receipt") == before
        assert fence.reopen(migration.source, "shop", found)


@pytest.mark.parametrize(
    ("statement", "stops"), [("SELECT nextval('sales.receipt')", False), ("ALTER SEQUENCE sales.receipt RESTART", True)]
)
def test_what_is_prepared_stops_us_only_where_it_can_still_change_a_sequence(
    shop: Shop, statement: str, stops: bool
) -> None:
    shop.source.run(f"SET ROLE {shop.owner[0]}; {SEQUENCES.format(app=shop.app[0])}; RESET ROLE")
    shop.source.run(f"BEGIN; {statement}; PREPARE TRANSACTION 'drawn'")
    refused = pytest.raises(StateError) if stops else contextlib.nullcontext()
    try:
        with refused, shop.migration() as migration:
            sessions.require_nothing_prepared(migration.source, migration.selected().written)
    finally:
        shop.source.run("ROLLBACK PREPARED 'drawn'")


def test_sessions_that_we_may_not_end_are_an_error_and_not_overlooked(shop: Shop) -> None:
    with shop.migration() as migration, shop.connect(shop.app) as application:
        application.execute("INSERT INTO sales.a VALUES (1)")
        found = fence.observe(migration)
        fence.raise_fence(migration.source, "shop", found)
        tables = migration.selected().written
        with pytest.raises(ServerError, match="GRANT pg_signal_backend"):
            sessions.end_sessions(migration.source, found, tables, 2)
        shop.source.sql.execute(sql.SQL("GRANT pg_signal_backend TO {}").format(sql.Identifier(shop.owner[0])))
        assert sessions.end_sessions(migration.source, found, tables, 5) == 1
        with pytest.raises(psycopg.OperationalError):
            application.commit()
        assert fence.reopen(migration.source, "shop", found)
    assert shop.source.query(ACLS) == shop.acls


def test_what_was_dropped_meanwhile_does_not_keep_the_rest_fenced(shop: Shop) -> None:
    with shop.migration() as migration:
        found = fence.observe(migration)
        fence.raise_fence(migration.source, "shop", found)
        shop.source.run("DROP TABLE sales.b")
        assert fence.reopen(migration.source, "shop", found)
    assert shop.source.query(ACLS) == shop.acls[:1]


def test_a_closed_fence_stays(shop: Shop) -> None:
    with shop.migration() as migration:
        found = fence.observe(migration)
        fence.raise_fence(migration.source, "shop", found)
        fence.close(migration.source, "shop")
        assert not fence.reopen(migration.source, "shop", found)
        with pytest.raises(StateError, match="the source is closed"):
            fence.raise_fence(migration.source, "shop", found)
    assert refused(shop, shop.app, "INSERT INTO sales.a VALUES (1)")


def test_members_of_what_no_fence_stops_are_named(make_role: Callable[..., tuple[str, str]], shop: Shop) -> None:
    mighty, heir = make_role(shop.pair, "NOLOGIN SUPERUSER"), make_role(shop.pair)
    writes_all = make_role(shop.pair)
    for group, member in ((mighty[0], heir[0]), ("pg_write_all_data", writes_all[0])):
        shop.source.sql.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(group), sql.Identifier(member)))
    with shop.migration() as migration:
        found = fence.observe(migration)
        assert {heir[0], writes_all[0], shop.source.value("SELECT current_user")} <= set(found.bypassing)
        assert not {heir[0], writes_all[0]} & set(found.roles)
