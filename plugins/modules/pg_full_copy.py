#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_full_copy
short_description: Copy the rows of the selected tables to the destination
version_added: 0.1.0
description:
  - Copies every selected table that is not complete yet, several parts at once, straight from server to server.
  - All tables of a run are read under one snapshot of the source, which corresponds to one position in its WAL, the
    snapshot LSN. Changes of transactions that committed at or after a table's snapshot LSN are left to the CDC task; so the
    two together lose no row and duplicate none. No table of the source is locked against reading or writing.
  - Where the server cannot export such a snapshot, each table is locked against writers for some milliseconds, or is read
    under a snapshot of its own.
  - Where sessions of the source cannot read under one another's snapshots (PolarDB 11), no snapshot is shared, and a table
    is one part. Changes that follow make up for it; without them a note says that the tables are of different moments.
  - A snapshot that changes follow has to wait for the transactions that are open at the source. They are waited for in
    several attempts, for about five times O(lock_timeout) multiplied by O(lock_retries) seconds, and named meanwhile, in the
    progress and on the timeline.
  - A table that is truncated, rewritten, renamed or altered while it is copied is automatically copied again.
  - After an interruption finished tables stay; an unfinished one is emptied and copied again, or resumes with the parts
    that are missing (O(part_by)). A table that held rows
    before is never emptied. With O(conflicting_tables=ignore) the rows that it lacks, by key, are added to it.
  - Several hosts may run this module for one migration at the same time. One of them leads, holding the snapshot; the
    others join its queue of parts. When one dies the others copy the parts that it had claimed; when the leader dies, another
    takes over under a new snapshot, and complete tables stay.
  - A running CDC worker is first stopped at a commit boundary; M(causeway.postgresql.pg_cdc_task) starts it again.
extends_documentation_fragment:
  - causeway.postgresql.migration
  - causeway.postgresql.lock_timeout
  - causeway.postgresql.client_bin
options:
  parallel:
    description:
      - How many parts are copied at the same time. Each takes one session at either end.
    type: int
    default: 2
  part_size:
    description:
      - Bytes of a table that make one part. A larger table is cut, so that its parts can be copied at the same time.
      - Cutting by pages needs PostgreSQL 14 or later at the source.
    type: int
    default: 1073741824
  part_by:
    description:
      - What the parts of a large table are ranges of. V(ctid) is pages of the heap.
      - V(key) is ranges of the leading column of the key, where that is an integer, uuid, date or timestamp. Where changes
        follow and the table has replica identity FULL, an interrupted copy then resumes with the parts that are
        missing. A table that was truncated, rewritten or altered in between is copied from the beginning, and so is one with a
        unique index or exclusion constraint at the destination that does not include that column.
      - V(auto) uses the key where the copy could resume that way and the rows are stored roughly in its order, pages elsewhere.
    type: str
    choices: [auto, ctid, key]
    default: auto
  resync:
    description:
      - Tables, as C(schema.table), that are copied again although they are complete, at every call. Their rows at the
        destination are removed first. The CDC worker is stopped at a commit boundary for that, and resumes from the new
        snapshot LSNs.
      - Refused for a table that held rows before the migration (O(conflicting_tables=ignore)).
      - C(pg_catalog.pg_largeobject) means all large objects. Those that this migration has copied are removed and
        recreated as the source has them now; those that no longer exist at the source are removed. The CDC worker keeps running.
    type: list
    elements: str
    default: []
  large_objects:
    description:
      - Whether all large objects of the source database are copied too, under the OIDs that they have, with their comments.
        They belong to no schema, so O(objects) does not choose among them.
      - Each is complete or missing; an interrupted copy resumes with those that are missing.
        A large object of the destination that this migration has not created is never overwritten. If the source has one of
        the same OID, the module fails.
      - Later writes to them are not in the stream. An event of the migration reports them. Name them in
        O(resync) once the application has stopped writing to them, before the cutover.
      - The account needs the right to read each of them (C(SELECT), or membership in the owner).
    type: bool
    default: true
  privileges:
    description:
      - V(keep) gives large objects their owners and grants where the role exists at the destination. V(skip) leaves them to
        the migration's account.
    type: str
    choices: [keep, skip]
    default: keep
  assist:
    description:
      - Only help another host. The call waits until one leads a copy of this migration, joins it, and returns when all
        tables are complete. It never begins a copy, so that the phases before it are left to the migration's own host.
      - If the leading host dies, this one takes over.
    type: bool
    default: false
  assist_timeout:
    description:
      - How many seconds O(assist) waits while no run works on the migration; then it returns unchanged.
    type: int
    default: 300
  index_jobs:
    description:
      - How many indexes are built at the same time, during the copy. Each takes one session at the destination.
      - Keys and indexes of a table are built as soon as its rows are copied, where O(types) has C(schema).
        M(causeway.postgresql.pg_schema_sync) creates those that are still missing afterwards.
    type: int
    default: 2
  index_memory:
    description:
      - Megabytes of memory that all index builds share; each gets its share as C(maintenance_work_mem).
    type: int
    default: 512
  max_queries:
    description:
      - Statements per second at the source, of all workers and hosts together; 0 for no limit. A part takes seven.
      - This and the other limits are read from the state tables twice a second while the copy runs, so that O(tune)
        changes them. The hosts share them in proportion to their active workers.
    type: float
    default: 0
  max_rows:
    description:
      - Rows per second that are read at the source; 0 for no limit.
    type: float
    default: 0
  max_megabytes:
    description:
      - Megabytes (10^6 bytes) of COPY data per second that are read at the source; 0 for no limit.
    type: float
    default: 0
  max_source_lag:
    description:
      - Seconds by which a standby of the source may lag. While one lags more, nothing is read. 0 for no limit.
    type: float
    default: 0
  max_active:
    description:
      - Sessions that may be active at the source, besides the migration's. While there are more, nothing is read. 0 for no limit.
    type: int
    default: 0
  tune:
    description:
      - Copy nothing; set the limits of the hosts that are copying now, which apply them within two seconds.
    type: bool
    default: false
  progress_file:
    description:
      - File on the worker host to which a line of JSON is appended at every O(progress_interval).
    type: path
  progress_interval:
    description:
      - Seconds between two lines of progress; 0 for none.
    type: float
    default: 0
