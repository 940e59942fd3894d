# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pg_migration_precheck on real servers: each family once, and that it writes nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import psycopg
import pytest
from psycopg import sql
from support import witness
from support.clusters.local import Clusters
from support.clusters.pairs import Pair
from support.harness.modules import Migration, ModuleFailed

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.migration import Migration as EngineMigration
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres import connect, server
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.precheck import catalogue, run
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.precheck.observe import observe
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.runner import Outcome
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.spec import spec_of

MODULE = "pg_migration_precheck"
SHOP = """
CREATE SCHEMA shop;
CREATE TABLE shop.customer (id bigint PRIMARY KEY, name text);
CREATE TABLE shop.log (at timestamptz, line text);
INSERT INTO shop.customer VALUES (1, 'Ada');
"""


def migration(pair: Pair, name: str, clusters: Clusters, **more: Any) -> Migration:
    common = {"allow_keyless": True, "client_bin": clusters.bin_dir("18"), **more}
    objects = common.pop("objects", [{"schema": "shop"}])
    return Migration(name, pair.source.endpoint, pair.destination.endpoint, objects, common)


def ids(result: dict[str, Any], severity: str | None = None) -> list[str]:
    return [one["id"] for one in result["findings"] if severity in (None, one["severity"])]


def found(result: dict[str, Any], check: str) -> dict[str, Any]:
    (one,) = [one for one in result["findings"] if one["id"] == check]
    assert isinstance(one, dict)
    return one


def failed(one: Migration, **more: Any) -> dict[str, Any]:
    with pytest.raises(ModuleFailed) as caught:
        one.run(MODULE, **more)
    return dict(caught.value.result)


@pytest.mark.own_servers("it expects product PostgreSQL, in a minor version with all fixes")
def test_a_healthy_pair_passes_and_nothing_is_written(pair: Pair, clusters: Clusters) -> None:
    pair.source.run(SHOP)
    before = [witness.fingerprint(end.sql) for end in pair.ends]
    result = migration(pair, "healthy", clusters).run(MODULE)
    assert result["passed"] and result["changed"] is False
    assert ids(result, "error") == [] and ids(result, "warning") == []
    assert found(result, "no_key")["object"] == "shop.log"
    assert result["counts"]["ignorable"] == len(ids(result, "ignorable"))
    assert result["source_server"]["product"] == "PostgreSQL"
    assert result["source_server"]["version"].startswith("17.")
    assert [witness.fingerprint(end.sql) for end in pair.ends] == before


def test_findings_come_back_although_the_module_fails(pair: Pair, clusters: Clusters) -> None:
    pair.source.run(SHOP)
    result = failed(migration(pair, "keyless", clusters, allow_keyless=False))
    assert "1 finding must be fixed first: no_key" in result["msg"]
    assert result["error"]["code"] == "precheck_failed"
    assert not result["passed"] and result["counts"]["error"] == 1
    one = found(result, "no_key")
    assert one["evidence"]["answer"] == "no unique index" and "ADD PRIMARY KEY" in one["fix"]
    assert "exception" not in result


def test_fail_on_and_ignore_checks(pair: Pair, clusters: Clusters) -> None:
    pair.source.run(SHOP)
    one = migration(pair, "judged", clusters)
    result = one.run(MODULE, fail_on="never", allow_keyless=False)
    assert ids(result, "error") == ["no_key"] and result["passed"]
    strict = failed(one, fail_on="warning")
    # whether somebody looks after the worker is this machine's
    assert set(ids(strict, "ignorable")) - {"worker_supervisor"} == {"no_key"}
    passed = one.run(MODULE, fail_on="warning", ignore_checks=["no_key", "worker_supervisor"])
    assert passed["passed"] and "no_key" not in ids(passed)
    assert "only ignorable" in failed(one, ignore_checks=["wal_level"])["msg"]
    assert "no check of that id" in failed(one, ignore_checks=["no_such_check"])["msg"]


