#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_migration_info
short_description: Show the status of a migration
description:
  - Returns the present phase, copied tables, slot, change data capture, validation, timeline and certificate of a
    migration. It can run at any time, also before the first phase and after the release.
  - Nothing is written, with one exception that changes nothing of the user's. With O(wait=caught_up) a marker is put into
    the stream of the source.
  - It never takes the lock of the migration, so it answers while a playbook works on the migration, and waits beside one.
  - A source that cannot be reached is reported in RV(source_server); the rest is still returned. With O(wait=caught_up) it
    is an error.
  - Everything is a return value; no facts are set.
version_added: 0.1.0
author:
  - Causeway contributors (@causeway)
extends_documentation_fragment:
  - causeway.postgresql.migration
options:
  engine:
    description:
      - Name of the collection's engine, from which RV(cdc.engine_outdated) tells whether the worker runs another.
    type: str
  wait:
    description:
      - V(caught_up) writes a marker at the source and returns when the worker has applied it, and so all before it. What is
        returned is read after that.
      - The CDC task must be started, as M(causeway.postgresql.pg_cdc_task) does. It is an error if it is missing, paused or
        stopped, if it fails, or if no worker applies changes for 30 seconds.
      - There is nothing to wait for without V(incremental) in O(types), or once the destination was opened.
    type: str
    choices: [none, caught_up]
    default: none
  wait_timeout:
    description: Seconds to wait with O(wait=caught_up).
    type: int
    default: 600
attributes:
  check_mode:
    description: Can run in check mode. Then it neither writes a marker nor waits.
    support: full
  diff_mode:
    description: There is never a difference to show.
    support: none
"""

EXAMPLES = r"""
- name: Show the status of the migration
  causeway.postgresql.pg_migration_info:
    name: orders
    source: "{{ causeway_source }}"
    destination: "{{ causeway_destination }}"
    objects: "{{ causeway_objects }}"
  register: status

- name: Wait until all tables are copied
  causeway.postgresql.pg_migration_info:
    name: orders
    source: "{{ causeway_source }}"
    destination: "{{ causeway_destination }}"
    objects: "{{ causeway_objects }}"
  register: status
  until: status.totals.tables > 0 and status.totals.complete == status.totals.tables
  retries: 60
  delay: 10

- name: Wait until the destination has caught up with this moment
  causeway.postgresql.pg_migration_info:
    name: orders
    source: "{{ causeway_source }}"
    destination: "{{ causeway_destination }}"
    objects: "{{ causeway_objects }}"
    wait: caught_up
"""

RETURN = r"""
statements:
  description: Always empty, since nothing is changed; so are RV(diff) and RV(notes), and RV(statements_total) is 0.
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
name:
  description: The migration's name.
  returned: always
  type: str
phase:
  description:
    - V(none) before the first phase, then V(registered), V(prepared), V(schema), V(copied), V(replicating),
      V(finalized), V(validated), V(opened); V(released) when its state has been deleted.
  returned: always
  type: str
  sample: replicating
opened_at:
  description: When the destination was opened; empty before.
  returned: always
  type: str
tags:
  description: The migration's tags, of this call or of its CDC task.
  returned: always
  type: dict
types:
  description: What the migration consists of.
  returned: always
  type: list
  elements: str
source_server:
  description: Whether the source is V(reachable), with product, version, database and encoding, or the error.
  returned: always
  type: dict
destination_server:
  description: The same of the destination.
  returned: always
  type: dict
selected:
  description: How many tables and bytes are selected at the source; empty if it was not reached.
  returned: always
  type: dict
  sample: {tables: 12, bytes: 734003200}
tables:
  description: The copy of each table.
  returned: always
  type: list
  elements: dict
  contains:
    table:
      description: The table, as PostgreSQL prints it.
      type: str
    state:
      description: V(waiting), V(copying) or V(complete).
      type: str
    run:
      description: Number of the copy run that it belongs to.
      type: int
    mark:
      description: Snapshot LSN, the source position as of which it was copied.
      type: str
    rows:
      description: Rows copied so far.
      type: int
    bytes:
      description: Bytes copied so far.
      type: int
    seconds:
      description: How long the copy took or has been running.
      type: float
totals:
  description: Number of tables by state, rows and bytes copied.
  returned: always
  type: dict
  sample: {tables: 12, waiting: 0, copying: 0, complete: 12, rows: 1000000, bytes: 734003200}
