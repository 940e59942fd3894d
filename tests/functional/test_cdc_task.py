# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pg_cdc_task on real servers: a detached worker is started once, found again, stopped, and removed."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import time

import pytest
from support.clusters.pairs import Pair
from support.harness.modules import Migration, ModuleFailed
from support.harness.streaming import unpack_engine
from support.harness.tasks import Task
from support.processes import lives
from support.witness import assert_identical, fingerprint


def test_four_beats_and_changes_arrive(task: Task) -> None:
    task.migration.four_beats("pg_cdc_task", **task.arguments)
    task.streaming.pair.source.run("INSERT INTO t SELECT n, n FROM generate_series(1, 500) n")
    answer = task.run(wait="caught_up")
    assert not answer["changed"]
    assert answer["caught_up"]
    assert answer["task"]["state"] == "running"
    assert assert_identical(task.streaming.pair, ["public"]) == 500
    assert task.streaming.pair.destination.value("SELECT phase FROM causeway.migration") == "replicating"
    assert (task.folder / "config.json").stat().st_mode & 0o777 == 0o600


def test_the_worker_has_nothing_of_the_play_but_its_user(task: Task) -> None:
    task.run()
    process = pathlib.Path("/proc") / str(task.pid())
    password = task.migration.source["login_password"]
    words = process.joinpath("cmdline").read_bytes() + process.joinpath("environ").read_bytes()
    assert password.encode() not in words
    assert password not in task.streaming.log()
    assert process.joinpath("stat").read_text().rpartition(")")[2].split()[1] == "1"
    links = [str(entry.readlink()) for entry in process.joinpath("fd").iterdir() if entry.name in ("0", "1", "2")]
    assert sorted(links) == ["/dev/null", *2 * [str(task.folder / "worker.out")]]


def test_stopped_and_started_again(task: Task) -> None:
    source = task.streaming.pair.source
    task.run()
    source.run("INSERT INTO t VALUES (1, 'a')")
    task.run(wait="caught_up")
    first = task.pid()
    assert task.run(state="stopped")["changed"]
    assert not task.run(state="stopped")["changed"]
    assert task.streaming.progress("state") == "stopped"
    assert not lives(first)
    source.run("INSERT INTO t VALUES (2, 'b'); DELETE FROM t WHERE id = 1")
    assert task.run(wait="caught_up")["changed"]
    assert assert_identical(task.streaming.pair, ["public"]) == 1


@pytest.mark.faults
def test_a_killed_worker_ends_a_wait(task: Task) -> None:
    """Nothing starts it again here, so that a wait of any length would be in vain."""
    task.run()
    os.kill(task.pid(), signal.SIGKILL)
    with pytest.raises(ModuleFailed, match=r"no worker has applied changes for 30 s.*run the migrate playbook"):
        task.migration.run("pg_migration_info", wait="caught_up", wait_timeout=300)


def test_a_killed_worker_is_started_again(task: Task) -> None:
    task.run()
    os.kill(task.pid(), signal.SIGKILL)
    time.sleep(0.5)
    task.streaming.pair.source.run("INSERT INTO t VALUES (3, 'c')")
    answer = task.run(wait="caught_up")
    assert answer["changed"]
    assert assert_identical(task.streaming.pair, ["public"]) == 1


def test_an_error_of_the_worker_is_the_module_s(task: Task) -> None:
    task.streaming.pair.source.run("ALTER TABLE t ADD COLUMN extra int; INSERT INTO t VALUES (4, 'd', 4)")
    with contextlib.suppress(ModuleFailed):  # the worker may be quick enough for the module that starts it to see
        task.run()
    task.streaming.wait_state("failed")
    with pytest.raises(ModuleFailed) as failure:
        task.run(wait="caught_up", wait_timeout=20)
    assert "extra" in failure.value.result["msg"]
    assert "public.t" in failure.value.result["msg"]
    task.streaming.pair.destination.run("ALTER TABLE t ADD COLUMN extra int")
    task.run(wait="caught_up")
    assert assert_identical(task.streaming.pair, ["public"]) == 1


