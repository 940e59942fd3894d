# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a run works: a folder of its own that goes with it, and a look for what it left running."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

from support.scratch import scratch

from .environment import CACHE, ROOT

COLLECTION = Path("ansible_collections") / "causeway" / "postgresql"
# Every process of a run carries this in its environment, so that one left behind can be told from anybody else's
MARK = "CAUSEWAY_DEV_RUN"
BYTECODE = CACHE / "bytecode"


def link_tree() -> Path:
    """A collections path whose `causeway.postgresql` is the checkout itself, through a symlink."""
    link = CACHE / "tree" / COLLECTION
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink() or link.resolve() != ROOT:
        # renamed into its place: two lanes that begin at once both find a whole link
        new = link.with_name(f".{link.name}-{uuid.uuid4().hex}")
        new.symlink_to(os.path.relpath(ROOT, link.parent), target_is_directory=True)
        new.replace(link)
    return CACHE / "tree"


class Workspace:
    """A run's temporary folder, its copy of the collection and its mark. Use as a context manager."""

    def __init__(self, base: Path | None = None) -> None:
        self.mark = uuid.uuid4().hex
        self.folder = Path(tempfile.mkdtemp(prefix="causeway-dev-", dir=base or scratch()))
        # passable, not readable: servers of the tests run as another user when the caller is root
        self.folder.chmod(0o711)
        self._copy: Path | None = None

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *unused: object) -> None:
        self.end_processes()
        shutil.rmtree(self.folder, ignore_errors=True)
        # bytecode of what lay there; the rest of it serves the next run
        shutil.rmtree(BYTECODE / self.folder.relative_to("/"), ignore_errors=True)

    def copy(self) -> Path:
        """What git knows of the checkout, laid out as an installed collection. ansible-test refuses symlinks."""
        if self._copy is None:
            listed = subprocess.run(
                # the checkout may belong to somebody else than the caller (root in a container)
                ["git", "-c", "safe.directory=*", "ls-files", "-z", "-co", "--exclude-standard"],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                check=True,
            ).stdout
            folder = self.folder / "copy" / COLLECTION
            for name in filter(None, listed.decode().split("\0")):
                source, destination = ROOT / name, folder / name
                if source.exists() or source.is_symlink():  # deleted but not yet committed
                    destination.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(source, destination, follow_symlinks=False)
            self._copy = folder
        return self._copy

    def mark_of(self, stage: str) -> str:
        """Return the mark that the processes of one stage carry."""
        return f"{self.mark}-{stage}"

    def processes(self, stage: str = "") -> dict[int, str]:
        """Living processes of this run (of one stage of it) other than ourselves: pid to name. Empty where there is no
        /proc."""
        wanted = f"{MARK}={self.mark_of(stage) if stage else self.mark}".encode()
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                marks = [word for word in (entry / "environ").read_bytes().split(b"\0") if word.startswith(wanted)]
                if marks and (not stage or wanted in marks):
                    found[int(entry.name)] = (entry / "comm").read_text().strip()
            except (OSError, ValueError):
                continue  # gone meanwhile, or not ours to read
        found.pop(os.getpid(), None)
        return found

    def end_processes(self, stage: str = "", patience: float = 10.0) -> dict[int, str]:
        """End what is still running (of one stage) after `patience` seconds in which it may end by itself; returns what
        had to be."""
        left = self._wait_gone(stage, patience)
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in self.processes(stage):
                try:
                    os.kill(pid, number)
                except OSError:
                    continue
            if not self._wait_gone(stage, 10.0):
                break
        return left

    def _wait_gone(self, stage: str, seconds: float) -> dict[int, str]:
        end = time.monotonic() + seconds
        while (left := self.processes(stage)) and time.monotonic() < end:
            time.sleep(0.2)
        return left