attributes:
  check_mode:
    description: Shows the statements that a real run executes, even before the destination's tables exist.
    support: full
  diff_mode:
    description: Names each table that is copied.
    support: full
author:
  - Causeway contributors (@causeway)
"""

EXAMPLES = r"""
- name: Copy one table again, whose rows were changed outside the stream
  causeway.postgresql.pg_full_copy:
    name: orders
    source: "{{ causeway_source }}"
    destination: "{{ causeway_destination }}"
    objects:
      - schema: sales
    resync: [sales.rates]

- name: Copy all large objects again, after the application has stopped writing to them
  causeway.postgresql.pg_full_copy:
    name: orders
    source: "{{ causeway_source }}"
    destination: "{{ causeway_destination }}"
    objects:
      - schema: sales
    resync: [pg_catalog.pg_largeobject]

- name: Copy the rows
  causeway.postgresql.pg_full_copy:
    name: orders
    source: "{{ causeway_source }}"
    destination: "{{ causeway_destination }}"
    objects:
      - schema: sales
    parallel: 4
"""

RETURN = r"""
tables:
  description: Every selected table that holds rows, with the state of its copy after the run, or now in check mode.
  returned: always
  type: list
  elements: dict
  contains:
    table:
      description: The table as PostgreSQL prints it.
      type: str
    state:
      description: C(waiting), C(copying) or C(complete).
      type: str
    rows:
      description: Rows that were copied.
      type: int
    bytes:
      description: Bytes of COPY data that were transferred.
      type: int
    mark:
      description: Snapshot LSN, the position in the source's WAL as of which the table was copied; empty before there is one.
      type: str
    run:
      description: Number of the copy run that it belongs to.
      type: int
    seconds:
      description: How long it took.
      type: float
rows:
  description: Rows of all tables together.
  returned: always
  type: int
bytes:
  description: Bytes of all tables together.
  returned: always
  type: int
large_objects:
  description: State of the copy of the large objects.
  returned: always
  type: dict
  contains:
    state:
      description: C(left out) (O(large_objects=false)), C(waiting), C(copying) or C(complete).
      type: str
    objects:
      description: How many were copied in the last complete copy.
      type: int
    bytes:
      description: Their bytes.
      type: int
    moved:
      description: How many this call copied, or removed because they no longer exist at the source.
      type: int
runs:
  description: How many copy runs this call took part in; more than one when a table was altered while it was copied.
  returned: always
  type: int