@pytest.mark.own_servers("it expects product PostgreSQL, in a minor version with all fixes")
def test_each_way_of_not_getting_in_is_told_apart(pair: Pair, clusters: Clusters) -> None:
    pair.source.run(SHOP)
    one = migration(pair, "doors", clusters)
    healthy = dict(one.source)
    for change, kind in (
        ({"login_port": 1}, "host"),
        ({"login_host": "no-such-host.invalid"}, "host"),
        ({"login_password": "wrong"}, "authentication"),
        ({"login_db": "no_such_database"}, "database"),
        ({"ssl_mode": "require"}, "TLS"),
    ):
        one.source = {**healthy, **change}
        result = failed(one)
        evidence = found(result, "source_connect")["evidence"]["answer"]
        assert evidence.startswith(f"{kind}: "), evidence
        assert "wrong" not in str(result)
        assert result["source_server"] == {} and result["destination_server"]["product"] == "PostgreSQL"


def test_a_missing_destination_database_comes_with_the_statement_that_makes_it(pair: Pair, clusters: Clusters) -> None:
    pair.source.run(SHOP)
    one = migration(pair, "nowhere", clusters)
    one.destination = {**one.destination, "login_db": f"{pair.destination.dbname}_new"}
    finding = found(failed(one), "destination_database_missing")
    with pair.destination.server.connect() as admin:
        admin.execute(finding["fix"].encode())
        try:
            assert one.run(MODULE)["passed"]
        finally:
            admin.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(f"{pair.destination.dbname}_new")))


LOCALES = {
    "builtin": ("17", "17", "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'"),
    "builtin of 18": ("18", "18", "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'PG_UNICODE_FAST'"),
    "libc to 18": ("14", "18", "LC_COLLATE 'C' LC_CTYPE 'C.UTF-8'"),
    "libc to 14": ("17", "14", "LC_COLLATE 'C.UTF-8' LC_CTYPE 'C'"),
}


@pytest.mark.parametrize("locale", LOCALES)
def test_texts_sort_and_fold_alike_at_a_destination_that_the_statement_makes(
    make_pair: Callable[..., Pair], clusters: Clusters, locale: str
) -> None:
    here, there, options = LOCALES[locale]
    pair = make_pair(here, there)
    name = f"{pair.source.dbname}_sorted"
    make, drop = (sql.SQL(text).format(sql.Identifier(name)) for text in (MAKE, "DROP DATABASE IF EXISTS {}"))
    folds = "SELECT lower('ÄRGER') || upper('ß') || lower('I') || ('Z' < 'a') || ('ä' < 'z')"
    with pair.source.server.connect() as source, pair.destination.server.connect() as admin:
        try:
            source.execute(make + sql.SQL(options))
            with pair.source.server.connect(name) as session:
                session.execute(SHOP)
                wanted = session.execute(folds).fetchone()
            one = migration(pair, "sorted", clusters, ignore_checks=["version_downgrade"])
            one.source, one.destination = ({**end, "login_db": name} for end in (one.source, one.destination))
            statements = [found(failed(one), "destination_database_missing")["fix"]]
            if there == "14":
                assert "before PostgreSQL 15 without LOCALE_PROVIDER libc" in statements[0]
                statements = [statements[0].replace("LOCALE_PROVIDER libc", "", 1)]
            admin.execute(make + sql.SQL("LOCALE 'C'"))
            unlike = found(one.run(MODULE), "database_collation")
            assert unlike["severity"] == "ignorable"
            statements.append(unlike["fix"].partition("login_db: ")[2])
            admin.execute(drop)
            for statement, made in zip(statements, (name, f"{name}_new"), strict=True):
                admin.execute(statement.encode())
                one.destination["login_db"] = made
                assert "database_collation" not in ids(one.run(MODULE))
                with pair.destination.server.connect(made) as session:
                    assert session.execute(folds).fetchone() == wanted
        finally:
            for end in (admin, source):
                for made in (name, f"{name}_new"):
                    end.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(made)))


