# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pg_cutover on real servers under the load of three writers, judged by plain SQL and by trying to write."""

from __future__ import annotations

import time
from typing import Any

import psycopg
import pytest
from support import witness
from support.harness.moved import ACLS, STEPS, MakeMoved, Moved
from support.loads.sales import SalesLoad
from support.processes import lives


def everything(moved: Moved) -> list[Any]:
    """What must not change when nothing is written: catalogs at both ends and every row of ours and theirs."""
    found: list[Any] = [witness.fingerprint(end.sql) for end in moved.pair.ends]
    found += [witness.contents(end.sql) for end in moved.pair.ends]
    found += [moved.fence(), moved.pair.source.query(ACLS)]
    found += moved.pair.destination.query("SELECT to_jsonb(m) FROM causeway.migration m")
    found += moved.pair.destination.query("SELECT to_jsonb(e) FROM causeway.event e ORDER BY id")
    return found


def test_a_live_database_is_cut_over_and_the_certificate_is_true(moved: Moved) -> None:
    source, destination = moved.pair.ends
    dry = moved.migration.run("pg_cutover", check=True)
    with (
        SalesLoad(moved) as load,
        moved.connect(source, "plain") as idle,
        moved.connect(source, "outsider") as through_a_function,
        source.connect() as reading,
    ):
        idle.execute("SET application_name = 'causeway impostor'")
        idle.execute("BEGIN; INSERT INTO sales.orders (who, note) VALUES ('plain', 'never committed')")
        through_a_function.execute("BEGIN; SELECT sales.note('never committed')")
        reading.execute("BEGIN; SELECT count(*) FROM sales.orders")
        time.sleep(1)
        answer = moved.cut(timeout=30)
        time.sleep(0.3)
        for ended in (idle, through_a_function):
            with pytest.raises(psycopg.OperationalError):
                ended.execute("COMMIT")
        reading.execute("COMMIT")
    assert dry["changed"]
    assert answer["statements"] == dry["statements"]
    assert min(load.done.values()) > 20
    assert min(load.refused.values()) > 0
    assert load.longest < 2, "a REVOKE takes no lock on the table"
    certificate = answer["certificate"]
    rows = witness.assert_identical(moved.pair, ["sales"])
    assert source.value("SELECT count(*) FROM sales.orders WHERE note = 'never committed'") == 0
    assert certificate["rows"] == rows > 600
    assert certificate["tables"] == 4
    assert certificate["sequences"] == 1
    assert certificate["verdict"] == "identical"
    assert set(certificate["fenced_roles"]) == {role for role, dummy in moved.writers.values()} | {moved.reader[0]}
    assert source.value("SELECT current_user") in certificate["bypassing_roles"]
    assert certificate["sessions_ended"] >= 2
    assert 0 < certificate["pause_ms"] < 15_000
    assert [step["name"] for step in certificate["steps"]] == STEPS
    applied = "SELECT applied_at IS NOT NULL FROM causeway.marker WHERE token = %s"
    assert destination.value(applied, [certificate["marker"]["token"]])
    assert moved.fence() == "closed"
    moved.assert_fenced()
    assert witness.sequences(source.sql) == witness.sequences(destination.sql)
    assert destination.value("SELECT nextval('sales.orders_id_seq')") > source.value("SELECT max(id) FROM sales.orders")
    for kind in moved.writers:
        assert moved.can_write(destination, kind) == ""
    assert destination.value("SELECT phase FROM causeway.migration") == "opened"
    assert "opened this database" in destination.value(
        "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()"
    )


def test_what_follows_an_opening(moved: Moved) -> None:
    source, destination = moved.pair.ends
    before, worker = everything(moved), moved.worker()
    assert moved.migration.run("pg_cutover", check=True)["changed"]
    assert everything(moved) == before, "a dry run takes nothing"
    moved.assert_writable(1)
    first = moved.cut()
    assert not lives(worker)
    assert destination.value("SELECT wanted FROM causeway.cdc_task") == "disarmed"
    assert destination.value("SELECT state FROM causeway.cdc_progress") == "disarmed"
    assert source.value("SELECT count(*) FROM pg_replication_slots WHERE active AND database = current_database()") == 0
    writer = first["certificate"]["writer"]
    assert (writer["end"], writer["verified"]) == ("destination", True)
    with destination.connect() as conn:  # our account is a superuser here: no REVOKE holds it, so it is braked
        assert conn.execute("SHOW default_transaction_read_only").fetchone() == ("on",)
    before = everything(moved)
    for check in (True, False):
        second = moved.migration.run("pg_cutover", check=check)
        assert not second["changed"]
        assert second["certificate"] == first["certificate"]
        assert not moved.task(check=check)["changed"]
    assert everything(moved) == before
    assert moved.release()["left_behind"] == []
    moved.assert_released()
    moved.assert_fenced()
    again = moved.cut()
    assert not again["changed"]
    assert again["opened_at"]
    assert not moved.cut(state="released")["changed"]


AUDIT = """
CREATE FUNCTION sales.audit() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS
  $$BEGIN INSERT INTO sales.orders (who, note) VALUES ('audit', tg_tag); END$$
"""


