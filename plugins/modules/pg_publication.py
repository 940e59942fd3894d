#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_publication
short_description: The publication of a migration at the source
version_added: "0.1.0"
description:
  - Creates a publication at the source that names exactly the selected tables. Partitions are published individually.
  - Before PostgreSQL 14 it also creates schema C(causeway) with a heartbeat table, and publishes it. Later sources get no
    table, which would be in the stream of everybody who publishes all tables; markers and heartbeats are logical messages.
  - Runs after M(causeway.postgresql.pg_replica_identity) and before M(causeway.postgresql.pg_repl_slot). It waits until
    the transactions that were open before have ended.
  - A table that is added to the selection later is locked with C(SHARE ROW EXCLUSIVE) while it is added, so that no change
    of an open transaction is lost.
  - A publication of the same name that this migration did not create, or that was altered, is an error.
  - Does nothing for a migration without V(incremental) in O(types).
author:
  - Causeway contributors (@causeway)
extends_documentation_fragment:
  - causeway.postgresql.migration
  - causeway.postgresql.state
  - causeway.postgresql.lock_timeout
  - causeway.postgresql.progress_file
attributes:
  check_mode:
    description: Can run in check mode and show what would be changed without changing it.
    support: full
  diff_mode:
    description: Shows what is and what will be.
    support: full
options:
  wait_timeout:
    description:
      - Seconds to wait for transactions that were open before.
        The error then names their sessions.
    type: int
    default: 60
seealso:
  - module: causeway.postgresql.pg_replica_identity
  - module: causeway.postgresql.pg_repl_slot
"""

EXAMPLES = r"""
- name: Publish the selected tables
  causeway.postgresql.pg_publication:
    name: orders
    source: "{{ causeway_source }}"
    destination: "{{ causeway_destination }}"
    objects: "{{ causeway_objects }}"

- name: Drop it at the end
  causeway.postgresql.pg_publication:
    name: orders
    source: "{{ causeway_source }}"
    destination: "{{ causeway_destination }}"
    objects: "{{ causeway_objects }}"
    state: absent
"""

RETURN = r"""
statements:
  description: What was executed, or in check mode would be; at most 500.
  returned: always
  type: list
  elements: dict
  contains:
    end:
      description: Where it is executed, V(source) or V(destination).
      type: str
    sql:
      description: The statement.
      type: str
  sample:
    - end: source
      sql: >-
        CREATE PUBLICATION "causeway_orders" FOR TABLE ONLY "sales"."orders" WITH (publish = 'insert, update,
        delete, truncate', publish_via_partition_root = false)
statements_total:
  description: How many statements there are in all.
  returned: always
  type: int
  sample: 1
notes:
  description: What was assumed or left unchanged, in full sentences.
  returned: always
  type: list
  elements: str
  sample: []
opened_at:
  description: When the destination was opened. Then nothing was done.
  returned: when the migration has been cut over
  type: str
  sample: "2026-11-22 10:00:00+00"
publication:
  description: The publication's name.
  returned: for an incremental migration
  type: str
  sample: causeway_orders
tables:
  description: Number of selected tables that it names; a partitioned one with a primary key counts for its partitions.
  returned: with O(state=present), for an incremental migration
  type: int
  sample: 12
waited:
  description: Seconds spent waiting for transactions that were open before.
  returned: when the publication was created
  type: float
  sample: 0.02
source_rights:
  description:
    - The statements that grant again, in one transaction at the source, what the fence of a cutover has taken for good. They
      come from the migration's record, which the release drops.
  returned: with O(state=absent)
  type: list
  elements: str
  sample: ['GRANT INSERT, UPDATE ON TABLE "sales"."orders" TO "app"']
left_behind:
  description: What could not be undone, why, and the statements that do it by hand.
  returned: with O(state=absent)
  type: list
  elements: dict
  contains:
    end:
      description: Where it is, V(source) or V(destination).
      type: str
    what:
      description: The object.
      type: str
    why:
      description: Why it could not be undone.
      type: str
    statements:
      description: The statements to run by hand.
      type: list
      elements: str
  sample: []
"""

from ..module_utils._arguments import lock_timeout_arguments, progress_file_argument, state_argument
from ..module_utils._engine.capture import publication
from ..module_utils._module import made_or_taken_back, run


def main() -> None:
    run(
        {
            **state_argument(),
            **lock_timeout_arguments(),
            **progress_file_argument(),
            "wait_timeout": {"type": "int", "default": 60},
        },
        lambda migration, options, dummy_runner: publication.plan(migration, options),
        made_or_taken_back,
    )


if __name__ == "__main__":
    main()
