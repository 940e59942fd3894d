# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers older than those we have: a double of one is moved from, and what is said of versions is held against real servers."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from support import postgresql_history as history
from support import witness
from support.clusters.local import Clusters
from support.clusters.old_server import LOGGED, VERSION_NUMBER, Relay, hide, seen_through_relay, too_new
from support.clusters.pairs import End, Pair
from support.faults.snapshots import refuse_imports
from support.harness.moved import MakeMoved
from support.harness.trip import LEFT_OVER, NAME, SCHEMAS, Trip
from support.loads.sales import SalesLoad
from support.loads.trading import Trading
from support.sql_names import collect, texts

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres import versions

VERSIONS = ("14", "15", "16", "17", "18")
ENGINE = Path(__file__).resolve().parents[2] / "plugins" / "module_utils"


@dataclass(frozen=True)
class Known:
    """What one server has: functions, relations and columns (C(relation.column)) of pg_catalog, settings."""

    names: frozenset[str]
    conn: psycopg.Connection[Any]

    def has(self, name: str) -> bool:
        if name in history.SETTINGS | versions.SETTINGS.keys() | history.NEWER_SETTINGS.keys():
            row = self.conn.execute("SELECT current_setting(%s, true) IS NOT NULL", [name]).fetchone()
            return bool(row and row[0])
        return name in self.names


ALL = """
SELECT proname::text FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace
UNION SELECT relname::text FROM pg_class WHERE relnamespace = 'pg_catalog'::regnamespace
UNION SELECT c.relname || '.' || a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
       WHERE c.relnamespace = 'pg_catalog'::regnamespace AND a.attnum > 0 AND NOT a.attisdropped
"""


@pytest.fixture(scope="module")
def servers(clusters: Clusters) -> Iterator[dict[str, Known]]:
    """What each version has that the wheel brings."""
    found = {}
    for version in VERSIONS:
        conn = clusters.own(f"source-{version}", version).connect()
        found[version] = Known(frozenset(row[0] for row in conn.execute(ALL).fetchall()), conn)
    yield found
    for known in found.values():
        known.conn.close()


def test_what_is_called_as_old_as_10_exists_in_14_and_is_called_newer_nowhere(servers: dict[str, Known]) -> None:
    columns = {f"{relation}.{column}" for relation, listed in history.CATALOGS.items() for column in listed}
    old = {*history.FUNCTIONS, *history.CATALOGS, *columns, *history.SETTINGS}
    assert [name for name in sorted(old) if not servers["14"].has(name)] == []
    assert old & history.NEWER.keys() == set()


def test_what_the_sql_names_without_a_rule_exists_in_every_version(servers: dict[str, Known]) -> None:
    """A name may also go: C(datlastsysoid) did with 15."""
    named = collect(list(texts(ENGINE)), history.CATALOGS)
    columns = {
        f"{relation}.{column}" for relation, column in named.columns if column in history.CATALOGS.get(relation, ())
    }
    used = {*named.functions, *named.relations, *columns, *named.settings} - versions.SINCE.keys()
    assert len(used) > 200
    for version, known in servers.items():
        assert [name for name in sorted(used) if not known.has(name)] == [], version


def test_what_came_with_11_to_14_exists_in_14(servers: dict[str, Known]) -> None:
    assert [name for name in sorted(history.NEWER) if not servers["14"].has(name)] == []


def test_the_table_of_versions_is_what_the_servers_say(servers: dict[str, Known]) -> None:
    table = {**versions.FUNCTIONS, **versions.RELATIONS, **versions.COLUMNS, **versions.SETTINGS}
    for name, since in table.items():
        there = {version: known.has(name) for version, known in servers.items()}
        assert there == {version: int(version) * 10000 >= since for version in servers}, name


@pytest.fixture
def old(request: pytest.FixtureRequest, make_pair: Callable[..., Pair]) -> Iterator[tuple[Pair, Relay]]:
    """A pair whose source is a double of 11: C(pair.source.sql) is a session of the server's own, the rest goes by the relay.

    The parameter says whether a snapshot that is imported is the one that was exported.
    """
    pair = make_pair("14", source_settings=LOGGED)
    with seen_through_relay(pair.source, imports=getattr(request, "param", True)) as (source, relay):
        yield replace(pair, source=source), relay


def refused(conn: psycopg.Connection[Any], statement: str) -> str:
    with pytest.raises(psycopg.Error) as caught:
        conn.execute(statement)
    return type(caught.value).__name__


