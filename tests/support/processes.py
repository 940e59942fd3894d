# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs on this machine, as /proc tells it. A process that ends while we look is one that is not there."""

from __future__ import annotations

import contextlib
import pathlib


def command_lines() -> dict[int, bytes]:
    """The arguments of all processes, each followed by a zero byte."""
    found = {}
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            found[int(entry.name)] = (entry / "cmdline").read_bytes()
    return found


def state_of(pid: int) -> str:
    """A process's state letter (T: stopped, Z: not buried yet); empty when there is none."""
    try:
        return pathlib.Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def lives(pid: int) -> bool:
    """Whether a process does anything."""
    return state_of(pid) not in ("", "Z")
