#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_revoke_writer
short_description: Revokes a role's right to write to the selected objects
version_added: "0.1.0"
description:
  - Revokes INSERT, UPDATE, DELETE and TRUNCATE on the selected tables and USAGE and UPDATE on the selected sequences from
    one role, column privileges and an owner's own privileges included. Schema C(causeway) is not touched.
  - The revoked privileges are recorded with grantor and grant option; V(granted) restores exactly those.
  - Where the role can still write (as a superuser, a member of another role, or because PUBLIC may),
    C(default_transaction_read_only) is set for it in this database, and each remaining way is reported with its remedy.
  - Tries to write afterwards, and reports the outcome. A role that can still write although nothing says so is made
    read-only by default too, and tried again. That is known only after the attempt, so a dry run does not show it.
  - Also runs after the cutover, which does the same for the migration's own account at the destination. A release does not
    restore any privilege.
author:
  - Causeway contributors (@causeway)
extends_documentation_fragment:
  - causeway.postgresql.migration
attributes:
  check_mode:
    description: Can run in check mode and show what would be changed without changing it.
    support: full
  diff_mode:
    description: Shows what is and what will be.
    support: full
options:
  role:
    description:
      - The role. By default the account that logs in at O(end).
    type: str
  end:
    description:
      - Where the right is revoked.
    type: str
    choices: [source, destination]
    default: destination
  state:
    description:
      - V(revoked) revokes the right to write, V(granted) restores the privileges that V(revoked) revoked.
    type: str
    choices: [revoked, granted]
    default: revoked
seealso:
  - module: causeway.postgresql.pg_cutover
"""

EXAMPLES = r"""
- name: Keep the old application account from writing to the old database
  causeway.postgresql.pg_revoke_writer:
    name: orders
    source: "{{ causeway_source }}"
    destination: "{{ causeway_destination }}"
    objects: "{{ causeway_objects }}"
    role: shop
    end: source

- name: Grant it again
  causeway.postgresql.pg_revoke_writer:
    name: orders
    source: "{{ causeway_source }}"
    destination: "{{ causeway_destination }}"
    objects: "{{ causeway_objects }}"
    role: shop
    end: source
    state: granted
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
      sql: REVOKE DELETE, INSERT, TRUNCATE, UPDATE ON TABLE "sales"."orders" FROM "shop"
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
role:
  description: The role.
  returned: always
  type: str
  sample: shop
end:
  description: The end.
  returned: always
  type: str
  sample: source
tables:
  description: Number of selected tables at that end.
  returned: always
  type: int
  sample: 12
remaining:
  description: Ways to write that a REVOKE from the role does not close.
  returned: with O(state=revoked)
  type: list
  elements: dict
  contains:
    path:
      description: V(superuser), V(membership) or V(public). Where only the attempt to write has shown it, V(grant) for a
        privilege that the migration's account may not revoke, else V(unknown).
      type: str
    via:
      description: The role through which the right is held.
      type: str
    tables:
      description: Number of tables that can be written that way.
      type: int
    remedy:
      description: What would close it.
      type: str
  sample: []
verified:
  description: Whether every attempt to write was refused, for lack of privilege or in a new session of the account.
  returned: with O(state=revoked), but in check mode only when nothing is to be changed
  type: bool
  sample: true
refused:
  description: Number of tables that refused for lack of privilege.
  returned: as RV(verified)
  type: int
  sample: 12
writable:
  description: Tables that did not refuse it.
  returned: as RV(verified)
  type: list
  elements: str
  sample: []
read_only_sessions:
  description: Whether a new session of the account was refused as read-only, where it was tried.
  returned: as RV(verified)
  type: bool
  sample: true
unverified:
  description: Why the attempt to write was not possible, or not for every table.
  returned: when the migration's account may not become the role, or another session holds a lock on a table
  type: str
  sample: permission denied to set role "shop"
"""

from ..module_utils._engine.writers import revoke
from ..module_utils._module import Purpose, run


def main() -> None:
    run(
        {
            "role": {"type": "str"},
            "end": {"type": "str", "choices": ["source", "destination"], "default": "destination"},
            "state": {"type": "str", "choices": ["revoked", "granted"], "default": "revoked"},
        },
        lambda migration, options, dummy_runner: revoke.plan(migration, options),
        lambda dummy: Purpose(until_opened=False),
    )


if __name__ == "__main__":
    main()
