#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_migration_info
short_description: Say where a migration stands
description:
  - Returns phase, copied tables, slot, change data capture, validation, timeline and certificate of a migration, as
    they are now. Nothing is written, and it can be asked at any time, before the first phase and after the release too.
  - A source that cannot be reached is reported in RV(source_server); the rest is still returned.
  - Everything is a return value; no facts are set.
version_added: 0.1.0
author:
  - Causeway contributors (@causeway)
extends_documentation_fragment:
  - causeway.postgresql.migration
options:
  engine:
    description:
      - Name of the collection's engine, to say in RV(cdc.engine_outdated) whether the worker runs another.
    type: str
attributes:
  check_mode:
    description: Can run in check mode; it never changes anything.
    support: full
  diff_mode:
    description: There is never a difference to show.
    support: none
"""

EXAMPLES = r"""
- name: Ask where the migration stands
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
"""

RETURN = r"""
statements:
  description: Always empty, since nothing is executed; so are RV(diff) and RV(notes), and RV(statements_total) is 0.
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
      V(finalized), V(validated), V(opened); V(released) when all bookkeeping is gone.
  returned: always
  type: str
  sample: replicating
opened_at:
  description: When the destination was opened; empty before.
  returned: always
  type: str
tags:
  description: The migration's tags, as they were given now or to its CDC task.
  returned: always
  type: dict
types:
  description: What the migration is made of.
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
      description: The copy run that has it.
      type: int
    mark:
      description: The source position that its copy stands for.
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
  description: What was copied of the source's large objects; empty before their copy has begun.
  returned: success
  type: dict
  contains:
    state:
      description: V(copying) or V(complete).
      type: str
    run:
      description: How often all of them were copied, this time included.
      type: int
    total:
      description: How many the source held when this time began.
      type: int
    objects:
      description: How many are copied.
      type: int
    bytes:
      description: Their bytes.
      type: int
    finished_at:
      description: When it was complete. What was written to them after it began is not captured.
      type: str
full_copy:
  description: How far the copy has come, over all hosts; empty before one has begun.
  returned: success
  type: dict
  contains:
    percent:
      description: Of the bytes that its tables have at the source.
      type: float
    tables:
      description: Tables that are selected.
      type: int
    complete:
      description: Tables whose rows all stand.
      type: int
    rows:
      description: Rows of the parts that are done.
      type: int
    bytes:
      description: Bytes of COPY data that were moved.
      type: int
    rows_per_second:
      description: Since it began.
      type: int
    large_objects:
      description: Large objects that were copied.
      type: int
    large_objects_left:
      description: Those that are still to be copied.
      type: int
    bytes_per_second:
      description: In the last ten seconds.
      type: int
    eta:
      description: Seconds until it is done at this pace; none where that cannot be told.
      type: float
    hosts:
      description: Worker hosts that copy at this moment.
      type: int
    workers:
      description: Workers of all of them that have a part in hand.
      type: int
    held:
      description: What holds the copy up altogether, such as a standby that lags; mostly empty.
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
      description: Whether a slot of that name stands there. The rest is left out if not.
      type: bool
    active:
      description: Whether somebody reads it.
      type: bool
    wal_status:
      description: V(reserved), V(extended), V(unreserved) or V(lost); empty before PostgreSQL 13.
      type: str
    restart_lsn:
      description: The oldest WAL that it keeps.
      type: str
    confirmed_flush_lsn:
      description: Up to here the changes are safe at the destination.
      type: str
    retained_bytes:
      description: How much WAL it keeps.
      type: int
    safe_wal_size:
      description: How much WAL may still be written before it is lost, where there is a limit.
      type: int
    failover:
      description: Whether standbys carry it too.
      type: bool
    guard:
      description:
        - What the slot guard sees, by the worker that runs, else by this look. Sizes in bytes, rates in bytes a second,
          times in seconds; none where something is not known, or does not come to pass while things go on as they do.
      type: dict
      contains:
        level:
          description: V(ok), V(warning), V(critical), V(lost), or V(unknown) while the slot cannot be seen.
          type: str
        findings:
          description: What a person should know of, the worst first, as level, code, text and remedy.
          type: list
          elements: dict
        wal_status:
          description: As the server says.
          type: str
        safe_wal_size:
          description: How much WAL may still be written before the slot is lost.
          type: int
        max_slot_wal_keep_size:
          description: How much a slot may keep at the source; none where nothing bounds it.
          type: int
        retained_bytes:
          description: How much WAL the slot keeps.
          type: int
        retained_seconds:
          description: From how long ago the oldest of it is.
          type: float
        unconfirmed_bytes:
          description: How much was written since the position that is confirmed.
          type: int
        retained_growth:
          description: By how much more it keeps, a second.
          type: float
        wal_rate:
          description: How much WAL the source writes.
          type: float
        wal_bytes:
          description: Size of the source's pg_wal, where the account may see it (pg_monitor).
          type: int
        wal_disk_size:
          description: Size of the disk that pg_wal stands on, where it was told.
          type: int
        slot_lost_in:
          description: When the slot will have lost its WAL.
          type: float
        slot_lost_in_pause:
          description: For how long nothing might be confirmed, as during a pause, before the slot is lost.
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
          description: When this was seen, by the source's clock, in seconds since 1970.
          type: float
        position:
          description: Where the source's WAL stood then.
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
      description: Whether it should run, and nobody applies.
      type: bool
    worker:
      description:
        - Who applies, as host and process id there, whether it runs compiled or as pure Python (C(compiled)), and the
          session's process id and address at the destination.
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
      description: Bytes of WAL a second that the source writes, over the last minute; none while nothing is applied.
      type: float
    apply_rate:
      description: Bytes of that WAL a second that are applied.
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
      description: Transactions, rows by kind of change, and conflicts, since the beginning.
      type: dict
    last_error:
      description: What stopped the worker or made it try again.
      type: dict
    retrying_since:
      description: Since when it tries again.
      type: str
    engine:
      description: The engine that the worker runs, by its SHA-256, with the interpreter's ABI behind a dot where it is compiled.
      type: str
    engine_outdated:
      description: Whether a worker runs another engine than O(engine). C(state=restarted) of the task changes that.
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
    - Where the cutover's fence stands at the source. C(fenced) while a cutover works, and when one died with its machine.
      C(closed) once it was decided. C(reopened) after one that was undone. C(none) before.
  returned: always
  type: str
certificate:
  description: What the cutover proved; empty before.
  returned: always
  type: dict
msg:
  description: One sentence about where the migration stands.
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
    """Read everything."""
    return info.plan(migration, str(options.get("engine") or ""))


def main() -> None:
    run({"engine": {"type": "str"}}, planner, lambda dummy: LOOKS)


if __name__ == "__main__":
    main()