def test_a_locale_that_the_destination_s_version_lacks_is_said(
    make_pair: Callable[..., Pair], clusters: Clusters
) -> None:
    pair = make_pair("18", "17")
    name = f"{pair.source.dbname}_fast"
    options = "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'PG_UNICODE_FAST'"
    with pair.source.server.connect() as source, pair.destination.server.connect() as destination:
        make = sql.SQL(MAKE).format(sql.Identifier(name))
        with pytest.raises(psycopg.errors.WrongObjectType):
            destination.execute(make + sql.SQL(options))
        try:
            source.execute(make + sql.SQL(options))
            one = migration(pair, "fast", clusters, ignore_checks=["version_downgrade"])
            one.source = {**one.source, "login_db": name}
            with pair.source.server.connect(name) as session:
                session.execute(SHOP)
            fix = found(one.run(MODULE), "database_collation")["fix"]
            assert "PostgreSQL 18 or newer" in fix and "CREATE DATABASE" not in fix
        finally:
            source.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))


MAKE = "CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8' "


def test_the_same_database_at_both_ends(pair: Pair, clusters: Clusters) -> None:
    pair.source.run(SHOP)
    one = migration(pair, "same", clusters)
    one.destination = one.source
    assert "same_database" in ids(failed(one), "error")


def test_both_ends_down_is_two_findings(pair: Pair, clusters: Clusters) -> None:
    one = migration(pair, "down", clusters)
    one.source = {**one.source, "login_port": 1}
    one.destination = {**one.destination, "login_port": 1}
    assert ids(failed(one), "error") == ["source_connect", "destination_connect"]


def test_logical_decoding(make_pair: Callable[..., Pair], clusters: Clusters) -> None:
    pair = make_pair(
        source_settings={
            "wal_level": "replica",
            "max_replication_slots": "1",
            "max_wal_senders": "1",
            "wal_sender_timeout": "5s",
            "max_slot_wal_keep_size": "1GB",
            "logical_decoding_work_mem": "1MB",
            "idle_in_transaction_session_timeout": "1h",
            "max_prepared_transactions": "2",
        }
    )
    pair.source.run(SHOP + "CREATE PUBLICATION everything FOR ALL TABLES; CREATE TABLE shop.dts_ddl_command (id int)")
    pair.source.run("BEGIN; INSERT INTO shop.customer VALUES (2, 'Bo'); PREPARE TRANSACTION 'half'")
    one = migration(pair, "decoding", clusters)
    try:
        result = failed(one)
    finally:
        pair.source.run("ROLLBACK PREPARED 'half'")
    assert {"wal_level", "max_replication_slots", "max_wal_senders"} <= set(ids(result, "error"))
    assert {"wal_sender_timeout", "prepared_transactions"} <= set(ids(result, "warning"))
    assert {"max_slot_wal_keep_size", "publication_for_all_tables"} <= set(ids(result, "ignorable"))
    assert {"logical_decoding_work_mem", "idle_in_transaction_session_timeout", "leftovers"} <= set(ids(result, "note"))
    assert found(result, "prepared_transactions")["object"] == "half"
    # none of it matters where no changes are captured
    quiet = one.run(MODULE, types=["schema", "full"])
    assert quiet["passed"] and not {"wal_level", "leftovers", "prepared_transactions"} & set(ids(quiet))


def test_a_slot_of_our_name_that_is_not_ours(pair: Pair, clusters: Clusters) -> None:
    pair.source.run(SHOP)
    pair.source.run("SELECT pg_create_logical_replication_slot('dts_sync_taken', 'pgoutput')")
    pair.source.run("SELECT pg_create_logical_replication_slot('dts_forgotten', 'pgoutput')")
    result = failed(migration(pair, "taken", clusters))
    assert found(result, "slot_name_taken")["object"] == "dts_sync_taken"
    assert found(result, "leftovers")["object"] == "dts_forgotten"


