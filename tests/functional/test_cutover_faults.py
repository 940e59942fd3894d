# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong behind the fence: the application gets its rights back by itself, and another cutover finishes."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import signal
import sys
import time
from typing import Any

import pytest
from psycopg import sql
from support import witness
from support.harness.module_process import ModuleProcess
from support.harness.modules import ModuleFailed
from support.harness.moved import MakeMoved, Moved, kill
from support.loads.sales import SalesLoad
from support.processes import lives

pytestmark = pytest.mark.faults

SECONDS = 8
"""Within which the writers must have their rights back: a guard looks at once, the machine may be busy."""


def go_on(moved: Moved, process: ModuleProcess, match: str) -> dict[str, Any]:
    """Let a stopped cutover go on; it must fail with a message like this."""
    os.kill(process.pid, signal.SIGCONT)
    with pytest.raises(ModuleFailed, match=match) as failure:
        moved.migration.finish("pg_cutover", process, 60)
    assert "The source is writable, and nothing was opened." in failure.value.result["msg"]
    return dict(failure.value.result)


def finish(moved: Moved) -> dict[str, Any]:
    """The next cutover opens, with identical contents."""
    certificate: dict[str, Any] = moved.cut()["certificate"]
    assert certificate["verdict"] == "identical"
    witness.assert_identical(moved.pair, ["sales"])
    moved.assert_fenced()
    return certificate


def guard_of(process: ModuleProcess) -> int:
    """The one child of a stopped cutover."""
    children = pathlib.Path("/proc", str(process.pid), "task", str(process.pid), "children").read_text().split()
    (child,) = children
    return int(child)


def test_killed_anywhere_before_the_close(moved: Moved) -> None:
    places = (
        "before fence",
        *(f"after {s}" for s in ("fence", "end sessions", "mark", "drain", "sequences", "compare")),
    )
    with SalesLoad(moved):
        for place in places:
            process = moved.break_at(place)
            if place != "before fence":
                moved.assert_fenced()
            kill(process)
            moved.assert_writable(SECONDS)
            assert moved.fence() in (None, "reopened")
            time.sleep(0.1)
        for number in (signal.SIGTERM, signal.SIGINT):
            process = moved.break_at("after end sessions")
            os.killpg(process.pid, number)
            os.killpg(process.pid, signal.SIGCONT)
            process.communicate(timeout=20)
            moved.assert_writable(SECONDS)
        finish(moved)


@pytest.mark.parametrize("place", ["after close", "after revoke writer"])
def test_killed_after_the_close(moved: Moved, place: str) -> None:
    with SalesLoad(moved):
        process = moved.break_at(place)
        kill(process)
        time.sleep(2)
        moved.assert_fenced()
    assert moved.fence() == "closed"
    assert moved.pair.destination.value("SELECT opened_at FROM causeway.migration") is None
    with pytest.raises(ModuleFailed, match="closed the source and not yet opened the destination"):
        moved.migration.run("pg_publication", state="absent")
    certificate = finish(moved)
    names = [step["name"] for step in certificate["steps"]]
    assert names[:3] == ["catch up", "fence", "end sessions"]
    assert certificate["pause_ms"] >= 2000
    assert moved.pair.destination.value("SELECT phase FROM causeway.migration") == "opened"


def test_a_fence_that_nobody_guards_is_taken_up_or_given_back(make_moved: MakeMoved) -> None:
    for what in ("cutover", "release"):
        moved = make_moved()
        process = moved.break_at("after sequences")
        os.kill(guard_of(process), signal.SIGKILL)
        kill(process)
        time.sleep(1)
        moved.assert_fenced()
        assert moved.fence() == "fenced"
        info = moved.migration.run("pg_migration_info")
        assert info["fence"] == "fenced"
        assert "the source is fenced: run the cutover playbook again; migrate and release lift the fence" in info["msg"]
        if what == "cutover":
            again = moved.break_at("after fence")
            kill(again)  # the second run's guard gives back what the first one took
            moved.assert_writable(SECONDS)
            finish(moved)
        else:
            assert moved.release()["left_behind"] == []
            moved.assert_released()
            moved.assert_writable(SECONDS)


def left_fenced(moved: Moved, place: str = "after sequences") -> None:
    """A cutover and its guard are killed: the source stays as it is at this break point."""
    process = moved.break_at(place)
    with contextlib.suppress(ValueError):
        os.kill(guard_of(process), signal.SIGKILL)
    kill(process)
    moved.assert_fenced()


