# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What precheck says of extensions is what the schema phase then does: both ask which ones are needed in one place."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support import witness
from support.clusters.pairs import Clusters, Pair
from support.harness.modules import Migration, ModuleFailed

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.migration import Migration as EngineMigration
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.objects.extensions import needed_extensions
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.spec import spec_of

PRECHECK = "pg_migration_precheck"

SHOP = """
CREATE SCHEMA shop;
CREATE SCHEMA "ext S";
CREATE SCHEMA aside;
CREATE EXTENSION hstore SCHEMA "ext S" VERSION '1.7';
CREATE EXTENSION cube SCHEMA "ext S";
CREATE EXTENSION earthdistance SCHEMA "ext S";
CREATE EXTENSION citext SCHEMA aside;
CREATE EXTENSION btree_gist SCHEMA shop;
CREATE EXTENSION pg_trgm SCHEMA shop;
CREATE EXTENSION unaccent SCHEMA shop;
CREATE EXTENSION moddatetime SCHEMA aside;
CREATE DOMAIN aside.email AS aside.citext CHECK (VALUE LIKE '%@%');
CREATE TABLE shop.tagged (id int PRIMARY KEY, tags "ext S".hstore[], mail aside.email, at timestamptz,
    far float8 DEFAULT "ext S".sec_to_gc(1));
CREATE TABLE shop.booked (room int, during tsrange, EXCLUDE USING gist (room WITH =, during WITH &&));
CREATE TABLE shop.left_out (id int PRIMARY KEY, name text);
CREATE INDEX ON shop.left_out USING gin (name shop.gin_trgm_ops);
CREATE TRIGGER stamp BEFORE UPDATE ON shop.tagged FOR EACH ROW EXECUTE FUNCTION aside.moddatetime(at);
"""
HERE = "SELECT extname, extversion, n.nspname FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace ORDER BY 1"


def migration(pair: Pair, clusters: Clusters, **more: Any) -> Migration:
    objects = more.pop("objects", [{"schema": "shop", "exclude": ["left_out"]}, {"schema": "aside"}])
    common = {"allow_keyless": True, "client_bin": clusters.bin_dir("18"), **more}
    return Migration("extensions", pair.source.endpoint, pair.destination.endpoint, objects, common)


def said(result: dict[str, Any], check: str) -> dict[str, dict[str, Any]]:
    """The findings of one check by what they are about."""
    return {one["object"]: one for one in result["findings"] if one["id"] == check}


def failed(one: Migration, **more: Any) -> dict[str, Any]:
    with pytest.raises(ModuleFailed) as caught:
        one.run(PRECHECK, **more)
    return dict(caught.value.result)


def test_what_is_needed_passes_and_is_made_as_it_is_at_the_source(pair: Pair, clusters: Clusters) -> None:
    pair.source.run(SHOP)
    one = migration(pair, clusters)
    before = witness.fingerprint(pair.destination.sql)
    result = one.run(PRECHECK)
    assert result["passed"]
    assert not said(result, "extension_missing") and not said(result, "extension_version")
    assert witness.fingerprint(pair.destination.sql) == before
    checked, made, again, dummy = one.four_beats("pg_schema_sync", section="pre_data")
    assert checked["statements"] == made["statements"] and not again["changed"]
    wanted = {"hstore", "cube", "earthdistance", "citext", "btree_gist", "moddatetime"}
    at_source = [row for row in pair.source.sql.execute(HERE) if row[0] in wanted]
    assert [row for row in pair.destination.sql.execute(HERE) if row[0] != "plpgsql"] == at_source
    assert ("hstore", "1.7", "ext S") in at_source


def test_one_table_needs_less_than_its_schema(pair: Pair, clusters: Clusters) -> None:
    pair.source.run(SHOP)
    one = migration(pair, clusters, objects=[{"schema": "shop", "tables": [{"name": "left_out"}]}])
    assert one.run(PRECHECK)["passed"]
    one.run("pg_schema_sync", section="pre_data")
    assert {row[0] for row in pair.destination.sql.execute(HERE)} == {"plpgsql", "pg_trgm"}


