# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The definitions of both ends: every kind arrives or is named, and a change at either end is named, alone."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from psycopg import sql
from support.clusters.local import Clusters
from support.clusters.pairs import End, Pair
from support.harness.modules import Migration, ModuleFailed
from support.harness.moved import MakeMoved, Moved
from support.harness.programs import Programs
from support.tables import every_kind

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.drift.comparison import Compared, Drift
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.migration import Migration as EngineMigration
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.schema.compare import SECTIONS
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.spec import spec_of

MakeRole = Callable[..., tuple[str, str]]


class Kinds:
    """A database with a definition of every kind, of which the schema was created at the destination."""

    def __init__(self, pair: Pair, clusters: Clusters, make_role: MakeRole) -> None:
        self.pair = pair
        self.bin = clusters.bin_dir("18")
        self.names = {"app": make_role(pair)[0], "other": make_role(pair)[0]}
        for name in ("wrapper", "server", "event"):
            self.names[name] = f"{name}_{secrets.token_hex(2)}"
        self.migration = Migration(
            pair.source.dbname,
            pair.source.endpoint,
            pair.destination.endpoint,
            [{"schema": "k"}],
            {"types": ["schema", "full"], "allow_keyless": True},
        )

    def execute(self, end: End, text: str) -> None:
        names = {**self.names, "database": end.dbname}
        for plain in ("wrapper", "server"):  # some have more behind
            text = text.replace("{" + plain + "}", names[plain])
        end.sql.execute(sql.SQL(text).format(**{key: sql.Identifier(name) for key, name in names.items()}))

    def move(self, more: str = "", **options: Any) -> None:
        for end in self.pair.ends:
            self.execute(end, every_kind.BOTH_ENDS)
        self.execute(self.pair.source, every_kind.SCHEMA + every_kind.RIGHTS)
        if more:
            for statement in more.strip().splitlines():
                self.execute(self.pair.source, statement)
        for section in SECTIONS:
            self.migration.run("pg_schema_sync", section=section, client_bin=self.bin, **options)

    def drift(self) -> contextlib.AbstractContextManager[Callable[[], Compared]]:
        return compared_by(self.migration, self.bin)


@contextlib.contextmanager
def compared_by(migration: Migration, programs: str) -> Iterator[Callable[[], Compared]]:
    """Compares as validate does, in this process, on sessions of its own."""
    shared = {"state_schema": "causeway", "conflicting_tables": "report", "restart": False}
    options = json.loads(migration.arguments({}))["ANSIBLE_MODULE_ARGS"]
    with EngineMigration(spec_of({**shared, **options})) as opened:
        yield lambda: Drift(opened, Programs(), programs, ()).compare()


def told(compared: Compared) -> dict[str, str]:
    return {one.object: f"{one.id} {one.severity}: {one.cause} {one.fix}" for one in compared.differences}


@pytest.fixture
def kinds(make_role: MakeRole, make_pair: Callable[..., Pair], clusters: Clusters) -> Callable[..., Kinds]:
    return lambda **versions: Kinds(make_pair(**versions), clusters, make_role)


PAIRS = [("18", "18"), ("14", "17"), ("17", "18")]


@pytest.mark.parametrize(("source", "destination"), PAIRS)
def test_a_definition_of_every_kind_arrives(kinds: Callable[..., Kinds], source: str, destination: str) -> None:
    moved = kinds(source=source, destination=destination)
    moved.move()
    with moved.drift() as compare:
        compared = compare()
    assert len(every_kind.DEEDS) >= 80
    assert compared.facts > len(every_kind.DEEDS)
    found = told(compared)
    version = "SELECT extversion FROM pg_extension WHERE extname = 'btree_gist'"
    if moved.pair.source.value(version) != moved.pair.destination.value(version):
        assert found.pop("extension btree_gist").startswith("database_level note")
    assert found == {}


def groups(size: int) -> Iterator[list[every_kind.Deed]]:
    """Yield the deeds in their order, up to C(size) at once, where none could be taken for another."""
    group: list[every_kind.Deed] = []
    for deed in every_kind.DEEDS:
        if len(group) == size or any(matches(deed, one.words) or matches(one, deed.words) for one in group):
            yield group
            group = []
        group.append(deed)
    yield group


def matches(deed: every_kind.Deed, name: str) -> bool:
    """Return whether a finding's name has all words of what the deed changes."""
    return all(word in name.replace('"', "") or word in name for word in deed.words.split(" "))