def test_any_module_that_meets_a_fence_nobody_guards_lifts_it(moved: Moved) -> None:
    task = {"worker_home": str(moved.home), "worker_python": sys.executable, "supervisor": "none"}
    steps: list[tuple[str, dict[str, Any]]] = [
        ("pg_replica_identity", {}),
        ("pg_full_copy", {}),
        ("pg_data_validate", {}),
        ("pg_sequence_sync", {}),
        ("pg_cdc_task", {**task, "state": "started"}),
    ]
    for module, options in steps:
        left_fenced(moved)
        found = moved.migration.run("pg_migration_precheck", fail_on="never")["findings"]
        assert [one["severity"] for one in found if one["id"] == "fence_left"] == ["warning"]
        dry = moved.migration.run(module, check=True, **options)
        assert dry["changed"] and any("GRANT" in one["sql"] for one in dry["statements"])
        moved.assert_fenced()
        assert moved.migration.run(module, **options)["changed"], module
        moved.assert_writable(1)
        assert moved.fence() == "reopened"
    finish(moved)


LOST = {
    "the publication is dropped": "DROP PUBLICATION {publication}",
    "its comment is changed": "COMMENT ON PUBLICATION {publication} IS 'ours, please keep'",
    "its comment is removed": "COMMENT ON PUBLICATION {publication} IS NULL",
}


def lose(moved: Moved, how: str) -> None:
    """Another session tidies up at the source: the state of the fence goes with the comment."""
    (publication,) = moved.pair.source.query("SELECT quote_ident(pubname) FROM pg_publication")[0]
    moved.pair.source.run(LOST[how].format(publication=publication))


@pytest.mark.parametrize("how", LOST)
def test_a_fence_whose_state_is_lost_behind_a_dead_cutover_is_given_back(moved: Moved, how: str) -> None:
    process = moved.break_at("after sequences")
    os.kill(guard_of(process), signal.SIGKILL)
    kill(process)
    lose(moved, how)
    moved.assert_fenced()
    if "publication" in how:  # nothing can go on, but for a release
        moved.task(state="absent")
        moved.migration.run("pg_repl_slot", state="absent")
        moved.migration.run("pg_publication", state="absent")
    else:
        moved.migration.run("pg_sequence_sync")
    moved.assert_writable()


@pytest.mark.parametrize("how", LOST)
def test_a_fence_whose_state_is_lost_under_a_living_cutover_is_given_back(moved: Moved, how: str) -> None:
    process = moved.break_at("after mark")
    lose(moved, how)
    moved.assert_fenced()
    os.kill(process.pid, signal.SIGCONT)
    with pytest.raises(ModuleFailed, match=r"state of its fence is lost|publication"):
        moved.migration.finish("pg_cutover", process, 60)
    moved.assert_writable(SECONDS)
    if "comment" in how:
        finish(moved)


def test_a_fence_whose_state_is_lost_while_it_was_closed_is_the_operator_s(moved: Moved) -> None:
    kill(moved.break_at("after close"))
    lose(moved, "its comment is changed")
    with pytest.raises(ModuleFailed, match="while the cutover was closing the source") as failed:
        moved.migration.run("pg_sequence_sync")
    moved.assert_fenced()
    (statement, *dummy) = re.findall(r"COMMENT ON PUBLICATION \S+ IS '[^']*'", str(failed.value))
    moved.pair.source.run(statement)
    finish(moved)


def test_a_fence_whose_record_is_gone_is_named_and_the_remedy_works(moved: Moved) -> None:
    left_fenced(moved)
    taken = moved.pair.destination.value("SELECT fence::text FROM causeway.migration")
    moved.pair.destination.run("UPDATE causeway.migration SET fence = NULL")
    with pytest.raises(ModuleFailed, match="which rights to write were taken there is not recorded") as refused:
        moved.migration.run("pg_data_validate")
    assert moved.fence() == "fenced"
    (statement,) = re.findall(r"COMMENT ON PUBLICATION \S+ IS '[^']*'", refused.value.result["msg"])
    moved.pair.destination.run("UPDATE causeway.migration SET fence = %s", [taken])
    moved.migration.run("pg_data_validate")
    moved.assert_writable(1)
    moved.pair.source.run(statement)
    assert moved.fence() == "reopened"


def test_a_cutover_that_has_lost_its_lock_opens_nothing_over_a_lifted_fence(moved: Moved) -> None:
    process = moved.break_at("after compare")
    moved.pair.destination.run(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name LIKE 'causeway module %'"
    )
    moved.migration.run("pg_replica_identity")
    moved.assert_writable(1)
    os.kill(process.pid, signal.SIGCONT)
    with pytest.raises(ModuleFailed, match="The source is writable, and nothing was opened"):
        moved.migration.finish("pg_cutover", process, 60)
    assert moved.pair.destination.value("SELECT opened_at FROM causeway.migration") is None
    moved.assert_writable(1)


def test_a_closed_source_is_named_by_every_module_and_left_to_the_cutover(moved: Moved) -> None:
    kill(moved.break_at("after close"))
    for module in ("pg_replica_identity", "pg_full_copy", "pg_data_validate"):
        with pytest.raises(ModuleFailed, match="closed the source and not yet opened the destination"):
            moved.migration.run(module)
    with pytest.raises(ModuleFailed, match="closed the source and not yet opened the destination") as refused:
        moved.task(state="absent")
    assert moved.worker(), "a release that is refused has ended nothing"
    (statement,) = re.findall(r"COMMENT ON PUBLICATION \S+ IS '[^']*'", refused.value.result["msg"])
    moved.pair.source.run(statement)
    moved.migration.run("pg_replica_identity")
    moved.assert_writable(1)
    finish(moved)


