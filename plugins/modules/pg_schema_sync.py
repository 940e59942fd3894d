#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Face of the engine's schema room."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_schema_sync
short_description: Create the schema of a migration at the destination, section by section
version_added: 0.1.0
author: Causeway contributors (@causeway)
description:
  - Dumps the selected objects with C(pg_dump), compares the catalogs of both ends, and creates the objects that are
    missing at the destination, in one transaction. Existing objects are left unchanged; no error is ignored.
  - Needs C(pg_dump) and C(pg_restore) of at least the source's version on the worker host.
  - Extensions are not part of the selection. Section V(pre_data) creates those that selected objects need and that the
    destination lacks, in the same schema and the same version as at the source. Where the destination's server does not
    offer that version its default one is created, with a warning. M(causeway.postgresql.pg_migration_precheck) tries
    beforehand whether they can be created.
  - Replica identities are not copied. Triggers and rules that fire for a replicating session (C(ENABLE ALWAYS),
    C(ENABLE REPLICA)) are created disabled; the cutover restores their state.
extends_documentation_fragment:
  - causeway.postgresql.migration
  - causeway.postgresql.client_bin
options:
  section:
    description:
      - V(pre_data) creates schemas, types, functions, tables with their defaults and sequences, and views, before the rows.
      - V(keys) creates primary keys, unique constraints and unique indexes, which the CDC worker needs.
      - V(indexes) creates all other indexes, exclusion constraints, statistics objects, triggers, rules and policies.
      - V(foreign_keys) creates foreign keys and validates those that are valid at the source, fills materialized views, and
        gathers statistics of tables that have none, each by itself and after the transaction. While changes are replicated
        the destination must have caught up.
    type: str
    required: true
    choices: [pre_data, keys, indexes, foreign_keys]
  privileges:
    description:
      - V(keep) copies owners and grants where the role exists at the destination, and warns about missing roles.
        With V(skip) the migration's account owns everything.
    type: str
    choices: [keep, skip]
    default: keep
  jobs:
    description:
      - In section V(foreign_keys), on how many tables at the same time foreign keys are validated and statistics gathered.
        Each takes one session at the destination.
    type: int
    default: 2
  memory:
    description:
      - Megabytes of memory at the destination that these sessions share; each gets its share as C(maintenance_work_mem).
    type: int
    default: 512
  database_level:
    description:
      - In section V(foreign_keys), what happens to that which belongs to the database and to no schema. With V(carry) the
        destination gets the settings of the database and of roles in it, casts, default privileges of whole roles, rights
        on the database and event triggers, which stay disabled until the opening. What the account may not set is a
        warning. Nothing is taken from the destination.
      - With V(report) nothing of it is set. M(causeway.postgresql.pg_data_validate) and M(causeway.postgresql.pg_cutover)
        name every difference.
    type: str
    choices: [report, carry]
    default: report
attributes:
  check_mode:
    description: Nothing is written at either end. The source's schema is dumped to find out what is missing.
    support: full
  diff_mode:
    description: Shows each object that is created, with its statements.
    support: full
"""

EXAMPLES = r"""
- name: Create the tables, before their rows
  causeway.postgresql.pg_schema_sync:
    name: orders
    source: "{{ causeway_source }}"
    destination: "{{ causeway_destination }}"
    objects: [{schema: sales}]
    section: pre_data
    client_bin: /usr/lib/postgresql/17/bin
"""

RETURN = r"""
section:
  description: The section that was created.
  returned: always
  type: str
objects:
  description: The objects that the destination lacked, in the order in which they are created.
  returned: always
  type: list
  elements: str
  sample: ["schema sales", "table sales.orders"]
kept_tables:
  description: Tables that already existed at the destination and that this migration did not create.
  returned: always
  type: list
  elements: str
carried:
  description: What belongs to no schema and was given to the destination, or refused by it with a warning.
  returned: with O(database_level=carry), when something was missing
  type: list
  elements: str
statements:
  description: What is executed, each with its end. At most 500 of them.
  returned: always
  type: list
  elements: dict
statements_total:
  description: How many statements there are.
  returned: always
  type: int
notes:
  description: What the plan assumes.
  returned: always
  type: list
  elements: str
"""

from ..module_utils._arguments import client_arguments
from ..module_utils._engine.drift.carry import plan
from ..module_utils._engine.schema.compare import SECTIONS
from ..module_utils._module import run


def main() -> None:
    """Arguments, one call, one exit."""
    run(
        {
            **client_arguments(),
            "section": {"type": "str", "required": True, "choices": list(SECTIONS)},
            "privileges": {"type": "str", "choices": ["keep", "skip"], "default": "keep"},
            "jobs": {"type": "int", "default": 2},
            "memory": {"type": "int", "default": 512},
            "database_level": {"type": "str", "choices": ["report", "carry"], "default": "report"},
        },
        plan,
    )


if __name__ == "__main__":
    main()
