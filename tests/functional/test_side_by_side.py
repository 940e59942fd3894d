# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two migrations in one inventory, started by ansible-runner: told apart by name, and each begun again on its own."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.clusters.local import Clusters
from support.clusters.pairs import Pair
from support.harness.trip import LEFT_OVER, end_worker, schema_text
from support.playbooks import Playbooks, Played, read_recap, read_results
from support.processes import command_lines
from support.witness import assert_identical

NAMES = {"first": "first", "second": "zweite Reise"}
"""The migrations by their inventory hosts; the first takes its name from its host."""
SHOP = """
CREATE SCHEMA shop;
CREATE TABLE shop.orders (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, what text NOT NULL UNIQUE);
CREATE TABLE shop.lines (id int REFERENCES shop.orders, line int, PRIMARY KEY (id, line));
INSERT INTO shop.orders (what) SELECT 'order ' || n FROM generate_series(1, 300) n;
INSERT INTO shop.lines SELECT n, 1 FROM generate_series(1, 300) n;
GRANT INSERT ON shop.orders TO PUBLIC;
"""


class Two:
    """The pairs by inventory host, the playbooks, and the order in which the tests found them."""

    def __init__(self, folder: pathlib.Path, clusters: Clusters, pairs: dict[str, Pair]) -> None:
        self.pairs, self.clusters, self.folder = pairs, clusters, folder
        self.schemas = {}
        for host, pair in pairs.items():
            pair.source.run(SHOP)
            self.schemas[host] = schema_text(clusters, pair.source)
        self.playbooks = Playbooks(folder, self.hosts())

    def hosts(self, *, passwords: bool = True) -> dict[str, dict[str, Any]]:
        def endpoint(given: dict[str, Any]) -> dict[str, Any]:
            return {key: value for key, value in given.items() if passwords or key != "login_password"}

        common = {
            "causeway_objects": [{"schema": "shop"}],
            "causeway_client_bin": self.clusters.bin_dir("18"),
            "causeway_worker_python": sys.executable,
            "causeway_worker_supervisor": "none",
            "causeway_confirm": "{{ causeway_name }}",
        }
        hosts = {
            host: {
                **common,
                "causeway_source": endpoint(pair.source.endpoint),
                "causeway_destination": endpoint(pair.destination.endpoint),
                "causeway_worker_home": str(self.folder / "worker"),
                "causeway_worker_compile": "never",
            }
            for host, pair in self.pairs.items()
        }
        hosts["second"]["causeway_name"] = NAMES["second"]
        return hosts

    def status(self, **more: str) -> dict[str, Any]:
        path = self.playbooks.folder / "status.json"
        self.playbooks.play("status", "-e", f"causeway_status_file={path}", more=more)
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        path.unlink()
        return found


@pytest.fixture(scope="module")
def two(
    clusters: Clusters, make_lasting_pair: Callable[..., Pair], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Two]:
    made = Two(tmp_path_factory.mktemp("two"), clusters, {host: make_lasting_pair() for host in NAMES})
    yield made
    for pid_file in made.playbooks.folder.glob("worker/*/worker.pid"):
        end_worker(pid_file)


@pytest.fixture(scope="module")
def migrated(two: Two) -> Played:
    """Both, by ansible-runner, which is what an automation controller runs."""
    private, book = two.playbooks.folder / "runner", two.playbooks
    (private / "inventory").mkdir(parents=True)
    (private / "project").mkdir()
    shutil.copy2(book.inventory, private / "inventory" / "hosts.yml")
    program = pathlib.Path(sys.executable).parent / "ansible-runner"
    done = subprocess.run(
        [str(program), "run", str(private), "-p", "causeway.postgresql.migrate"],
        env=book.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]
    return Played(0, done.stdout, read_results(book.folder / "results.jsonl"), read_recap(done.stdout), 0)


def test_ansible_runner_runs_the_playbook_by_its_full_name(two: Two, migrated: Played) -> None:
    assert {host for host, (_changed, failed) in migrated.recap.items() if not failed} == set(NAMES)
    assert {task.host for task in migrated.of("pg_data_validate")} == set(NAMES)
    for pair in two.pairs.values():
        assert assert_identical(pair, ["shop"]) == 600
    secrets = {end.endpoint["login_password"] for pair in two.pairs.values() for end in pair.ends}
    artifacts = [path for path in (two.playbooks.folder / "runner" / "artifacts").rglob("*") if path.is_file()]
    assert len(artifacts) > 20
    for path in artifacts:
        assert not [secret for secret in secrets if secret in path.read_text(errors="replace")], path


