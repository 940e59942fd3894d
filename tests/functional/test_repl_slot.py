# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pg_repl_slot against real servers, judged by pg_replication_slots."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import psycopg
import pytest
from psycopg import sql
from support import witness
from support.harness.modules import Migration, ModuleFailed
from support.waiting import until

SCHEMA = """
CREATE SCHEMA sales;
CREATE TABLE sales.orders (id int PRIMARY KEY, note text);
"""
SLOTS = """
SELECT slot_name, plugin, temporary, active, confirmed_flush_lsn::text
  FROM pg_replication_slots WHERE database = current_database()
"""


def migration(pair: Any, name: str, **more: Any) -> Migration:
    return Migration(name, pair.source.endpoint, pair.destination.endpoint, [{"schema": "sales"}], more)


@pytest.fixture
def shop(pair: Any) -> tuple[Any, Migration]:
    """A pair with identities and publication; the migration's name is the database's, since slots are the cluster's."""
    return prepared(pair)


def prepared(pair: Any) -> tuple[Any, Migration]:
    pair.source.run(SCHEMA)
    moved = migration(pair, pair.source.dbname)
    moved.run("pg_replica_identity")
    moved.run("pg_publication")
    return pair, moved


def recorded(pair: Any) -> Any:
    return pair.destination.value("SELECT slot FROM causeway.migration")


def code(failed: Any) -> str:
    return str(failed.value.result["error"]["code"])


def test_four_beats_and_back(shop: tuple[Any, Migration]) -> None:
    pair, moved = shop
    before = witness.fingerprint(pair.source.sql)
    assert moved.run("pg_repl_slot", check=True)["changed"]
    assert witness.fingerprint(pair.source.sql) == before

    results = moved.four_beats("pg_repl_slot")
    ((name, plugin, temporary, active, confirmed),) = pair.source.query(SLOTS)
    assert (name, plugin, temporary, active) == (f"dts_sync_{moved.name}", "pgoutput", False, False)
    slot = recorded(pair)
    assert slot == {
        "name": name,
        "plugin": "pgoutput",
        "database": pair.source.dbname,
        "consistent_point": confirmed,
        "system_identifier": pair.source.value("SELECT system_identifier::text FROM pg_control_system()"),
        "timeline": 1,
        "failover": pair.source.sql.info.server_version >= 170000,
    }
    assert results[3]["slot"]["consistent_point"] == confirmed
    assert pair.destination.value("SELECT phase FROM causeway.migration") == "prepared"

    back = moved.four_beats("pg_repl_slot", state="absent")
    assert back[1]["left_behind"] == []
    assert pair.source.query(SLOTS) == []
    assert recorded(pair) is None


def test_a_fresh_pair_can_be_looked_at(pair: Any) -> None:
    pair.source.run(SCHEMA)
    dry = migration(pair, pair.source.dbname).run("pg_repl_slot", check=True)
    assert dry["changed"]
    assert "publication does not exist yet" in dry["notes"][0]
    with pytest.raises(ModuleFailed, match="Run pg_publication first"):
        migration(pair, pair.source.dbname).run("pg_repl_slot")
    assert pair.source.query(SLOTS) == []


def test_an_open_transaction_is_waited_for_and_named(shop: tuple[Any, Migration]) -> None:
    pair, moved = shop
    with pair.source.connect(application_name="month end") as busy, busy.transaction():
        busy.execute("INSERT INTO sales.orders VALUES (1)")
        began = time.monotonic()
        with pytest.raises(ModuleFailed, match="month end") as failed:
            moved.run("pg_repl_slot", wait_timeout=2)
        assert time.monotonic() - began < 10
        assert code(failed) == "timeout"
        assert pair.source.query(SLOTS) == []
    assert moved.run("pg_repl_slot")["changed"]
    assert len(pair.source.query(SLOTS)) == 1


def test_a_prepared_transaction_is_named(make_pair: Any) -> None:
    pair, moved = prepared(make_pair(source_settings={"max_prepared_transactions": 5}))
    pair.source.run("BEGIN; INSERT INTO sales.orders VALUES (1); PREPARE TRANSACTION 'forgotten'")
    with pytest.raises(ModuleFailed, match="prepared transaction 'forgotten'"):
        moved.run("pg_repl_slot", wait_timeout=2)
    pair.source.run("COMMIT PREPARED 'forgotten'")
    assert moved.run("pg_repl_slot")["changed"]


def test_a_slot_that_is_not_ours_is_refused(shop: tuple[Any, Migration]) -> None:
    pair, moved = shop
    name = f"dts_sync_{moved.name}"
    pair.source.sql.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [name])
    with pytest.raises(ModuleFailed) as failed:
        moved.run("pg_repl_slot")
    assert code(failed) == "mismatch"
    assert not moved.run("pg_repl_slot", state="absent")["changed"]
    assert len(pair.source.query(SLOTS)) == 1