large_objects:
  description: State of the copy of the source's large objects; empty before it has begun.
  returned: success
  type: dict
  contains:
    state:
      description: V(copying) or V(complete).
      type: str
    run:
      description: How often all of them were copied, this copy included.
      type: int
    total:
      description: How many the source held when this copy began.
      type: int
    objects:
      description: How many are copied.
      type: int
    bytes:
      description: Their bytes.
      type: int
    finished_at:
      description: When it was complete. Writes to them after it began are not captured.
      type: str
full_copy:
  description: Progress of the copy, over all hosts; empty before one has begun.
  returned: success
  type: dict
  contains:
    percent:
      description: Percentage of the bytes that its tables have at the source.
      type: float
    tables:
      description: Tables that are selected.
      type: int
    complete:
      description: Tables whose rows are all copied.
      type: int
    rows:
      description: Rows of the parts that are done.
      type: int
    bytes:
      description: Bytes of COPY data that were transferred.
      type: int
    rows_per_second:
      description: Rows per second since it began.
      type: int
    large_objects:
      description: Large objects that were copied.
      type: int
    large_objects_left:
      description: Large objects that are still to be copied.
      type: int
    bytes_per_second:
      description: Bytes per second in the last ten seconds.
      type: int
    eta:
      description: Seconds until it is done at this rate; none where that is unknown.
      type: float
    hosts:
      description: Worker hosts that are copying now.
      type: int
    workers:
      description: Workers on all of them that are copying a part.
      type: int
    held:
      description: What makes the whole copy wait, such as a standby that lags; mostly empty.
      type: str
    pace:
      description: The limits, 0 for none (C(queries), C(rows), C(bytes), C(source_lag), C(active)).
      type: dict
slot:
  description: The replication slot as the source shows it; empty if it was not reached.
  returned: always
  type: dict
  contains:
    name:
      description: Its name.
      type: str
    exists:
      description: Whether a slot of that name exists. If not, the rest is omitted.
      type: bool
    active:
      description: Whether a session reads it.
      type: bool
    wal_status:
      description: V(reserved), V(extended), V(unreserved) or V(lost); empty before PostgreSQL 13.
      type: str
    restart_lsn:
      description: Start of the oldest WAL that it retains.
      type: str
    confirmed_flush_lsn:
      description: Position up to which the changes are durable at the destination.
      type: str
    retained_bytes:
      description: How much WAL it retains.
      type: int
    safe_wal_size:
      description: How much WAL may still be written before it is lost, where there is a limit.
      type: int
    failover:
      description: Whether standbys keep it too.
      type: bool
    guard:
      description:
        - What the slot guard observes, in the running worker, else in this call. Sizes in bytes, rates in bytes per second,
          times in seconds; none where a value is unknown, or where the forecast event does not happen at the present rates.
      type: dict
      contains:
        level:
          description: V(ok), V(warning), V(critical), V(lost), or V(unknown) while the slot cannot be observed.
          type: str
        findings:
          description: Findings for the operator, the worst first, as level, code, text and remedy.
          type: list
          elements: dict
        wal_status:
          description: As the server reports it.
          type: str
        safe_wal_size:
          description: How much WAL may still be written before the slot is lost.
          type: int
        max_slot_wal_keep_size:
          description: How much WAL a slot may retain at the source; none where nothing bounds it.
          type: int
        retained_bytes:
          description: How much WAL the slot retains.
          type: int
        retained_seconds:
          description: Age of the oldest of it.
          type: float
        unconfirmed_bytes:
          description: How much WAL was written since the confirmed position.
          type: int
        retained_growth:
          description: By how much the retained WAL grows per second.
          type: float
        wal_rate:
          description: How much WAL the source writes.
          type: float
        wal_bytes:
          description: Size of the source's pg_wal, where the account may see it (pg_monitor).
          type: int
        wal_disk_size:
          description: Size of the disk of pg_wal, where it is configured.
          type: int
        slot_lost_in:
          description: When the slot will have lost its WAL.
          type: float
        slot_lost_in_pause:
          description: How long a pause, in which nothing is confirmed, may last before the slot is lost.
          type: float
        wal_disk_full_in:
          description: When the disk of pg_wal will be full. Needs its size, which cannot be asked through SQL.
          type: float
        catalog_xmin_age:
          description: By how many transactions the slot holds back vacuum of the catalogs.
          type: int
        datfrozenxid_age:
          description: Age of the oldest unfrozen transaction of the database.
          type: int
        oldest_transaction:
          description: The oldest transaction at the source that may still write, as who and seconds.
          type: dict
        at:
          description: When this was observed, by the source's clock, in seconds since 1970.
          type: float
        position:
          description: End of the source's WAL at that time.
          type: str
