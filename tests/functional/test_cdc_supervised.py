# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who looks after the worker: what the process tells a supervisor, and the unit that pg_cdc_task installs and starts."""

from __future__ import annotations

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from support.clusters.servers import ROOT
from support.harness.modules import ModuleFailed
from support.harness.streaming import MakeStreaming, Streaming, python_environment
from support.harness.tasks import Task
from support.processes import lives
from support.witness import assert_identical

DDL = "CREATE TABLE t (id int PRIMARY KEY, v text)"


class Supervisor:
    """The socket that a real daemon is given, and what came over it."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.path = str(folder / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)

    def wait(self, words: str, timeout: float = 30) -> str:
        """The next message that holds these words."""
        deadline = time.monotonic() + timeout
        while True:
            self._socket.settimeout(max(0.01, deadline - time.monotonic()))
            message = self._socket.recv(10_000).decode()
            if words in message:
                return message

    def start(self, streaming: Streaming, **environment: str) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-m", "_engine.daemon", "--config", str(streaming.folder / "config.json")]
        known = {**python_environment(streaming.engine), "NOTIFY_SOCKET": self.path, **environment}
        streaming.process = subprocess.Popen(argv, env=known, cwd=streaming.folder)
        return streaming.process

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def supervisor(tmp_path: pathlib.Path) -> Iterator[Supervisor]:
    made = Supervisor(tmp_path)
    yield made
    made.close()


def test_the_daemon_says_when_it_is_ready_what_it_does_and_that_it_lives(
    make_streaming: MakeStreaming, supervisor: Supervisor
) -> None:
    streaming = make_streaming(DDL)
    streaming.begin()
    # The configuration is a credential alone: the file itself is out of reach.
    credentials = streaming.folder.parent / "credentials"
    credentials.mkdir()
    (streaming.folder / "config.json").rename(credentials / "config.json")
    process = supervisor.start(streaming, CREDENTIALS_DIRECTORY=str(credentials), WATCHDOG_USEC="600000")
    assert supervisor.wait("READY=1").splitlines() == ["READY=1", "STATUS=running"]
    for dummy in range(3):
        supervisor.wait("WATCHDOG=1", 5)
    # stopped by the system, not by its own will: nothing more is heard
    process.send_signal(signal.SIGSTOP)
    with pytest.raises(TimeoutError):
        while True:
            supervisor.wait("WATCHDOG=1", 1.5)
    process.send_signal(signal.SIGCONT)
    streaming.want("paused")
    assert "STATUS=paused" in supervisor.wait("READY=1\nSTATUS=p")
    streaming.want("started")
    assert "STATUS=resumed" in supervisor.wait("STATUS=res")
    streaming.pair.source.run("INSERT INTO t VALUES (1, 'a')")
    streaming.drain()
    process.send_signal(signal.SIGTERM)
    supervisor.wait("STOPPING=1")
    assert process.wait(20) == 0
    streaming.process = None
    assert assert_identical(streaming.pair, ["public"]) == 1


def test_a_worker_that_only_tries_again_is_ready_and_says_so(
    make_streaming: MakeStreaming, supervisor: Supervisor
) -> None:
    streaming = make_streaming(DDL)
    streaming.begin()
    path = streaming.folder / "config.json"
    path.write_text(path.read_text().replace('"port": ', '"port": 1'))
    process = supervisor.start(streaming)
    assert "STATUS=retrying: connecting to the" in supervisor.wait("READY=1")
    # it ends at once, though nobody could be told
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    streaming.process = None


@pytest.fixture
def units(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A folder for units, and a systemctl that knows it."""
    folder = tmp_path / "units"
    folder.mkdir()
    programs = tmp_path / "bin"
    programs.mkdir()
    stand_in = ROOT / "tests" / "support" / "faults" / "systemctl.py"
    program = programs / "systemctl"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {stand_in} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(programs), os.environ["PATH"]]))
    monkeypatch.setenv("SYSTEMD_UNIT_PATH", str(folder))
    return folder


@pytest.mark.skipif(os.getuid() != 0, reason="a user's unit needs a manager that outlives the login")
def test_the_unit_starts_the_worker_and_goes_with_the_task(units: pathlib.Path, task: Task) -> None:
    task.arguments["supervisor"] = "systemd"
    answers = task.migration.four_beats("pg_cdc_task", **task.arguments)
    unit = units / f"causeway-{task.streaming.name}.service"
    assert answers[1]["task"]["supervisor"] == unit.name
    assert (units / "multi-user.target.wants" / unit.name).is_symlink()
    assert task.migration.source["login_password"] not in unit.read_text()
    pid = task.pid()
    assert pathlib.Path("/proc", str(pid), "environ").read_bytes().count(b"INVOCATION_ID=of the unit") == 1
    task.streaming.pair.source.run("INSERT INTO t VALUES (1, 'a')")
    task.run(wait="caught_up")
    assert assert_identical(task.streaming.pair, ["public"]) == 1
    # another limit is another unit; the process goes on until it is restarted
    assert task.run(memory_max="2G")["changed"]
    assert "MemoryMax=2G" in unit.read_text() and task.pid() == pid
    task.arguments["memory_max"] = "3G"
    task.migration.four_beats("pg_cdc_task", **task.arguments, state="restarted")
    second = task.pid()
    assert second != pid and not lives(pid)
    task.migration.four_beats("pg_cdc_task", **task.arguments, state="stopped")
    assert unit.exists() and not lives(second)
    assert task.run()["changed"]
    third = task.pid()
    # a worker that is to look after itself leaves its unit with the restart, not before
    assert not task.run(supervisor="none")["changed"]
    assert task.run(supervisor="none", state="restarted")["changed"]
    assert not unit.exists() and not lives(third) and lives(task.pid())
    task.run(state="restarted")
    assert unit.exists()
    task.migration.four_beats("pg_cdc_task", **task.arguments, state="absent")
    left: list[Any] = [entry.name for entry in units.rglob("*") if entry.suffix == ".service"]
    assert left == []


@pytest.mark.skipif(pathlib.Path("/run/systemd/system").exists(), reason="systemd runs here")
def test_where_there_is_no_systemd_it_is_said_when_it_must_and_not_missed_else(task: Task) -> None:
    with pytest.raises(ModuleFailed, match="systemd does not run here"):
        task.run(supervisor="systemd")
    task.arguments.pop("supervisor")
    assert task.run()["task"]["supervisor"] == ""
    with pytest.raises(ModuleFailed, match="memory_max"):
        task.run(memory_max="lots")
