# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module in a process of its own, forked from a server that has loaded what all modules import.

Most of a module's time would otherwise be Python's imports, and the tests run modules by the thousand.
"""

from __future__ import annotations

import multiprocessing
import os
import pathlib
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

PLUGINS = "ansible_collections.causeway.postgresql.plugins"
_MODULES = sorted(path.stem for path in (pathlib.Path(__file__).parents[3] / "plugins" / "modules").glob("pg_*.py"))
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["support.harness.module_process", *(f"{PLUGINS}.modules.{name}" for name in _MODULES)])


class ModuleProcess:
    """A running module, leader of a process group. It looks like subprocess.Popen as far as tests need that."""

    def __init__(self, module: str, arguments: bytes) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="module-")
        receiver, sender = _FORKS.Pipe(duplex=False)
        self._process: Any = _FORKS.Process(
            target=_become,
            args=(module, arguments, self._folder.name, str(pathlib.Path.cwd()), dict(os.environ), sender),
        )
        self._process.start()
        sender.close()
        receiver.recv()
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        """As of subprocess: the negative number of the signal that ended it."""
        status: int | None = self._process.exitcode
        return status

    def poll(self) -> int | None:
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[bytes, bytes]:
        """Wait for the end; standard output and standard error. Raises subprocess.TimeoutExpired."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0)
        out, err = (pathlib.Path(self._folder.name, name).read_bytes() for name in ("out", "err"))
        return out, err


def _become(module: str, arguments: bytes, folder: str, cwd: str, environment: Mapping[str, str], started: Any) -> None:
    """In the new process: what Ansible's wrapper does, and the module's ``main``."""
    from ansible.module_utils import basic

    os.setsid()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    for name, descriptor in (("out", 1), ("err", 2)):
        opened = os.open(pathlib.Path(folder, name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)
    started.send(None)
    started.close()
    basic._ANSIBLE_ARGS = arguments
    basic._ANSIBLE_PROFILE = "legacy"
    name = f"{PLUGINS}.modules.{module}"
    sys.modules.pop(name, None)
    runpy.run_module(name, run_name="__main__", alter_sys=True)