parts:
  description: How many parts this call copied itself; the others were copied by other hosts.
  returned: always
  type: int
opened_at:
  description: When the destination was opened. Nothing is copied after that.
  returned: after the cutover
  type: str
changed:
  description: Whether this call copied anything, or would.
  returned: always
  type: bool
diff:
  description: Before and after, for each table.
  returned: always
  type: list
  elements: dict
statements:
  description: The statements of the copy, in order, at most 500; each with C(end) and C(sql).
  returned: always
  type: list
  elements: dict
statements_total:
  description: How many statements there are.
  returned: always
  type: int
notes:
  description: What the plan assumes, such as an earlier phase that has only been planned.
  returned: always
  type: list
  elements: str
error:
  description: The error as data (code, doing, object, why, remedy, sqlstate, detail).
  returned: on failure
  type: dict
"""

from collections.abc import Mapping
from typing import Any

from ..module_utils._arguments import client_arguments, lock_timeout_arguments
from ..module_utils._engine.capture.under_lock import Patience
from ..module_utils._engine.copy import plan as full_copy
from ..module_utils._engine.copy.limits import Layout, Limits, ProgressFile
from ..module_utils._engine.copy.transfer.pace import MEGABYTE, Pace
from ..module_utils._engine.large_objects.objects import LARGE_OBJECTS, ObjectWish
from ..module_utils._engine.migration import Migration
from ..module_utils._engine.plan import Plan
from ..module_utils._engine.runner import Runner
from ..module_utils._engine.schema.build_limits import BuildLimits
from ..module_utils._module import Purpose, run


def _pace(options: Mapping[str, Any]) -> Pace:
    return Pace(
        queries=options["max_queries"],
        rows=options["max_rows"],
        bytes=options["max_megabytes"] * MEGABYTE,
        source_lag=options["max_source_lag"],
        active=options["max_active"],
    )


def _limits(options: Mapping[str, Any]) -> Limits:
    return Limits(
        parallel=options["parallel"],
        layout=Layout(options["part_size"], options["part_by"]),
        patience=Patience(float(options["lock_timeout"]), options["lock_retries"]),
        pace=None if options["assist"] else _pace(options),
        progress=ProgressFile(str(options.get("progress_file") or ""), options["progress_interval"]),
        objects=ObjectWish(
            options["large_objects"], LARGE_OBJECTS in options["resync"], options["privileges"] == "keep"
        ),
        build=BuildLimits(options["index_jobs"], options["index_memory"] << 20),
    )


def _planned(migration: Migration, options: Mapping[str, Any], runner: Runner) -> Plan:
    if options["tune"]:
        return full_copy.plan_pace(migration, _pace(options))
    patience = float(options["assist_timeout"]) if options["assist"] else None
    programs = (runner, str(options.get("client_bin") or ""))
    tables = [name for name in options["resync"] if name != LARGE_OBJECTS]
    return full_copy.plan(migration, _limits(options), patience, programs, resync=tables)


def main() -> None:
    """Copy what is not copied yet."""
    run(
        {
            "parallel": {"type": "int", "default": 2},
            "part_size": {"type": "int", "default": 1 << 30},
            "part_by": {"type": "str", "choices": ["auto", "ctid", "key"], "default": "auto"},
            "resync": {"type": "list", "elements": "str", "default": []},
            "large_objects": {"type": "bool", "default": True},
            "privileges": {"type": "str", "choices": ["keep", "skip"], "default": "keep"},
            "assist": {"type": "bool", "default": False},
            "assist_timeout": {"type": "int", "default": 300},
            "index_jobs": {"type": "int", "default": 2},
            "index_memory": {"type": "int", "default": 512},
            "max_queries": {"type": "float", "default": 0},
            "max_rows": {"type": "float", "default": 0},
            "max_megabytes": {"type": "float", "default": 0},
            "max_source_lag": {"type": "float", "default": 0},
            "max_active": {"type": "int", "default": 0},
            "tune": {"type": "bool", "default": False},
            "progress_file": {"type": "path"},
            "progress_interval": {"type": "float", "default": 0},
            **lock_timeout_arguments(),
            **client_arguments(),
        },
        _planned,
        # it takes the lock itself, beside other hosts that copy too; one that helps begins nothing
        lambda options: Purpose(writes=False, registers=not options["assist"], lifts=not options["assist"]),
    )


if __name__ == "__main__":
    main()
