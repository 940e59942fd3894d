# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the collection's playbooks as a user would, and shows what of their output a person wants to see."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import subprocess
import time
from collections.abc import Callable, Mapping
from typing import Any

from support.playbooks import RECAP, Runner

ROOT = pathlib.Path(__file__).resolve().parents[2]
NOISE = re.compile(r"^(?:PLAY|TASK|RUNNING HANDLER|ok: |skipping: |included: |changed: |\S+ +: ok=\d|\s*$|\*+$)")
TASK = re.compile(r"^(?:TASK|RUNNING HANDLER) \[(?:[\w.]+\.(\w+) : )?(.*)\] \**$")


class PlaybookFailed(Exception):
    """A playbook ended with an error, which has been shown already."""


@dataclasses.dataclass(frozen=True)
class Played:
    """What a run of a playbook came to."""

    name: str
    seconds: float
    changed: int
    tasks: int


class Playbooks(Runner):
    """The playbooks of the checkout, for one inventory. C(folder) is private and holds inventory, logs and tree."""

    def __init__(self, folder: pathlib.Path, show: Callable[[str], None]) -> None:
        super().__init__(folder)
        self.show = show

    def prepare(self, host: str, variables: Mapping[str, Any]) -> None:
        """Write the inventory, and lay out the tree in which Ansible finds the collection."""
        self.prepare_folder()
        self.collection.symlink_to(ROOT, target_is_directory=True)
        (self.folder / "logs").mkdir()
        self.write_inventory({"migrations": {host: variables}})

    def environment(self) -> dict[str, str]:
        return {
            **super().environment(),
            "PYTHONUNBUFFERED": "1",
            "PYTHONPYCACHEPREFIX": str(self.folder / "bytecode"),
        }

    def play(self, name: str, label: str, *options: str) -> Played:
        """Run C(causeway.postgresql.NAME). Raises C(PlaybookFailed)."""
        log_file = self.folder / "logs" / f"{label.replace(' ', '-')}.log"
        started, recap, task = time.monotonic(), (0, 0), ""
        with (
            log_file.open("w", encoding="utf-8") as log,
            subprocess.Popen(
                self.command(name, *options),
                cwd=self.folder,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                encoding="utf-8",
                errors="replace",
            ) as process,
        ):
            for line in process.stdout or ():
                log.write(line)
                task = self._follow(line.rstrip(), task)
                found = RECAP.match(line)
                if found and found.group(1) != "localhost":
                    recap = (int(found.group(2)), int(found.group(3)))
        if process.returncode != 0:
            raise PlaybookFailed(f"the playbook {name} failed (exit code {process.returncode}); its output is above")
        return Played(label, time.monotonic() - started, recap[1], recap[0])

    def _follow(self, line: str, task: str) -> str:
        """Show one line of output, if it is for people; the task that the next lines belong to."""
        found = TASK.match(line)
        if found:
            return found.group(2)
        if line.startswith("changed: "):
            if task:
                self.show(f"changed: {task}")
            return ""  # once, also for a loop
        elif not NOISE.match(line):
            self.show(line)
        return task
