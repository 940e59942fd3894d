# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pg_revoke_writer against real servers, judged by the ACLs and by logging in as the role and writing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg import sql
from support import witness
from support.harness.modules import Migration, ModuleFailed

SCHEMA = """
CREATE SCHEMA sales;
CREATE TABLE sales.orders (id serial PRIMARY KEY, note text);
CREATE TABLE sales."Ünsold" (id int PRIMARY KEY, note text);
CREATE TABLE sales.part (id int PRIMARY KEY) PARTITION BY HASH (id);
CREATE TABLE sales.part_0 PARTITION OF sales.part FOR VALUES WITH (MODULUS 1, REMAINDER 0);
CREATE SCHEMA other;
CREATE TABLE other.outside (id int PRIMARY KEY);
INSERT INTO sales.orders (note) VALUES ('first');
"""

# A NULL ACL is the owner's default; both are one and the same right.
ACLS = """
SELECT c.relname, '' AS col, x.grantor::regrole::text, x.grantee::bigint, x.privilege_type, x.is_grantable
  FROM pg_class c, LATERAL aclexplode(coalesce(c.relacl,
       acldefault(CASE c.relkind WHEN 'S' THEN 's'::"char" ELSE 'r'::"char" END, c.relowner))) x
 WHERE c.relnamespace IN ('sales'::regnamespace, 'other'::regnamespace) AND c.relkind IN ('r', 'p', 'S')
 UNION ALL
SELECT c.relname, a.attname, x.grantor::regrole::text, x.grantee::bigint, x.privilege_type, x.is_grantable
  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid, LATERAL aclexplode(a.attacl) x
 WHERE c.relnamespace = 'sales'::regnamespace
"""
WRITES = {
    "insert": "INSERT INTO sales.orders (note) VALUES ('x')",
    "update": "UPDATE sales.orders SET note = 'y'",
    "delete": "DELETE FROM sales.orders",
    "truncate": "TRUNCATE sales.orders",
    "leaf": "INSERT INTO sales.part_0 VALUES (1)",
    "root": "INSERT INTO sales.part VALUES (2)",
    "quoted": 'INSERT INTO sales."Ünsold" VALUES (1)',
    "sequence": "SELECT nextval('sales.orders_id_seq')",
}


def migration(pair: Any, name: str = "orders") -> Migration:
    return Migration(name, pair.source.endpoint, pair.destination.endpoint, [{"schema": "sales"}])


def acls(end: Any) -> set[tuple[Any, ...]]:
    return set(end.query(ACLS))


def refusals(end: Any, role: tuple[str, str]) -> dict[str, str]:
    """What each write ends with as this role; nothing stays."""
    found = {}
    with psycopg.connect(end.server.dsn(end.dbname, user=role[0], password=role[1])) as conn:
        for word, statement in WRITES.items():
            try:
                conn.execute(statement)
                found[word] = ""
            except psycopg.Error as exc:
                found[word] = exc.sqlstate or "?"
            conn.rollback()
    return found


def run(end: Any, statement: str, *names: str) -> None:
    end.sql.execute(sql.SQL(statement).format(*(sql.Identifier(name) for name in names)))


ALLOW = """
GRANT USAGE ON SCHEMA sales, other TO {0};
GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA sales, other TO {0};
GRANT USAGE, SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA sales TO {0}
"""
NONE = dict.fromkeys(WRITES, "")
ALL = dict.fromkeys(WRITES, "42501")


@pytest.fixture
def shop(make_role: Callable[..., tuple[str, str]], pair: Any) -> Any:
    pair.run(SCHEMA)
    return pair


