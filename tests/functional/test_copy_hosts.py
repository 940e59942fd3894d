# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One migration copied by several worker hosts at once, and what happens when one of them dies."""

from __future__ import annotations

import os
import pathlib
import signal
import sysconfig
import venv
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support import witness
from support.clusters.local import Clusters
from support.harness.module_process import ModuleProcess
from support.harness.modules import Migration
from support.harness.trip import end_worker
from support.playbooks import Playbooks
from support.processes import command_lines
from support.waiting import until

from .test_full_copy import LARGE, LARGE_ROWS, held_up, ours

SMALL = "CREATE TABLE small (id int PRIMARY KEY)"
CUT = {"part_size": 300_000, "parallel": 1}


@pytest.fixture
def migration() -> Callable[..., Migration]:
    """C(migration(pair)): schema public, prepared up to the slot; every call of its modules may be another host's."""

    def make(pair: Any) -> Migration:
        more = {"types": ["full", "incremental"]}
        made = Migration("copy", pair.source.endpoint, pair.destination.endpoint, [{"schema": "public"}], more)
        for module in ("pg_replica_identity", "pg_publication", "pg_repl_slot"):
            made.run(module)
        return made

    return make


def kill(process: ModuleProcess) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def waiting(end: Any) -> int:
    """How many sessions are held up in the middle of a part."""
    return int(
        end.value("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory' AND datname = %s", [end.dbname])
    )


def parts(end: Any) -> dict[tuple[str, int], Any]:
    """When each finished part was done, by table and number."""
    rows = end.query(
        "SELECT table_name, part, p.finished_at FROM causeway.copy_part p JOIN causeway.table_copy USING (migration,"
        " relation) WHERE p.state = 'done'"
    )
    return {(table, part): at for table, part, at in rows}


def test_two_hosts_share_the_parts(pair: Any, migration: Any) -> None:
    pair.run(f"{LARGE};{SMALL}")
    pair.source.run(LARGE_ROWS + "; INSERT INTO small SELECT generate_series(1, 100)")
    both = migration(pair)
    with held_up(pair.destination, "large", "NEW.id IN (1, 19999)") as release:
        first = both.start("pg_full_copy", **CUT)
        until(lambda: waiting(pair.destination) == 1)
        second = both.start("pg_full_copy", **CUT)
        until(lambda: waiting(pair.destination) == 2)
        release()
        results = [both.finish("pg_full_copy", process) for process in (first, second)]
    assert witness.assert_identical(pair, ["public"]) == 20100
    done = parts(pair.destination)
    assert [result["changed"] for result in results] == [True, True]
    assert sum(result["parts"] for result in results) == len(done) > 6
    assert all(result["parts"] for result in results), "one of them did nothing"
    assert pair.destination.query("SELECT run FROM causeway.copy_run") == [(1,)]
    assert not both.run("pg_full_copy")["changed"]


@pytest.mark.faults
def test_a_host_that_joined_is_killed_in_mid_part(pair: Any, migration: Any) -> None:
    """The other takes its part up again; what was done stays, and nothing is copied twice."""
    pair.run(LARGE)
    pair.source.run(LARGE_ROWS)
    both = migration(pair)
    with held_up(pair.destination, "large", "NEW.id IN (1, 19999)") as release:
        leader = both.start("pg_full_copy", **CUT)
        until(lambda: waiting(pair.destination) == 1)
        joined = both.start("pg_full_copy", **CUT)
        until(lambda: waiting(pair.destination) == 2)
        before = parts(pair.destination)
        kill(joined)
        release()
        result = both.finish("pg_full_copy", leader)
    assert witness.assert_identical(pair, ["public"]) == 20000
    after = parts(pair.destination)
    assert len(before) > 3 and before.items() <= after.items(), "a finished part was copied again"
    assert result["runs"] == 1 and result["parts"] == len(after) - len(before)


@pytest.mark.faults
def test_the_host_that_leads_is_killed_in_mid_part(pair: Any, migration: Any) -> None:
    """The other takes the lead, under a new mark; a table that was complete stays."""
    pair.run(f"{LARGE};{SMALL}; CREATE TABLE first (id int PRIMARY KEY, t text)")
    pair.source.run(LARGE_ROWS + "; INSERT INTO small SELECT generate_series(1, 100)")
    pair.source.run("INSERT INTO first SELECT n, repeat('x', 200) FROM generate_series(1, 20000) n")
    both = migration(pair)
    with held_up(pair.destination, "large", "NEW.id IN (1, 19999)") as release:
        leader = both.start("pg_full_copy", **CUT)
        until(lambda: waiting(pair.destination) == 1)
        joined = both.start("pg_full_copy", **CUT)
        until(lambda: waiting(pair.destination) == 2)
        before = pair.destination.value("SELECT xmin::text FROM first WHERE id = 1")
        kill(leader)
        release()
        result = both.finish("pg_full_copy", joined)
    assert witness.assert_identical(pair, ["public"]) == 40100
    assert result["changed"] and result["runs"] == 2
    assert pair.destination.value("SELECT xmin::text FROM first WHERE id = 1") == before, "it was copied again"
    marks = pair.destination.query("SELECT table_name, run FROM causeway.table_copy ORDER BY 1")
    assert marks == [("first", 1), ("large", 2), ("small", 2)]
    until(lambda: not ours(pair.source))
    assert pair.destination.value("SELECT phase FROM causeway.migration") == "copied"


