# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Failpoints: named places at which a test stops the process, to kill it. Off unless the environment names one."""

from __future__ import annotations

import os
import signal
import threading

VARIABLE = "CAUSEWAY_FAILPOINT"


def failpoint(place: str) -> None:
    """Stop this process with SIGSTOP where the environment names ``place``; the test then resumes or kills it.

    The signal is sent to the thread that reached the place: sent to the process, another thread might receive it, and
    this one would run on for a moment.
    """
    if os.environ.get(VARIABLE) == place:
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
