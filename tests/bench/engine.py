# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine as the modules call it, one after the other in this process: what is measured is the work, not Ansible."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from support.harness.programs import Programs

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.capture import publication, replica_identity
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.copy import plan as full_copy
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.copy.limits import Limits
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.migration import Migration
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.plan import Plan
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.precheck import run as precheck
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.schema import plan as schema_plan
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.slot import plan as slot
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.spec import spec_of

Planner = Callable[[Migration], Plan]

PATIENCE = {"lock_timeout": 2.0, "lock_retries": 60}
"""What the modules have by default, and what the roles give them."""

SLOT = {"state": "present", "failover": "auto", "former_sources": [], "wal_disk_size": 0, "wait_timeout": 60}


def call(options: Mapping[str, Any], planner: Planner, *, writes: bool = True) -> Mapping[str, object]:
    """One module call, as C(_module.run) makes it."""
    with Migration(spec_of(options)) as migration:
        if writes:
            migration.lock()
        plan = planner(migration)
        if plan.changed:
            migration.ensure_registered()
            return {**plan.result, **plan.apply(), **plan.record()}
        return {**plan.result, **plan.record()}


class Steps:
    """The module calls of the roles, by the name of each step. C(bin_dir) has pg_dump."""

    def __init__(self, bin_dir: str, limits: Limits) -> None:
        self.bin_dir = bin_dir
        self.limits = limits
        self._runner = Programs()

    def precheck(self, migration: Migration) -> Plan:
        return precheck.plan(migration, self._runner, precheck.PrecheckOptions(client_bin=self.bin_dir))

    def identity(self, migration: Migration) -> Plan:
        return replica_identity.plan(migration, {"identity": "full", "state": "present", **PATIENCE})

    def publication(self, migration: Migration) -> Plan:
        return publication.plan(migration, {"wait_timeout": 60, "state": "present", **PATIENCE})

    def slot(self, migration: Migration) -> Plan:
        return slot.plan(migration, SLOT)

    def section(self, name: str) -> Planner:
        """A section of pg_schema_sync."""
        return lambda migration: schema_plan.plan(
            migration, {"section": name, "client_bin": self.bin_dir}, self._runner
        )

    def full_copy(self, migration: Migration) -> Plan:
        return full_copy.plan(migration, self.limits, None, (self._runner, self.bin_dir))

    def clone(self) -> dict[str, Planner]:
        """Of the roles C(schema), C(full_copy) and C(finalize), for a database that nobody writes to meanwhile."""
        sections = {name: self.section(name) for name in ("keys", "indexes", "foreign_keys")}
        return {"pre_data": self.section("pre_data"), "full_copy": self.full_copy, **sections}

    def capture(self) -> dict[str, Planner]:
        """Of the roles C(precheck), C(prepare), C(schema) and C(full_copy)."""
        before = {"precheck": self.precheck, "identity": self.identity, "publication": self.publication}
        copy = {"pre_data": self.section("pre_data"), "full_copy": self.full_copy, "keys": self.section("keys")}
        return {**before, "slot": self.slot, **copy}


def carry_out(options: Mapping[str, Any], steps: Mapping[str, Planner]) -> dict[str, float]:
    """One step after the other; the seconds of each."""
    seconds: dict[str, float] = {}
    for name, planner in steps.items():
        began = time.perf_counter()
        call(options, planner)
        seconds[name] = round(time.perf_counter() - began, 3)
    return seconds
