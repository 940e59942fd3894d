# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a worker reports: to log, supervisor, metrics and destination, and only once for failures in a row."""

from __future__ import annotations

import contextlib
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.monitor.metrics import Reading
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.worker import report
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.worker.report import Reporter
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import ConnectError, EngineError

ERROR = EngineError("doing", "something", "it broke", "mend it")
CONFIG: Any = SimpleNamespace(name="m", destination=None, state_schema="causeway")


class Destination:
    """What a reporter writes, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, reachable: bool = True) -> None:
        self.written: list[tuple[str, ...]] = []
        store = SimpleNamespace(load=object, event=lambda phase, what, dummy: self.written.append((phase, what)))
        self.store: Any = store

        def connect(*dummy: object, **dummies: object) -> Any:
            if not reachable:
                raise ConnectError("connecting to", "b", "no route", "")
            return contextlib.nullcontext()

        monkeypatch.setattr(report, "connect", connect)
        monkeypatch.setattr(report, "StateStore", lambda *dummy: store)
        monkeypatch.setattr(
            report, "record_state", lambda dummy, token, state, dummy2: self.written.append((token, state))
        )
        self.told: list[str] = []
        self.reading = Reading()
        supervision: Any = SimpleNamespace(told=self.told.append)
        self.reporter = Reporter("token", logging.getLogger("test"), supervision, self.reading)


def test_what_the_worker_does_is_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Destination(monkeypatch)
    seen.reporter.announce(seen.store, "paused", {})
    assert (seen.told, seen.written) == (["paused"], [("replicating", "CDC worker paused")])


def test_a_failure_is_a_state_and_the_first_of_a_row_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Destination(monkeypatch)
    seen.reporter.failed(CONFIG, ERROR, again=True, event=True)
    seen.reporter.failed(CONFIG, ERROR, again=True, event=False)
    seen.reporter.failed(CONFIG, ERROR, again=False, event=True)
    assert seen.written == [
        *(("token", "retrying"), ("replicating", "CDC worker retrying"), ("token", "retrying")),
        *(("token", "failed"), ("replicating", "CDC worker failed")),
    ]
    assert (seen.reading.state, seen.reading.retries) == ("failed", 2)
    assert seen.told == ["retrying: doing something"] * 2 + ["failed: doing something"]


def test_a_destination_out_of_reach_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Destination(monkeypatch, reachable=False)
    seen.reporter.failed(CONFIG, ERROR, again=True, event=True)
    seen.reporter.failed(None, ERROR, again=True, event=True)
    assert seen.written == []
    assert len(seen.told) == 2
