# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes that outlive their parent, and lag by samples."""

from __future__ import annotations

import os
import pathlib
import sys
import time

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.monitor.monitor import LagMeter
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import StateError
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.task.detach import (
    launch,
    worker_environment,
)

TELL = (
    "import os, sys; out = open('told', 'w');"
    "print(os.getcwd(), os.getsid(0) == os.getpid(), sorted(os.environ), sorted(os.listdir('/proc/self/fd')), file=out);"
    "print('to the log', flush=True); out.close(); os.rename('told', 'done')"
)


def wait_for(path: pathlib.Path) -> str:
    deadline = time.monotonic() + 10
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return path.read_text()


def test_a_launched_process_inherits_nothing(tmp_path: pathlib.Path) -> None:
    secret = open(tmp_path / "open", "w")  # noqa: SIM115, PTH123 - left open on purpose
    os.set_inheritable(secret.fileno(), True)
    pid = launch([sys.executable, "-c", TELL], {"A": "1"}, tmp_path, tmp_path / "out")
    told = wait_for(tmp_path / "done")
    secret.close()
    assert pid != os.getpid()
    assert told.startswith(f"{tmp_path} False ")  # a session of its first parent's, so that no terminal becomes its own
    assert "'A'" in told
    assert "'PATH'" not in told
    assert told.strip().endswith("['0', '1', '2', '3', '4']")  # its own file, and the folder that is listed
    assert (tmp_path / "out").read_text() == "to the log\n"
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o600


def test_a_program_that_cannot_run_is_an_error(tmp_path: pathlib.Path) -> None:
    with pytest.raises(StateError, match="No such file"):
        launch([str(tmp_path / "missing")], {}, tmp_path, tmp_path / "out")


def test_the_environment_leaves_secrets_behind() -> None:
    given = {"PATH": "/bin", "HOME": "/root", "PGPASSWORD": "x", "CAUSEWAY_SOURCE_PASSWORD": "y", "PYTHONPATH": "z"}
    given["CAUSEWAY_FAILPOINT"] = "after commit sent"
    assert worker_environment(given, "/engine") == {"PATH": "/bin", "HOME": "/root", "PYTHONPATH": "/engine"}


def test_lag_is_since_when_the_source_has_been_ahead() -> None:
    meter = LagMeter()
    assert meter.sample(0.0, 100, 100) == (0, 0.0)
    assert meter.sample(1.0, 150, 100) == (50, 0.0)
    assert meter.sample(2.0, 250, 100) == (150, 1.0)
    assert meter.sample(3.0, 250, 200) == (50, 1.0)
    assert meter.sample(4.0, 250, 250) == (0, 0.0)
    assert meter.sample(9.0, 300, 260) == (40, 0.0)