def test_a_host_that_helps_waits_for_one_that_leads(pair: Any, migration: Any) -> None:
    pair.run(LARGE)
    pair.source.run(LARGE_ROWS)
    both = migration(pair)
    helper = both.start("pg_full_copy", **CUT, assist=True)
    until(lambda: ours(pair.destination))
    assert both.run("pg_repl_slot")["changed"] is False, "who waits must not keep the phases before from their lock"
    with held_up(pair.destination, "large", "NEW.id = 1") as release:
        leader = both.start("pg_full_copy", **CUT)
        until(lambda: waiting(pair.destination) == 1)
        until(lambda: len(parts(pair.destination)) > 5)  # done by the helper: the other is held up
        release()
        results = [both.finish("pg_full_copy", process) for process in (leader, helper)]
    assert witness.assert_identical(pair, ["public"]) == 20000
    assert results[1]["parts"] > 5 and results[1]["changed"]
    again = both.run("pg_full_copy", assist=True)
    assert not again["changed"] and again["parts"] == 0


def test_a_helper_goes_when_nobody_works_on_the_migration(pair: Any, migration: Any) -> None:
    pair.run(LARGE)
    pair.source.run(LARGE_ROWS)
    unprepared = Migration("other", pair.source.endpoint, pair.destination.endpoint, [{"schema": "public"}])
    for alone in (unprepared, migration(pair)):
        result = alone.run("pg_full_copy", assist=True, assist_timeout=1)
        assert not result["changed"] and result["parts"] == 0
    assert pair.destination.value("SELECT count(*) FROM large") == 0
    assert pair.destination.query("SELECT name FROM causeway.migration") == [("copy",)]


def interpreter(folder: pathlib.Path) -> str:
    """A virtualenv of its own, with the drivers that this one has."""
    venv.create(folder, symlinks=True)
    (own,) = folder.glob("lib/*/site-packages")
    (own / "drivers.pth").write_text(sysconfig.get_paths()["purelib"] + "\n", encoding="utf-8")
    return str(folder / "bin" / "python")


def kill_module_of(python: str) -> None:
    """End with -9 what runs under this interpreter."""
    found = [pid for pid, line in command_lines().items() if line.startswith(python.encode())]
    assert found
    for pid in found:
        os.kill(pid, signal.SIGKILL)


@pytest.mark.faults
def test_the_playbook_with_a_helping_host_that_is_killed(
    pair: Any, clusters: Clusters, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Two inventory hosts with virtualenvs and homes of their own; what the killed one had claimed is copied again."""
    folder = tmp_path_factory.mktemp("hosts")
    pair.source.run(f"{LARGE}; {LARGE_ROWS}")
    pair.destination.run(LARGE)  # so that its rows can be held up
    pythons = {host: interpreter(folder / f"venv-{host}") for host in ("main", "helper")}
    own = {
        host: {
            "causeway_worker_python": python,
            "causeway_worker_home": str(folder / f"home-{host}"),
            "causeway_name": "shared",
            # the one that will run the worker; a helping host would not compile it anyway
            **({"causeway_worker_compile": "never"} if host == "main" else {}),
        }
        for host, python in pythons.items()
    }
    cut = {"causeway_copy_part_size": 300_000, "causeway_copy_parallel": 1}
    ends = {"causeway_source": pair.source.endpoint, "causeway_destination": pair.destination.endpoint}
    moved = {"causeway_objects": [{"schema": "public"}], "causeway_types": ["full", "incremental"]}
    (folder / "private").mkdir()
    books = Playbooks(
        folder / "private",
        {"main": {**own["main"], **cut, **ends, **moved, "causeway_client_bin": clusters.bin_dir("18")}},
        {"helper": {**own["helper"], **cut}},
    )
    try:
        with held_up(pair.destination, "large", "NEW.id IN (1, 19999)") as release, ThreadPoolExecutor(1) as beside:
            playing = beside.submit(books.play, "migrate", "--tags", "prepare,schema,full_copy", fails=True)
            until(lambda: waiting(pair.destination) == 2, seconds=90)
            before = parts(pair.destination)
            kill_module_of(pythons["helper"])
            release()
            played = playing.result(200)
        assert witness.assert_identical(pair, ["public"]) == 20000
        assert before and before.items() <= parts(pair.destination).items(), "a finished part was copied again"
        assert played.recap["main"][1] == 0 and played.recap["helper"][1] == 1
        assert not played.of("pg_schema_sync", "helper") and not played.of("pg_repl_slot", "helper")
        again = books.play("migrate", "--tags", "full_copy")
        assert again.changed == [] and len(again.of("pg_full_copy")) == 2
    finally:
        for pid_file in folder.glob("home-*/*/worker.pid"):
            end_worker(pid_file)