def test_a_crash_between_making_and_recording_is_mended(shop: tuple[Any, Migration]) -> None:
    pair, moved = shop
    moved.run("pg_repl_slot")
    pair.destination.run("UPDATE causeway.migration SET slot = slot || '{\"consistent_point\": null}'")
    result = moved.run("pg_repl_slot")
    assert result["changed"]
    assert recorded(pair)["consistent_point"] == pair.source.query(SLOTS)[0][4]


@pytest.mark.parametrize("how", ["dropped", "made anew", "advanced"])
def test_a_slot_that_lost_changes_stops_everything(shop: tuple[Any, Migration], how: str) -> None:
    pair, moved = shop
    moved.run("pg_repl_slot")
    name = f"dts_sync_{moved.name}"
    pair.source.run("INSERT INTO sales.orders SELECT generate_series(1, 100)")
    if how == "advanced":
        pair.source.sql.execute("SELECT pg_replication_slot_advance(%s, pg_current_wal_lsn())", [name])
    else:
        pair.source.sql.execute("SELECT pg_drop_replication_slot(%s)", [name])
    if how == "made anew":
        failover = ", failover => true" if pair.source.sql.info.server_version >= 170000 else ""
        make = sql.SQL("SELECT pg_create_logical_replication_slot({}, 'pgoutput'{})")
        pair.source.sql.execute(make.format(sql.Literal(name), sql.SQL(failover)))
    with pytest.raises(ModuleFailed) as failed:
        moved.run("pg_repl_slot")
    assert code(failed) == "would_lose_rows"
    # taking back still works
    assert moved.run("pg_repl_slot", state="absent")["changed"]
    assert pair.source.query(SLOTS) == []


def test_what_the_worker_recorded_as_confirmable_is_not_a_loss(shop: tuple[Any, Migration]) -> None:
    pair, moved = shop
    moved.run("pg_repl_slot")
    pair.source.run("INSERT INTO sales.orders SELECT generate_series(1, 100)")
    position = pair.source.value("SELECT pg_current_wal_lsn()::text")
    pair.destination.sql.execute(
        "INSERT INTO causeway.cdc_progress (migration, state, applied, confirmable, source_system, timeline)"
        " VALUES (%s, 'running', %s, %s, '', 1)",
        [moved.name, position, position],
    )
    pair.source.sql.execute("SELECT pg_replication_slot_advance(%s, %s)", [f"dts_sync_{moved.name}", position])
    assert not moved.run("pg_repl_slot")["changed"]


def test_another_system_is_told_apart(shop: tuple[Any, Migration]) -> None:
    pair, moved = shop
    moved.run("pg_repl_slot")
    pair.destination.run('UPDATE causeway.migration SET slot = slot || \'{"system_identifier": "1"}\'')
    with pytest.raises(ModuleFailed, match="system identifier") as failed:
        moved.run("pg_repl_slot")
    assert code(failed) == "mismatch"


def test_no_slot_is_made_behind_rows_that_were_copied(shop: tuple[Any, Migration]) -> None:
    pair, moved = shop
    moved.run("pg_repl_slot")
    pair.destination.sql.execute(
        "INSERT INTO causeway.table_copy (migration, relation, schema_name, table_name, state, mark)"
        " VALUES (%s, 1, 'sales', 'orders', 'complete', '0/1')",
        [moved.name],
    )
    moved.run("pg_repl_slot", state="absent")
    with pytest.raises(ModuleFailed) as failed:
        moved.run("pg_repl_slot")
    assert code(failed) == "would_lose_rows"


def test_a_slot_that_is_read_is_left_behind_with_its_statement(shop: tuple[Any, Migration]) -> None:
    pair, moved = shop
    moved.run("pg_repl_slot")
    name = f"dts_sync_{moved.name}"
    reader = psycopg.connect(pair.source.server.dsn(pair.source.dbname, replication="database"), autocommit=True)
    options = f"(proto_version '1', publication_names 'causeway_{moved.name}')"
    reader.pgconn.send_query(f'START_REPLICATION SLOT "{name}" LOGICAL 0/0 {options}'.encode())
    while not pair.source.query(SLOTS)[0][3]:
        time.sleep(0.05)
    (left,) = moved.run("pg_repl_slot", state="absent", wait_timeout=1)["left_behind"]
    assert "still reads it" in left["why"]
    assert len(pair.source.query(SLOTS)) == 1
    reader.close()
    while pair.source.query(SLOTS)[0][3]:
        time.sleep(0.05)
    pair.source.run(left["statements"][0])
    assert pair.source.query(SLOTS) == []