def test_what_the_server_does_not_offer_is_an_error(make_pair: Any, clusters: Clusters) -> None:
    pair = make_pair(source="14", destination="17")
    pair.source.run("""
        CREATE SCHEMA shop;
        CREATE EXTENSION old_snapshot;
        CREATE TABLE shop.t (id int PRIMARY KEY);
        CREATE VIEW shop.mapped AS SELECT * FROM pg_old_snapshot_time_mapping();
    """)
    found = said(failed(migration(pair, clusters, objects=[{"schema": "shop"}])), "extension_missing")
    assert found.keys() == {"old_snapshot"}
    assert "does not offer it" in found["old_snapshot"]["evidence"]["answer"]
    assert "Install the package" in found["old_snapshot"]["fix"]


def test_another_version_is_made_where_the_source_s_is_not_offered(make_pair: Any, clusters: Clusters) -> None:
    pair = make_pair(source="17", destination="14")
    pair.source.run("""
        CREATE SCHEMA shop;
        CREATE EXTENSION pageinspect;
        CREATE TABLE shop.t (id int PRIMARY KEY, page bytea DEFAULT get_raw_page('pg_class', 0));
    """)
    one = migration(pair, clusters, objects=[{"schema": "shop"}])
    result = one.run(PRECHECK)
    assert not said(result, "extension_missing")
    finding = said(result, "extension_version")["pageinspect"]
    assert finding["severity"] == "ignorable" and "does not offer" in finding["evidence"]["answer"]
    made = one.run("pg_schema_sync", section="pre_data")
    assert "pageinspect is created in version" in str(made["warnings"])
    (version,) = pair.destination.sql.execute(
        "SELECT extversion FROM pg_extension WHERE extname = 'pageinspect'"
    ).fetchone()
    assert version in finding["evidence"]["answer"]


def test_an_account_that_may_not_make_them_gets_the_statement_that_helps(
    make_role: Callable[..., tuple[str, str]], pair: Pair, clusters: Clusters
) -> None:
    pair.source.run("""
        CREATE SCHEMA shop;
        CREATE EXTENSION hstore;
        CREATE EXTENSION pageinspect SCHEMA shop;
        CREATE TABLE shop.t (id int PRIMARY KEY, tags hstore, page bytea DEFAULT shop.get_raw_page('pg_class', 0));
    """)
    user, password = make_role(pair)
    one = migration(pair, clusters, objects=[{"schema": "shop"}])
    one.destination.update(login_user=user, login_password=password)
    found = said(failed(one), "extension_missing")
    assert found.keys() == {"hstore", "pageinspect"}
    assert all("SQLSTATE 42501" in finding["evidence"]["answer"] for finding in found.values())
    assert found["hstore"]["fix"].startswith("GRANT CREATE ON DATABASE")
    assert found["pageinspect"]["fix"].startswith('CREATE SCHEMA IF NOT EXISTS "shop"; CREATE EXTENSION "pageinspect"')
    pair.destination.run(found["hstore"]["fix"])
    assert said(failed(one), "extension_missing").keys() == {"pageinspect"}
    pair.destination.run(found["pageinspect"]["fix"])
    assert not said(failed(one), "extension_missing")


