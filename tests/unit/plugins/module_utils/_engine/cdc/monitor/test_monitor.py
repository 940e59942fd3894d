# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is seen at work: a worker that waits for its server does not hang, one whose session rests does."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.control.sd_notify import Pulse
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.monitor.metrics import Reading
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.monitor.monitor import Positions, Watcher
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.state.task import ControlRow


class Server:
    """Says in which state the session is that applies."""

    def __init__(self, state: str | None) -> None:
        self.state = state
        self.asked: list[Any] = []

    def execute(self, query: str, values: tuple[Any, ...]) -> Server:
        self.asked.append(values)
        return self

    def fetchone(self) -> tuple[str] | None:
        return (self.state,) if self.state else None


def felt(state: str | None, quiet: float) -> tuple[bool, list[Any]]:
    now = [0.0]
    pulse = Pulse(120, clock=lambda: now[0])
    applying: Any = SimpleNamespace(
        name="x", schema="causeway", conn=SimpleNamespace(info=SimpleNamespace(backend_pid=77))
    )
    row = ControlRow("started", {}, 0)
    watcher = Watcher(lambda: None, applying, "t", row, "slot", lambda: Positions(0, 0, 0), Reading(), pulse)
    now[0] = quiet
    server: Any = Server(state)
    watcher._check_backend(server)
    now[0] += 119
    return pulse.lives(), server.asked


def test_a_server_that_works_or_waits_for_a_lock_is_a_sign_of_life() -> None:
    assert felt("active", 60) == (True, [(77,)])


def test_a_session_that_rests_or_is_gone_is_none() -> None:
    assert felt("idle in transaction", 60)[0] is False
    assert felt("idle", 60)[0] is False
    assert felt(None, 60)[0] is False


def test_a_worker_that_has_just_been_heard_of_is_not_looked_for() -> None:
    assert felt("idle", 1) == (True, [])
