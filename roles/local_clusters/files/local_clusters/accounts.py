# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The account that servers run as: PostgreSQL refuses to run as root."""

from __future__ import annotations

import contextlib
import os
import pathlib
import pwd
import subprocess
import tempfile
from typing import Any

from .folders import ClusterError


def server_user(wanted: str | None = None) -> str | None:
    """Return the account that servers run as: None for the caller's own, another one when the caller is root."""
    if os.geteuid() != 0:
        return None
    for name in [wanted] if wanted else ["nobody", "postgres"]:
        with contextlib.suppress(KeyError):
            if pwd.getpwnam(name).pw_uid != 0:
                return name
    raise ClusterError("PostgreSQL refuses to run as root, and there is no other account to use: set `user`.")


def as_user(user: str | None) -> dict[str, Any]:
    """Return the arguments of subprocess that run a program as this account."""
    if user is None:
        return {}
    entry = pwd.getpwnam(user)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def give(path: pathlib.Path, user: str | None, mode: int) -> None:
    """Set the owner, where one is given, and the mode of a path."""
    if user is not None:
        entry = pwd.getpwnam(user)
        os.chown(path, entry.pw_uid, entry.pw_gid)
    path.chmod(mode)


def check_passable(path: pathlib.Path, user: str | None) -> None:
    """Raise ClusterError where the account cannot pass into a folder."""
    if user is None:
        return
    done = subprocess.run(["/bin/sh", "-c", 'test -x "$0"', str(path)], check=False, cwd="/", **as_user(user))
    if done.returncode != 0:
        raise ClusterError(
            f"The server would run as {user} (PostgreSQL refuses root), and {user} cannot pass into {path}: one of its "
            f"parents is closed. Choose a folder outside of home folders, for example below {tempfile.gettempdir()}."
        )
