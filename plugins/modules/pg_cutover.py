#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Face of the engine's cutover."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_cutover
short_description: Cut the application over to the destination, with proof, or end the migration
version_added: 0.1.0
author: Causeway contributors (@causeway)
description:
  - Compares the definitions of both ends, as C(pg_dump) prints them, and refuses, before anything is taken from the
    application, a difference of severity C(error) that O(ignore_differences) does not accept. Behind the fence fingerprints
    of both catalogs show that no definition has been changed since.
  - Revokes the right to write the selected tables, and to draw from the selected sequences, from every role that holds it
    at the source, also through membership, and ends their sessions.
  - Writes a marker into the stream and waits until it has been applied, sets the sequences and reads them back, and
    compares the contents of both ends, which no longer change.
  - Only then closes the source for good, disarms the CDC task, restores the state of triggers, revokes the right to write
    at the destination from the migration's own account, and opens the destination.
  - Until the source is closed the fence is lifted automatically when a step fails, when O(timeout) runs out, and when this
    module's process dies. Where the whole worker host has died, the next module that is run does it.
extends_documentation_fragment:
  - causeway.postgresql.migration
  - causeway.postgresql.client_bin
  - causeway.postgresql.differences
options:
  state:
    description:
      - V(opened) cuts over. Once that has happened it returns the stored certificate and changes nothing.
      - V(released) drops the migration's state, as the last step of a release. It restores no right that the cutover
        revoked.
    type: str
    choices: [opened, released]
    default: opened
  timeout:
    description:
      - Seconds for which the source may be fenced. A cutover that is not done by then is undone.
    type: int
    default: 60
  catch_up_timeout:
    description:
      - Seconds to wait for the destination to catch up before anything is fenced.
    type: int
    default: 600
  stop_timeout:
    description:
      - Seconds to wait for the CDC worker to stop once the source is closed. After that its session is ended, as it has
        nothing left to apply.
    type: int
    default: 10
  revoke_writer:
    description:
      - Whether the migration's account loses its right to write to the destination. V(false) is for a database that the
        application uses with the same account; the certificate says so.
    type: bool
    default: true
  parallel:
    description:
      - How many tables are compared at the same time behind the fence.
    type: int
    default: 2
attributes:
  check_mode:
    description: Shows which rights would be revoked from which roles.
    support: full
  diff_mode:
    description: Shows which rights would be revoked from which roles.
    support: full
"""

EXAMPLES = r"""
- name: Cut over
  causeway.postgresql.pg_cutover:
    name: orders
    source: "{{ causeway_source }}"
    destination: "{{ causeway_destination }}"
    objects: [{schema: sales}]
    timeout: 30
  register: cutover

- name: Show what was proved
  ansible.builtin.debug:
    var: cutover.certificate
"""

RETURN = r"""
opened_at:
  description: When the destination was opened.
  returned: after the opening
  type: str
certificate:
  description:
    - What was proved. Stored with the migration, and returned again by later runs until it is released.
  returned: with O(state=opened)
  type: dict
  contains:
    fenced_roles:
      description: Roles that lost the right to write at the source.
      type: list
      elements: str
    bypassing_roles:
      description: Roles that no fence stops. Superusers, who can become one, and members of C(pg_write_all_data).
      type: list
      elements: str
    sessions_ended:
      description: Sessions that were ended, those of the fenced roles and any other that was writing.
      type: int
    marker:
      description: The random number of the marker, and a source position behind it.
      type: dict
    sequences:
      description: Sequences that were set and read back.
      type: int
    tables:
      description: Tables that were compared.
      type: int
    rows:
      description: Rows that were compared.
      type: int
    verdict:
      description: V(identical); nothing else is ever opened.
      type: str
    drain_seconds:
      description: Seconds from the marker to its arrival.
      type: float
    fenced_at:
      description: When the fence went up.
      type: str
    pause_ms:
      description: Milliseconds from the fence to the opening.
      type: int
    definitions:
      description:
        - How many facts about objects were compared (C(compared)), which errors the operator has accepted (C(accepted)), and
          which differences were told and stop no cutover (C(told)), and how many seconds it took behind the fence to see that
          no definition was changed since (C(seconds)).
      type: dict
    large_objects:
      description:
        - How many C(objects) were copied and when (C(copied_at)). Nothing more is proved about them; C(captured) and
          C(compared) are false. Null where none were copied.
      type: dict
    writer:
      description:
        - What M(causeway.postgresql.pg_revoke_writer) returned for the migration's own account; with O(revoke_writer=false)
          its name, and that nothing was revoked.
      type: dict
    steps:
      description: Every step with its name and the seconds it took.
      type: list
      elements: dict
differences:
  description: The differences between the definitions of both ends, and in what belongs to no schema.
  returned: with O(state=opened), before the opening
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
  returned: with O(state=opened), before the opening
  type: int
left_behind:
  description: Objects of the migration that still exist, why, and the statements that drop them by hand.
  returned: with O(state=released)
  type: list
  elements: dict
statements:
  description: The statements that are known in advance, each with the end at which it runs.
  returned: always
  type: list
  elements: dict
"""

from ..module_utils._arguments import drift_arguments
from ..module_utils._engine.cutover.execute import Limits
from ..module_utils._engine.cutover.plan import plan_opened
from ..module_utils._engine.cutover.release import plan_released
from ..module_utils._engine.drift.comparison import Drift
from ..module_utils._module import Purpose, run


def main() -> None:
    """Arguments, one call, one exit."""
    run(
        {
            **drift_arguments(),
            "state": {"type": "str", "choices": ["opened", "released"], "default": "opened"},
            "timeout": {"type": "int", "default": 60},
            "catch_up_timeout": {"type": "int", "default": 600},
            "stop_timeout": {"type": "int", "default": 10},
            "parallel": {"type": "int", "default": 2},
            "revoke_writer": {"type": "bool", "default": True},
        },
        lambda migration, options, runner: (
            plan_released(migration)
            if options["state"] == "released"
            else plan_opened(
                migration,
                Limits(
                    options["timeout"],
                    options["catch_up_timeout"],
                    options["stop_timeout"],
                    options["parallel"],
                    options["revoke_writer"],
                ),
                Drift(migration, runner, options.get("client_bin", ""), tuple(options["ignore_differences"])),
            )
        ),
        lambda dummy: Purpose(until_opened=False, registers=False, lifts=False),
    )


if __name__ == "__main__":
    main()
