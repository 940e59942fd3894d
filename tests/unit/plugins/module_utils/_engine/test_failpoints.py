# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A break point stops the process that the environment names it for, and no other."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine import failpoints


@pytest.mark.parametrize(("named", "stops"), [(None, False), ("", False), ("here", True), ("elsewhere", False)])
def test_only_the_named_place_stops(monkeypatch: pytest.MonkeyPatch, named: str | None, stops: bool) -> None:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(signal, "pthread_kill", lambda thread, number: sent.append((thread, number)))
    if named is None:
        monkeypatch.delenv(failpoints.VARIABLE, raising=False)
    else:
        monkeypatch.setenv(failpoints.VARIABLE, named)
    failpoints.failpoint("here")
    assert sent == ([(threading.get_ident(), signal.SIGSTOP)] if stops else [])


_PROGRAM = """
import threading
from _engine.failpoints import failpoint
def work():
    for dummy in range(3):
        print("x", end="", flush=True)
        failpoint("here")
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


def test_the_thread_that_comes_to_it_does_not_go_on() -> None:
    """Whichever thread it is: the whole process stops before the next step."""
    above = pathlib.Path(failpoints.__file__).parents[1]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(above), failpoints.VARIABLE: "here"}
    argv = [sys.executable, "-c", _PROGRAM]
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            for dummy in range(3):
                deadline = time.monotonic() + 30
                while pathlib.Path("/proc", str(process.pid), "stat").read_text().rpartition(")")[2].split()[0] != "T":
                    assert time.monotonic() < deadline
                    time.sleep(0.005)
                assert os.read(process.stdout.fileno(), 10) == b"x"
                process.send_signal(signal.SIGCONT)
                time.sleep(0.01)
        finally:
            process.kill()