def test_a_fence_that_nobody_guards_is_given_back_when_the_next_cutover_is_refused(moved: Moved) -> None:
    process = moved.break_at("after sequences")
    os.kill(guard_of(process), signal.SIGKILL)
    kill(process)
    moved.assert_fenced()
    moved.pair.source.run("CREATE TABLE sales.made_meanwhile (id int PRIMARY KEY)")
    with pytest.raises(ModuleFailed, match=r"not copied completely: sales\.made_meanwhile") as refused:
        moved.cut()
    assert "The source is writable, and nothing was opened." in refused.value.result["msg"]
    moved.pair.source.run("DROP TABLE sales.made_meanwhile")
    moved.assert_writable()


def test_time_runs_out(moved: Moved) -> None:
    destination = moved.pair.destination
    # A comparison that waits for a lock
    process = moved.break_at("after sequences", timeout=4)
    with destination.connect() as holder, holder.transaction():
        holder.execute("LOCK TABLE sales.stock IN ACCESS EXCLUSIVE MODE")
        go_on(moved, process, "not done within 4 s, step compare")
    moved.assert_writable(1)
    # A worker that does not drain
    process = moved.break_at("after fence", timeout=4)
    worker = moved.worker()
    os.kill(worker, signal.SIGSTOP)
    try:
        go_on(moved, process, "not done within 4 s, step drain")
        moved.assert_writable(1)
    finally:
        os.kill(worker, signal.SIGCONT)
    # A cutover that is frozen itself: only its guard is there
    process = moved.break_at("after compare", timeout=2)
    moved.assert_writable(2 + SECONDS)
    go_on(moved, process, "not done within 2 s")
    finish(moved)


def test_what_is_found_behind_the_fence_is_refused(moved: Moved) -> None:
    source, destination = moved.pair.ends
    # A difference made by hand
    destination.run("UPDATE sales.stock SET tag = 'by hand' WHERE item = 7")
    answer = moved.refused(r"sales\.stock \(1 rows\): they differ")
    assert [row["table"] for row in answer["tables"] if row["verdict"] != "identical"] == ["sales.stock"]
    fences_ignored = answer["msg"].partition("No fence stops ")[2].partition(": they may have written")[0].split(", ")
    assert source.value("SELECT current_user") in fences_ignored
    moved.assert_writable(1)
    destination.run("UPDATE sales.stock SET tag = NULL WHERE item = 7")
    # A right that is granted in between
    process = moved.break_at("after mark")
    source.sql.execute(sql.SQL("GRANT INSERT ON sales.stock TO {}").format(sql.Identifier(moved.outsider[0])))
    go_on(moved, process, rf"INSERT on sales\.stock for {moved.outsider[0]}: the right still exists")
    source.sql.execute(sql.SQL("REVOKE INSERT ON sales.stock FROM {}").format(sql.Identifier(moved.outsider[0])))
    moved.assert_writable(1)
    # A superuser who writes all the same
    process = moved.break_at("after compare")
    source.run("UPDATE sales.stock SET amount = 0 WHERE item = 9")
    go_on(moved, process, "changed at the source behind the fence")
    moved.assert_writable(1)
    # A worker that dies
    process = moved.break_at("after end sessions")
    worker = moved.worker()
    os.kill(worker, signal.SIGKILL)
    began = time.monotonic()
    go_on(moved, process, "its CDC worker is gone")
    assert time.monotonic() - began < 20
    assert not lives(worker)
    moved.assert_writable(1)
    moved.task(wait="caught_up")
    finish(moved)


def test_a_prepared_transaction_is_named(make_moved: MakeMoved) -> None:
    moved = make_moved(source_settings={"max_prepared_transactions": 10})
    with moved.connect(moved.pair.source, "plain") as conn:
        conn.execute("BEGIN; UPDATE sales.stock SET tag = 'later' WHERE item = 1; PREPARE TRANSACTION 'left over'")
    moved.refused("prepared transaction left over")
    assert moved.fence() is None, "nothing was taken from anybody"
    moved.pair.source.run("COMMIT PREPARED 'left over'")
    finish(moved)


@pytest.mark.parametrize("end", ["source", "destination"])
def test_a_server_crashes_behind_the_fence(make_moved: MakeMoved, end: str) -> None:
    moved = make_moved(private=True)
    process = moved.break_at("after end sessions")
    getattr(moved.pair, end).server.restart("immediate")
    moved.reconnect()
    os.kill(process.pid, signal.SIGCONT)
    with pytest.raises(ModuleFailed, match=r"[Nn]othing was opened"):
        moved.migration.finish("pg_cutover", process, 60)
    moved.assert_writable(SECONDS)
    moved.task(wait="caught_up")
    finish(moved)