@pytest.mark.parametrize("at", ["source", "destination"])
@pytest.mark.parametrize(("source", "destination"), [("18", "18"), ("14", "17")])
@pytest.mark.parametrize("size", [pytest.param(1, marks=pytest.mark.faults_heavy, id="one at a time"), 16])
def test_each_change_is_named_alone(
    kinds: Callable[..., Kinds], source: str, destination: str, at: str, size: int
) -> None:
    moved = kinds(source=source, destination=destination)
    moved.move()
    with moved.drift() as compare:
        known = set(told(compare()))
    wrong = []
    for group in groups(size):
        for deed in group:
            moved.execute(getattr(moved.pair, at), deed.statement)
        # as another run of the module: what is selected is read once by each
        with moved.drift() as compare:
            now = told(compare())
        new = sorted(now.keys() - known)
        for deed in group:
            mine = [name for name in new if matches(deed, name)]
            if len(mine) != 1 or not now[mine[0]].split(" ")[0].endswith(at):
                wrong.append((deed.statement, deed.words, [now[name] for name in mine] or new))
        if len(new) != len(group):
            wrong.append(("; ".join(deed.statement for deed in group), "as many findings as changes", new))
        known = set(now)
    assert wrong == []


def test_what_belongs_to_no_schema_is_named_and_no_secret_is_shown(kinds: Callable[..., Kinds]) -> None:
    moved = kinds(source="17", destination="18")
    moved.move(every_kind.DATABASE_LEVEL)
    with moved.drift() as compare:
        found = told(compare())
    for name in every_kind.NAMED:
        assert [one for one in found if one.startswith(name)], f"{name}: {sorted(found)}"
    assert "geheim" not in str(found)


CARRIED = """
SELECT 'setting', coalesce(r.rolname, '') || c FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
 CROSS JOIN unnest(s.setconfig) c LEFT JOIN pg_roles r ON r.oid = s.setrole WHERE d.datname = current_database()
UNION ALL SELECT 'cast', castsource::regtype || castcontext::text FROM pg_cast WHERE oid >= 16384
UNION ALL SELECT 'default', defaclrole::regrole || defaclobjtype::text || array(SELECT a::text FROM unnest(defaclacl) a ORDER BY 1)::text
  FROM pg_default_acl WHERE defaclnamespace = 0
UNION ALL SELECT 'right', g.rolname || privilege_type FROM pg_database d, aclexplode(d.datacl) x JOIN pg_roles g ON g.oid = x.grantee
 WHERE d.datname = current_database() AND x.grantee <> d.datdba
UNION ALL SELECT 'event trigger', evtname || evtevent || evttags::text FROM pg_event_trigger
 ORDER BY 1, 2
"""


def test_what_belongs_to_no_schema_is_carried_and_event_triggers_sleep(kinds: Callable[..., Kinds]) -> None:
    moved = kinds(source="17", destination="18")
    moved.move(every_kind.DATABASE_LEVEL, database_level="carry")
    assert moved.pair.source.query(CARRIED) == moved.pair.destination.query(CARRIED)
    assert moved.pair.destination.value("SELECT evtenabled FROM pg_event_trigger") == "D"
    with moved.drift() as compare:
        found = told(compare())
    left = ("property", "user mapping", "foreign", "publication", "extension")
    assert [one for one in found if not one.startswith(left)] == []
    again = moved.migration.run("pg_schema_sync", section="foreign_keys", client_bin=moved.bin, database_level="carry")
    assert again["changed"] is False


WRITING = "SET ON PARAMETER session_replication_role"
SHOP = """
CREATE SCHEMA shop AUTHORIZATION {owner};
SET ROLE {owner};
CREATE FUNCTION shop.tax(p numeric) RETURNS numeric LANGUAGE sql AS 'SELECT p * 0.2';
CREATE SEQUENCE shop.ticket;
CREATE TABLE shop.item (id int PRIMARY KEY, price numeric(10,2), qty int NOT NULL DEFAULT 1, code varchar(5), "system_user" text,
    CONSTRAINT not_root CHECK ("system_user" <> 'root'), CONSTRAINT one UNIQUE (code));
CREATE TABLE shop.line (id int PRIMARY KEY, item int CONSTRAINT of_item REFERENCES shop.item);
CREATE FUNCTION shop.tr() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER stamp BEFORE INSERT ON shop.line FOR EACH ROW EXECUTE FUNCTION shop.tr();
CREATE INDEX by_price ON shop.item (price);
CREATE VIEW shop.priced AS SELECT id, price FROM shop.item;
CREATE POLICY own ON shop.item FOR SELECT TO {app} USING ("system_user" = current_user);
CREATE TABLE shop.wide (a int);
ALTER TABLE shop.wide REPLICA IDENTITY FULL;
CREATE TABLE shop.chosen (a int NOT NULL);
CREATE UNIQUE INDEX chosen_a ON shop.chosen (a);
ALTER TABLE shop.chosen REPLICA IDENTITY USING INDEX chosen_a;
GRANT USAGE ON SCHEMA shop TO {app};
GRANT SELECT, INSERT ON shop.item TO {app};
RESET ROLE
"""


