# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file that a live worker holds locked, with its process id in it."""

from __future__ import annotations

import fcntl
import os
import socket
from contextlib import suppress
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")


def is_held(path: Path) -> bool:
    """Return whether a live process holds the lock of this file (`hold`)."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def place_of(config: Path) -> str:
    """Return what tells the place of a worker from all others: host, boot and configuration file.

    Whoever holds the file of the process beside that configuration is the only worker of the place.
    """
    boot = ""
    with suppress(OSError):
        boot = _BOOT.read_text(encoding="ascii").strip()
    return f"{socket.gethostname()}:{boot}:{os.path.realpath(config)}"


def hold(path: Path) -> int | None:
    """Lock this file for as long as the process lives, and write its id into it.

    Returns the descriptor, which the caller keeps open; None when another process holds the file.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, b"%d\n" % os.getpid())
    return descriptor


def held_by(path: Path) -> int | None:
    """Return the id of the process that holds the file; None when none does."""
    if not is_held(path):
        return None
    try:
        return int(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError):
        return None
