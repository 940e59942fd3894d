# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pg_replica_identity against real servers, judged by pg_class."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from support import witness
from support.harness.modules import Migration, ModuleFailed

SCHEMA = """
CREATE SCHEMA sales;
CREATE TABLE sales.orders (id int PRIMARY KEY, note text);
CREATE TABLE sales."Keyless Ü" (a int, b text);
CREATE TABLE sales.uniq (a int NOT NULL, b text);
CREATE UNIQUE INDEX uniq_a ON sales.uniq (a);
ALTER TABLE sales.uniq REPLICA IDENTITY USING INDEX uniq_a;
CREATE TABLE sales.silent (id int PRIMARY KEY);
ALTER TABLE sales.silent REPLICA IDENTITY NOTHING;
CREATE TABLE sales.late (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE sales.full (id int PRIMARY KEY);
ALTER TABLE sales.full REPLICA IDENTITY FULL;
CREATE TABLE sales.part (id int, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE sales.part_1 PARTITION OF sales.part FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE sales.parent (id int PRIMARY KEY);
CREATE TABLE sales.child () INHERITS (sales.parent);
CREATE SCHEMA other;
CREATE TABLE other.untouched (id int PRIMARY KEY);
"""

IDENTITIES = """
SELECT c.relname, c.relreplident::text || coalesce(':' || i.indexrelid::regclass::text, '')
  FROM pg_class c LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisreplident
 WHERE c.relkind IN ('r', 'p') AND c.relnamespace::regnamespace::text IN ('sales', 'other')
"""

ORIGINAL = {
    "orders": "d",
    "Keyless Ü": "d",
    "uniq": "i:sales.uniq_a",
    "silent": "n",
    "late": "d",
    "full": "f",
    "part": "d",
    "part_1": "d",
    "parent": "d",
    "child": "d",
    "untouched": "d",
}


def migration(pair: Any, **more: Any) -> Migration:
    return Migration("orders", pair.source.endpoint, pair.destination.endpoint, [{"schema": "sales"}], more)


def identities(pair: Any) -> dict[str, str]:
    return dict(pair.source.query(IDENTITIES))


@pytest.fixture
def shop(pair: Any) -> Any:
    pair.source.run(SCHEMA)
    assert identities(pair) == ORIGINAL
    return pair


def test_full_in_four_beats_and_back(shop: Any) -> None:
    before = witness.fingerprint(shop.source.sql)
    assert migration(shop).run("pg_replica_identity", identity="full", check=True)["changed"]
    assert witness.fingerprint(shop.source.sql) == before
    assert not shop.destination.value("SELECT count(*) FROM pg_namespace WHERE nspname = 'causeway'")

    results = migration(shop).four_beats("pg_replica_identity", identity="full")
    assert results[1]["tables"] == 9
    wanted = dict.fromkeys(ORIGINAL, "f") | {"part": "d", "untouched": "d"}
    assert identities(shop) == wanted
    assert len([s for s in results[1]["statements"] if s["end"] == "source"]) == 8

    back = migration(shop).four_beats("pg_replica_identity", state="absent")
    assert back[1]["left_behind"] == []
    assert identities(shop) == ORIGINAL


def test_auto_changes_only_what_no_key_finds(shop: Any) -> None:
    migration(shop).four_beats("pg_replica_identity", identity="auto")
    changed = {name for name, identity in identities(shop).items() if identity != ORIGINAL[name]}
    assert changed == {"Keyless Ü", "silent", "late", "child"}


def test_absent_leaves_what_somebody_else_changed_since(shop: Any) -> None:
    migration(shop).run("pg_replica_identity", identity="full")
    shop.source.run("ALTER TABLE sales.orders REPLICA IDENTITY NOTHING; DROP TABLE sales.late")
    shop.source.run("ALTER TABLE sales.silent RENAME TO renamed")
    result = migration(shop).run("pg_replica_identity", state="absent")
    assert "sales.orders was set to NOTHING" in " ".join(result["notes"])
    found = identities(shop)
    assert found["orders"] == "n"
    assert found["renamed"] == "n"
    assert found["Keyless Ü"] == "d"


def test_an_original_index_that_is_gone_is_left_behind_with_its_statement(shop: Any) -> None:
    migration(shop).run("pg_replica_identity", identity="full")
    shop.source.run("DROP INDEX sales.uniq_a")
    result = migration(shop).run("pg_replica_identity", state="absent")
    (left,) = result["left_behind"]
    assert left["what"] == "replica identity of sales.uniq"
    shop.source.run(left["statements"][0])
    assert identities(shop)["uniq"] == "d"


