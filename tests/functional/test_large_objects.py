# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Large objects: copied once with the rows, under their OIDs, whole or not at all, and none of anybody else's touched."""

from __future__ import annotations

import os
import pathlib
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from support.faults.gate import held_up, ours, waits_at_the_gate
from support.harness.modules import Migration, ModuleFailed
from support.harness.moved import MakeMoved
from support.waiting import until

# Every large object of a database: OID, length, digest of its bytes, comment.
WITNESS = """
SELECT m.oid::bigint, length(lo_get(m.oid)), md5(lo_get(m.oid)), obj_description(m.oid, 'pg_largeobject')
  FROM pg_largeobject_metadata m ORDER BY 1
"""
# The order of the grants of one object means nothing.
RIGHTS = """
SELECT oid::bigint, pg_get_userbyid(lomowner),
       CASE WHEN lomacl IS NOT NULL THEN array(SELECT i::text FROM unnest(lomacl) i ORDER BY 1) END
  FROM pg_largeobject_metadata ORDER BY 1
"""
# An empty one, small ones, such as fill one or two pieces, one of several pieces and a rest, one with a hole.
OBJECTS = """
SELECT lo_create(1000);
SELECT lo_from_bytea(1001, 'small'), lo_from_bytea(4000000000, '\\x00ff00');
SELECT lo_from_bytea(1002, convert_to(repeat('x', 1048576), 'UTF8'));
SELECT lo_from_bytea(1005, convert_to(repeat('xy', 1048576), 'UTF8'));
SELECT lo_from_bytea(1003, (SELECT string_agg(sha256(n::text::bytea), '' ORDER BY n) FROM generate_series(1, 300000) n));
SELECT lo_create(1004), lo_put(1004, 3000000, 'far');
COMMENT ON LARGE OBJECT 1001 IS '100 % of O''Brien''s';
SELECT count(lo_from_bytea(n::oid, convert_to('object ' || n, 'UTF8'))) FROM generate_series(2000, 2999) n;
"""
NUMBER = 1007
TABLE = "CREATE TABLE t (id int PRIMARY KEY, photo oid)"


@pytest.fixture
def migration() -> Callable[..., Migration]:
    """C(migration(pair, types=[...], ...)): a migration of schema public."""

    def make(pair: Any, **more: Any) -> Migration:
        objects = [{"schema": "public"}]
        return Migration("copy", pair.source.endpoint, pair.destination.endpoint, objects, {"types": ["full"], **more})

    return make


def assert_same(pair: Any) -> int:
    """Plain SQL sees the same at either end; how many there are."""
    here, there = (end.query(WITNESS) for end in pair.ends)
    assert here == there
    return len(here)


def created(end: Any) -> dict[int, str]:
    """The transactions that have made them."""
    return dict(end.query("SELECT oid::bigint, xmin::text FROM pg_largeobject_metadata"))