class Shop:
    """A migration by the quickstart's accounts, of which the schema was created."""

    def __init__(self, make_role: MakeRole, make_pair: Callable[..., Pair], clusters: Clusters, *versions: str) -> None:
        self.pair = make_pair(*versions)
        self.bin = clusters.bin_dir("18")
        source, destination = self.pair.ends
        self.owner, self.app = make_role(self.pair)[0], make_role(self.pair)[0]
        here, there = (
            make_role(self.pair, "LOGIN REPLICATION", (source,)),
            make_role(self.pair, "LOGIN", (destination,)),
        )
        self.execute(source, SHOP)
        self.execute(source, "GRANT {owner}, pg_signal_backend, pg_monitor TO {mover}", mover=here[0])
        self.execute(source, "GRANT CREATE ON DATABASE {db} TO {mover}", mover=here[0], db=source.dbname)
        self.execute(destination, "ALTER DATABASE {db} OWNER TO {mover}", mover=there[0], db=destination.dbname)
        self.execute(destination, "GRANT {owner} TO {mover}", mover=there[0])
        # an owner needs CREATE in the schema to be given its objects
        self.execute(destination, "GRANT CREATE ON DATABASE {db} TO {owner}", db=destination.dbname)
        self.execute(destination, f"GRANT {WRITING} TO {{mover}}", mover=there[0])
        self.migration = Migration(
            f"shop_{secrets.token_hex(3)}",
            source.server.endpoint(source.dbname, user=here[0], password=here[1]),
            destination.server.endpoint(destination.dbname, user=there[0], password=there[1]),
            [{"schema": "shop"}],
            {"types": ["schema", "full"], "allow_keyless": True},
        )
        self.here, self.there = here[0], there[0]

    def execute(self, end: End, text: str, **names: str) -> None:
        known = {"owner": self.owner, "app": self.app, **names}
        end.sql.execute(sql.SQL(text).format(**{key: sql.Identifier(name) for key, name in known.items()}))

    def move(self) -> None:
        for section in SECTIONS:
            self.migration.run("pg_schema_sync", section=section, client_bin=self.bin)

    def end(self) -> None:
        """Take back the one right that would keep the account from being dropped with its database."""
        self.execute(self.pair.destination, f"REVOKE {WRITING} FROM {{mover}}", mover=self.there)

    def found(self) -> dict[str, str]:
        """The differences in definitions, by object."""
        with compared_by(self.migration, self.bin) as compare:
            found = told(compare())
        self.database_level = {name: text for name, text in found.items() if text.startswith("database_level")}
        return {name: text for name, text in found.items() if name not in self.database_level}


@pytest.fixture
def shop(make_role: MakeRole, make_pair: Callable[..., Pair], clusters: Clusters) -> Iterator[Callable[..., Shop]]:
    made: list[Shop] = []

    def make(*versions: str) -> Shop:
        made.append(Shop(make_role, make_pair, clusters, *versions))
        return made[-1]

    yield make
    for one in made:
        one.end()


@pytest.mark.parametrize("versions", [("14", "17"), ("17", "17"), ("17", "18"), ("18", "18")], ids=" to ".join)
def test_the_accounts_of_the_quickstart_compare_and_a_column_stays_a_column(
    shop: Callable[..., Shop], versions: tuple[str, str]
) -> None:
    one = shop(*versions)
    one.move()
    assert one.found() == {}
    ours = {text.split(":")[0] for name, text in one.database_level.items() if one.here in name}
    assert ours == {"database_level note"}, "what the account was granted for the migration is nobody's loss"
    warned = [name for name, text in one.database_level.items() if text.startswith("database_level warning")]
    assert f"right on the database CREATE to {one.owner}" in warned
    # from 16 on system_user, unquoted, is a function
    there = one.pair.destination
    for query in (
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'not_root'",
        "SELECT pg_get_expr(polqual, polrelid) FROM pg_policy",
    ):
        assert "system_user" in there.value(query).lower() and "SYSTEM_USER" not in there.value(query)
    with pytest.raises(Exception, match="not_root"):
        there.run("INSERT INTO shop.item (id, system_user) VALUES (1, 'root')".replace("system_user", '"system_user"'))
    identities = (
        "SELECT relname::text, relreplident::text FROM pg_class WHERE relname IN ('wide', 'chosen', 'item') ORDER BY 1"
    )
    assert there.query(identities) == [("chosen", "i"), ("item", "d"), ("wide", "f")]


