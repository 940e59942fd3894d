# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine as the modules call it, one after the other in this process: what is measured is the work, not Ansible."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.copy import full_copy
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.copy.workers import Limits
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.migration import Migration, spec_of
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.plan import Plan
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.runner import Outcome
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.schema import sync

Planner = Callable[[Migration], Plan]


class ProgramRunner:
    """The engine's Runner, as C(_module) has it over C(run_command)."""

    def run(self, argv: Sequence[str], environment: Mapping[str, str]) -> Outcome:
        done = subprocess.run(argv, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
        return Outcome(done.returncode, done.stdout, done.stderr)

    def find(self, program: str, folder: str) -> str:
        return shutil.which(program, path=folder or None) or ""


def call(options: Mapping[str, Any], planner: Planner) -> Mapping[str, object]:
    """One module call, as C(_module.run) makes it."""
    with Migration(spec_of(options)) as migration:
        migration.lock()
        plan = planner(migration)
        if plan.changed:
            migration.ensure_registered()
            return {**plan.apply(), **plan.record()}
        return plan.record()


def clone(options: Mapping[str, Any], bin_dir: str, limits: Limits) -> dict[str, float]:
    """Schema, copy and keys, as the roles C(schema), C(full_copy) and C(finalize) do it; the seconds of each step."""
    runner = ProgramRunner()

    def section(name: str) -> Planner:
        return lambda migration: sync.plan(migration, {"section": name, "client_bin": bin_dir}, runner)

    steps: dict[str, Planner] = {
        "pre_data": section("pre_data"),
        "full_copy": lambda migration: full_copy.plan(migration, limits, None, (runner, bin_dir)),
        "keys": section("keys"),
        "indexes": section("indexes"),
        "foreign_keys": section("foreign_keys"),
    }
    seconds: dict[str, float] = {}
    for name, planner in steps.items():
        began = time.perf_counter()
        call(options, planner)
        seconds[name] = round(time.perf_counter() - began, 3)
    return seconds
