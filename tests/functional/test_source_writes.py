# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The application goes on writing at the source after each step of capture, and after each refusal of one; foreign
subscribers get no table of ours. The application's own session is the witness."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from psycopg import sql
from support.clusters.pairs import Pair
from support.harness.application import Application
from support.harness.modules import Migration, ModuleFailed

MakePair = Callable[..., Pair]
MakeRole = Callable[..., tuple[str, str]]

TABLES = "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
TABLES += " WHERE n.nspname = 'shop' AND c.relkind IN ('r', 'p') ORDER BY 1, 2"
IDENTITY = "SELECT relreplident::text FROM pg_class WHERE oid = %s::regclass"


class Shop:
    """A source whose tables belong to an owner, with a mover that is a member of it, and an application."""

    def __init__(self, pair: Pair, make_role: MakeRole, schema: str) -> None:
        self.pair = pair
        source = pair.source
        self.owner, dummy = make_role(pair, "NOLOGIN")
        self.app = make_role(pair)
        self.mover = make_role(pair, "LOGIN REPLICATION")
        source.run(
            f"CREATE SCHEMA shop; GRANT USAGE ON SCHEMA shop TO {self.owner}, {self.app[0]};"
            f"GRANT {self.owner} TO {self.mover[0]}; GRANT CREATE ON DATABASE {source.dbname} TO {self.mover[0]}; {schema}"
        )
        for name in source.query(TABLES):
            table = sql.Identifier(*name).as_string(None)
            source.run(f"ALTER TABLE {table} OWNER TO {self.owner}; GRANT ALL ON {table} TO {self.app[0]}")
        user, password = self.mover
        self.migration = Migration(
            "shop",
            source.server.endpoint(source.dbname, user=user, password=password),
            pair.destination.endpoint,
            [{"schema": "shop"}],
        )
        self.application = Application(source, dict([self.app]), ["shop"])

    def capture(self, **more: Any) -> None:
        """Do what the prepare role does."""
        self.migration.run("pg_replica_identity", **more)
        self.migration.run("pg_publication")
        self.migration.run("pg_repl_slot")

    def refusals(self) -> dict[tuple[str, str, str], str]:
        """Return what the application is refused now and was not at the start."""
        return self.application.new_refusals()


PLAIN = """
CREATE TABLE shop.item (id int PRIMARY KEY, name text, price int);
INSERT INTO shop.item VALUES (1, 'a', 1);
CREATE TABLE shop.code (code text NOT NULL UNIQUE, name text);
INSERT INTO shop.code VALUES ('a', 'b');
CREATE TABLE shop.log (at timestamptz, what text);
INSERT INTO shop.log VALUES (now(), 'x');
CREATE TABLE shop.part (id int, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE shop.part_1 PARTITION OF shop.part FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
INSERT INTO shop.part VALUES (1, '2026-05-05');
"""


@pytest.mark.parametrize("version", ["14", "17", "18"])
def test_the_least_identity_is_set_and_the_application_goes_on(
    make_role: MakeRole, make_pair: MakePair, version: str
) -> None:
    shop = Shop(make_pair(source=version), make_role, PLAIN)
    shop.capture()
    identities = [shop.pair.source.value(IDENTITY, [f"shop.{name}"]) for name in ("item", "code", "log", "part_1")]
    assert identities == ["d", "i", "f", "d"]
    assert shop.refusals() == {}
    assert shop.pair.source.value("SELECT to_regnamespace('causeway')") is None
    for module in ("pg_repl_slot", "pg_publication", "pg_replica_identity"):
        assert shop.migration.run(module, state="absent")["left_behind"] == []
    identities = [shop.pair.source.value(IDENTITY, [f"shop.{name}"]) for name in ("item", "code", "log", "part_1")]
    assert identities == ["d", "d", "d", "d"]
    assert shop.refusals() == {}


ELSEWHERE = {
    "column list": ("CREATE PUBLICATION other FOR TABLE shop.item (id, name)", "shop.item"),
    "column list at the root": (
        "CREATE PUBLICATION other FOR TABLE shop.part (id, at) WITH (publish_via_partition_root)",
        "shop.part_1",
    ),
    "column list of a key": ("CREATE PUBLICATION other FOR TABLE shop.code (code)", "shop.code"),
}


@pytest.mark.parametrize("kind", ELSEWHERE)
@pytest.mark.parametrize("version", ["17", "18"])
def test_another_publication_that_sends_less_rules_out_full(
    make_role: MakeRole, make_pair: MakePair, version: str, kind: str
) -> None:
    """With identity FULL the application's UPDATE would be refused for the other publication's sake."""
    publication, table = ELSEWHERE[kind]
    shop = Shop(make_pair(source=version), make_role, PLAIN)
    shop.pair.source.run("ALTER TABLE shop.code REPLICA IDENTITY USING INDEX code_code_key;" + publication)
    before = shop.refusals()
    with pytest.raises(ModuleFailed, match="publication other") as failed:
        shop.migration.run("pg_replica_identity", identity="full")
    assert table in str(failed.value) and "causeway_replica_identity: auto" in str(failed.value)
    assert shop.pair.source.value(IDENTITY, ["shop.log"]) == "d", "nothing is changed before all is known"
    shop.capture()
    assert shop.refusals() == before == {}


