# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where what a run makes and throws away lies: in memory, where there is enough of it.

The tests create and drop databases by the thousand, each of some three hundred files; on a disk's file system that alone
is a third of the servers' time. CAUSEWAY_SCRATCH names another folder.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

VARIABLE = "CAUSEWAY_SCRATCH"
ENOUGH = 8 << 30
"""Bytes that must be free, both in the file system and in memory: what a run needs, twice over."""


def _in_memory(folder: Path) -> bool:
    """Return whether a folder may hold programs and servers of another account, and has room."""
    try:
        found = os.statvfs(folder)
        open_to_all = folder.stat().st_mode & 0o001
    except OSError:
        return False
    room = found.f_bavail * found.f_frsize >= ENOUGH
    return bool(room and open_to_all and not found.f_flag & os.ST_NOEXEC and os.access(folder, os.W_OK | os.X_OK))


def _memory() -> int:
    """Return how many bytes of memory a process may still take: the machine's, or those that its container allows."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        available = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return 0
    try:
        return min(available, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    except (OSError, ValueError):  # not in a container, or "max"
        return available


def scratch(memory: Path = Path("/dev/shm")) -> Path:
    """Return the folder below which a run makes its own."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named).resolve()
    return memory if _in_memory(memory) and _memory() >= ENOUGH else Path(tempfile.gettempdir())