def test_an_account_with_too_few_rights(
    make_role: Callable[..., tuple[str, str]], pair: Pair, clusters: Clusters
) -> None:
    pair.source.run(SHOP)
    pair.source.run("CREATE SCHEMA hidden; CREATE TABLE hidden.t (id int PRIMARY KEY)")
    user, password = make_role(pair)
    pair.source.run(f'GRANT USAGE ON SCHEMA shop TO "{user}"')
    pair.destination.run(f'REVOKE TEMP ON DATABASE "{pair.destination.dbname}" FROM PUBLIC')
    one = migration(pair, "poor", clusters, objects=[{"schema": "shop"}, {"schema": "hidden"}])
    for end in (one.source, one.destination):
        end.update(login_user=user, login_password=password)
    result = failed(one)
    assert set(ids(result, "error")) == {
        "replication_connect",
        "source_select",
        "source_schema_usage",
        "source_identity_owner",
        "source_create_publication",
        "destination_replica_role",
        "destination_create",
        "destination_temp_privilege",
        "owner_not_ours",
    }
    assert found(result, "replication_connect")["evidence"]["answer"].startswith("replication: ")
    assert found(result, "source_schema_usage")["object"] == "hidden"
    assert found(result, "owner_not_ours")["object"] == "postgres"
    pair.destination.run(found(result, "destination_replica_role")["fix"])
    pair.destination.run(found(result, "destination_create")["fix"])
    pair.destination.run(found(result, "destination_temp_privilege")["fix"])
    try:
        cured = failed(one)
    finally:
        pair.destination.run(f'REVOKE SET ON PARAMETER session_replication_role FROM "{user}"')
    assert set(ids(cured, "error")) == {
        "replication_connect",
        "source_select",
        "source_schema_usage",
        "source_identity_owner",
        "source_create_publication",
        "owner_not_ours",
    }


def test_objects(pair: Pair, clusters: Clusters) -> None:
    pair.source.run(SHOP)
    pair.source.run("""
        CREATE EXTENSION hstore;
        CREATE TABLE shop.tagged (id int PRIMARY KEY, tags hstore[]);
        CREATE UNLOGGED TABLE shop.scratch (id int PRIMARY KEY);
        SELECT lo_from_bytea(0, 'x');
        CREATE TABLE shop.silent (id int PRIMARY KEY);
        ALTER TABLE shop.silent REPLICA IDENTITY NOTHING;
        CREATE TABLE shop.ordered (pos int PRIMARY KEY DEFERRABLE);
        CREATE TABLE shop.sale (id int, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
        CREATE TABLE shop.sale_2026 PARTITION OF shop.sale FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
    """)
    objects = [
        {"schema": "shop", "exclude": ["sale_2026"]},
        {"schema": "nope"},
        {"schema": "shop", "tables": [{"name": "x*"}]},
    ]
    result = failed(migration(pair, "objects", clusters, objects=objects, allow_keyless=False))
    by_id = {
        one["id"]: one["object"] for one in result["findings"] if one["id"] not in ("no_key", "pattern_matches_nothing")
    }
    assert "extension_missing" not in by_id  # the schema phase makes it
    assert by_id["unlogged_tables"] == "shop.scratch"
    assert by_id["large_objects"] == "pg_largeobject"
    assert by_id["replica_identity"] == "shop.silent"
    assert by_id["deferred_unique"] == "shop.ordered"
    assert by_id["partition_incomplete"] == "shop.sale_2026"
    assert ids(result).count("pattern_matches_nothing") == 2
    assert {one["object"] for one in result["findings"] if one["id"] == "no_key"} == {"shop.log", "shop.ordered"}
    nothing = failed(migration(pair, "objects", clusters, objects=[{"schema": "nope"}]))
    assert "nothing_selected" in ids(nothing, "error")


def test_destination(pair: Pair, clusters: Clusters) -> None:
    pair.run(SHOP)
    pair.destination.run("ALTER TABLE shop.customer ADD extra int NOT NULL DEFAULT 0, ALTER name TYPE varchar(10)")
    pair.destination.run("DROP TABLE shop.log")
    one = migration(pair, "conflict", clusters)
    result = failed(one)
    assert found(result, "conflicting_tables")["object"] == "shop.customer"
    assert found(result, "conflicting_tables")["severity"] == "error"
    accepted = one.run(MODULE, conflicting_tables="ignore")
    assert found(accepted, "conflicting_tables")["severity"] == "ignorable"
    assert found(accepted, "conflicting_rows")["object"] == "shop.customer"
    pair.destination.run("CREATE TABLE shop.log (at timestamptz, line text)")
    assert found(failed(one, conflicting_tables="ignore"), "keyless_with_ignore")["object"] == "shop.log"
    pair.destination.run("DROP TABLE shop.log; TRUNCATE shop.customer")
    standing = failed(one, types=["full", "incremental"])
    assert set(ids(standing, "error")) == {"table_missing", "column_mismatch", "type_mismatch"}
    assert "extra" in found(standing, "column_mismatch")["evidence"]["answer"]


