# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a supervisor hears, over real sockets; and a pulse that stops when nobody works."""

from __future__ import annotations

import pathlib
import socket
import time

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.control.sd_notify import (
    Notifier,
    Pulse,
    Watchdog,
    watchdog_seconds,
)


def listener(address: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.bind(address)
    made.settimeout(5)
    return made


@pytest.mark.parametrize("abstract", [False, True])
def test_a_message_is_one_datagram(tmp_path: pathlib.Path, abstract: bool) -> None:
    path = f"@{tmp_path.name}-notify" if abstract else str(tmp_path / "notify")
    with listener("\0" + path[1:] if abstract else path) as supervisor:
        assert Notifier({"NOTIFY_SOCKET": path}).send(READY=1, STATUS="two\nlines")
        assert supervisor.recv(1000) == b"READY=1\nSTATUS=two lines"


@pytest.mark.parametrize("address", ["", "vsock:2:1", "relative", "/nowhere/notify"])
def test_without_a_listener_nothing_happens(address: str) -> None:
    assert not Notifier({"NOTIFY_SOCKET": address} if address else {}).send(READY=1)


def test_a_supervisor_that_does_not_read_keeps_nobody_waiting(tmp_path: pathlib.Path) -> None:
    with listener(str(tmp_path / "notify")):
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        began = time.monotonic()
        sent = [notifier.send(STATUS="x" * 1000) for dummy in range(3000)]
        assert not all(sent)
        assert time.monotonic() - began < 5


def test_the_interval_is_the_environment_s_and_of_this_process() -> None:
    assert watchdog_seconds({"WATCHDOG_USEC": "120000000", "WATCHDOG_PID": "7"}, 7) == 120
    assert watchdog_seconds({"WATCHDOG_USEC": "120000000"}, 7) == 120
    assert watchdog_seconds({"WATCHDOG_USEC": "120000000", "WATCHDOG_PID": "8"}, 7) == 0
    assert watchdog_seconds({"WATCHDOG_USEC": "often"}, 7) == 0
    assert watchdog_seconds({}, 7) == 0


def test_signs_of_life_stop_with_the_pulse_and_come_back(tmp_path: pathlib.Path) -> None:
    now = [0.0]
    pulse = Pulse(100, clock=lambda: now[0])
    with listener(str(tmp_path / "notify")) as supervisor:
        Watchdog(Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")}), pulse, 0.09)
        assert supervisor.recv(100) == b"WATCHDOG=1"
        now[0] = 101.0
        assert not pulse.lives() and pulse.age() == 101
        time.sleep(0.2)
        supervisor.settimeout(0.2)
        with pytest.raises(TimeoutError):
            while True:  # what was sent before
                supervisor.recv(100)
        pulse.beat()
        supervisor.settimeout(5)
        assert supervisor.recv(100) == b"WATCHDOG=1"