cdc:
  description: Change data capture; empty before there is a task.
  returned: always
  type: dict
  contains:
    wanted:
      description: The wanted state.
      type: str
    state:
      description: The state that the worker last reported.
      type: str
    down:
      description: Whether it should run, and no worker applies.
      type: bool
    worker:
      description:
        - The worker that applies, as host and process id there, whether it runs compiled or as pure Python (C(compiled)), and
          the process id and address of its session at the destination.
      type: dict
    received:
      description: Position received.
      type: str
    applied:
      description: Position applied, the end of the last transaction.
      type: str
    confirmed:
      description: Position confirmed to the source.
      type: str
    lag_bytes:
      description: Bytes of WAL that are not applied yet; none if unknown.
      type: int
    lag_seconds:
      description: Age of the last applied transaction when it was applied; none if unknown.
      type: float
    source_rate:
      description: Bytes of WAL per second that the source writes, over the last minute; none while nothing is applied.
      type: float
    apply_rate:
      description: Bytes of that WAL per second that are applied.
      type: float
    catch_up:
      description:
        - Whether the destination catches up, as C(verdict), C(seconds) from now, and a C(sentence).
        - C(caught_up) with less than 5 seconds of lag; C(catching_up); C(never) while less is applied than the source
          writes, in which case the cutover refuses; C(stalled) when nothing was committed in the last minute; C(unknown)
          while no worker runs, or not long enough.
      type: dict
      sample: {verdict: catching_up, seconds: 42.0, sentence: caught up in about 42 s}
    settings:
      description: The task's settings.
      type: dict
    counters:
      description: Transactions, rows by kind of change, conflicts, and C(foreign_markers) (messages in the shape of a marker that
        this migration did not write, and ignored), since the beginning.
      type: dict
    last_error:
      description: The error that stopped the worker or made it retry.
      type: dict
    retrying_since:
      description: Since when it retries.
      type: str
    engine:
      description: The engine that the worker runs, by its SHA-256, with the interpreter's ABI behind a dot where it is compiled.
      type: str
    engine_outdated:
      description: Whether the worker runs another engine than O(engine). C(state=restarted) of the task changes that.
      type: bool
    heartbeat_age:
      description: Seconds since the worker last reported.
      type: float
validation:
  description: Number of tables by verdict, those that differ, and when.
  returned: always
  type: dict
events:
  description: The last 20 events of the timeline, the oldest first.
  returned: always
  type: list
  elements: dict
fence:
  description:
    - State of the cutover's fence at the source. C(fenced) during a cutover, and after one that died with its machine.
      C(closed) once it was decided. C(reopened) after one that was undone. C(none) before.
  returned: always
  type: str
certificate:
  description: What the cutover proved; empty before.
  returned: always
  type: dict
caught_up:
  description: That a marker has been applied.
  returned: with O(wait=caught_up) where there is something to wait for, not in check mode
  type: bool
  sample: true
waited:
  description: Seconds until the marker was applied.
  returned: with O(wait=caught_up) where there is something to wait for, not in check mode
  type: float
  sample: 0.12
msg:
  description: One sentence about the status of the migration.
  returned: always
  type: str
  sample: "Migration orders: phase replicating, 12 of 12 tables copied (734 MB), CDC running, 0 bytes behind."
"""

from collections.abc import Mapping
from typing import Any

from ..module_utils._engine import info
from ..module_utils._engine.migration import Migration
from ..module_utils._engine.plan import Plan
from ..module_utils._engine.runner import Runner
from ..module_utils._module import LOOKS, run


def planner(migration: Migration, options: Mapping[str, Any], dummy_runner: Runner) -> Plan:
    """Read the whole status of the migration, after a wait where one is asked for."""
    engine = str(options.get("engine") or "")
    if options["wait"] == "caught_up":
        return info.plan_caught_up(migration, engine, float(options["wait_timeout"]))
    return info.plan(migration, engine)


def main() -> None:
    arguments = {
        "engine": {"type": "str"},
        "wait": {"type": "str", "choices": ["none", "caught_up"], "default": "none"},
        "wait_timeout": {"type": "int", "default": 600},
    }
    run(arguments, planner, lambda dummy: LOOKS)


if __name__ == "__main__":
    main()
