#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_cdc_task
short_description: Keep the destination in sync with the source
version_added: "0.1.0"
description:
  - Starts, pauses, tunes, stops or removes the CDC worker, a process on the worker host that outlives the play. It reads the slot of
    M(causeway.postgresql.pg_repl_slot) and applies every change to the destination, exactly once and in commit order.
  - The position is written in the transaction that writes the rows, so the worker can be killed at any moment. After a
    crash the next run with O(state=started) starts it again, and it resumes where it stopped.
  - A table whose columns no longer fit the destination stops the task, with an error that names table and columns. No row is
    skipped.
  - An error that waiting cannot cure stops the task and says what to do; the next run returns it.
  - Does nothing for a migration without V(incremental) in O(types), and nothing once the destination was opened.
author:
  - Causeway contributors (@causeway)
extends_documentation_fragment:
  - causeway.postgresql.migration
  - causeway.postgresql.worker
attributes:
  check_mode:
    description: Can run in check mode and show what would be changed without changing it.
    support: full
  diff_mode:
    description: Shows what is and what will be. The content of the configuration file is never shown.
    support: full
options:
  state:
    description:
      - V(started) runs the worker; every selected table must have been copied completely.
      - V(paused) drains it to a commit boundary, disconnects it from the source and lets it wait. V(stopped) also ends its
        process. In either case the slot remains, and the source retains all further WAL; RV(task.slot_keeps_bytes) says how much.
      - V(restarted) is V(started) with the present O(engine) of the collection. A worker that runs another, or serves its
        metrics on another port, is drained to a commit boundary and restarted; one that runs as configured is left alone.
      - V(absent) also removes its folder with configuration and log.
    type: str
    choices: [started, paused, stopped, restarted, absent]
    default: started
  worker_python:
    description:
      - The interpreter that runs the worker; it needs psycopg. By default the one that runs this module.
    type: path
  engine:
    description:
      - Name of the folder in I(worker_home)/engine to run. By default the one that C(current) there points at. A running
        worker keeps the engine that it was started with until O(state=restarted).
    type: str
  metrics_port:
    description:
      - Port of the worker host's loopback address on which the worker serves metrics for Prometheus; V(0) is none. It needs
        prometheus-client. A running worker takes it when it reconnects, or with O(state=restarted).
    type: int
    default: 0
  supervisor:
    description:
      - What restarts the worker after a crash or a reboot. V(systemd) installs a unit with a watchdog, a system unit for
        root, else a user unit of the account; V(none) leaves it to the next run with O(state=started).
      - V(auto) is V(systemd) where systemd runs and, for an account that is not root, its processes outlive a login
        (C(loginctl enable-linger)).
      - A worker that was down for seven days, and that no run has asked for since, does not start by itself.
    type: str
    choices: [auto, systemd, none]
    default: auto
  memory_max:
    description: Memory that the unit may use, as systemd's C(MemoryMax), such as V(2G). By default there is no limit.
    type: str
  cpu_quota:
    description: CPU time that the unit may use, as systemd's C(CPUQuota), such as V(150%). By default there is no limit.
    type: str
  wait:
    description:
      - V(caught_up) writes a marker at the source and returns when the worker has applied it, and everything before it.
      - It is an error if the task is paused, stopped or fails meanwhile, or if no worker applies changes for 30 seconds.
    type: str
    choices: [none, caught_up]
    default: none
  wait_timeout:
    description: Seconds to wait with O(wait=caught_up).
    type: int
    default: 600
  stop_timeout:
    description: Seconds to wait until the worker has drained to a commit boundary and is paused or has ended.
    type: int
    default: 60
  retry_connection:
    description:
      - Minutes for which a lost connection is retried, 10 to 1440.
      - This and the options below are the task's settings. A running worker takes them within a second. A setting that is
        omitted keeps its value; in a new task this one is 720.
    type: int
  retry_other:
    description: Minutes for which other transient failures are retried, 1 to 1440, less than O(retry_connection); 10 in a new task.
    type: int
  batch_size:
    description: Rows after which a batch is applied; 100000 in a new task. When no more changes wait, a batch is applied at once.
    type: int
  batch_age:
    description: Seconds after which a batch is applied even while more changes arrive; 1 in a new task.
    type: float
  conflict_policy:
    description:
      - What happens where the destination does not hold what the source had, because another session has written to it.
        V(overwrite), the default of a new task, writes the source's row; V(keep) leaves the destination's; V(stop) stops the
        task with an error that names table and key hash, and nothing of the batch is applied.
      - Each conflict is counted, and recorded in C(causeway.event) by table and key hash, never by value.
    type: str
    choices: [overwrite, keep, stop]
  rows_per_second:
    description:
      - Limit of the rows applied per second, at least 10; V(0), the default of a new task, is no limit.
      - Over any five seconds it is kept within a tenth. This includes a transaction of the source that is larger than a batch;
        its rows are then written at that rate and become visible together at its end.
    type: int
  mb_per_second:
    description: The same in 10^6 bytes of changes as the source sends them, at least 0.1; V(0), as in a new task, is no limit.
    type: float
  heartbeat_interval:
    description:
      - Seconds between two heartbeats that the worker writes at the source, 1 to 3600; 10 in a new task. Where the migrated
        database is idle while others of its cluster write, they advance the slot.
    type: int