def waits_for_somebody(end: Any) -> bool:
    """Whether a session of ours waits for the transaction of another."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'transactionid' AND datname = %s"
    return bool(end.value(waiting, [end.dbname]))


def warns_of_them(result: Any) -> bool:
    return any("rows of large objects" in str(warning) for warning in result.get("warnings", []))


def kill(process: Any) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.mark.parametrize(("source", "destination"), [(None, None), ("14", "18"), ("18", "14")])
def test_all_of_them_arrive_under_their_oids(make_pair: Any, migration: Any, source: Any, destination: Any) -> None:
    pair = make_pair(source=source, destination=destination)
    pair.run(TABLE)
    pair.source.run(OBJECTS)
    pair.source.run("INSERT INTO t VALUES (1, 1003)")
    results = migration(pair).four_beats("pg_full_copy")
    assert assert_same(pair) == NUMBER
    size = pair.source.value("SELECT sum(length(lo_get(oid))) FROM pg_largeobject_metadata")
    told = [result["large_objects"] for result in results]
    assert told[0] == {"state": "waiting", "objects": 0, "bytes": 0, "moved": 0}
    assert told[1] == {"state": "complete", "objects": NUMBER, "bytes": size, "moved": NUMBER}
    assert told[3] == {"state": "complete", "objects": NUMBER, "bytes": size, "moved": 0}
    assert any("lo_from_bytea" in statement["sql"] for statement in results[0]["statements"])
    assert pair.destination.value("SELECT length(lo_get(photo)) FROM t") == 9_600_000
    info = migration(pair).run("pg_migration_info")
    assert (info["large_objects"]["objects"], info["full_copy"]["large_objects_left"]) == (NUMBER, 0)


def test_owners_grants_and_comments_come_along_where_the_role_exists(make_role: Any, pair: Any, migration: Any) -> None:
    app, reader = (make_role(pair)[0] for dummy in range(2))
    lost = make_role(pair, ends=(pair.source,))[0]
    pair.run(TABLE)
    pair.source.run("SELECT count(lo_from_bytea(n::oid, 'x')) FROM generate_series(1, 6) n")
    pair.source.run(
        f"ALTER LARGE OBJECT 1 OWNER TO {app}; GRANT SELECT ON LARGE OBJECT 1 TO {reader} WITH GRANT OPTION;"
        f"ALTER LARGE OBJECT 2 OWNER TO {app}; REVOKE UPDATE ON LARGE OBJECT 2 FROM {app};"
        f"GRANT SELECT, UPDATE ON LARGE OBJECT 3 TO {reader}; GRANT SELECT ON LARGE OBJECT 3 TO PUBLIC;"
        f"ALTER LARGE OBJECT 4 OWNER TO {app}; REVOKE ALL ON LARGE OBJECT 4 FROM {app};"
        f"GRANT SELECT ON LARGE OBJECT 5 TO {lost}; COMMENT ON LARGE OBJECT 5 IS 'theirs'"
    )
    wanted = pair.source.query(RIGHTS + " LIMIT 4")
    pair.source.run(f"ALTER LARGE OBJECT 6 OWNER TO {lost}")
    result = migration(pair).run("pg_full_copy")
    assert assert_same(pair) == 6
    rights = pair.destination.query(RIGHTS)
    us = pair.destination.value("SELECT current_user")
    assert rights[:4] == wanted
    assert [owner for dummy, owner, dummy_acl in rights[4:]] == [us, us]
    assert result["notes"] == [f"Role {lost} does not exist at the destination: 2 large objects are copied without it."]
    skipping = migration(pair)
    skipping.run("pg_full_copy", resync=["pg_catalog.pg_largeobject"], privileges="skip")
    assert pair.destination.query(RIGHTS) == [(n, us, None) for n in range(1, 7)]
    assert assert_same(pair) == 6


@pytest.mark.faults
def test_killed_between_two_of_them_the_next_run_goes_on(pair: Any, migration: Any) -> None:
    pair.run(TABLE)
    pair.source.run(OBJECTS)
    with pair.destination.connect() as gate:
        gate.execute("BEGIN; SELECT lo_create(2600)")  # not committed: whoever makes one of that OID waits
        process = migration(pair).start("pg_full_copy")
        until(lambda: waits_for_somebody(pair.destination))
        kill(process)
        gate.execute("ROLLBACK")
    until(lambda: not ours(pair.destination))
    before = created(pair.destination)
    assert 0 < len(before) < NUMBER
    dry = migration(pair).run("pg_full_copy", check=True)
    assert dry["changed"] and dry["large_objects"]["state"] == "copying"
    result = migration(pair).run("pg_full_copy")
    assert assert_same(pair) == NUMBER
    assert (result["large_objects"]["objects"], result["large_objects"]["moved"]) == (NUMBER, NUMBER - len(before))
    assert before.items() <= created(pair.destination).items(), "what was complete was made again"
    assert not migration(pair).run("pg_full_copy")["changed"]


@pytest.mark.faults
def test_killed_in_the_middle_of_a_large_one_nothing_of_it_stays(pair: Any, migration: Any) -> None:
    pair.run(TABLE)
    pair.source.run(OBJECTS)
    migration(pair).run("pg_full_copy", tune=True)  # the state tables, one of which is the gate
    with held_up(pair.destination, "causeway.large_object", "NEW.object = 1003") as release:
        process = migration(pair).start("pg_full_copy")
        until(lambda: waits_at_the_gate(pair.destination))
        kill(process)
        release()
    until(lambda: not ours(pair.destination))
    assert 1003 not in created(pair.destination) and 1001 in created(pair.destination)
    migration(pair).run("pg_full_copy")
    assert assert_same(pair) == NUMBER


@pytest.mark.faults
def test_another_host_takes_over_when_the_one_that_copies_them_dies(pair: Any, migration: Any) -> None:
    pair.run(TABLE)
    pair.source.run(OBJECTS)
    with pair.destination.connect() as gate:
        gate.execute("BEGIN; SELECT lo_create(2600)")
        leader = migration(pair).start("pg_full_copy")
        until(lambda: waits_for_somebody(pair.destination))
        helper = migration(pair).start("pg_full_copy", assist=True)
        helpers = "SELECT count(DISTINCT pid) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ShareLock'"
        until(lambda: pair.destination.value(helpers) == 2)
        kill(leader)
        gate.execute("ROLLBACK")
    result = migration(pair).finish("pg_full_copy", helper)
    assert result["changed"] and 0 < result["large_objects"]["moved"] < NUMBER
    assert assert_same(pair) == NUMBER
    assert pair.destination.value("SELECT phase FROM causeway.migration") == "copied"


def test_one_that_stands_at_the_destination_is_never_overwritten(pair: Any, migration: Any) -> None:
    pair.run(TABLE)
    pair.source.run(OBJECTS)
    pair.destination.run("SELECT lo_from_bytea(2600, 'the user''s'), lo_from_bytea(7, 'the user''s, in nobody''s way')")
    for check in (True, False):
        with pytest.raises(ModuleFailed, match=r"2600.*not overwritten.*lo_unlink\(2600\)") as caught:
            migration(pair).run("pg_full_copy", check=check)
        assert caught.value.result["error"]["code"] == "mismatch"
    with pytest.raises(ModuleFailed, match="conflicting_large_objects"):
        migration(pair, types=["schema", "full"]).run("pg_migration_precheck")
    assert len(created(pair.destination)) == 2
    left_out = migration(pair).run("pg_full_copy", large_objects=False)
    assert left_out["changed"] and left_out["large_objects"]["state"] == "left out"
    assert len(created(pair.destination)) == 2
    assert migration(pair).run("pg_data_validate")["large_objects"] == {"verdict": "not copied"}
    pair.destination.run("SELECT lo_unlink(2600)")
    later = migration(pair).four_beats("pg_full_copy")[1]
    assert (later["runs"], later["large_objects"]["objects"]) == (0, NUMBER)
    assert pair.destination.value("SELECT lo_get(7)") == b"the user's, in nobody's way"
    pair.destination.run("SELECT lo_unlink(7)")
    assert assert_same(pair) == NUMBER


def test_one_that_comes_to_the_destination_meanwhile_is_not_overwritten(pair: Any, migration: Any) -> None:
    pair.run(TABLE)
    pair.source.run(OBJECTS)
    with pair.destination.connect() as somebody:
        somebody.execute("BEGIN; SELECT lo_from_bytea(2600, 'theirs')")
        process = migration(pair).start("pg_full_copy")
        until(lambda: waits_for_somebody(pair.destination))
        somebody.execute("COMMIT")
        with pytest.raises(ModuleFailed, match=r"2600.*not overwritten"):
            migration(pair).finish("pg_full_copy", process)
    assert pair.destination.value("SELECT lo_get(2600)") == b"theirs"
    pair.destination.run("SELECT lo_unlink(2600)")
    migration(pair).run("pg_full_copy")
    assert assert_same(pair) == NUMBER


def test_one_that_may_not_be_read_is_named_before_anything_is_copied(make_role: Any, pair: Any, migration: Any) -> None:
    name, password = make_role(pair)
    pair.run(TABLE)
    pair.source.run("SELECT count(lo_from_bytea(n::oid, 'x')) FROM generate_series(10, 12) n")
    pair.source.run(
        f"GRANT USAGE ON SCHEMA public TO {name}; GRANT SELECT ON t TO {name}; ALTER LARGE OBJECT 10 OWNER TO {name};"
        f"GRANT SELECT ON LARGE OBJECT 12 TO PUBLIC"
    )
    plain = migration(pair)
    plain.source.update(login_user=name, login_password=password)
    for check in (True, False):
        with pytest.raises(
            ModuleFailed, match=r"large object 11: .*may not read.*GRANT SELECT ON LARGE OBJECT"
        ) as caught:
            plain.run("pg_full_copy", check=check)
        assert caught.value.result["error"]["sqlstate"] == "42501"
    assert created(pair.destination) == {}
    with pytest.raises(ModuleFailed) as precheck:
        plain.run("pg_migration_precheck")
    assert "large_objects_closed" in {one["id"] for one in precheck.value.result["findings"]}
    pair.source.run(f"GRANT SELECT ON LARGE OBJECT 11 TO {name}")
    assert plain.run("pg_full_copy")["large_objects"]["objects"] == 3
    assert assert_same(pair) == 3


def test_an_account_that_is_no_superuser_at_the_destination(make_role: Any, pair: Any, migration: Any) -> None:
    app, (name, password) = make_role(pair)[0], make_role(pair)
    pair.run(TABLE)
    pair.source.run(f"SELECT lo_from_bytea(1, 'x'); ALTER LARGE OBJECT 1 OWNER TO {app}")
    database = pair.destination.dbname
    pair.destination.run(
        f'ALTER TABLE t OWNER TO {name}; GRANT CREATE ON DATABASE "{database}" TO {name};'
        f"GRANT SET ON PARAMETER session_replication_role TO {name}"
    )
    plain = migration(pair)
    plain.destination.update(login_user=name, login_password=password)
    try:
        with pytest.raises(ModuleFailed, match="a member of the roles that own large objects"):
            plain.run("pg_full_copy")
        assert created(pair.destination) == {}
        pair.destination.run(f"GRANT {app} TO {name}")
        plain.run("pg_full_copy")
        assert pair.destination.query(RIGHTS) == pair.source.query(RIGHTS)
        plain.run("pg_full_copy", resync=["pg_catalog.pg_largeobject"])
        assert assert_same(pair) == 1
    finally:
        pair.destination.run(f"REVOKE SET ON PARAMETER session_replication_role FROM {name}")


def test_they_are_as_the_snapshot_of_the_rows_sees_them(pair: Any, migration: Any) -> None:
    pair.run(TABLE)
    pair.source.run(OBJECTS)
    pair.source.run("INSERT INTO t VALUES (1, 1003)")
    before = pair.source.query(WITNESS)
    with held_up(pair.destination, "t", "NEW.id = 1") as release:
        process = migration(pair).start("pg_full_copy")
        until(lambda: waits_at_the_gate(pair.destination))
        pair.source.run("SELECT lo_put(1003, 5000000, 'changed'), lo_unlink(1002), lo_from_bytea(5, 'new')")
        release()
        migration(pair).finish("pg_full_copy", process)
    assert pair.destination.query(WITNESS) == before
    with pytest.raises(ModuleFailed, match="1 large objects differ, 1 are missing at the destination, and 1 exist"):
        migration(pair).run("pg_data_validate")
    migration(pair).run("pg_full_copy", resync=["pg_catalog.pg_largeobject"])
    assert assert_same(pair) == NUMBER
    found = migration(pair).run("pg_data_validate")["large_objects"]
    assert (found["verdict"], found["objects"]) == ("identical", NUMBER)


def test_a_damaged_byte_is_found(pair: Any, migration: Any) -> None:
    pair.run(TABLE)
    pair.source.run(OBJECTS)
    migration(pair).run("pg_full_copy")
    pair.destination.run("SELECT lo_put(1003, 9000000, '!')")
    with pytest.raises(ModuleFailed, match="1 large objects differ, 0 are missing") as caught:
        migration(pair).run("pg_data_validate")
    found = caught.value.result["large_objects"]
    assert (found["differing"], found["missing"], found["gone"]) == (1, 0, 0)
    assert pair.source.query(found["find"]) != pair.destination.query(found["find"])


def test_copied_again_only_ours_are_replaced(pair: Any, migration: Any) -> None:
    pair.run(TABLE)
    pair.source.run(OBJECTS)
    with pytest.raises(ModuleFailed, match="large objects are left out"):
        migration(pair).run("pg_full_copy", resync=["pg_catalog.pg_largeobject"], large_objects=False)
    migration(pair).run("pg_full_copy")
    pair.destination.run("SELECT lo_from_bytea(7, 'theirs')")
    pair.source.run(
        "SELECT lo_put(1003, 5000000, 'changed'), lo_unlink(1002), lo_unlink(1000), lo_from_bytea(5, 'new')"
    )
    pair.source.run("SELECT lo_put(1001, 0, 'S')")
    again = {"resync": ["pg_catalog.pg_largeobject"]}
    dry = migration(pair).run("pg_full_copy", check=True, **again)
    assert dry["changed"] and any("lo_unlink" in statement["sql"] for statement in dry["statements"])
    real = migration(pair).run("pg_full_copy", **again)
    assert real["statements"] == dry["statements"]
    assert (real["runs"], real["parts"]) == (0, 0)
    assert real["large_objects"]["objects"] == NUMBER - 1 and real["large_objects"]["moved"] == NUMBER + 1
    assert pair.destination.value("SELECT lo_get(7)") == b"theirs"
    pair.source.run("SELECT lo_from_bytea(7, 'the source''s')")
    with pytest.raises(ModuleFailed, match=r"large object 7: .*not overwritten"):
        migration(pair).run("pg_full_copy", **again)
    pair.source.run("SELECT lo_unlink(7)")
    pair.destination.run("SELECT lo_unlink(7)")
    assert assert_same(pair) == NUMBER - 1


def test_a_large_one_is_held_in_pieces_and_keeps_to_the_pace(pair: Any, migration: Any) -> None:
    pair.run(TABLE)
    pair.source.run("SELECT lo_create(1)")
    piece = "(SELECT string_agg(sha256(n::text::bytea), '') FROM generate_series(1, 262144) n)"
    pair.source.run(
        f"SELECT count(lo_put(1, n * 8388608::bigint, p)) FROM generate_series(0, 39) n, LATERAL {piece} p(p)"
    )
    migration(pair).run("pg_full_copy", tune=True)
    with held_up(pair.destination, "causeway.large_object", "true") as release:
        process = migration(pair).start("pg_full_copy", max_megabytes=80)
        began = time.monotonic()
        until(lambda: waits_at_the_gate(pair.destination), seconds=60)
        took = time.monotonic() - began
        status = pathlib.Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
        release()
        migration(pair).finish("pg_full_copy", process)
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    assert assert_same(pair) == 1
    assert pair.source.value("SELECT length(lo_get(1))") == 335_544_320
    assert peak < 200_000, f"{peak} kB for an object of 336 MB"
    assert took > 3, "336 MB at 80 MB a second"


def test_the_cutover_waits_until_all_of_them_are_copied(make_moved: MakeMoved) -> None:
    """A second copy that has died in the middle: nothing may open over what is half old and half new."""
    moved = make_moved("SELECT lo_create(1000), lo_create(1001)")
    moved.pair.destination.run("UPDATE causeway.large_object_copy SET state = 'copying', objects = 1")
    moved.refused("its large objects are partly copied, 1 of 2")
    moved.assert_writable()


def test_what_is_written_to_them_is_told_and_copied_again_before_the_cutover(make_moved: MakeMoved) -> None:
    moved = make_moved("SELECT lo_from_bytea(1000, 'as it was'), lo_from_bytea(1001, 'stays')")
    source, destination = moved.pair.ends
    assert assert_same(moved.pair) == 2
    with source.connect() as application:  # the statistics of a session are told when it ends, at the latest
        application.execute("SELECT lo_put(1000, 0, 'changed'), lo_from_bytea(1002, 'new')")
    events = "SELECT detail ->> 'remedy' FROM causeway.event WHERE what = 'large objects were written at the source'"
    until(lambda: destination.query(events))
    assert "causeway_resync: [pg_catalog.pg_largeobject]" in destination.value(events)
    found = moved.migration.run("pg_data_validate")
    assert found["identical"] and found["large_objects"]["verdict"] == "different"
    assert (found["large_objects"]["differing"], found["large_objects"]["missing"]) == (1, 1)
    assert warns_of_them(moved.cut(check=True))
    worker = moved.worker()
    moved.migration.run("pg_full_copy", resync=["pg_catalog.pg_largeobject"])
    assert assert_same(moved.pair) == 3
    assert moved.worker() == worker, "nothing in the stream is of large objects"
    assert moved.migration.run("pg_data_validate")["large_objects"]["verdict"] == "identical"
    assert not warns_of_them(moved.cut(check=True))
    with source.connect() as application:
        application.execute("SELECT lo_put(1002, 0, 'NEW')")
    until(lambda: len(destination.query(events)) == 2)
    answer = moved.cut()
    assert warns_of_them(answer)
    proved = answer["certificate"]["large_objects"]
    assert (proved["objects"], proved["captured"], proved["compared"]) == (3, False, False)
    moved.release()
    assert len(created(destination)) == 3, "they are the user's"