DEPLOY = (
    (
        "function shop.tax(numeric)",
        "CREATE OR REPLACE FUNCTION shop.tax(p numeric) RETURNS numeric LANGUAGE sql AS 'SELECT p * 0.19'",
    ),
    (
        "view shop.priced",
        "CREATE OR REPLACE VIEW shop.priced AS SELECT id, price, price + shop.tax(price) AS gross FROM shop.item",
    ),
    (
        "table shop.item",
        "ALTER TABLE shop.item ALTER COLUMN qty SET DEFAULT 10, ADD CONSTRAINT positive CHECK (price > 0)",
    ),
    ("index shop.item_qty", "CREATE INDEX item_qty ON shop.item (qty)"),
    ("sequence shop.ticket", "ALTER SEQUENCE shop.ticket INCREMENT BY 50"),
    ('acl TABLE shop."item"', "GRANT UPDATE ON shop.item TO {app}"),
    ("function shop.fresh()", "CREATE FUNCTION shop.fresh() RETURNS int LANGUAGE sql AS 'SELECT 1'"),
)


@pytest.mark.parametrize("versions", [("14", "17"), ("17", "17"), ("18", "18")], ids=" to ".join)
def test_a_deploy_at_the_source_is_named(shop: Callable[..., Shop], versions: tuple[str, str]) -> None:
    one = shop(*versions)
    one.move()
    for dummy, statement in DEPLOY:
        one.execute(one.pair.source, statement)
    one.execute(one.pair.source, "ALTER FUNCTION shop.fresh() OWNER TO {owner}")
    found = one.found()
    assert found.keys() == {name for name, dummy in DEPLOY}
    assert {text.split(" ")[0] for text in found.values()} == {"definition_changed_at_source"}


DAMAGE = (
    ("index shop.by_price", "DROP INDEX shop.by_price"),
    (
        "fk constraint shop.line of_item",
        "ALTER TABLE shop.line DROP CONSTRAINT of_item, ADD CONSTRAINT of_item FOREIGN KEY (item) REFERENCES shop.item NOT VALID",
    ),
    (
        "table shop.item",
        "ALTER TABLE shop.item ALTER qty SET DEFAULT 2, ALTER qty DROP NOT NULL, ALTER code TYPE text, DROP CONSTRAINT not_root",
    ),
    ("trigger shop.line stamp", "ALTER TABLE shop.line DISABLE TRIGGER stamp"),
    ("table shop.more", "CREATE TABLE shop.more (a int)"),
    ("index shop.chosen_a", "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'shop.chosen_a'::regclass"),
)


def test_what_is_damaged_at_the_destination_is_named(shop: Callable[..., Shop]) -> None:
    one = shop("17", "17")
    one.move()
    one.migration.run("pg_full_copy")
    for dummy, statement in DAMAGE:
        one.execute(one.pair.destination, statement)
    found = one.found()
    # an invalid index is no replica identity either
    assert found.keys() - {'replica identity "shop"."chosen"'} == {name for name, dummy in DAMAGE}
    assert {text.split(" ")[0] for name, text in found.items() if name != "table shop.more"} == {
        "definition_changed_at_destination"
    }
    with pytest.raises(ModuleFailed, match="differ in more than rows") as failed:
        one.migration.run("pg_data_validate", client_bin=one.bin)
    assert {name for name, dummy in DAMAGE} <= {row["object"] for row in failed.value.result["differences"]}