def test_a_lost_slot_is_a_loss(make_pair: Any) -> None:
    settings = {"max_slot_wal_keep_size": "1MB", "max_wal_size": "32MB", "min_wal_size": "32MB"}
    pair, moved = prepared(make_pair(source_settings=settings))
    moved.run("pg_repl_slot")
    for dummy in range(6):
        pair.source.run("INSERT INTO sales.orders SELECT g, repeat('x', 1000) FROM generate_series(1, 20000) g")
        pair.source.run("TRUNCATE sales.orders")
        pair.source.run("SELECT pg_switch_wal()")
        pair.source.run("CHECKPOINT")
    assert pair.source.value("SELECT wal_status FROM pg_replication_slots") == "lost"
    with pytest.raises(ModuleFailed, match="wal_status = lost") as failed:
        moved.run("pg_repl_slot")
    assert code(failed) == "would_lose_rows"


@pytest.mark.since(170000, "failover slots")
def test_a_failover_slot_on_17_and_a_clear_word_before(shop: tuple[Any, Migration], make_pair: Any) -> None:
    pair, moved = shop
    moved.four_beats("pg_repl_slot")
    assert pair.source.value("SELECT failover FROM pg_replication_slots WHERE database = current_database()")
    older, moving = prepared(make_pair(source="14"))
    with pytest.raises(ModuleFailed, match="from PostgreSQL 17 on"):
        moving.run("pg_repl_slot", failover="always")
    moving.four_beats("pg_repl_slot")
    assert len(older.source.query(SLOTS)) == 1
    moving.four_beats("pg_repl_slot", state="absent")


def test_nothing_is_done_without_incremental(pair: Any) -> None:
    pair.source.run(SCHEMA)
    assert not migration(pair, pair.source.dbname, types=["schema", "full"]).run("pg_repl_slot")["changed"]


def test_an_owner_with_replication_is_enough_at_the_source(make_role: Any, pair: Any) -> None:
    pair.source.run(SCHEMA)
    role, password = make_role(pair, "LOGIN REPLICATION", ends=(pair.source,))
    pair.source.run(f"ALTER TABLE sales.orders OWNER TO {role}; GRANT USAGE ON SCHEMA sales TO {role}")
    pair.source.run(f"GRANT CREATE ON DATABASE {pair.source.dbname} TO {role}")
    source = pair.source.server.endpoint(pair.source.dbname, user=role, password=password)
    moved = Migration(pair.source.dbname, source, pair.destination.endpoint, [{"schema": "sales"}])
    before = pair.source.query("SELECT relreplident FROM pg_class WHERE oid = 'sales.orders'::regclass")
    modules = ("pg_replica_identity", "pg_publication", "pg_repl_slot")
    moved.four_beats("pg_replica_identity", identity="full")
    for module in modules[1:]:
        moved.four_beats(module)
    with pair.source.connect(application_name="quarter end") as busy, busy.transaction():
        busy.execute("INSERT INTO sales.orders VALUES (1)")
        moved.run("pg_repl_slot", state="absent")
        with pytest.raises(ModuleFailed, match=r"still for pid \d+"):
            moved.run("pg_repl_slot", wait_timeout=1)
    for module in reversed(modules):
        assert moved.run(module, state="absent").get("left_behind", []) == []
    assert pair.source.query(SLOTS) == []
    assert pair.source.value("SELECT count(*) FROM pg_publication") == 0
    assert pair.source.query("SELECT relreplident FROM pg_class WHERE oid = 'sales.orders'::regclass") == before
    pair.source.run(f"DROP OWNED BY {role} CASCADE")


def test_killed_while_it_waits_the_server_gives_up_soon_after(shop: tuple[Any, Migration]) -> None:
    """The half-made slot would stand, and pin WAL, for as long as somebody's transaction is open."""
    pair, moved = shop
    with pair.source.connect() as busy, busy.transaction():
        busy.execute("INSERT INTO sales.orders VALUES (1)")
        process = moved.start("pg_repl_slot", wait_timeout=2)
        until(lambda: bool(pair.source.query(SLOTS)))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        with pytest.raises(ModuleFailed, match="an earlier run of this migration died"):
            moved.run("pg_repl_slot")
        until(lambda: not pair.source.query(SLOTS))
    assert moved.run("pg_repl_slot")["changed"]


def test_what_is_recorded_survives_a_crash_of_a_lazy_destination(make_pair: Any) -> None:
    """The slot is on disk at the source as soon as it is made: its record must not be lost where commits are lazy."""
    lazy = {"synchronous_commit": "off", "wal_writer_delay": "10s"}
    pair = make_pair(private=True, destination_settings=lazy)
    pair.run("CREATE TABLE t (id int PRIMARY KEY)")
    migration = Migration("lazy", pair.source.endpoint, pair.destination.endpoint, [{"schema": "public"}])
    for module in ("pg_replica_identity", "pg_publication", "pg_repl_slot"):
        migration.run(module)
    pair.destination.server.restart("immediate")
    pair = pair.reconnect()
    assert pair.destination.value("SELECT slot ->> 'consistent_point' FROM causeway.migration") is not None
    assert migration.run("pg_repl_slot")["changed"] is False