def test_a_row_filter_rules_nothing_out(make_role: MakeRole, make_pair: MakePair) -> None:
    shop = Shop(make_pair(source="17"), make_role, PLAIN)
    shop.pair.source.run(
        "CREATE PUBLICATION other FOR TABLE shop.item WHERE (id > 0), shop.part WHERE (id > 0)"
        " WITH (publish_via_partition_root)"
    )
    shop.capture(identity="full")
    assert shop.refusals() == {}


def test_a_column_list_on_a_table_without_a_key_is_named_before_anything_is_changed(
    make_role: MakeRole, make_pair: MakePair
) -> None:
    shop = Shop(make_pair(source="17"), make_role, PLAIN)
    shop.pair.source.run("CREATE PUBLICATION other FOR TABLE shop.log (at) WITH (publish = 'insert')")
    shop.capture()  # what sends no UPDATE asks nothing of an identity
    assert shop.refusals() == {}
    shop.migration.run("pg_repl_slot", state="absent")
    shop.migration.run("pg_publication", state="absent")
    shop.migration.run("pg_replica_identity", state="absent")
    shop.pair.source.run("ALTER PUBLICATION other SET (publish = 'insert, update')")
    before = shop.refusals()
    with pytest.raises(ModuleFailed, match=r"shop\.log.*publication other"):
        shop.migration.run("pg_replica_identity")
    assert shop.refusals() == before


GENERATED = """
CREATE TABLE shop.keyed (id int PRIMARY KEY, v int, g int GENERATED ALWAYS AS (v * 2) STORED);
CREATE TABLE shop.bare (v int, g int GENERATED ALWAYS AS (v * 2) STORED);
INSERT INTO shop.keyed VALUES (1, 1); INSERT INTO shop.bare VALUES (1);
"""


@pytest.mark.parametrize("version", ["14", "17", "18"])
@pytest.mark.parametrize("identity", ["auto", "full"])
def test_stored_generated_columns_stop_no_write(
    make_role: MakeRole, make_pair: MakePair, version: str, identity: str
) -> None:
    shop = Shop(make_pair(source=version), make_role, GENERATED)
    shop.capture(identity=identity)
    assert shop.refusals() == {}
    assert not shop.migration.run("pg_publication")["changed"]


def test_a_table_that_is_added_with_a_generated_column_stops_no_write(make_role: MakeRole, make_pair: MakePair) -> None:
    shop = Shop(make_pair(source="18"), make_role, PLAIN)
    shop.capture()
    shop.pair.source.run(
        f"SET ROLE {shop.owner}; RESET ROLE; CREATE TABLE shop.later (v int, g int GENERATED ALWAYS AS (v + 1) STORED);"
        f"ALTER TABLE shop.later OWNER TO {shop.owner}; GRANT ALL ON shop.later TO {shop.app[0]}"
    )
    shop.migration.run("pg_replica_identity")
    shop.migration.run("pg_publication")
    assert shop.refusals() == {}


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ("CREATE TABLE shop.bare (v int, g int GENERATED ALWAYS AS (v * 2) VIRTUAL)", "virtual generated"),
        (
            GENERATED + "CREATE PUBLICATION other FOR TABLE shop.bare WITH (publish = 'insert, delete')",
            "publication other does not send the generated column g",
        ),
        (GENERATED + "CREATE PUBLICATION other FOR ALL TABLES", "publication other does not send"),
    ],
    ids=["virtual", "another publication", "all tables"],
)
def test_what_identity_full_cannot_do_on_18_is_said_before_anything_is_changed(
    make_role: MakeRole, make_pair: MakePair, schema: str, says: str
) -> None:
    shop = Shop(make_pair(source="18"), make_role, schema)
    before = shop.refusals()
    with pytest.raises(ModuleFailed, match=says) as failed:
        shop.migration.run("pg_replica_identity")
    assert "shop.bare" in str(failed.value)
    assert shop.refusals() == before


def test_what_only_the_try_finds_is_taken_back(make_role: MakeRole, make_pair: MakePair) -> None:
    """A publication that appears between the look and the change: PostgreSQL itself is asked, in the same transaction."""
    shop = Shop(make_pair(source="17"), make_role, PLAIN + "CREATE PUBLICATION other FOR TABLE shop.item")
    source = shop.pair.source
    with source.connect() as other, other.transaction():
        other.execute("ALTER PUBLICATION other SET TABLE shop.item (id, name)")
        process = shop.migration.start("pg_replica_identity", identity="full", lock_timeout=20)
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'shop.item'::regclass"
        for dummy in range(600):
            if source.value(waiting):
                break
            source.value("SELECT pg_sleep(0.05)")
    with pytest.raises(ModuleFailed, match=r"shop\.item.*refuse the application's UPDATE and DELETE.*taken back"):
        shop.migration.finish("pg_replica_identity", process)
    assert source.value(IDENTITY, ["shop.item"]) == "d"
    assert shop.refusals() == {}