def test_a_plain_role_in_four_beats_and_back(make_role: Any, shop: Any) -> None:
    role = make_role(shop)
    run(shop.source, ALLOW, role[0])
    run(shop.source, "GRANT INSERT (note), UPDATE (id) ON sales.orders TO {} WITH GRANT OPTION", role[0])
    run(shop.source, 'GRANT DELETE ON sales."Ünsold" TO {} WITH GRANT OPTION', role[0])
    before = acls(shop.source)
    assert refusals(shop.source, role) == NONE
    untouched = witness.fingerprint(shop.source.sql)
    assert migration(shop).run("pg_revoke_writer", check=True, role=role[0], end="source")["changed"]
    assert witness.fingerprint(shop.source.sql) == untouched

    results = migration(shop).four_beats("pg_revoke_writer", role=role[0], end="source")
    assert results[1]["verified"]
    assert results[1]["refused"] == 4
    assert results[1]["remaining"] == []
    assert results[3]["verified"]
    assert refusals(shop.source, role) == ALL
    with psycopg.connect(shop.source.server.dsn(shop.source.dbname, user=role[0], password=role[1])) as conn:
        assert conn.execute("SELECT count(*) FROM sales.orders").fetchone() == (1,)
        conn.execute("INSERT INTO other.outside VALUES (1)")
    assert shop.source.query("SELECT id, note FROM sales.orders") == [(1, "first")]

    migration(shop).four_beats("pg_revoke_writer", role=role[0], end="source", state="granted")
    assert acls(shop.source) == before
    assert refusals(shop.source, role) == NONE


def test_an_owner_is_cut_too(make_role: Any, shop: Any) -> None:
    role = make_role(shop)
    for table in ("orders", "Ünsold", "part", "part_0"):
        run(shop.destination, "ALTER TABLE sales.{} OWNER TO {}", table, role[0])
    run(shop.destination, "GRANT USAGE ON SCHEMA sales TO {}", role[0])
    before = acls(shop.destination)
    results = migration(shop).four_beats("pg_revoke_writer", role=role[0])
    assert results[1]["verified"]
    assert refusals(shop.destination, role) == ALL
    migration(shop).run("pg_revoke_writer", role=role[0], state="granted")
    assert acls(shop.destination) == before
    assert refusals(shop.destination, role) == NONE
    run(shop.destination, "DROP OWNED BY {}", role[0])


def test_rights_that_rest_on_a_grant_option_go_and_come_back(make_role: Any, shop: Any) -> None:
    first, second, third = make_role(shop), make_role(shop), make_role(shop)
    run(shop.source, "GRANT USAGE ON SCHEMA sales TO {}, {}, {}", first[0], second[0], third[0])
    run(shop.source, "GRANT INSERT, SELECT ON sales.orders TO {} WITH GRANT OPTION", first[0])
    run(
        shop.source,
        "SET ROLE {}; GRANT INSERT ON sales.orders TO {} WITH GRANT OPTION; RESET ROLE",
        first[0],
        second[0],
    )
    run(shop.source, "SET ROLE {}; GRANT INSERT ON sales.orders TO {}; RESET ROLE", second[0], third[0])
    before = acls(shop.source)
    results = migration(shop).four_beats("pg_revoke_writer", role=first[0], end="source")
    assert results[1]["verified"]
    assert refusals(shop.source, third)["insert"] == "42501"
    migration(shop).four_beats("pg_revoke_writer", role=first[0], end="source", state="granted")
    assert acls(shop.source) == before


def test_a_member_is_braked_and_the_way_is_named(make_role: Any, shop: Any) -> None:
    group, member = make_role(shop, "NOLOGIN"), make_role(shop)
    run(shop.source, ALLOW, group[0])
    run(shop.source, "GRANT {} TO {}", group[0], member[0])
    run(shop.source, "ALTER ROLE {} IN DATABASE {} SET work_mem = '5MB'", member[0], shop.source.dbname)
    assert refusals(shop.source, member) == NONE
    results = migration(shop).four_beats("pg_revoke_writer", role=member[0], end="source")
    (way,) = results[1]["remaining"]
    assert (way["path"], way["via"], way["tables"]) == ("membership", group[0], 4)
    assert not results[1]["verified"]
    assert "can still write" in str(results[1]["warnings"])
    assert set(refusals(shop.source, member).values()) == {"25006"}
    migration(shop).four_beats("pg_revoke_writer", role=member[0], end="source", state="granted")
    assert refusals(shop.source, member) == NONE
    settings = "SELECT setconfig FROM pg_db_role_setting WHERE setrole = %s::regrole"
    assert shop.source.query(settings, [member[0]]) == [(["work_mem=5MB"],)]


def test_public_is_named(make_role: Any, shop: Any) -> None:
    role = make_role(shop)
    shop.source.run("GRANT USAGE ON SCHEMA sales TO PUBLIC; GRANT INSERT ON sales.orders TO PUBLIC")
    result = migration(shop).run("pg_revoke_writer", role=role[0], end="source")
    (way,) = result["remaining"]
    assert (way["path"], way["tables"]) == ("public", 1)
    assert result["writable"] == ["sales.orders"]


