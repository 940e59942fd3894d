# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Family "worker host": the requirements of the machine that runs the modules and the CDC worker."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..units import duration, size
from .finding import Check, Found

if TYPE_CHECKING:
    from .observed import Observation

_ENOUGH = 1 << 30
_CLOCK_OFF = 5.0  # seconds
_OLDEST_DRIVERS = {"psycopg": (3, 2), "asyncpg": (0, 29)}


def version_of(text: str) -> tuple[int, ...]:
    """Return the first dotted number in a text: (17, 5) of ``pg_dump (PostgreSQL) 17.5``; empty where there is none."""
    found = re.search(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def _client_tools(seen: Observation) -> Iterator[Found]:
    if "schema" not in seen.spec.types:
        return
    needed = seen.source.server.major if seen.source else 0
    for program, answer in seen.host.tools.items():
        version = version_of(answer)
        if not version:
            yield Found(program, answer or "not found", f"{program} --version")
        elif version[0] < needed:
            yield Found(program, f"version {answer}, the source has {needed}", f"{program} --version")


def _drivers(seen: Observation) -> Iterator[Found]:
    for library, version in seen.host.drivers.items():
        oldest = _OLDEST_DRIVERS[library]
        wanted = ".".join(str(part) for part in oldest)
        if not version:
            yield Found(library, seen.host.missing.get(library, "") or "it cannot be imported", f"import {library}")
        elif version_of(version) < oldest:
            yield Found(library, f"version {version}, needed {wanted}", f"{library}.__version__")


def _worker_disk(seen: Observation) -> Iterator[Found]:
    free = seen.host.free
    if free is not None and free < _ENOUGH:
        yield Found(seen.host.home, f"{size(free)} free", "statvfs", f"Make sure that {size(_ENOUGH)} are free there.")


def _worker_clock(seen: Observation) -> Iterator[Found]:
    for view in (seen.source, seen.destination):
        if view is not None and abs(view.clock) > _CLOCK_OFF:
            way = "ahead of" if view.clock > 0 else "behind"
            yield Found(
                f"{view.server.end} {view.server.database}",
                f"its clock is {duration(abs(view.clock))} {way} the worker host's",
                "SELECT clock_timestamp()",
            )


def _worker_already_running(seen: Observation) -> Iterator[Found]:
    destination = seen.destination
    if destination is None or destination.worker is None or destination.worker_host == seen.host.name:
        return
    worker = destination.worker
    yield Found(
        f"migration {seen.spec.name}",
        f"held by pid {worker.pid} ({worker.application}) from {worker.address} since {worker.since}, "
        f"host {destination.worker_host or 'unknown'}; this host is {seen.host.name}",
        "the advisory lock of the worker in pg_locks at the destination",
    )


def _worker_host_ephemeral(seen: Observation) -> Iterator[Found]:
    if seen.host.container and seen.host.job:
        yield Found(seen.host.name, "; ".join((*seen.host.container, *seen.host.job)), "the environment of this run")


def _worker_supervisor(seen: Observation) -> Iterator[Found]:
    if seen.host.unsupervised:
        yield Found(seen.host.name, seen.host.unsupervised, "ls /run/systemd/system /var/lib/systemd/linger")


CHECKS = (
    Check(
        "client_tools",
        "error",
        "The schema is moved by pg_dump and pg_restore, which refuse a server newer than themselves.",
        "Install client programs of at least the source's version, and set causeway_client_bin to their folder.",
        _client_tools,
    ),
    Check(
        "drivers",
        "error",
        "The modules connect through psycopg, and the copy through asyncpg.",
        "Run the worker role, which creates a virtualenv with the drivers, or point causeway_worker_python at one.",
        _drivers,
    ),
    Check(
        "worker_disk",
        "warning",
        "The worker writes its log and its configuration there; without free space it stops.",
        "Free space, or choose another causeway_worker_home.",
        _worker_disk,
        incremental=True,
    ),
    Check(
        "worker_clock",
        "note",
        "Lag in seconds compares two clocks, and is wrong by as much as they differ. Nothing else depends on it.",
        "Synchronize all hosts by NTP.",
        _worker_clock,
    ),
    Check(
        "worker_already_running",
        "error",
        "Another host applies the changes of this migration; only one worker may.",
        "Run the playbook with that host as ansible_host, or stop its worker there first (pg_cdc_task state: stopped).",
        _worker_already_running,
        incremental=True,
    ),
    Check(
        "worker_host_ephemeral",
        "error",
        "This is a job container: when the job ends it is removed, and the CDC worker with it.",
        "Set ansible_host to a small machine near the databases that stays up.",
        _worker_host_ephemeral,
        incremental=True,
    ),
    Check(
        "worker_supervisor",
        "ignorable",
        "After a reboot of its host the worker is not restarted; nothing is lost, but the destination falls behind.",
        "Fix that, or run the migrate playbook again after a reboot; the status playbook shows a worker that is down.",
        _worker_supervisor,
        incremental=True,
    ),
)
