#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_sequence_sync
short_description: Sequence values of the destination, from the source
version_added: "0.1.0"
description:
  - Reads the value of every selected sequence at the source, sets it at the destination, and reads it back. Logical
    replication does not replicate sequences.
  - Covers owned, identity and standalone sequences, ascending, descending and cycling ones. A sequence that is ahead at the
    destination, in its own direction, is not moved back.
  - M(causeway.postgresql.pg_cutover) does the same behind the fence, when the values no longer change.
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
  exact:
    description:
      - Whether a sequence that is ahead at the destination is moved back to the source's value too.
    type: bool
    default: false
seealso:
  - module: causeway.postgresql.pg_schema_sync
  - module: causeway.postgresql.pg_cutover
"""

EXAMPLES = r"""
- name: Set the sequences of the destination
  causeway.postgresql.pg_sequence_sync:
    name: orders
    source: "{{ causeway_source }}"
    destination: "{{ causeway_destination }}"
    objects: "{{ causeway_objects }}"
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
    - end: destination
      sql: SELECT pg_catalog.setval('"sales"."orders_id_seq"'::pg_catalog.regclass, 1042, true)
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
sequences:
  description: Number of selected sequences.
  returned: with O(state=present)
  type: int
  sample: 9
to_set:
  description: How many of them have another value at the destination.
  returned: with O(state=present)
  type: int
  sample: 3
ahead:
  description: Sequences that are ahead at the destination and were not moved back.
  returned: with O(state=present)
  type: list
  elements: str
  sample: []
"""

from ..module_utils._arguments import state_argument
from ..module_utils._engine.validate import sequences
from ..module_utils._module import made_or_taken_back, run


def main() -> None:
    run(
        {**state_argument(), "exact": {"type": "bool", "default": False}},
        lambda migration, options, dummy_runner: sequences.plan(migration, options),
        made_or_taken_back,
    )


if __name__ == "__main__":
    main()