def test_rights_that_the_destination_adds_by_itself_are_named_with_what_takes_them_back(
    shop: Callable[..., Shop],
) -> None:
    one = shop("17", "18")
    there = one.pair.destination
    one.execute(there, "ALTER DEFAULT PRIVILEGES FOR ROLE {mover} GRANT SELECT ON TABLES TO PUBLIC", mover=one.there)
    one.move()
    found = one.found()
    assert 'acl TABLE shop."line"' in found
    assert 'REVOKE SELECT ON TABLE "shop"."line" FROM PUBLIC;' in found['acl TABLE shop."line"']
    for text in found.values():
        statement = text[text.index("REVOKE") :] if "REVOKE" in text else ""
        if statement:
            there.run(statement)
    assert one.found() == {}


@pytest.mark.parametrize("inside", ["parent", "child"])
def test_inheritance_across_the_selection_is_refused(shop: Callable[..., Shop], inside: str) -> None:
    one = shop("17", "17")
    schemas = ("shop", "archive") if inside == "parent" else ("archive", "shop")
    one.execute(one.pair.source, "CREATE SCHEMA archive AUTHORIZATION {owner}")
    one.execute(
        one.pair.source,
        f"SET ROLE {{owner}}; CREATE TABLE {schemas[0]}.log (id int PRIMARY KEY, at date);"
        f" CREATE TABLE {schemas[1]}.log_2020 (PRIMARY KEY (id)) INHERITS ({schemas[0]}.log); RESET ROLE",
    )
    with pytest.raises(ModuleFailed, match="inheritance_across_selection") as failed:
        one.migration.run("pg_migration_precheck", client_bin=one.bin)
    (found,) = [row for row in failed.value.result["findings"] if row["id"] == "inheritance_across_selection"]
    assert found["object"].startswith("shop.log")
    one.pair.source.run(f"ALTER TABLE {schemas[1]}.log_2020 NO INHERIT {schemas[0]}.log")
    again = one.migration.run("pg_migration_precheck", client_bin=one.bin, fail_on="never")
    assert "inheritance_across_selection" not in {row["id"] for row in again["findings"]}


def deploy(moved: Moved, statement: str) -> str:
    """Change a definition at the source, and let the cutover refuse it, with everybody writing on; what it said."""
    moved.pair.source.run(statement)
    result = moved.refused("differ in more than rows")
    moved.assert_writable()
    assert moved.fence() is None
    return str(result["differences"])


def test_the_cutover_refuses_a_deploy_before_the_fence_and_takes_it_when_it_is_accepted(moved: Moved) -> None:
    said = deploy(moved, "CREATE FUNCTION sales.fresh() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    assert "sales.fresh()" in said and "CREATE FUNCTION" in said
    shown = moved.migration.run("pg_data_validate")
    errors = [f"{one['id']} {one['object']}" for one in shown["differences"] if one["severity"] == "error"]
    assert "definition_changed_at_source function sales.fresh()" in errors
    with pytest.raises(ModuleFailed, match="ignore_differences"):
        moved.cut(ignore_differences=["function sales.fresh()"])
    certificate = moved.cut(ignore_differences=errors)["certificate"]
    assert certificate["definitions"]["accepted"] == errors
    assert certificate["definitions"]["compared"] > 0


def test_a_change_behind_the_fence_lifts_it_and_is_named(moved: Moved) -> None:
    process = moved.break_at("after end sessions")
    moved.pair.source.run("CREATE VIEW sales.late AS SELECT 1 AS a")
    os.killpg(process.pid, signal.SIGCONT)
    with pytest.raises(ModuleFailed, match=r"view sales\.late"):
        moved.migration.finish("pg_cutover", process)
    moved.assert_writable()


def test_the_fingerprints_behind_the_fence_take_an_instant(make_moved: MakeMoved) -> None:
    extra = "; ".join(f"CREATE TABLE sales.x{n} (id int PRIMARY KEY, a int, b text, c numeric)" for n in range(50))
    moved = make_moved(extra)
    certificate = moved.cut()["certificate"]
    assert certificate["verdict"] == "identical"
    assert certificate["definitions"]["compared"] > 150
    assert certificate["definitions"]["seconds"] < 0.5


def test_a_subscription_at_the_source_stops_the_cutover(moved: Moved) -> None:
    name = f"feed_{secrets.token_hex(3)}"
    moved.pair.source.run(f"CREATE SUBSCRIPTION {name} CONNECTION 'dbname=none' PUBLICATION p WITH (connect = false)")
    try:
        assert name in str(moved.refused("subscription")["differences"])
    finally:
        moved.pair.source.run(f"ALTER SUBSCRIPTION {name} SET (slot_name = NONE)")
        moved.pair.source.run(f"DROP SUBSCRIPTION {name}")
