# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts a process that outlives its parent, and inherits nothing of it but the user."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import StateError

_PASSED_ON = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "VIRTUAL_ENV",
    "PGSERVICEFILE",
    "PGSYSCONFDIR",
    "PGPASSFILE",
    "KRB5_CONFIG",
    "KRB5CCNAME",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
)
"""The variables that a worker inherits. No others: a playbook's environment may hold passwords."""


def worker_environment(given: Mapping[str, str], engine: str) -> dict[str, str]:
    """Return the environment of a worker that runs the engine unpacked in folder ``engine``."""
    kept = {name: given[name] for name in _PASSED_ON if name in given}
    return {**kept, "PYTHONPATH": engine}


def launch(argv: Sequence[str], environment: Mapping[str, str], folder: Path, output: Path) -> int:
    """Run ``argv`` detached: a new session, no terminal, no descriptor of ours, output appended to a file.

    Return its process id. Raises StateError if the program cannot be run.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _become_parent_of(argv, environment, folder, output, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as told:
        answer = told.read().decode(errors="replace")
    os.waitpid(child, 0)
    words, dummy, failure = answer.partition("!")
    if failure or not words.strip().isdigit():
        raise StateError("starting the CDC worker", argv[0], failure or "it did not start", "Check worker_python.")
    return int(words)


def _become_parent_of(
    argv: Sequence[str], environment: Mapping[str, str], folder: Path, output: Path, writing: int
) -> None:
    """Fork once more in the first child, so that the worker's parent is init, and exit."""
    try:
        os.setsid()
        grandchild = os.fork()
        if grandchild:
            os.write(writing, b"%d" % grandchild)
            os._exit(0)
        _become(argv, environment, folder, output, writing)
    except OSError as exc:
        os.write(writing, f"!{exc.strerror}".encode())
    finally:
        os._exit(1)


def _become(argv: Sequence[str], environment: Mapping[str, str], folder: Path, output: Path, writing: int) -> None:
    os.chdir(folder)
    os.umask(0o077)
    nothing = os.open(os.devnull, os.O_RDONLY)
    log = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    # The pipe closes by itself when the program runs; until then it carries an error.
    os.set_inheritable(writing, False)
    for descriptor in _open_descriptors():
        if descriptor > 2 and descriptor != writing:
            with contextlib.suppress(OSError):
                os.close(descriptor)
    os.execve(argv[0], list(argv), dict(environment))


def _open_descriptors() -> list[int]:
    try:
        return [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]
    except OSError:
        return list(range(3, 4096))
