# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person tells a running CDC task, on real servers: to pause, to take new settings, to start another engine."""

from __future__ import annotations

import socket
import time
import urllib.request
from collections.abc import Callable

import pytest
from prometheus_client.parser import text_string_to_metric_families
from psycopg import sql
from support.clusters.pairs import Pair
from support.harness.modules import ModuleFailed
from support.harness.streaming import slot_position, unpack_engine
from support.harness.tasks import Task
from support.processes import lives
from support.waiting import until
from support.witness import assert_identical


def events(task: Task) -> list[str]:
    rows = task.streaming.pair.destination.query(
        "SELECT what FROM causeway.event WHERE migration = %s ORDER BY id", [task.streaming.name]
    )
    return [row[0] for row in rows]


def test_paused_keeps_process_and_slot_and_says_what_that_costs(task: Task) -> None:
    source, destination = task.streaming.pair.ends
    task.run()
    pid = task.pid()
    answers = task.migration.four_beats("pg_cdc_task", **task.arguments, state="paused")
    assert task.streaming.progress("state") == "paused"
    slot = "SELECT active FROM pg_replication_slots WHERE slot_name = %s"
    assert source.value(slot, [task.streaming.slot]) is False
    source.run("INSERT INTO t SELECT n, repeat('x', 1000) FROM generate_series(1, 2000) n")
    answer = task.run(state="paused")
    assert not answer["changed"]
    assert answer["task"]["state"] == "paused" and answer["task"]["running"]
    assert answer["task"]["slot_keeps_bytes"] > 2_000_000 > answers[1]["task"]["slot_keeps_bytes"] - 10_000_000
    assert "The slot retains" in answer["notes"][0] and "MB of WAL" in answer["notes"][0]
    until(lambda: task.streaming.progress("lag_bytes") > 2_000_000)  # the worker looks at the source now and then
    info = task.migration.run("pg_migration_info")
    assert info["cdc"]["state"] == "paused" and not info["cdc"]["down"]
    assert "the slot retains" in info["msg"]
    assert info["cdc"]["catch_up"]["verdict"] == "unknown" and info["cdc"]["lag_bytes"] > 2_000_000
    assert destination.value("SELECT count(*) FROM t") == 0
    assert task.run(wait="caught_up")["changed"]
    assert assert_identical(task.streaming.pair, ["public"]) == 2000
    assert task.pid() == pid
    told = [what for what in events(task) if what.startswith("CDC worker")]
    assert told == ["CDC worker running", "CDC worker paused", "CDC worker resumed"]
    kept = destination.value("SELECT detail -> 'slot_keeps_bytes' FROM causeway.event WHERE what = 'CDC worker paused'")
    assert kept > 0
    stopped = task.run(state="stopped")
    assert "The slot retains" in stopped["notes"][0]
    assert events(task)[-1] == "CDC worker stopped"


def test_pausing_a_task_that_is_not_there_changes_nothing(task: Task) -> None:
    answer = task.run(state="paused")
    assert not answer["changed"]
    assert answer["notes"] == ["There is no CDC task yet."]


def test_restarted_changes_the_engine_and_nothing_else_does(task: Task) -> None:
    task.run()
    first = task.pid()
    unpack_engine(task.home, "engine-two")
    assert not task.run(engine="engine-two")["changed"]
    assert task.streaming.progress("engine") == "engine-under-test"
    assert task.migration.run("pg_migration_info", engine="engine-two")["cdc"]["engine_outdated"]
    task.streaming.pair.source.run("INSERT INTO t VALUES (1, 'a')")
    task.migration.four_beats("pg_cdc_task", **task.arguments, state="restarted", engine="engine-two")
    assert task.streaming.progress("engine") == "engine-two"
    assert task.pid() != first and not lives(first)
    assert not task.migration.run("pg_migration_info", engine="engine-two")["cdc"]["engine_outdated"]
    task.run(wait="caught_up")
    assert assert_identical(task.streaming.pair, ["public"]) == 1


def test_what_is_not_given_stays_and_a_dry_run_shows_what_is(task: Task) -> None:
    task.run(rows_per_second=500, tags={"stage": "production"})
    assert not task.run()["changed"]
    assert not task.run(rows_per_second=500)["changed"]
    dry = task.run(retry_connection=1000, check=True)
    assert dry["changed"] and "1000" in dry["statements"][0]["sql"]
    assert dry["task"]["settings"]["retry_connection"] == 720
    task.run(state="paused", batch_size=77)
    settings = task.run(state="paused")["task"]["settings"]
    assert (settings["rows_per_second"], settings["batch_size"], settings["retry_connection"]) == (500, 77, 720)
    info = task.migration.run("pg_migration_info")
    assert info["tags"] == {"stage": "production"} and info["cdc"]["settings"] == settings
    for wrong in ({"rows_per_second": 3}, {"mb_per_second": 0.01}, {"heartbeat_interval": 0}, {"retry_other": 720}):
        with pytest.raises(ModuleFailed, match=next(iter(wrong))):
            task.run(**wrong)


def test_an_idle_database_in_a_busy_cluster_moves_its_slot(task: Task) -> None:
    source = task.streaming.pair.source
    task.run(heartbeat_interval=1)

    def stands() -> tuple[str, str]:
        return (
            str(slot_position(source, task.streaming.slot)),
            str(task.streaming.progress("applied")),
        )

    first = stands()
    with source.server.connect() as other:
        reached = other.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
        deadline = time.monotonic() + 40
        # the position that is applied moves by a transaction alone, and only ours has written here
        query = "SELECT %s::pg_lsn < %s::pg_lsn AND %s::pg_lsn < %s::pg_lsn"
        while True:
            other.execute("SELECT pg_logical_emit_message(true, 'other', repeat('x', 100000))")
            now = stands()
            moved = source.value(query, [reached[0] if reached else None, now[1], first[1], now[1]])
            if moved and now[0] != first[0]:
                break
            assert time.monotonic() < deadline, (first, now)
            time.sleep(0.2)


