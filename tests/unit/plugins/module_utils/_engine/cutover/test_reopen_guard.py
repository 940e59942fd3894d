# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard undoes when its parent dies or takes too long, not when it is released, and tries again while it fails.

Each parent is a process of its own: a guard is forked, and a test runner should not be.
"""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

_PARENT = """
import pathlib, sys, time
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cutover.reopen_guard import start_guard
trace, timeout, failures, release = pathlib.Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "release"

def undo():
    with trace.open("a") as stream:
        stream.write("x")
    if len(trace.read_text()) <= failures:
        raise ConnectionError("not yet")
    return True

guard = start_guard(timeout, undo)
print(guard.pid, flush=True)
if release:
    guard.release()
    guard.release()
    sys.exit(0)
time.sleep(60)
"""


def start(
    trace: pathlib.Path, timeout: float, failures: int = 0, how: str = "stay"
) -> tuple[subprocess.Popen[str], int]:
    command = [sys.executable, "-c", _PARENT, str(trace), str(timeout), str(failures), how]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ, start_new_session=True)
    assert parent.stdout is not None
    return parent, int(parent.stdout.readline())


def undone(trace: pathlib.Path) -> int:
    return len(trace.read_text()) if trace.exists() else 0


def wait_for(trace: pathlib.Path, times: int) -> None:
    deadline = time.monotonic() + 20
    while undone(trace) < times:
        assert time.monotonic() < deadline, f"undone {undone(trace)} times, not {times}"
        time.sleep(0.02)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return pathlib.Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"


def wait_gone(pid: int) -> None:
    deadline = time.monotonic() + 20
    while not gone(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_dead_parent_is_undone_even_when_its_whole_group_dies(tmp_path: pathlib.Path, number: int) -> None:
    trace = tmp_path / "undone"
    parent, guard = start(trace, timeout=60)
    time.sleep(0.1)
    assert undone(trace) == 0
    os.killpg(parent.pid, number)
    parent.wait()
    wait_for(trace, 1)
    wait_gone(guard)
    assert undone(trace) == 1


def test_a_parent_that_takes_too_long_is_undone(tmp_path: pathlib.Path) -> None:
    trace = tmp_path / "undone"
    parent, guard = start(trace, timeout=0.3)
    try:
        wait_for(trace, 1)
        wait_gone(guard)
        assert parent.poll() is None
    finally:
        parent.kill()
        parent.wait()


def test_a_released_guard_goes_without_a_word_and_lets_go_of_the_output(tmp_path: pathlib.Path) -> None:
    trace = tmp_path / "undone"
    parent, guard = start(trace, timeout=60, how="release")
    assert parent.stdout is not None
    assert parent.stdout.read() == "", "the output is closed, or this would wait for the guard"
    assert parent.wait() == 0
    wait_gone(guard)
    assert undone(trace) == 0


def test_it_tries_again_while_the_source_cannot_be_reached(tmp_path: pathlib.Path) -> None:
    trace = tmp_path / "undone"
    parent, guard = start(trace, timeout=60, failures=2)
    parent.kill()
    parent.wait()
    wait_for(trace, 3)
    wait_gone(guard)
    assert undone(trace) == 3