def test_the_double_lacks_what_11_lacks(old: tuple[Pair, Relay]) -> None:
    source = old[0].source
    source.run("CREATE TABLE root (id int PRIMARY KEY) PARTITION BY LIST (id); CREATE TABLE plain (id int PRIMARY KEY)")
    hide(source)
    with source.connect(application_name="causeway test") as conn:
        assert conn.info.server_version == VERSION_NUMBER
        assert conn.execute("SELECT pg_catalog.current_setting('server_version_num')").fetchone() == ("110009",)
        assert "PostgreSQL 11.9" in str(conn.execute("SELECT pg_catalog.version()").fetchone())
        for statement in (
            "SELECT max('0/1'::pg_lsn)",
            "SELECT min('0/1'::pg_lsn)",
            "SELECT pg_catalog.pg_current_snapshot()",
        ):
            assert refused(conn, statement) == "UndefinedFunction"
        assert refused(conn, "SELECT pubviaroot FROM pg_publication") == "UndefinedColumn"
        assert refused(conn, "SELECT s.wal_status FROM pg_catalog.pg_replication_slots s") == "UndefinedColumn"
        assert refused(conn, "SELECT wal_bytes FROM pg_catalog.pg_stat_wal") == "UndefinedTable"
        assert refused(conn, "CREATE PUBLICATION p FOR TABLE root") == "InvalidParameterValue"
        option = "CREATE PUBLICATION p FOR TABLE plain WITH (publish_via_partition_root = false)"
        assert refused(conn, option) == "SyntaxError"
        conn.execute("CREATE PUBLICATION p FOR TABLE plain")
        assert conn.execute("SELECT * FROM pg_settings WHERE name = 'max_slot_wal_keep_size'").fetchall() == []
        conn.execute("SELECT pg_catalog.to_jsonb(s) ->> 'wal_status' FROM pg_catalog.pg_replication_slots s")
        conn.execute("SET idle_session_timeout = 0")
    (found,) = [one.splitlines()[0] for one in too_new(source.server, source.dbname) if "SET" in one]
    assert found.startswith("idle_session_timeout: ") and found.endswith("SET idle_session_timeout = 0")


def test_an_import_through_the_double_gets_another_snapshot_where_that_is_asked_for(pair: Pair) -> None:
    pair.source.run("CREATE TABLE t (id int)")
    seen = {}
    for imports in (True, False):
        pair.source.run("TRUNCATE t")
        with seen_through_relay(pair.source, imports=imports) as (source, relay), source.connect() as holder:
            holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            (name,) = holder.execute("SELECT pg_export_snapshot()").fetchone() or ("",)
            pair.source.run("INSERT INTO t VALUES (1)")
            with source.connect(application_name="reader") as reader:
                reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
                reader.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(name)))
                seen[imports] = (reader.execute("SELECT count(*) FROM t").fetchone(), relay.spoiled)
    assert seen == {True: ((0,), []), False: ((1,), ["reader"])}


def travel(trip: Trip, source: End) -> dict[str, Any]:
    """From the precheck to the release, under load; what was seen on the way."""
    seen: dict[str, Any] = {}
    traders = {trip.login[part]: trip.roles[trip.login[part]] for part in ("app", "clerk", "owner")}
    with Trading(source, traders, trip.login["owner"]) as trading:
        for name in ("precheck", "migrate", "validate"):
            seen[name] = trip.play(name)
        seen["commits before the fence"] = trading.commits
        seen["cutover"] = trip.play("cutover")
        seen["differences"] = witness.differences(trip.pair.source.sql, trip.pair.destination.sql, SCHEMAS)
    seen["trading"] = trading
    seen["rows"] = sum(rows.total() for rows in witness.contents(trip.pair.source.sql, SCHEMAS).values())
    seen["release"] = trip.play("release", "-e", json.dumps({"causeway_confirm": NAME}))
    return seen


@pytest.mark.parametrize(
    "old",
    [
        pytest.param(True, id="snapshots can be imported", marks=pytest.mark.faults_heavy),
        pytest.param(False, id="they cannot"),
    ],
    indirect=True,
)
def test_a_database_of_11_is_moved_under_load(
    request: pytest.FixtureRequest,
    make_role: Callable[..., tuple[str, str]],
    old: tuple[Pair, Relay],
    clusters: Clusters,
    tmp_path: Path,
) -> None:
    pair, relay = old
    if not request.node.callspec.params["old"]:
        refuse_imports(pair.source)
    trip = Trip(pair, tmp_path, clusters, make_role)
    pair.source.run("ALTER TABLE shop.customers DROP COLUMN name_lower")  # 11 has no generated columns
    hide(pair.source)
    try:
        seen = travel(trip, pair.source)
    finally:
        trip.clean()
    assert seen["differences"] == []
    assert seen["rows"] > 3000 and seen["trading"].commits > seen["commits before the fence"] > 20
    assert seen["trading"].unexpected == []
    found = next(iter(seen["precheck"].of("pg_migration_precheck"))).result
    assert found["source_server"]["version_num"] == VERSION_NUMBER, "the product has taken it for another version"
    (certificate,) = [task.result["certificate"] for task in seen["cutover"].of("pg_cutover")]
    assert certificate["tables"] == 11
    left = [left for end in pair.ends for left in end.query(LEFT_OVER) if "event trigger refuse_" not in left[0]]
    assert left == []
    assert [name for name in relay.spoiled if not name.startswith("causeway probe ")] == [], "they imported a snapshot"
    assert too_new(pair.source.server, pair.source.dbname) == []


def test_a_database_is_moved_to_an_11_under_load(make_moved: MakeMoved) -> None:
    with contextlib.ExitStack() as open_relays:

        def prepare(pair: Pair) -> Pair:
            hide(pair.destination)
            destination, dummy = open_relays.enter_context(seen_through_relay(pair.destination))
            return replace(pair, destination=destination)

        moved = make_moved(prepare=prepare, source="14", destination="14", destination_settings=LOGGED)
        with SalesLoad(moved) as load:
            time.sleep(1)
            result = moved.cut()
        assert min(load.done.values()) > 0
        assert witness.differences(moved.pair.source.sql, moved.pair.destination.sql, ["sales"]) == []
        assert result["certificate"]["tables"] == 4
        moved.release()
        moved.assert_released()
        destination = moved.pair.destination
        assert too_new(destination.server, destination.dbname) == []