def test_our_own_superuser_account_is_tried_in_a_new_session(make_role: Any, shop: Any) -> None:
    role = make_role(shop, "LOGIN SUPERUSER")
    moved = migration(shop)
    moved.destination = shop.destination.server.endpoint(shop.destination.dbname, user=role[0], password=role[1])
    results = moved.four_beats("pg_revoke_writer")
    assert results[1]["role"] == role[0]
    assert results[1]["remaining"][0]["path"] == "superuser"
    assert results[1]["read_only_sessions"]
    assert results[1]["verified"]
    assert set(refusals(shop.destination, role).values()) == {"25006"}
    # the books are still kept by the same account
    moved.four_beats("pg_revoke_writer", state="granted")
    assert refusals(shop.destination, role) == NONE
    for end in shop.ends:
        run(end, "DROP OWNED BY {} CASCADE", role[0])


def test_statement_triggers_of_the_application_do_not_fire(make_role: Any, shop: Any) -> None:
    role = make_role(shop)
    group = make_role(shop, "NOLOGIN")
    run(shop.source, ALLOW, group[0])
    run(shop.source, "GRANT {} TO {}", group[0], role[0])
    shop.source.run(
        "CREATE SEQUENCE other.fired; CREATE FUNCTION other.fire() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER"
        " AS $$ BEGIN PERFORM nextval('other.fired'); RETURN NULL; END $$;"
        "CREATE TRIGGER fire BEFORE INSERT OR DELETE OR UPDATE ON sales.orders EXECUTE FUNCTION other.fire()"
    )
    migration(shop).run("pg_revoke_writer", role=role[0], end="source")
    assert not shop.source.value("SELECT is_called FROM other.fired")


def test_what_is_granted_anew_is_taken_again_and_all_comes_back(make_role: Any, shop: Any) -> None:
    role = make_role(shop)
    run(shop.source, ALLOW, role[0])
    migration(shop).run("pg_revoke_writer", role=role[0], end="source")
    shop.source.run("CREATE TABLE sales.newer (id int PRIMARY KEY)")
    run(shop.source, "GRANT INSERT ON sales.newer TO {}", role[0])
    before = acls(shop.source)
    assert migration(shop).run("pg_revoke_writer", role=role[0], end="source")["changed"]
    assert migration(shop).run("pg_revoke_writer", role=role[0], end="source", state="granted")["changed"]
    assert before < acls(shop.source)
    assert refusals(shop.source, role) == NONE


def test_an_unknown_role_and_nothing_to_give_back(shop: Any) -> None:
    with pytest.raises(ModuleFailed, match="no role of that name"):
        migration(shop).run("pg_revoke_writer", role="nobody here")
    result = migration(shop).run("pg_revoke_writer", state="granted")
    assert not result["changed"]
    assert "nothing is recorded" in result["notes"][0]


def test_after_release_nothing_is_begun_anew(make_role: Any, shop: Any) -> None:
    role = make_role(shop)
    run(shop.destination, ALLOW, role[0])
    comment = "[causeway: migration orders opened this database at 2026-11-22 10:00:00+00]"
    run(shop.destination, "COMMENT ON DATABASE {} IS '" + comment + "'", shop.destination.dbname)
    with pytest.raises(ModuleFailed, match="was released"):
        migration(shop).run("pg_revoke_writer", role=role[0])
    assert shop.destination.value("SELECT to_regnamespace('causeway')") is None
    assert refusals(shop.destination, role) == NONE


@pytest.mark.parametrize("version", ["14", "18"])
def test_other_versions(make_role: Any, make_pair: Any, version: str) -> None:
    pair = make_pair(version, version)
    pair.run(SCHEMA)
    group, role = make_role(pair, "NOLOGIN"), make_role(pair)
    run(pair.source, ALLOW, group[0])
    run(pair.source, ALLOW, role[0])
    before = acls(pair.source)
    assert migration(pair).four_beats("pg_revoke_writer", role=role[0], end="source")[1]["verified"]
    assert refusals(pair.source, role) == ALL
    migration(pair).run("pg_revoke_writer", role=role[0], end="source", state="granted")
    assert acls(pair.source) == before
