# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Family "worker host": the machine that runs the modules and the CDC worker, as it is observed and what it must have."""

from __future__ import annotations

import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..postgres._asyncpg import ASYNCPG_MISSING, asyncpg
from ..postgres._psycopg import PSYCOPG_MISSING, psycopg
from ..task.systemd import observe_place
from ..units import duration, size
from .finding import Check, Found
from .observed import HostView

if TYPE_CHECKING:
    from ..runner import Runner
    from ..spec import MigrationSpec
    from .observed import Observation

CLIENT_TOOLS = ("pg_dump", "pg_restore")

_ENOUGH = 1 << 30
_CLOCK_OFF = 5.0  # seconds
_OLDEST_DRIVERS = {"psycopg": (3, 2), "asyncpg": (0, 29)}


def observe_host(spec: MigrationSpec, runner: Runner, client_bin: str, worker_home: str) -> HostView:
    """Return what the checks need to know of the machine that this runs on. Never raises."""
    drivers, missing = {}, {}
    wanted = {"psycopg": (psycopg, PSYCOPG_MISSING)}
    if "full" in spec.types:
        wanted["asyncpg"] = (asyncpg, ASYNCPG_MISSING)
    for name, (library, why) in wanted.items():
        drivers[name] = "" if library is None else str(getattr(library, "__version__", ""))
        missing[name] = why
    container, job = signs_of_a_job_container(os.environ, os.path.exists)
    return HostView(
        name=socket.gethostname(),
        tools={program: _version(runner, program, client_bin) for program in CLIENT_TOOLS},
        drivers=drivers,
        missing=missing,
        home=worker_home,
        free=_free(worker_home) if worker_home else None,
        unsupervised=observe_place(os.environ, os.getuid()).why_not,
        container=container,
        job=job,
    )


def _version(runner: Runner, program: str, folder: str) -> str:
    """Return the output of ``--version``; empty where the program is missing, the error where it does not run."""
    path = runner.find(program, folder)
    if not path:
        return ""
    outcome = runner.run([path, "--version"], {})
    return outcome.output.strip() if outcome.status == 0 else f"it does not run: {outcome.errors.strip()}"


def _free(folder: str) -> int | None:
    """Return the bytes free where the folder is or will be; None where that cannot be read."""
    place = Path(folder)
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        return shutil.disk_usage(place).free
    except OSError:
        return None


def signs_of_a_job_container(
    environ: Mapping[str, str], exists: Callable[[str], bool]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the signs that this is a container, and those that it belongs to AWX or an execution environment.

    Both are needed: a virtual machine, a permanent container, a CI job and a local ansible-runner (which sets
    AWX_ISOLATED_DATA_DIR too, to a folder of its caller) show one kind at most.
    """
    container = [path for path in ("/.dockerenv", "/run/.containerenv") if exists(path)]
    container += [f"{name}={environ[name]}" for name in ("container",) if environ.get(name)]
    container += [name for name in ("KUBERNETES_SERVICE_HOST",) if environ.get(name)]
    job = []
    folder = environ.get("AWX_ISOLATED_DATA_DIR", "")
    if folder == "/runner" or folder.startswith("/runner/"):
        job.append(f"AWX_ISOLATED_DATA_DIR={folder}")
    if exists("/runner/artifacts") and exists("/runner/project"):
        job.append("/runner/artifacts and /runner/project")
    return tuple(container), tuple(job)


def version_of(text: str) -> tuple[int, ...]:
    """Return the first dotted number in a text: (17, 5) of ``pg_dump (PostgreSQL) 17.5``; empty where there is none."""
    found = re.search(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def _client_tools(seen: Observation) -> Iterator[Found]:
    if "schema" not in seen.spec.types:
        return
    servers = [view.server for view in (seen.source, seen.destination) if view is not None]
    newest = max(servers, key=lambda server: server.major, default=None)
    for program, answer in seen.host.tools.items():
        version = version_of(answer)
        if not version:
            yield Found(program, answer or "not found", f"{program} --version")
        elif newest is not None and version[0] < newest.major:
            yield Found(program, f"version {answer}, the {newest.end} has {newest.major}", f"{program} --version")


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
        "The schema is moved and both ends are compared by pg_dump, which refuses a server newer than itself.",
        "Install client programs of at least the newer server's version, and set causeway_client_bin to their folder.",
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
