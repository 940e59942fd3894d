# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person sees of a module in a play: on standard error, whole, and nothing under no_log."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from support.clusters.local import Clusters
from support.clusters.pairs import Pair

Play = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def play(pair: Pair, clusters: Clusters, tmp_path: pathlib.Path) -> Play:
    """Runs a play of one task over a fresh pair; stdout is one JSON document."""

    def run(module: str, task: Mapping[str, Any] | None = None, **arguments: Any) -> subprocess.CompletedProcess[str]:
        common = {
            "name": "orders",
            "source": pair.source.endpoint,
            "destination": pair.destination.endpoint,
            "objects": [{"schema": "shop"}],
            **arguments,
        }
        name = f"causeway.postgresql.{module}"
        one = {"name": "The task", name: common, **(task or {})}
        playbook = [{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [one]}]
        (tmp_path / "play.json").write_text(json.dumps(playbook))
        return subprocess.run(
            [sys.executable, "-m", "ansible.cli.playbook", str(tmp_path / "play.json")],
            env={
                **os.environ,
                "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
                "ANSIBLE_LOCALHOST_WARNING": "false",
                "ANSIBLE_HOME": str(tmp_path / "home"),
                "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
            },
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    pair.source.run("CREATE SCHEMA shop; CREATE TABLE shop.log (line text)")
    return run


def test_findings_are_a_table_and_a_failure_is_one_block(play: Play, pair: Pair, clusters: Clusters) -> None:
    ran = play("pg_migration_precheck", client_bin=clusters.bin_dir("18"))
    assert ran.returncode == 2, ran.stderr
    assert "[localhost] Precheck not passed: 1 error" in ran.stderr
    assert "no_key  shop.log" in ran.stderr and "fix: ALTER TABLE shop.log" in ran.stderr
    assert "pg_migration_precheck failed on localhost" in ran.stderr
    assert "1 finding must be fixed first: no_key" in ran.stderr
    assert "Precheck not passed" not in ran.stdout
    assert "Traceback" not in ran.stdout + ran.stderr
    assert pair.source.endpoint["login_password"] not in ran.stdout + ran.stderr


def test_nothing_is_shown_under_no_log(play: Play, clusters: Clusters) -> None:
    ran = play("pg_migration_precheck", {"no_log": True}, client_bin=clusters.bin_dir("18"))
    assert ran.returncode == 2
    assert "shop.log" not in ran.stdout + ran.stderr and "Precheck" not in ran.stderr


def test_status_is_a_table(play: Play) -> None:
    ran = play("pg_migration_info")
    assert ran.returncode == 0, ran.stderr
    assert "[localhost] Migration orders: none" in ran.stderr
    assert "not started: 1 tables" in ran.stderr


def test_a_server_that_is_not_there_is_one_clear_block(play: Play, pair: Pair) -> None:
    nowhere = {**pair.destination.endpoint, "login_port": 1}
    ran = play("pg_migration_info", destination=nowhere)
    assert ran.returncode == 2
    assert "pg_migration_info failed on localhost" in ran.stderr
    assert "connecting to the destination" in ran.stderr and "Check that the server runs" in ran.stderr
    assert "Traceback" not in ran.stdout + ran.stderr


@pytest.mark.parametrize("interval", [0.2, 0])
def test_a_copy_on_this_machine_shows_how_far_it_is(play: Play, pair: Pair, interval: float) -> None:
    pair.source.run("INSERT INTO shop.log SELECT repeat('x', 100) FROM generate_series(1, 3000)")
    pair.destination.run("CREATE SCHEMA shop; CREATE TABLE shop.log (line text)")
    ran = play("pg_full_copy", types=["full"], max_rows=3000, progress_interval=interval)
    assert ran.returncode == 0, ran.stdout
    said = [line for line in ran.stderr.splitlines() if " % " in line or "%," in line]
    if not interval:
        assert said == []
        return
    assert said[-1].startswith("[localhost] 100.0 %, 1 of 1 tables"), said
    assert any("0 of 1 tables" in line for line in said), said
    hidden = play("pg_full_copy", {"no_log": True}, types=["full"], progress_interval=interval)
    assert "%" not in hidden.stderr