@pytest.mark.since(150000, "a version that pg_dump of 14 is too old for")
def test_client_tools_that_are_older_than_the_source(pair: Pair, clusters: Clusters) -> None:
    pair.source.run(SHOP)
    result = failed(migration(pair, "tools", clusters, client_bin=clusters.bin_dir("14")))
    assert [one["object"] for one in result["findings"] if one["id"] == "client_tools"] == ["pg_dump", "pg_restore"]
    assert migration(pair, "tools", clusters, client_bin=clusters.bin_dir("14")).run(
        MODULE, types=["full"], fail_on="never"
    )


@pytest.mark.own_servers("it expects product PostgreSQL, in a minor version with all fixes")
def test_what_the_migration_owns_is_no_finding(pair: Pair, clusters: Clusters) -> None:
    pair.source.run(SHOP)
    one = migration(pair, "owner", clusters)
    del one.more["client_bin"]
    one.run("pg_replica_identity")
    one.run("pg_publication")
    one.run("pg_repl_slot")
    pair.destination.run(SHOP)
    one.more["client_bin"] = clusters.bin_dir("18")
    assert ids(failed(one), "error") == ["conflicting_tables", "conflicting_tables"]
    pair.destination.run("UPDATE causeway.migration SET phase = 'schema'")
    result = one.run(MODULE)
    assert ids(result, "error") == [] and ids(result, "warning") == []
    # the same name for another source
    pair.destination.run("UPDATE causeway.migration SET source_system = '1'")
    assert "migration_name_taken" in ids(failed(one), "error")


def test_a_schema_of_the_states_name_that_is_not_ours(pair: Pair, clusters: Clusters) -> None:
    pair.source.run(SHOP)
    pair.destination.run("CREATE SCHEMA causeway")
    assert "state_unusable" in ids(failed(migration(pair, "foreign", clusters)), "error")


def test_nothing_is_checked_once_the_destination_is_in_production(pair: Pair, clusters: Clusters) -> None:
    pair.source.run(SHOP)
    pair.destination.run(SHOP)
    database = pair.destination.dbname
    pair.destination.run(
        f"COMMENT ON DATABASE \"{database}\" IS '[causeway: migration open opened this database at 2026-11-01 10:00:00+00]'"
    )
    result = migration(pair, "open", clusters).run(MODULE)
    assert result["passed"] and result["findings"] == [] and result["opened_at"] == "2026-11-01 10:00:00+00"
    assert "in production" in result["msg"]
    assert "conflicting_tables" in ids(failed(migration(pair, "open", clusters), restart=True), "error")


@pytest.mark.parametrize(("source", "destination"), [("14", "18"), ("18", "14")])
def test_other_versions(make_pair: Callable[..., Pair], clusters: Clusters, source: str, destination: str) -> None:
    pair = make_pair(source=source, destination=destination)
    pair.source.run(SHOP)
    result = migration(pair, "versions", clusters).run(MODULE)
    assert ids(result, "error") == [] and ids(result, "warning") == []
    assert ("version_downgrade" in ids(result)) is (source > destination)
    assert result["source_server"]["version"].startswith(source)


HIDDEN = "causeway_test.mode"
"""A setting that pg_settings does not show, as PolarDB hides its own: a prefix that no module has taken."""


@contextlib.contextmanager
def inside(pair: Pair, role: tuple[str, str] | None = None) -> Iterator[EngineMigration]:
    """The migration in the test's own process, with an account that may have fewer rights."""
    own = {"user": role[0], "password": role[1]} if role else {}
    ends = [end.server.endpoint(end.dbname, **own) for end in pair.ends]
    options: dict[str, Any] = {
        "name": "inside",
        "source": ends[0],
        "destination": ends[1],
        "objects": [{"schema": "shop"}],
        "types": ("full", "incremental"),
        "state_schema": "causeway",
        "allow_keyless": True,
        "conflicting_tables": "report",
        "restart": False,
    }
    with EngineMigration(spec_of(options)) as migration:
        yield migration