def test_the_status_of_several_is_keyed_by_migration(two: Two, migrated: Played) -> None:
    status = two.status()
    assert set(status) == set(NAMES.values())
    slots = {name: one["slot"]["name"] for name, one in status.items()}
    assert slots["first"] == "dts_sync_first" and len(set(slots.values())) == 2
    for name, one in status.items():
        assert one["name"] == name and one["phase"] == "validated"
        assert one["cdc"]["state"] == "running" and not one["cdc"]["down"]
        assert "invocation" not in one


def test_passwords_may_come_from_the_environment_of_the_controller(two: Two, migrated: Played) -> None:
    source, destination = (end.endpoint["login_password"] for end in two.pairs["first"].ends)
    two.playbooks.describe(two.hosts(passwords=False))
    try:
        status = two.status(CAUSEWAY_SOURCE_PASSWORD=source, CAUSEWAY_DESTINATION_PASSWORD=destination)
        assert all(one["source_server"]["reachable"] for one in status.values()) and len(status) == 2
    finally:
        two.playbooks.describe(two.hosts())


@pytest.fixture(scope="module")
def opened(two: Two, migrated: Played) -> tuple[Played, Played]:
    """The first is cut over; then both are to be released, and only for that one it is said."""
    cutover = two.playbooks.play("cutover", "-e", "causeway_hosts=first")
    return cutover, two.playbooks.play("release", "-e", "causeway_confirm=first", fails=True)


def test_one_is_cut_over_and_both_are_released(two: Two, opened: tuple[Played, Played]) -> None:
    cutover, refused = opened
    assert cutover.recap.keys() == {"first"}
    assert refused.recap["second"][1] == 1 and "Confirm it:" in refused.output
    assert refused.recap["first"][1] == 0
    two.playbooks.play("release", "-e", "causeway_hosts=second")
    for pair in two.pairs.values():
        assert [end.query(LEFT_OVER) for end in pair.ends] == [[], []]
    # Released before its cutover, a source is as it was, grants and all.
    assert schema_text(two.clusters, two.pairs["second"].source) == two.schemas["second"]


@pytest.mark.faults_heavy
def test_beginning_again_is_asked_for_twice_over(two: Two, opened: tuple[Played, Played]) -> None:
    """After the release of an opened migration: restart alone meets the tables in production and touches none."""
    first = two.pairs["first"]
    only = ("-e", "causeway_hosts=first")
    before = first.destination.query("SELECT ctid, xmin, * FROM shop.orders ORDER BY id")
    refused = two.playbooks.play("migrate", *only, "-e", "causeway_restart=true", fails=True)
    (precheck,) = refused.of("pg_migration_precheck")
    errors = {one["id"]: one["fix"] for one in precheck.result["findings"] if one["severity"] == "error"}
    assert errors.keys() == {"conflicting_tables", "destination_read_only"}
    assert refused.recap["first"] == (0, 1)
    assert first.destination.query("SELECT ctid, xmin, * FROM shop.orders ORDER BY id") == before
    first.destination.run(errors["destination_read_only"].partition(";")[0])  # what the cutover set
    first.destination.run("DROP SCHEMA shop CASCADE")
    first.source.run("INSERT INTO shop.orders (what) VALUES ('since then')")
    again = two.playbooks.play("migrate", *only, "-e", "causeway_restart=true")
    assert again.recap["first"][1] == 0
    assert assert_identical(first, ["shop"]) == 601
    assert two.playbooks.play("migrate", *only, "-e", "causeway_restart=true").recap == {"first": (0, 0)}
    two.playbooks.play("release", *only)
    assert [end.query(LEFT_OVER) for end in first.ends] == [[], []]


def test_no_worker_is_left(two: Two) -> None:
    """Runs last: what the releases ended has ended."""
    ours = os.fsencode(two.playbooks.folder)
    assert not [line for line in command_lines().values() if ours in line and b"_engine.daemon" in line]
