#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Face of the engine's validate room."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_data_validate
short_description: Compare the contents of both ends of a migration
version_added: 0.1.0
author: Causeway contributors (@causeway)
description:
  - Compares every selected table of the source with that of the destination, in both directions, by the text that the
    types' output functions return. Where the two ends write floats differently, as they do if one of them is older than
    PostgreSQL 12, these, and what is made of them, are compared by their bytes.
  - While changes arrive, a row that differs is a suspect. It is read again, each time after everything that the source
    held has been applied, until it is equal, or has differed without a change of its own often enough to be a difference.
  - Large objects that this migration has copied are compared too, by digests of their bytes. Later writes to them are not
    captured. With C(incremental) in O(types) a difference is only reported, else the module fails.
  - Compares the definitions of the selected objects too, as C(pg_dump) prints them at each end, once the migration has
    created them all. Each difference is returned with its cause and the statement that removes it. With C(incremental) in
    O(types) differences are only reported, and M(causeway.postgresql.pg_cutover) refuses them; else those of severity
    C(error) make the module fail.
  - Changes nothing. The verdicts on tables are recorded in the state tables.
extends_documentation_fragment:
  - causeway.postgresql.migration
  - causeway.postgresql.client_bin
  - causeway.postgresql.differences
options:
  settle_timeout:
    description:
      - Seconds for which the suspects of a table are read again. Rows that are still changing by then are reported as
        unsettled, not as different. It also bounds how long the CDC worker may take to pass the position of a reading.
    type: int
    default: 300
  parallel:
    description:
      - How many tables are compared at the same time.
    type: int
    default: 2
attributes:
  check_mode:
    description: A dry run returns no verdict, since that needs a marker written at the source.
    support: full
  diff_mode:
    description: There is nothing to show, since nothing is changed.
    support: none
"""

EXAMPLES = r"""
- name: Compare the contents
  causeway.postgresql.pg_data_validate:
    name: orders
    source: "{{ causeway_source }}"
    destination: "{{ causeway_destination }}"
    objects: [{schema: sales}]
    settle_timeout: 600
"""

RETURN = r"""
tables:
  description: The verdict on each table. Empty in a dry run.
  returned: always
  type: list
  elements: dict
  contains:
    table:
      description: The table, as PostgreSQL prints it.
      type: str
    verdict:
      description: V(identical), V(different), or V(unsettled) when some rows never stopped changing.
      type: str
    source_rows:
      description: Rows that the first reading found at the source.
      type: int
    destination_rows:
      description: Rows that the first reading found at the destination.
      type: int
    differing:
      description: Rows that differ, in either direction.
      type: int
    unsettled:
      description: Rows that were still changing when O(settle_timeout) ran out.
      type: int
    find:
      description: SQL that finds the first differing row at either end. Empty without a difference.
      type: str
large_objects:
  description: The verdict on the large objects of the whole database.
  returned: when contents were compared
  type: dict
  contains:
    verdict:
      description: V(identical), V(different), or V(not copied) where this migration has not copied them.
      type: str
    objects:
      description: Large objects of the source.
      type: int
    differing:
      description: Large objects whose bytes differ.
      type: int
    missing:
      description: Large objects that the destination lacks.
      type: int
    gone:
      description: Large objects that this migration has copied and that no longer exist at the source.
      type: int
    find:
      description: SQL that shows the first difference when it is run at both ends. Empty without one.
      type: str
differences:
  description: The differences between the definitions of both ends, and in what belongs to no schema.
  returned: when contents were compared
  type: list
  elements: dict
  contains:
    id:
      description: What kind of difference it is.
      type: str
    severity:
      description: V(error), V(warning) or V(note).
      type: str
    object:
      description: Kind and name of the object, as C(pg_dump) names it.
      type: str
    why:
      description: Why a difference of this id matters.
      type: str
    cause:
      description: What was found, and at which end it was changed, where that is known.
      type: str
    fix:
      description: SQL for the destination that removes the difference, to be read before it is executed.
      type: str
    ignored:
      description: Whether O(ignore_differences) accepts it.
      type: bool
definitions:
  description: How many facts about objects of the source were compared.
  returned: when contents were compared
  type: int
identical:
  description: Whether no table differs.
  returned: when contents were compared
  type: bool
"""

from ..module_utils._arguments import drift_arguments
from ..module_utils._engine.drift.comparison import Drift
from ..module_utils._engine.validate import report
from ..module_utils._module import run


def main() -> None:
    """Arguments, one call, one exit."""
    run(
        {
            **drift_arguments(),
            "settle_timeout": {"type": "int", "default": 300},
            "parallel": {"type": "int", "default": 2},
        },
        lambda migration, options, runner: report.plan(
            migration,
            Drift(migration, runner, options.get("client_bin", ""), tuple(options["ignore_differences"])),
            settle_timeout=options["settle_timeout"],
            parallel=options["parallel"],
        ),
    )


if __name__ == "__main__":
    main()