notes:
  - The passwords are stored in one file of mode 0600 on the worker host, nowhere else. It is rewritten when they change,
    and read again at every reconnect.
seealso:
  - module: causeway.postgresql.pg_migration_info
    description: Waits in the same way without giving any setting of the task.
  - module: causeway.postgresql.pg_full_copy
  - module: causeway.postgresql.pg_cutover
"""

EXAMPLES = r"""
- name: Keep the destination in sync, and wait until it has caught up
  causeway.postgresql.pg_cdc_task:
    name: orders
    source: "{{ causeway_source }}"
    destination: "{{ causeway_destination }}"
    objects: "{{ causeway_objects }}"
    worker_home: /opt/causeway
    wait: caught_up

- name: Stop it for a while; the slot retains the changes
  causeway.postgresql.pg_cdc_task:
    name: orders
    source: "{{ causeway_source }}"
    destination: "{{ causeway_destination }}"
    objects: "{{ causeway_objects }}"
    worker_home: /opt/causeway
    state: stopped

- name: Apply no more than 2000 rows a second during the day
  causeway.postgresql.pg_cdc_task:
    name: orders
    source: "{{ causeway_source }}"
    destination: "{{ causeway_destination }}"
    objects: "{{ causeway_objects }}"
    worker_home: /opt/causeway
    rows_per_second: 2000
"""

RETURN = r"""
statements:
  description: What was executed at the destination and on the worker host, or in check mode would be.
  returned: always
  type: list
  elements: dict
  contains:
    end:
      description: Where it is executed, V(destination) or V(worker host).
      type: str
    sql:
      description: The statement, or the program that is started.
      type: str
  sample: []
statements_total:
  description: How many statements there are in all.
  returned: always
  type: int
  sample: 0
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
task:
  description: The task as it is observed; positions are null before its first start.
  returned: until the migration has been cut over
  type: dict
  contains:
    wanted:
      description: The wanted state, V(null) before the task exists.
      type: str
    settings:
      description: The task's settings, O(tags) included.
      type: dict
    supervisor:
      description: The systemd unit that supervises the worker; empty without one.
      type: str
    slot_keeps_bytes:
      description: Bytes of WAL that the slot retains at the source; none if it was not reached.
      type: int
    running:
      description: Whether a worker applies, or a process of this host tries to.
      type: bool
    state:
      description:
        - starting, running, paused, stopped, retrying, failed, completed or disarmed;
        - unknown while its session holds the lock, and the worker has not been heard of for 30 seconds.
      type: str
    applied:
      description: The commit end position of the last source transaction that is applied at the destination.
      type: str
    confirmable:
      description: The position up to which the source may discard WAL; durable at the destination.
      type: str
    lag_bytes:
      description: Bytes of the source's WAL behind that position; none if unknown.
      type: int
    lag_seconds:
      description: For how long the source has been ahead of it; none if unknown.
      type: float
    source_rate:
      description: Bytes of WAL per second that the source writes, over the last minute; none while it is not measured.
      type: float
    apply_rate:
      description: Bytes of that WAL per second that are applied.
      type: float
    conflicts:
      description: Changes that found other rows at the destination than the source had.
      type: int
    last_error:
      description: The error that stopped it, or that it retries.
      type: dict
    host:
      description: The host that the worker runs on.
      type: str
    pid:
      description: Its process.
      type: int
  sample:
    wanted: started
    running: true
    state: running
    applied: 0/1A2B3C8
    confirmable: 0/1A2B3C8
    lag_bytes: 0
    lag_seconds: 0.0
    conflicts: 0
    last_error: null
    host: mover1
    pid: 4711
caught_up:
  description: Whether the marker has been applied.
  returned: with O(wait=caught_up), not in check mode
  type: bool
  sample: true
waited:
  description: Seconds until the marker was applied.
  returned: with O(wait=caught_up), not in check mode
  type: float
  sample: 0.12
"""

from ..module_utils._arguments import worker_arguments
from ..module_utils._engine.task import plan as task
from ..module_utils._module import made_or_taken_back, run

STATES = ("started", "paused", "stopped", "restarted", "absent")


def main() -> None:
    arguments = {
        **worker_arguments(),
        "state": {"type": "str", "choices": list(STATES), "default": "started"},
        "worker_python": {"type": "path"},
        "engine": {"type": "str"},
        "metrics_port": {"type": "int", "default": 0},
        "supervisor": {"type": "str", "choices": ["auto", "systemd", "none"], "default": "auto"},
        "memory_max": {"type": "str"},
        "cpu_quota": {"type": "str"},
        "wait": {"type": "str", "choices": ["none", "caught_up"], "default": "none"},
        "wait_timeout": {"type": "int", "default": 600},
        "stop_timeout": {"type": "int", "default": 60},
        "retry_connection": {"type": "int"},
        "retry_other": {"type": "int"},
        "batch_size": {"type": "int"},
        "batch_age": {"type": "float"},
        "conflict_policy": {"type": "str", "choices": ["overwrite", "keep", "stop"]},
        "rows_per_second": {"type": "int"},
        "mb_per_second": {"type": "float"},
        "heartbeat_interval": {"type": "int"},
    }
    run(arguments, task.plan, made_or_taken_back)


if __name__ == "__main__":
    main()