def test_a_busy_table_comes_last_and_its_holder_is_named(shop: Any) -> None:
    with shop.source.connect(application_name="long report") as holder, holder.transaction():
        holder.execute("SELECT * FROM sales.orders")
        with pytest.raises(ModuleFailed) as failed:
            migration(shop).run("pg_replica_identity", identity="full", lock_timeout=1, lock_retries=0)
    error = failed.value.result["error"]
    assert error["code"] == "timeout"
    assert "sales.orders" in error["why"]
    assert "long report" in error["why"]
    found = identities(shop)
    assert found.pop("orders") == "d"
    assert found["uniq"] == "f"


def test_a_prepared_transaction_is_named(make_pair: Any) -> None:
    pair = make_pair(source_settings={"max_prepared_transactions": 5})
    pair.source.run(SCHEMA)
    pair.source.run("BEGIN; INSERT INTO sales.orders VALUES (1); PREPARE TRANSACTION 'forgotten'")
    with pytest.raises(ModuleFailed, match="prepared transaction 'forgotten'"):
        migration(pair).run("pg_replica_identity", identity="full", lock_timeout=1, lock_retries=0)
    pair.source.run("ROLLBACK PREPARED 'forgotten'")


def test_it_gets_through_beside_transactions_that_come_and_go(shop: Any) -> None:
    stop = threading.Event()

    def work() -> None:
        with shop.source.connect() as busy:
            while not stop.is_set():
                with busy.transaction():
                    busy.execute("INSERT INTO sales.orders SELECT coalesce(max(id), 0) + 1 FROM sales.orders")
                    time.sleep(0.3)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        migration(shop).run("pg_replica_identity", identity="full", lock_timeout=1)
    finally:
        stop.set()
        thread.join()
    assert identities(shop)["orders"] == "f"


def test_nothing_is_done_without_incremental(shop: Any) -> None:
    result = migration(shop, types=["schema", "full"]).run("pg_replica_identity", identity="full")
    assert not result["changed"]
    assert "not incremental" in result["notes"][0]
    assert identities(shop) == ORIGINAL


def test_an_identity_that_another_publication_needs_is_left(shop: Any) -> None:
    """Put back, it would make the source refuse the application's UPDATE and DELETE on a keyless table."""
    other = Migration("other", shop.source.endpoint, shop.destination.endpoint, [{"schema": "sales"}])
    migration(shop).run("pg_replica_identity", identity="full")
    migration(shop).run("pg_publication")
    other.run("pg_replica_identity", identity="full")
    other.run("pg_publication")
    migration(shop).run("pg_publication", state="absent")
    planned = migration(shop).run("pg_replica_identity", state="absent", check=True)
    answer = migration(shop).run("pg_replica_identity", state="absent")
    shop.source.run('UPDATE sales."Keyless Ü" SET a = a + 1; DELETE FROM sales.late; UPDATE sales.silent SET id = id')
    left = {entry["what"] for entry in answer["left_behind"]}
    assert left == {f"replica identity of sales.{name}" for name in ('"Keyless Ü"', "late", "child", "silent")}
    assert answer["left_behind"][0]["statements"]
    assert planned["left_behind"] == answer["left_behind"]
    now = identities(shop)
    assert (now["orders"], now["uniq"], now["Keyless Ü"]) == ("d", "i:sales.uniq_a", "f")


def test_an_identity_is_not_put_back_while_our_own_publication_could_not_be_dropped(shop: Any) -> None:
    migration(shop).run("pg_replica_identity", identity="full")
    migration(shop).run("pg_publication")
    migration(shop).run("pg_replica_identity", state="absent")
    shop.source.run('UPDATE sales."Keyless Ü" SET a = a + 1')


def test_a_name_that_passed_to_another_table_hides_neither(shop: Any) -> None:
    migration(shop).run("pg_replica_identity", identity="full")
    shop.source.run("ALTER TABLE sales.orders RENAME TO orders_old; CREATE TABLE sales.orders (id int PRIMARY KEY)")
    migration(shop).run("pg_replica_identity", identity="full")
    assert migration(shop).run("pg_replica_identity", state="absent")["left_behind"] == []
    now = identities(shop)
    assert (now["orders"], now["orders_old"]) == ("d", "d")


