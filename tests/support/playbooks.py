# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the collection's playbooks as a user does: by their full names, with an inventory that only its owner can read."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[2]
COLLECTION = ("galaxy.yml", "meta", "playbooks", "plugins", "roles")
RECAP = re.compile(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Task:
    """What came of one task on one host; ``name`` is without the role's."""

    host: str
    name: str
    module: str
    status: str
    result: dict[str, Any]

    @property
    def statements(self) -> list[tuple[str, str]]:
        return [(statement["end"], statement["sql"]) for statement in self.result.get("statements", ())]


@dataclasses.dataclass(frozen=True)
class Played:
    """One run of a playbook. ``recap`` gives (changed, failed + unreachable) of each host."""

    status: int
    output: str
    tasks: list[Task]
    recap: dict[str, tuple[int, int]]
    seconds: float

    def of(self, module: str, host: str | None = None) -> list[Task]:
        """The tasks that ran a module of the collection (on one host), skipped ones left out."""
        return [
            task
            for task in self.tasks
            if task.module == f"causeway.postgresql.{module}"
            and task.status != "skipped"
            and (host is None or task.host == host)
        ]

    @property
    def ours(self) -> list[Task]:
        """The tasks of all modules of the collection, in their order, skipped ones left out."""
        return [t for t in self.tasks if t.module.startswith("causeway.postgresql.pg_") and t.status != "skipped"]

    @property
    def changed(self) -> list[str]:
        return [f"{task.host}: {task.name}" for task in self.tasks if task.result.get("changed")]


class PlaybookFailed(AssertionError):
    """A playbook ended otherwise than expected; the text is its output."""


class Runner:
    """How a playbook of the collection is run in a folder: environment, inventory, command. The folder is private."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.inventory = folder / "inventory.yml"
        self.collection = folder / "collections" / "ansible_collections" / "causeway" / "postgresql"

    def prepare_folder(self) -> None:
        """Make where the collection goes, and an empty configuration."""
        self.collection.parent.mkdir(parents=True)
        (self.folder / "ansible.cfg").write_text("[defaults]\n", encoding="utf-8")

    def write_inventory(self, groups: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
        """Write the variables of each group's hosts, readable by the owner only."""
        known = {group: {"hosts": dict(members)} for group, members in groups.items()}
        self.inventory.unlink(missing_ok=True)
        descriptor = os.open(self.inventory, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
            json.dump(known, handle, ensure_ascii=False, indent=2)  # JSON is YAML

    def environment(self) -> dict[str, str]:
        """Return the caller's environment less what would steer Ansible or libpq, and what Ansible is to use here."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "PG"))}
        return {
            **kept,
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_CONFIG": str(self.folder / "ansible.cfg"),
            "ANSIBLE_HOME": str(self.folder / "ansible"),
            "ANSIBLE_REMOTE_TMP": str(self.folder / "remote"),
            "ANSIBLE_COLLECTIONS_PATH": str(self.folder / "collections"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_LOCALHOST_WARNING": "0",
        }

    def command(self, name: str, *options: str) -> list[str]:
        """Return the command that runs C(causeway.postgresql.NAME)."""
        program = pathlib.Path(sys.executable).parent / "ansible-playbook"
        return [str(program), "-i", str(self.inventory), f"causeway.postgresql.{name}", *options]


class Playbooks(Runner):
    """The collection's playbooks, run from a copy of the checkout that nobody edits in between."""

    def __init__(
        self,
        folder: pathlib.Path,
        hosts: Mapping[str, Mapping[str, Any]],
        helpers: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """``folder`` is empty and private; ``hosts`` maps each inventory host of the group to its variables, ``helpers``
        those of the group causeway_copy_workers."""
        super().__init__(folder)
        self.prepare_folder()
        copy = self.collection
        copy.mkdir()
        for name in COLLECTION:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, copy / name)
        self.describe(hosts, helpers)
        self._runs = 0

    def describe(
        self, hosts: Mapping[str, Mapping[str, Any]], helpers: Mapping[str, Mapping[str, Any]] | None = None
    ) -> None:
        """Write the inventory."""
        local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        groups = {"migrations": hosts, **({"causeway_copy_workers": helpers} if helpers else {})}
        self.write_inventory(
            {
                group: {host: {**local, **variables} for host, variables in members.items()}
                for group, members in groups.items()
            }
        )

    def environment(self) -> dict[str, str]:
        return {
            **super().environment(),
            "PATH": os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
            "ANSIBLE_CALLBACK_PLUGINS": str(pathlib.Path(__file__).parent / "callback"),
            "ANSIBLE_CALLBACKS_ENABLED": "task_results",
            "ANSIBLE_PIPELINING": "1",
            "CAUSEWAY_TASK_RESULTS": str(self.folder / "results.jsonl"),
        }

    def play(self, name: str, *options: str, fails: bool = False, more: Mapping[str, str] | None = None) -> Played:
        """Run one playbook to its end; ``more`` is added to its environment. Raises PlaybookFailed for another end."""
        results = self.folder / "results.jsonl"
        results.unlink(missing_ok=True)
        started = time.monotonic()
        done = subprocess.run(
            self.command(name, *options),
            cwd=self.folder,
            env={**self.environment(), **(more or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=400,
            check=False,
        )
        if (done.returncode != 0) != fails:
            raise PlaybookFailed(f"{name} ended with status {done.returncode}:\n{done.stdout[-6000:]}")
        return Played(
            done.returncode, done.stdout, read_results(results), read_recap(done.stdout), time.monotonic() - started
        )


def read_results(path: pathlib.Path) -> list[Task]:
    """What the callback of this folder wrote."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [
        Task(line["host"], line["task"].rpartition(" : ")[2], line["action"], line["status"], line["result"])
        for line in map(json.loads, lines)
    ]


def read_recap(output: str) -> dict[str, tuple[int, int]]:
    """Changed tasks, and failed ones with unreachable hosts, by host, as the PLAY RECAP has them."""
    return {found[1]: (int(found[3]), int(found[4]) + int(found[5])) for found in RECAP.finditer(output)}
