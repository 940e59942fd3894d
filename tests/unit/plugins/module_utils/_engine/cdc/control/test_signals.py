# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Orders that reach a worker by signals, while it waits and while it does not."""

from __future__ import annotations

import os
import signal
import threading
import time

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.control.signals import Flag


def test_it_wakes_who_waits_and_stays_set() -> None:
    flag = Flag()
    assert not flag.wait(0.01) and not flag.is_set()
    threading.Timer(0.1, flag.set).start()
    began = time.monotonic()
    assert flag.wait(10)
    assert time.monotonic() - began < 5
    assert flag.wait(10) and flag.is_set()
    flag.clear()
    assert not flag.is_set() and not flag.wait(0.01)


def test_set_thousands_of_times_it_keeps_nobody_waiting() -> None:
    flag = Flag()
    for dummy in range(200_000):
        flag.set()
    flag.clear()
    assert not flag.wait(0.01)


def test_a_handler_may_set_it_whatever_it_interrupts() -> None:
    flag = Flag()
    before = signal.signal(signal.SIGUSR1, lambda number, frame: flag.set())
    try:
        for dummy in range(200):
            threading.Timer(0.0005, os.kill, [os.getpid(), signal.SIGUSR1]).start()
            assert flag.wait(10)
            flag.clear()
    finally:
        time.sleep(0.1)
        signal.signal(signal.SIGUSR1, before)
