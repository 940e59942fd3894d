# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Folders and files that only their owner may write."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import stat
import tempfile
from collections.abc import Iterator

HOME_VARIABLE = "CAUSEWAY_CLUSTERS_HOME"


class ClusterError(Exception):
    """Raised with what failed, for which cluster, why, and what to do next; the text is for the operator."""


def default_home() -> pathlib.Path:
    """Return where binaries are kept: a short path, outside of home folders, not emptied at boot."""
    named = os.environ.get(HOME_VARIABLE)
    if named:
        return pathlib.Path(named).resolve()
    base = "/var/tmp" if os.access("/var/tmp", os.W_OK | os.X_OK) else tempfile.gettempdir()
    return pathlib.Path(base) / f"causeway-postgresql-{os.geteuid()}"


def own_folder(path: pathlib.Path) -> pathlib.Path:
    """Create a folder, or use one that belongs to this account, and return it. Raises ClusterError for any other.

    Every account may write to /tmp and /var/tmp: a folder that another account made there could hold its binaries.
    """
    missing = [path, *path.parents]
    for folder in reversed(missing):
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o755)
            folder.chmod(0o755)  # regardless of the umask: the server's user has to pass
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise ClusterError(
            f"The folder {path} cannot be used: it must be a folder that only this account may write. "
            f"Remove it, or name another one in {HOME_VARIABLE}."
        )
    return path


@contextlib.contextmanager
def locked(path: pathlib.Path) -> Iterator[None]:
    """Keep parallel callers apart; the lock ends with the process that holds it."""
    with path.open("w", encoding="ascii") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def write_private(path: pathlib.Path, text: str) -> None:
    """Write a file that is created with mode 0600."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as handle:
        handle.write(text)