def test_what_an_audit_trigger_writes_at_our_own_statements_arrives(make_moved: MakeMoved) -> None:
    """It writes as a superuser: no fence stops it, and the fence's own statements fire it to the last."""
    moved = make_moved(AUDIT)
    source, destination = moved.pair.ends
    source.run("CREATE EVENT TRIGGER audit ON ddl_command_end EXECUTE FUNCTION sales.audit()")
    moved.cut()
    source.run("ALTER EVENT TRIGGER audit DISABLE")
    told = "SELECT note, count(*) FROM sales.orders WHERE who = 'audit' GROUP BY 1 ORDER BY 1"
    assert dict(source.query(told))["COMMENT"] >= 2
    assert source.query(told) == destination.query(told)
    witness.assert_identical(moved.pair, ["sales"])


@pytest.mark.faults_heavy
def test_where_the_worker_cannot_catch_up_nothing_is_fenced(moved: Moved) -> None:
    moved.task(rows_per_second=10)
    with SalesLoad(moved):
        deadline = time.monotonic() + 60
        while moved.migration.run("pg_migration_info")["cdc"]["catch_up"]["verdict"] != "never":
            assert time.monotonic() < deadline
            time.sleep(0.5)
        refused = moved.refused("it will never catch up")
        assert (
            refused["error"]["code"] == "wrong_state" and "causeway_cdc_rows_per_second" in refused["error"]["remedy"]
        )
        assert moved.fence() is None
        moved.task(rows_per_second=0, wait="caught_up")
    moved.assert_writable()


def test_a_release_without_a_cutover_restores_everything(moved: Moved) -> None:
    moved.pair.destination.run("UPDATE causeway.migration SET phase = 'finalized'")
    moved.refused("the contents were never compared")
    assert moved.fence() is None
    assert moved.release()["left_behind"] == []
    moved.assert_released()
    moved.assert_writable(1)


@pytest.mark.faults
def test_source_14_and_destination_17(make_moved: MakeMoved) -> None:
    old = make_moved(source="14", destination="17")
    with SalesLoad(old):
        time.sleep(0.3)
        assert old.cut()["certificate"]["verdict"] == "identical"
    old.assert_fenced()
    witness.assert_identical(old.pair, ["sales"])


FIRING = """
CREATE TABLE sales.fired (id bigserial PRIMARY KEY, what text);
ALTER TABLE sales.fired OWNER TO {owner};
CREATE FUNCTION sales.fire() RETURNS trigger LANGUAGE plpgsql AS
  $$BEGIN INSERT INTO sales.fired (what) VALUES (TG_NAME); RETURN NULL; END$$;
CREATE TRIGGER ordinary AFTER INSERT ON sales.stock FOR EACH ROW EXECUTE FUNCTION sales.fire();
CREATE TRIGGER "Always" AFTER INSERT ON sales.stock FOR EACH ROW EXECUTE FUNCTION sales.fire();
CREATE TRIGGER in_replica AFTER INSERT ON sales.stock FOR EACH ROW EXECUTE FUNCTION sales.fire();
ALTER TABLE sales.stock ENABLE ALWAYS TRIGGER "Always", ENABLE REPLICA TRIGGER in_replica;
CREATE RULE always_rule AS ON INSERT TO sales.stock DO ALSO INSERT INTO sales.fired (what) VALUES ('always rule ' || NEW.item);
CREATE RULE replica_rule AS ON UPDATE TO sales.stock DO ALSO INSERT INTO sales.fired (what) VALUES ('replica rule');
ALTER TABLE sales.stock ENABLE ALWAYS RULE always_rule;
ALTER TABLE sales.stock ENABLE REPLICA RULE replica_rule
"""
STATES = """
SELECT tgname, tgenabled::text FROM pg_trigger WHERE tgrelid = 'sales.stock'::regclass AND NOT tgisinternal
UNION ALL SELECT rulename, ev_enabled::text FROM pg_rewrite WHERE ev_class = 'sales.stock'::regclass ORDER BY 1
"""


def test_always_and_replica_triggers_and_rules_do_not_fire_and_get_their_state_back(make_moved: MakeMoved) -> None:
    moved = make_moved(FIRING)
    source, destination = moved.pair.ends
    before = source.query(STATES)
    assert sorted(state for dummy, state in before) == ["A", "A", "O", "R", "R"]
    assert {state for dummy, state in destination.query(STATES)} == {"O", "D"}
    source.run("INSERT INTO sales.stock SELECT n, n, NULL FROM generate_series(1001, 1005) n")
    source.run("UPDATE sales.stock SET amount = 0 WHERE item > 1003")
    moved.task(wait="caught_up")
    assert source.value("SELECT count(*) FROM sales.fired") == 5 * 3
    assert witness.assert_identical(moved.pair, ["sales"]) > 600
    assert moved.cut()["certificate"]["verdict"] == "identical"
    assert destination.query(STATES) == before
    destination.run("INSERT INTO sales.stock VALUES (2000, 1, NULL)")
    assert destination.value("SELECT count(*) FROM sales.fired") == 6 * 3
