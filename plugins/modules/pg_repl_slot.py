#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_repl_slot
short_description: The logical replication slot of a migration
version_added: "0.1.0"
description:
  - Creates the slot that retains the source's changes, over a replication connection, after
    M(causeway.postgresql.pg_publication) and before anything is copied.
  - PostgreSQL waits here for every open transaction of the cluster. The wait is bounded, and its error names the sessions.
  - The slot's whole identity is stored and compared at every run. A slot that is missing, has lost its WAL, or is ahead
    of the confirmed position is an error, since changes are missing; so is a slot of that name that this migration did not
    create.
  - Does nothing for a migration without V(incremental) in O(types).
author:
  - Causeway contributors (@causeway)
extends_documentation_fragment:
  - causeway.postgresql.migration
  - causeway.postgresql.state
attributes:
  check_mode:
    description: Can run in check mode and show what would be changed without changing it.
    support: full
  diff_mode:
    description: Shows what is and what will be.
    support: full
options:
  failover:
    description:
      - Whether standbys keep the slot too, so that the migration survives a failover of the source (PostgreSQL 17 and
        later; the standby needs C(sync_replication_slots), C(hot_standby_feedback), C(primary_slot_name) and a C(dbname) in
        C(primary_conninfo), the primary C(synchronized_standby_slots)). V(auto) does so where the source can. Decided once,
        when the slot is created.
    type: str
    choices: [auto, always, never]
    default: auto
  former_sources:
    description:
      - Servers that were the source before a failover. A slot of this migration that is left there retains their WAL, and
        prevents a standby from synchronizing the one in use; it is dropped, or a note gives the SQL. The account is that of
        O(source).
    type: list
    elements: dict
    default: []
    suboptions:
      login_host:
        description: Its address.
        type: str
        required: true
      login_port:
        description: Its port; that of O(source) if omitted.
        type: int
  wal_disk_size:
    description:
      - How many bytes C(pg_wal) may have at the source, which is the size of its disk, less what other files on it need. The
        slot guard then forecasts when it will be full; SQL does not show free disk space. 0 for no forecast.
    type: int
    default: 0
  wait_timeout:
    description:
      - Seconds to wait for transactions that were open before, and with O(state=absent) until no session uses the slot.
        The error then names the sessions.
    type: int
    default: 60
seealso:
  - module: causeway.postgresql.pg_publication
  - module: causeway.postgresql.pg_full_copy
"""

EXAMPLES = r"""
- name: Create the replication slot
  causeway.postgresql.pg_repl_slot:
    name: orders
    source: "{{ causeway_source }}"
    destination: "{{ causeway_destination }}"
    objects: "{{ causeway_objects }}"
    wait_timeout: 120

- name: Drop it at the end
  causeway.postgresql.pg_repl_slot:
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
      sql: CREATE_REPLICATION_SLOT "dts_sync_orders" LOGICAL pgoutput (SNAPSHOT 'nothing')
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
slot:
  description: The slot as it is recorded.
  returned: with O(state=present), for an incremental migration, but in check mode only when it exists
  type: dict
  contains:
    name:
      description: Its name.
      type: str
    plugin:
      description: Its output plugin.
      type: str
    database:
      description: The source database.
      type: str
    consistent_point:
      description: The position from which it has every commit.
      type: str
    system_identifier:
      description: The source's system identifier.
      type: str
    timeline:
      description: The source's timeline when it was created.
      type: int
    failover:
      description: Whether standbys keep it too.
      type: bool
    wal_disk_size:
      description: How many bytes C(pg_wal) may have, where it is configured.
      type: int
    wal_status:
      description: What the server says about the slot's WAL, from PostgreSQL 13 on.
      type: str
  sample:
    name: dts_sync_orders
    plugin: pgoutput
    database: orders
    consistent_point: 0/1A2B3C8
    system_identifier: "7450000000000000001"
    timeline: 1
    failover: false
    wal_status: reserved
left_behind:
  description: What could not be undone, why, and the statements that do it by hand.
  returned: with O(state=absent), and where a slot exists
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

from ..module_utils._arguments import state_argument
from ..module_utils._engine.slot import plan as slot
from ..module_utils._module import made_or_taken_back, run


def main() -> None:
    run(
        {
            **state_argument(),
            "failover": {"type": "str", "choices": ["auto", "always", "never"], "default": "auto"},
            "former_sources": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"login_host": {"type": "str", "required": True}, "login_port": {"type": "int"}},
            },
            "wal_disk_size": {"type": "int", "default": 0},
            "wait_timeout": {"type": "int", "default": 60},
        },
        lambda migration, options, dummy_runner: slot.plan(migration, options),
        made_or_taken_back,
    )


if __name__ == "__main__":
    main()
