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

    @contextlib.contextmanager
    def drift(self) -> Iterator[Callable[[], Compared]]:
        """Compares as validate does, in this process, on sessions of its own."""
        shared = {"state_schema": "causeway", "conflicting_tables": "report", "restart": False}
        options = json.loads(self.migration.arguments({}))["ANSIBLE_MODULE_ARGS"]
        with EngineMigration(spec_of({**shared, **options})) as migration:
            yield lambda: Drift(migration, Programs(), self.bin, ()).compare()


def told(compared: Compared) -> dict[str, str]:
    return {one.object: f"{one.id} {one.severity}: {one.cause} {one.fix}" for one in compared.differences}


@pytest.fixture
def kinds(clusters: Clusters, make_pair: Callable[..., Pair], make_role: MakeRole) -> Callable[..., Kinds]:
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
    assert told(compared) == {}


@pytest.mark.parametrize("at", ["source", "destination"])
@pytest.mark.parametrize(("source", "destination"), [("18", "18"), ("14", "17")])
def test_each_change_is_named_alone(kinds: Callable[..., Kinds], source: str, destination: str, at: str) -> None:
    moved = kinds(source=source, destination=destination)
    moved.move()
    known: set[str] = set()
    wrong = []
    with moved.drift() as compare:
        for deed in every_kind.DEEDS:
            moved.execute(getattr(moved.pair, at), deed.statement)
            now = told(compare())
            new = sorted(now.keys() - known)
            words = deed.words.split(" ")
            if len(new) != 1 or not all(word in new[0].replace('"', "") or word in new[0] for word in words):
                wrong.append((deed.statement, deed.words, new))
            elif at not in now[new[0]] and "added" not in deed.words:
                wrong.append((deed.statement, deed.words, [now[new[0]]]))
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