def test_it_refuses_while_a_table_is_not_copied(task: Task) -> None:
    task.streaming.pair.destination.run("UPDATE causeway.table_copy SET state = 'copying'")
    with pytest.raises(ModuleFailed, match=r"1 tables are not copied completely: public\.t"):
        task.run()
    assert task.streaming.progress("state") is None


def test_it_refuses_while_a_table_has_another_name_than_it_was_copied_under(task: Task) -> None:
    """The copy would copy it again: the task and the worker may not call it copied."""
    task.streaming.pair.run("ALTER TABLE t RENAME TO u")
    with pytest.raises(ModuleFailed, match=r"not copied completely: public\.u \(copied as public\.t\)") as refused:
        task.run()
    assert "migrate" in refused.value.result["error"]["remedy"]
    task.streaming.pair.run("ALTER TABLE u RENAME TO t")
    task.run(wait="caught_up")


def test_a_dry_run_on_a_fresh_pair_changes_nothing(pair: Pair, tmp_path: pathlib.Path) -> None:
    unpack_engine(tmp_path)
    pair.run("CREATE TABLE t (id int PRIMARY KEY, v text)")
    fresh = Migration("fresh", pair.source.endpoint, pair.destination.endpoint, [{"schema": "public"}])
    before = [fingerprint(end.sql) for end in pair.ends]
    answer = fresh.run("pg_cdc_task", check=True, worker_home=str(tmp_path), wait="caught_up")
    assert answer["changed"]
    assert any("cdc_task" in statement["sql"] for statement in answer["statements"])
    assert "Slot and full copy are not complete yet; this plan assumes that they will be." in answer["notes"]
    assert [fingerprint(end.sql) for end in pair.ends] == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["engine"]
    with pytest.raises(ModuleFailed, match="no replication slot yet"):
        fresh.run("pg_cdc_task", worker_home=str(tmp_path))
    for state in ("stopped", "absent"):
        assert not fresh.run("pg_cdc_task", worker_home=str(tmp_path), state=state)["changed"]


def test_without_incremental_there_is_nothing_to_keep_up(task: Task) -> None:
    answer = task.run(types=["schema", "full"])
    assert not answer["changed"]
    assert answer["task"]["state"] == "completed"


def test_settings_have_ranges(task: Task) -> None:
    with pytest.raises(ModuleFailed, match="retry_connection"):
        task.run(retry_connection=5)
    with pytest.raises(ModuleFailed, match="retry_other"):
        task.run(retry_connection=10, retry_other=10)


def test_a_new_password_is_a_change_and_the_same_one_is_not(task: Task) -> None:
    task.run()
    first = task.pid()
    task.migration.source["connect_params"] = {"application_name": "x"}
    answer = task.run()
    assert answer["changed"]
    assert "connect_params" not in str(answer)
    assert not task.run()["changed"]
    assert task.pid() == first


def test_absent_removes_folder_and_task_and_keeps_the_position(task: Task) -> None:
    task.run()
    task.streaming.pair.source.run("INSERT INTO t VALUES (5, 'e')")
    task.run(wait="caught_up")
    applied = task.streaming.progress("applied")
    assert task.run(state="absent")["changed"]
    assert not task.run(state="absent")["changed"]
    assert not task.folder.exists()
    assert task.streaming.progress("applied") == applied
    assert task.streaming.pair.destination.value("SELECT count(*) FROM causeway.cdc_task") == 0
    task.streaming.pair.source.run("INSERT INTO t VALUES (6, 'f')")
    task.run(wait="caught_up")
    assert assert_identical(task.streaming.pair, ["public"]) == 2


def test_an_engine_that_is_not_there_is_named(task: Task) -> None:
    with pytest.raises(ModuleFailed, match="no unpacked engine"):
        task.run(engine="0123")
