# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Observes the worker host: client programs, drivers, disk space, and whether it outlives the job."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..postgres._asyncpg import ASYNCPG_MISSING, asyncpg
from ..postgres._psycopg import PSYCOPG_MISSING, psycopg
from ..task.systemd import observe_place
from .observed import HostView

if TYPE_CHECKING:
    from ..runner import Runner
    from ..spec import MigrationSpec

CLIENT_TOOLS = ("pg_dump", "pg_restore")


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