def test_a_primary_key_on_a_generated_column_needs_full(pair: Any) -> None:
    """It is not in the stream, so nobody could tell which row was changed."""
    pair.source.run(
        "CREATE SCHEMA sales; CREATE TABLE sales.made (v int, g int GENERATED ALWAYS AS (v * 2) STORED PRIMARY KEY);"
        "CREATE TABLE sales.beside (id int PRIMARY KEY, g int GENERATED ALWAYS AS (id * 2) STORED UNIQUE)"
    )
    migration(pair).run("pg_replica_identity", identity="auto")
    found = dict(
        pair.source.query("SELECT relname, relreplident::text FROM pg_class WHERE relname IN ('made', 'beside')")
    )
    assert found == {"made": "f", "beside": "d"}


class Writing:
    """A writer of one table, statement after statement, and for how long each had to wait."""

    def __init__(self, end: Any, statement: str) -> None:
        self._end, self._statement = end, statement
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write)
        self.waits: list[float] = []

    def _write(self) -> None:
        with self._end.connect() as conn:
            while not self._stop.is_set():
                began = time.monotonic()
                conn.execute(self._statement)
                self.waits.append(time.monotonic() - began)
                time.sleep(0.01)

    def __enter__(self) -> Writing:
        self._thread.start()
        return self

    def __exit__(self, *dummy: object) -> None:
        self._stop.set()
        self._thread.join()

    def stalled(self) -> float:
        """Seconds beyond what such a statement takes."""
        return sum(wait for wait in self.waits if wait > 0.04)


INSERT = 'INSERT INTO sales."Keyless Ü" SELECT * FROM sales."Keyless Ü" LIMIT 1'


@pytest.mark.parametrize(
    ("held", "seconds"),
    [
        ('UPDATE sales."Keyless Ü" SET a = a', 12),
        ('SELECT * FROM sales."Keyless Ü"', 12),
        pytest.param('UPDATE sales."Keyless Ü" SET a = a', 100, marks=pytest.mark.faults_heavy),
    ],
)
def test_beside_an_open_transaction_writers_hardly_wait_and_it_is_named(
    shop: Any, tmp_path: Any, held: str, seconds: int
) -> None:
    lines = tmp_path / "lines"
    shop.source.run('INSERT INTO sales."Keyless Ü" DEFAULT VALUES')
    with shop.source.connect(application_name="nightly report") as holder, holder.transaction():
        holder.execute(held)
        began = time.monotonic()
        with Writing(shop.source, INSERT) as writing:
            process = migration(shop).start("pg_replica_identity", progress_file=str(lines))
            while not (lines.exists() and lines.read_text()):
                assert time.monotonic() - began < 10, "the holder is named at once"
                time.sleep(0.05)
            time.sleep(seconds)
            waited = time.monotonic() - began
            assert process.poll() is None
        stalled = writing.stalled()
    assert stalled / waited < 0.01 if seconds > 30 else stalled < 0.7, (stalled, waited)
    result = migration(shop).finish("pg_replica_identity", process, 20)
    assert "nightly report" in lines.read_text() and "idle in transaction" in lines.read_text()
    assert len(lines.read_text().splitlines()) == 1
    assert "nightly report" in str(result["warnings"])
    assert identities(shop)["Keyless Ü"] == "f"
    events = shop.destination.query("SELECT detail::text FROM causeway.event WHERE what LIKE 'waiting for a lock%'")
    assert len(events) == 1 and "nightly report" in events[0][0]
    assert time.monotonic() - began < waited + 10, "the lock is taken as soon as it is free"


def test_an_old_transaction_is_found_before_anything_is_changed(shop: Any) -> None:
    with shop.source.connect(application_name="forgotten psql") as holder, holder.transaction():
        holder.execute('LOCK TABLE sales."Keyless Ü" IN ROW SHARE MODE')
        time.sleep(2.2)
        found = migration(shop).run("pg_migration_precheck", fail_on="never")["findings"]
    (one,) = [one for one in found if one["id"] == "table_held"]
    assert one["object"] == 'sales."Keyless Ü"'
    assert "forgotten psql" in one["evidence"]["answer"]


def test_the_publication_waits_as_kindly_for_ddl_that_is_not_committed(shop: Any) -> None:
    migration(shop).run("pg_replica_identity")
    with shop.source.connect(application_name="deploy") as holder:
        with holder.transaction():
            holder.execute("CREATE INDEX ON sales.orders (id)")
            with pytest.raises(ModuleFailed, match=r"earlier transactions are still open.*deploy"):
                migration(shop).run("pg_publication", wait_timeout=1)
            with pytest.raises(ModuleFailed, match="deploy") as failed:
                migration(shop).run("pg_replica_identity", identity="full", lock_timeout=1, lock_retries=1)
        assert "no lock within 3 s" in failed.value.result["error"]["why"]
        assert migration(shop).run("pg_publication")["changed"]
