#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_migration_precheck
short_description: Check whether a database can be migrated, and report everything that blocks it
description:
  - Inspects both ends and the worker host, and returns findings. Each has an id, a severity, why it matters, the
    evidence, the fix, and the lock that the fix takes. The page C(docs/prechecks.md) has the whole catalogue.
  - Nothing is ever changed. Objects that this migration has created are no finding, so that it can be run at any time.
  - A server that cannot be reached is a finding too.
version_added: 0.1.0
author:
  - Causeway contributors (@causeway)
extends_documentation_fragment:
  - causeway.postgresql.migration
  - causeway.postgresql.client_bin
attributes:
  check_mode:
    description: Can run in check mode; it never changes anything.
    support: full
  diff_mode:
    description: There is never a difference to show.
    support: none
options:
  ignore_checks:
    description:
      - Ids of findings that do not count. Only a finding of severity V(ignorable) may be ignored.
    type: list
    elements: str
    default: []
  fail_on:
    description:
      - Which findings make the module fail. V(error) means any of that severity. V(warning) also counts warnings, and
        ignorable findings that are not ignored. With V(never) the findings are only returned.
    type: str
    choices: [error, warning, never]
    default: error
  large_objects:
    description:
      - Whether the copy includes large objects (O(causeway.postgresql.pg_full_copy#module:large_objects)).
    type: bool
    default: true
  identity:
    description:
      - The replica identities that will be set (O(causeway.postgresql.pg_replica_identity#module:identity)).
    type: str
    choices: [full, auto]
    default: auto
  revoke_writer:
    description:
      - Whether the cutover will revoke the account's right to write (O(causeway.postgresql.pg_cutover#module:revoke_writer)).
    type: bool
    default: true
  privileges:
    description:
      - Whether objects will be given to their owners (O(causeway.postgresql.pg_schema_sync#module:privileges)).
    type: str
    choices: [keep, skip]
    default: keep
  worker_home:
    description:
      - Folder on the worker host that will hold the worker's configuration and log. If omitted, its space is not checked.
    type: path
"""

EXAMPLES = r"""
- name: Report everything that blocks the migration of two schemas
  causeway.postgresql.pg_migration_precheck:
    name: orders
    source:
      login_host: old.example.com
      login_db: orders
      login_user: mover
      login_password: "{{ vault_old }}"
    destination:
      login_host: new.example.com
      login_db: orders
      login_user: mover
      login_password: "{{ vault_new }}"
    objects:
      - schema: sales
      - schema: billing
        exclude: [audit_log]

- name: Check, accept other collations, and continue with any finding
  causeway.postgresql.pg_migration_precheck:
    name: orders
    source: "{{ causeway_source }}"
    destination: "{{ causeway_destination }}"
    objects: "{{ causeway_objects }}"
    ignore_checks: [database_collation]
    fail_on: never
  register: precheck
"""

RETURN = r"""
statements:
  description: Always empty, since nothing is executed; so are RV(diff) and RV(notes), and RV(statements_total) is 0.
  returned: always
  type: list
  elements: dict
  sample: []
statements_total:
  description: Always 0.
  returned: always
  type: int
  sample: 0
diff:
  description: Always empty.
  returned: always
  type: list
  elements: dict
  sample: []
notes:
  description: Always empty.
  returned: always
  type: list
  elements: str
  sample: []
findings:
  description: The findings, the worst first; ignored ones are omitted. Also returned when the module fails.
  returned: always
  type: list
  elements: dict
  contains:
    id:
      description: Id of the check.
      type: str
      sample: no_key
    severity:
      description: V(error) blocks, V(warning) should be fixed, V(ignorable) may be ignored by id, V(note) is good to know.
      type: str
    object:
      description: The object of the finding, as PostgreSQL prints it.
      type: str
      sample: sales.log
    why:
      description: Why it matters.
      type: str
    evidence:
      description: The C(query) that shows it and its C(answer).
      type: dict
    fix:
      description: SQL or a setting that fixes it.
      type: str
    lock:
      description: The lock that the fix takes.
      type: str
counts:
  description: How many findings there are of each severity.
  returned: always
  type: dict
  sample: {error: 0, warning: 1, ignorable: 2, note: 0}
passed:
  description: Whether the migration may continue, according to O(fail_on).
  returned: always
  type: bool
source_server:
  description: Product, version, database, encoding and system identifier of the source; empty if it was not reached.
  returned: always
  type: dict
  sample: {product: PostgreSQL, version: "14.22", version_num: 140022, database: orders, encoding: UTF8}
destination_server:
  description: The same of the destination.
  returned: always
  type: dict
opened_at:
  description: When the destination was opened; nothing is checked after that.
  returned: after the cutover
  type: str
msg:
  description: One sentence about the outcome.
  returned: always
  type: str
error:
  description: What failed, where, why, and what to do next.
  returned: failure
  type: dict
"""

from collections.abc import Mapping
from typing import Any

from ..module_utils._arguments import client_arguments
from ..module_utils._engine.migration import Migration
from ..module_utils._engine.plan import Plan
from ..module_utils._engine.precheck.run import PrecheckOptions, plan
from ..module_utils._engine.runner import Runner
from ..module_utils._module import LOOKS, run


def planner(migration: Migration, options: Mapping[str, Any], runner: Runner) -> Plan:
    """Run the checks and judge their findings as the options say."""
    wanted = PrecheckOptions(
        ignore=tuple(options["ignore_checks"]),
        fail_on=options["fail_on"],
        client_bin=options.get("client_bin", ""),
        worker_home=options.get("worker_home", ""),
        large_objects=options["large_objects"],
        identity=options["identity"],
        revoke_writer=options["revoke_writer"],
        privileges=options["privileges"] == "keep",
    )
    return plan(migration, runner, wanted)


def main() -> None:
    arguments = {
        "ignore_checks": {"type": "list", "elements": "str", "default": []},
        "fail_on": {"type": "str", "choices": ["error", "warning", "never"], "default": "error"},
        "large_objects": {"type": "bool", "default": True},
        "identity": {"type": "str", "choices": ["full", "auto"], "default": "auto"},
        "revoke_writer": {"type": "bool", "default": True},
        "privileges": {"type": "str", "choices": ["keep", "skip"], "default": "keep"},
        "worker_home": {"type": "path"},
        **client_arguments(),
    }
    run(arguments, planner, lambda dummy: LOOKS)


if __name__ == "__main__":
    main()