def test_a_task_that_nobody_has_asked_for_in_a_week_does_not_start_by_itself(task: Task) -> None:
    task.run()
    task.run(state="stopped")
    destination = task.streaming.pair.destination
    destination.run("UPDATE causeway.cdc_task SET wanted = 'started', changed_at = now() - interval '8 days'")
    destination.run("UPDATE causeway.cdc_progress SET heartbeat = now() - interval '8 days'")
    task.streaming.start()
    assert task.streaming.wait_exit() == 1
    assert "7 days" in task.streaming.progress("last_error")["why"]
    # nor does the next start of the unit, nor a reboot
    task.streaming.start()
    assert task.streaming.wait_exit() == 0
    destination.run("UPDATE causeway.cdc_task SET wanted = 'started', changed_at = now() - interval '8 days'")
    destination.run("UPDATE causeway.cdc_progress SET heartbeat = now() - interval '6 days', last_error = NULL")
    task.streaming.start()
    task.streaming.wait_state("running")
    task.streaming.stop()
    task.run(wait="caught_up")


def end_sessions(task: Task, role: str) -> None:
    for end in task.streaming.pair.ends:
        end.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [role])


def set_password(task: Task, role: str, password: str) -> None:
    for end in task.streaming.pair.ends:
        end.sql.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(password)))


def test_passwords_change_while_it_runs(make_role: Callable[..., tuple[str, str]], task: Task) -> None:
    pair: Pair = task.streaming.pair
    role, first = make_role(pair, "LOGIN SUPERUSER REPLICATION")
    for end in (task.migration.source, task.migration.destination):
        end.update(login_user=role, login_password=first)
    task.run()
    pid = task.pid()
    pair.source.run("INSERT INTO t VALUES (1, 'a')")
    task.run(wait="caught_up")
    # the servers first: the worker tries again, and its new file ends the wait
    set_password(task, role, "second one")
    end_sessions(task, role)
    deadline = time.monotonic() + 30
    while "password authentication failed" not in task.streaming.log():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    pair.source.run("INSERT INTO t VALUES (2, 'b')")
    for end in (task.migration.source, task.migration.destination):
        end["login_password"] = "second one"
    answer = task.run(wait="caught_up")
    assert answer["changed"] and answer["statements"] == []
    assert "second one" not in str(answer) and "second one" not in task.streaming.log()
    assert task.pid() == pid and lives(pid)
    # the file first: nothing happens, until the sessions end
    for end in (task.migration.source, task.migration.destination):
        end["login_password"] = "third one"
    set_password(task, role, "third one")
    assert task.run()["changed"]
    end_sessions(task, role)
    pair.source.run("INSERT INTO t VALUES (3, 'c')")
    task.run(wait="caught_up")
    assert task.pid() == pid
    assert assert_identical(pair, ["public"]) == 3


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def scraped(port: int) -> dict[tuple[str, ...], float]:
    """Name and label values of every sample that a scrape returns."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return {
        (sample.name, *(value for key, value in sorted(sample.labels.items()) if key != "migration")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_are_served_on_loopback_and_say_what_is(task: Task) -> None:
    port = free_port()
    pair = task.streaming.pair
    answer = task.run(metrics_port=port, tags={"stage": "pro duction", "app.name": 'a"b'})
    assert answer["changed"]
    pair.source.run("INSERT INTO t SELECT n, 'x' FROM generate_series(1, 30) n")
    pair.source.run("UPDATE t SET v = 'y' WHERE id <= 5; DELETE FROM t WHERE id = 1")
    task.run(metrics_port=port, wait="caught_up")
    deadline = time.monotonic() + 20
    while (seen := scraped(port)).get(("causeway_cdc_rows_total", "insert")) != 30:
        assert time.monotonic() < deadline, seen
        time.sleep(0.1)
    assert seen[("causeway_cdc_rows_total", "update")] == 5 and seen[("causeway_cdc_rows_total", "delete")] == 1
    assert seen[("causeway_cdc_state", "running")] == 1 and seen[("causeway_cdc_state", "paused")] == 0
    assert seen[("causeway_cdc_conflicts_total",)] == 0 and seen[("causeway_cdc_retries_total",)] == 0
    assert seen[("causeway_cdc_transactions_total",)] >= 2
    applied = pair.destination.value("SELECT applied - '0/0'::pg_lsn FROM causeway.cdc_progress")
    assert 0 < seen[("causeway_cdc_position_bytes", "applied")] <= applied + 10_000_000
    assert seen[("causeway_cdc_lag_bytes",)] >= 0 and seen[("causeway_cdc_slot_keeps_bytes",)] > 0
    assert any(key[0] == "causeway_build_info" and "engine-under-test" in key for key in seen)
    assert seen[("causeway_migration_info", 'a"b', "pro duction")] == 1
    with socket.socket() as beside, pytest.raises(ConnectionRefusedError):
        beside.connect(("127.0.0.2", port))
    task.run(metrics_port=port, state="paused")
    deadline = time.monotonic() + 20
    while scraped(port)[("causeway_cdc_state", "paused")] != 1:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    # off again: the worker is started anew, since it serves where it should not
    task.migration.four_beats("pg_cdc_task", **task.arguments, state="restarted")
    with pytest.raises(OSError):
        scraped(port)


def test_a_port_that_is_taken_is_named(task: Task) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ModuleFailed, match="causeway_worker_metrics_port"):
            task.run(metrics_port=taken.getsockname()[1])
    task.run()
