#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_replica_identity
short_description: Replica identities of the selected tables at the source
version_added: "0.1.0"
description:
  - Makes UPDATE and DELETE at the source carry the columns by which a row is found at the destination.
  - Every table is altered in a transaction of its own, with a bounded wait for its lock. Busy tables come last and are
    retried; the error names those that stay busy, and the sessions that hold their locks.
  - The original identities are recorded before the first change. O(state=absent) restores them where the present one
    is still that of this migration.
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
  identity:
    description:
      - V(auto) sets the least identity that identifies a row. A table keeps the one that it has where that suffices; else
        it gets its primary key, or else another key; C(FULL) only without one.
      - V(full) gives every selected table C(REPLICA IDENTITY FULL). Each UPDATE and DELETE then writes the whole old row to
        the WAL, and the copy of a large table can be resumed within the table after an interruption.
      - What is set is tried at once, in the same transaction. Where the source would then refuse UPDATE or DELETE on the
        table (because of a column list of another publication, or from PostgreSQL 18 on a generated column),
        it is taken back, and the error says why.
    type: str
    choices: [full, auto]
    default: auto
seealso:
  - module: causeway.postgresql.pg_publication
  - name: Replica identity
    description: PostgreSQL manual.
    link: https://www.postgresql.org/docs/current/logical-replication-publication.html
"""

EXAMPLES = r"""
- name: Set the replica identities of the tables
  causeway.postgresql.pg_replica_identity:
    name: orders
    source: "{{ causeway_source }}"
    destination: "{{ causeway_destination }}"
    objects: "{{ causeway_objects }}"
    identity: full

- name: Restore them at the end
  causeway.postgresql.pg_replica_identity:
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
      sql: ALTER TABLE ONLY "sales"."orders" REPLICA IDENTITY FULL
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
tables:
  description: Number of selected tables that hold rows.
  returned: with O(state=present)
  type: int
  sample: 12
to_change:
  description: How many of them get another identity.
  returned: with O(state=present)
  type: int
  sample: 11
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
from ..module_utils._engine.capture import replica_identity
from ..module_utils._module import made_or_taken_back, run


def main() -> None:
    run(
        {
            **state_argument(),
            **lock_timeout_arguments(),
            **progress_file_argument(),
            "identity": {"type": "str", "choices": ["full", "auto"], "default": "auto"},
        },
        lambda migration, options, dummy_runner: replica_identity.plan(migration, options),
        made_or_taken_back,
    )


if __name__ == "__main__":
    main()