MEMBERS = {
    "views in a selected schema": "CREATE EXTENSION pg_stat_statements SCHEMA shop",
    "types and functions in a selected schema": "CREATE EXTENSION hstore SCHEMA shop; CREATE EXTENSION ltree SCHEMA shop",
    "a schema of its own": "CREATE SCHEMA own; CREATE EXTENSION pg_stat_statements SCHEMA own",
    "views in public": "CREATE EXTENSION pg_buffercache SCHEMA public; CREATE EXTENSION pg_stat_statements SCHEMA public",
    "a table with keys, an identity and a view": """
        CREATE EXTENSION pg_trgm SCHEMA public;
        CREATE TABLE shop.member (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text UNIQUE CHECK (name <> ''));
        CREATE INDEX ON shop.member (lower(name));
        CREATE VIEW shop.of_member AS SELECT * FROM shop.member;
        ALTER EXTENSION pg_trgm ADD TABLE shop.member;
        ALTER EXTENSION pg_trgm ADD VIEW shop.of_member
    """,
    "types with what belongs to them": """
        CREATE EXTENSION pg_trgm SCHEMA public;
        CREATE TYPE shop.span AS RANGE (subtype = float8);
        CREATE TYPE shop.mood AS ENUM ('calm');
        CREATE TYPE shop.pair AS (a int, b int);
        CREATE DOMAIN shop.positive AS int CHECK (VALUE > 0);
        ALTER EXTENSION pg_trgm ADD TYPE shop.span;
        ALTER EXTENSION pg_trgm ADD TYPE shop.mood;
        ALTER EXTENSION pg_trgm ADD TYPE shop.pair;
        ALTER EXTENSION pg_trgm ADD DOMAIN shop.positive
    """,
}


@pytest.mark.parametrize("made", MEMBERS)
@pytest.mark.parametrize("version", ["14", "17", "18"])
def test_what_belongs_to_an_extension_asks_for_no_extension(
    version: str, made: str, make_pair: Any, clusters: Clusters
) -> None:
    pair = make_pair(version, version)
    pair.source.run(
        "CREATE SCHEMA shop; CREATE TABLE shop.t (id int PRIMARY KEY); CREATE TABLE public.u (id int PRIMARY KEY)"
    )
    pair.source.run(MEMBERS[made])
    schemas = ["shop", "public", *(["own"] if "SCHEMA own" in MEMBERS[made] else [])]
    one = migration(pair, clusters, objects=[{"schema": schema} for schema in schemas])
    with opened(pair, schemas) as inside:
        assert needed_extensions(inside.source, inside.selected()) == ()
        chosen = inside.selected()
        assert {table.qualified_name for table in chosen.tables} == {("shop", "t"), ("public", "u")}
        assert chosen.sequences == ()
    result = one.run(PRECHECK)
    assert not said(result, "extension_missing") and not said(result, "extension_version")
    one.four_beats("pg_schema_sync", section="pre_data")
    assert {row[0] for row in pair.destination.sql.execute(HERE)} == {"plpgsql"}
    tables = (
        "SELECT relname FROM pg_class WHERE relkind IN ('r', 'v', 'S') AND relnamespace::regnamespace::text = ANY (%s)"
    )
    assert {row[0] for row in pair.destination.sql.execute(tables, [schemas])} == {"t", "u"}


@pytest.mark.parametrize("version", ["14", "17", "18"])
def test_a_view_of_the_user_s_over_a_member_needs_the_extension(
    version: str, make_pair: Any, clusters: Clusters
) -> None:
    pair = make_pair(version, version)
    pair.source.run("""
        CREATE SCHEMA shop;
        CREATE TABLE shop.t (id int PRIMARY KEY);
        CREATE EXTENSION pg_stat_statements SCHEMA shop;
        CREATE VIEW shop.slow AS SELECT query FROM shop.pg_stat_statements;
        CREATE EXTENSION cube SCHEMA shop;
        CREATE TYPE shop.box AS RANGE (subtype = shop.cube);
    """)
    one = migration(pair, clusters, objects=[{"schema": "shop"}])
    one.run("pg_schema_sync", section="pre_data")
    assert {row[0] for row in pair.destination.sql.execute(HERE)} == {"plpgsql", "pg_stat_statements", "cube"}


@contextlib.contextmanager
def opened(pair: Pair, schemas: list[str]) -> Iterator[EngineMigration]:
    options: dict[str, Any] = {
        "name": "extensions",
        "source": pair.source.endpoint,
        "destination": pair.destination.endpoint,
        "objects": [{"schema": schema} for schema in schemas],
        "types": ("schema", "full", "incremental"),
        "state_schema": "causeway",
        "allow_keyless": True,
        "conflicting_tables": "report",
        "restart": False,
    }
    with EngineMigration(spec_of(options)) as found:
        yield found