def test_what_the_source_refused_before_stops_nothing(make_role: MakeRole, make_pair: MakePair) -> None:
    """Another publication's column list leaves the key out: the application cannot write there, with us or without."""
    shop = Shop(make_pair(source="17"), make_role, PLAIN + "CREATE PUBLICATION other FOR TABLE shop.item (name)")
    assert {
        kind: why[:5]
        for (dummy, table, kind), why in shop.application.before.items()
        if table == "shop.item" and kind in ("UPDATE", "DELETE")
    } == {"UPDATE": "42P10", "DELETE": "42P10"}
    shop.capture()
    shop.pair.source.run(
        f"CREATE TABLE shop.later (id int PRIMARY KEY DEFAULT 1); ALTER TABLE shop.later OWNER TO {shop.owner};"
        f"GRANT ALL ON shop.later TO {shop.app[0]}"
    )
    shop.migration.run("pg_publication")
    assert shop.refusals() == {}


@pytest.mark.parametrize("then", ["DROP INDEX shop.code_key", "ALTER INDEX shop.code_key RENAME TO code_other"])
def test_an_index_that_a_deployment_takes_away_is_no_identity_for_ever(
    make_role: MakeRole, make_pair: MakePair, then: str
) -> None:
    schema = (
        PLAIN.replace("code text NOT NULL UNIQUE", "code text NOT NULL")
        + "CREATE UNIQUE INDEX code_key ON shop.code (code);"
    )
    shop = Shop(make_pair(source="17"), make_role, schema)
    shop.capture()
    assert shop.pair.source.value(IDENTITY, ["shop.code"]) == "i"
    shop.pair.source.run(then)
    shop.migration.run("pg_replica_identity")
    # a duplicate is refused by the index's name
    assert {why for why in shop.refusals().values() if not why.startswith("23505")} == set()
    for module in ("pg_repl_slot", "pg_publication", "pg_replica_identity"):
        assert shop.migration.run(module, state="absent")["left_behind"] == []
    assert shop.pair.source.value(IDENTITY, ["shop.code"]) == "d", "what was set later is given back too"


def test_a_column_whose_not_null_was_never_validated_is_no_key(make_role: MakeRole, make_pair: MakePair) -> None:
    """PostgreSQL 18 takes its index for a replica identity, and the rows may hold NULLs."""
    shop = Shop(
        make_pair(source="18"),
        make_role,
        "CREATE TABLE shop.loose (a int, b text); INSERT INTO shop.loose VALUES (NULL, 'x'), (NULL, 'y'), (1, 'z');"
        "ALTER TABLE shop.loose ADD CONSTRAINT loose_not_null NOT NULL a NOT VALID; CREATE UNIQUE INDEX loose_a ON shop.loose (a);",
    )
    shop.capture()
    assert shop.pair.source.value(IDENTITY, ["shop.loose"]) == "f"
    assert shop.refusals() == {}


def test_no_trigger_of_the_application_fires_for_the_try(make_role: MakeRole, make_pair: MakePair) -> None:
    shop = Shop(
        make_pair(source="17"),
        make_role,
        PLAIN
        + "CREATE SEQUENCE shop.fired; CREATE FUNCTION shop.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS"
        " $$BEGIN PERFORM nextval('shop.fired'); RETURN NULL; END$$;"
        "CREATE TRIGGER noted BEFORE UPDATE OR DELETE ON shop.log FOR EACH STATEMENT EXECUTE FUNCTION shop.note()",
    )
    fired = "SELECT is_called FROM shop.fired"
    assert shop.pair.source.value(fired) is True, "the application's own writes fire it"
    shop.pair.source.run("ALTER SEQUENCE shop.fired RESTART")
    shop.capture()
    assert shop.pair.source.value(fired) is False


@pytest.mark.parametrize("version", ["14", "17"])
def test_a_subscriber_of_all_tables_gets_nothing_of_ours(
    make_role: MakeRole, make_pair: MakePair, version: str
) -> None:
    shop = Shop(make_pair(source=version), make_role, PLAIN)
    source = shop.pair.source
    source.run("CREATE PUBLICATION everybody FOR ALL TABLES")
    slot = f"foreign_{source.dbname}"[:60]
    source.value("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [slot])
    try:
        shop.capture()
        with source.server.connect(source.dbname) as marking:
            marking.execute("SELECT pg_logical_emit_message(true, 'causeway', repeat('0', 32))")
        source.run("INSERT INTO shop.item VALUES (2, 'b', 2)")
        peek = "SELECT get_byte(data, 0) FROM pg_logical_slot_peek_binary_changes(%s, NULL, NULL,"
        peek += " 'proto_version', '1', 'publication_names', 'everybody')"
        kinds = [chr(row[0]) for row in source.query(peek, [slot])]
        assert kinds.count("R") == 1 and "M" not in kinds, "one table, the user's own"
    finally:
        source.value("SELECT pg_drop_replication_slot(%s)", [slot])
        shop.migration.run("pg_repl_slot", state="absent")
