# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs one module as Ansible does, in a process of its own, against a real pair.

A play would cost a second and a half a call; this leaves out only the transport.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
from collections.abc import Mapping
from typing import Any

from support.harness.module_process import ModuleProcess


class ModuleFailed(AssertionError):
    """A module ended with failed=true; ``result`` is its answer."""

    def __init__(self, name: str, result: Mapping[str, Any]) -> None:
        super().__init__(f"{name}: {result.get('msg')}")
        self.result = result


@dataclasses.dataclass
class Migration:
    """The arguments that all modules of one migration share, and calls of them."""

    name: str
    source: dict[str, Any]
    destination: dict[str, Any]
    objects: list[dict[str, Any]]
    more: dict[str, Any] = dataclasses.field(default_factory=dict)
    clients: str = ""  # the folder of the client programs, for modules that compare definitions

    def arguments(self, more: Mapping[str, Any], *, check: bool = False) -> bytes:
        """What Ansible writes to a module's standard input."""
        common = {"name": self.name, "source": self.source, "destination": self.destination, "objects": self.objects}
        internal = {"_ansible_check_mode": check, "_ansible_diff": True, "_ansible_remote_tmp": "/tmp"}
        return json.dumps({"ANSIBLE_MODULE_ARGS": {**common, **self.more, **more, **internal}}).encode()

    def start(self, module: str, *, check: bool = False, **more: Any) -> ModuleProcess:
        """Start a module and leave it running, in a process group of its own."""
        if self.clients and module in ("pg_data_validate", "pg_cutover"):
            more = {"client_bin": self.clients, **more}
        return ModuleProcess(module, self.arguments(more, check=check))

    def finish(self, module: str, process: ModuleProcess, timeout: float = 300) -> dict[str, Any]:
        """Wait for a started module and read its answer. Raises ModuleFailed."""
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        if not out.strip():
            raise RuntimeError(f"{module} answered nothing (status {process.returncode}): {err.decode()[-3000:]}")
        result: dict[str, Any] = json.loads(out.decode().strip().splitlines()[-1])
        if result.get("failed"):
            raise ModuleFailed(module, result)
        # ansible-core 2.19 and newer pass each on as an event
        told = result.get("warnings", ())
        result["warnings"] = [one if isinstance(one, str) else one["event"]["msg"] for one in told]
        return result

    def run(self, module: str, *, check: bool = False, **more: Any) -> dict[str, Any]:
        """Run a module to its end. Raises ModuleFailed."""
        return self.finish(module, self.start(module, check=check, **more))

    def four_beats(self, module: str, **more: Any) -> list[dict[str, Any]]:
        """Check, real, check again, real again; the first two change, the others do not."""
        results = [self.run(module, check=check, **more) for check in (True, False, True, False)]
        changed = [result["changed"] for result in results]
        if changed != [True, True, False, False]:
            raise AssertionError(f"{module}: changed was {changed} over check, real, check, real")
        if results[0]["statements"] != results[1]["statements"]:
            raise AssertionError(f"{module}: the dry run showed other statements than the real run")
        return results
