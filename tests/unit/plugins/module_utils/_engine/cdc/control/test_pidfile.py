# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A file that says whether a worker lives, and who it is."""

from __future__ import annotations

import os
import pathlib
import signal
import time

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.control.pidfile import (
    held_by,
    hold,
    is_held,
)


def test_a_held_file_is_free_when_its_holder_dies(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "worker.pid"
    assert not is_held(path)
    assert held_by(path) is None
    child = os.fork()
    if child == 0:
        hold(path)
        (tmp_path / "held").touch()
        time.sleep(60)
        os._exit(0)
    deadline = time.monotonic() + 10
    while not (tmp_path / "held").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert held_by(path) == child
    assert hold(path) is None
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert held_by(path) is None
    descriptor = hold(path)
    assert descriptor is not None
    assert path.read_text() == f"{os.getpid()}\n"
    os.close(descriptor)


def test_a_file_without_a_process_id_names_nobody(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "worker.pid"
    descriptor = hold(path)
    assert descriptor is not None
    path.write_text("no number")
    assert is_held(path)
    assert held_by(path) is None
    os.close(descriptor)