def test_settings_that_are_hidden_are_asked_for_by_name(
    make_role: Callable[..., tuple[str, str]], pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = make_role(pair)
    pair.source.run(f"ALTER DATABASE \"{pair.source.dbname}\" SET {HIDDEN} = 'sync'")
    # the second is refused to this account; the third does not exist
    names = (HIDDEN, "shared_preload_libraries", "polar_failover_slot_mode")
    monkeypatch.setattr(server, "HIDDEN_SETTINGS", names)
    with inside(pair, role) as migration:
        assert migration.source.execute("SELECT FROM pg_settings WHERE name = %s", [HIDDEN]).fetchall() == []
        seen = migration.source_server
    assert seen.setting(HIDDEN) == "sync"
    assert seen.setting("polar_failover_slot_mode", "none") == "none"
    assert "wal_level" in seen.settings


def test_a_walsender_turns_off_what_a_database_setting_turns_on(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "OFF_FOR_WALSENDERS", (HIDDEN, "polar_publish_via_partition_root"))
    pair.source.run(f"ALTER DATABASE \"{pair.source.dbname}\" SET {HIDDEN} = 'on'")
    with inside(pair) as migration:
        walsender = migration.open(migration.spec.source, "test", replication=True)
        asked = connect.simple_query(walsender, f"SHOW {HIDDEN}", "asking", "the walsender")
        assert asked == [("off",)]
        ordinary = migration.source.execute(f"SHOW {HIDDEN}".encode()).fetchone()
        assert ordinary == ("on",)


def test_a_server_that_is_too_old_is_told_before_anything_is_asked(
    pair: Pair, clusters: Clusters, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.source.run(SHOP)
    monkeypatch.setattr(connect, "OLDEST", 190000)
    before = [witness.fingerprint(end.sql) for end in pair.ends]
    with inside(pair) as migration, pytest.raises(catalogue.PrecheckError) as caught:
        run.plan(migration, Nothing(), run.PrecheckOptions())
    findings: Any = caught.value.result["findings"]
    told = {one["id"]: one for one in findings if one["severity"] == "error"}
    assert {"source_version", "destination_version"} <= set(told) and "source_connect" not in told
    assert "the server's version is 17." in told["source_version"]["evidence"]["answer"]
    assert [witness.fingerprint(end.sql) for end in pair.ends] == before


class Nothing:
    """A worker host without client programs."""

    def run(self, argv: Sequence[str], environment: Mapping[str, str]) -> Outcome:
        return Outcome(127, "", "")

    def find(self, program: str, folder: str) -> str:
        return ""


def test_walsenders_that_are_all_in_use_are_no_missing_attribute(
    make_role: Callable[..., tuple[str, str]], make_pair: Callable[..., Pair], clusters: Clusters
) -> None:
    pair = make_pair(source_settings={"max_wal_senders": "1"})
    pair.source.run(SHOP)
    role = make_role(pair, "LOGIN REPLICATION")
    one = migration(pair, "senders", clusters)
    with psycopg.connect(f"{pair.source.dsn} replication=database"):
        result = failed(one)
    evidence = found(result, "replication_connect")["evidence"]["answer"]
    assert evidence.startswith("walsenders: ") and "REPLICATION;" not in found(result, "replication_connect")["fix"]
    answer = found(result, "max_wal_senders")["evidence"]["answer"]
    assert answer == "max_wal_senders: 0 free (1 of 1 used), 2 needed"
    assert role


def test_whose_walsenders_there_are(
    make_role: Callable[..., tuple[str, str]], pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = make_role(pair, "LOGIN REPLICATION")
    pair.source.run(SHOP)
    with contextlib.ExitStack() as stack:
        for own in ({}, {"user": role[0], "password": role[1]}):
            given = pair.source.server.dsn(pair.source.dbname, replication="database", **own)
            stack.enter_context(psycopg.connect(given))
        with inside(pair, role) as limited:
            seen = observe(limited, Nothing()).source
        with inside(pair) as mighty:
            ours = observe(mighty, Nothing()).source
    assert seen is not None and ours is not None
    assert (seen.superuser, ours.superuser) == (False, True)
    assert seen.walsenders - seen.limited_walsenders == ours.walsenders - ours.limited_walsenders >= 1
    assert seen.limited_walsenders >= 1
