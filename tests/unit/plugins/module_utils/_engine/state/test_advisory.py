# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine import names
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import (
    ConnectError,
    StateError,
    TimeoutExpired,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.state import advisory
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.state.advisory import (
    Holder,
    describe_holders,
)


def test_holders_are_described_as_far_as_the_account_sees_them() -> None:
    seen = Holder(7, "causeway module orders", "10.0.0.1", "2026-11-30 10:00:00+00")
    hidden = Holder(9, "", "local", "")
    assert describe_holders([seen, hidden]) == (
        "pid 7 (causeway module orders) from 10.0.0.1 since 2026-11-30 10:00:00+00; pid 9, of another account"
    )
    assert describe_holders([]) == ""


class Server:
    """The destination: sessions that hold the worker's lock, and places. Ends one when it is told to."""

    def __init__(self, worker: int | None, places: dict[int, str], *, ends: bool = True) -> None:
        self.worker, self.places, self.ends = worker, places, ends
        self.ended: list[int] = []
        self._rows: list[tuple[object, ...]] = []

    def execute(self, query: str, values: tuple[object, ...] = ()) -> Server:
        if "pg_terminate_backend" in query:
            self.ended.append(int(str(values[0])))
            self.worker = None if self.ends else self.worker
        elif "pg_try_advisory_lock" in query:
            self._rows = [("shared" in query or self.worker is None,)]
        else:
            pids = [self.worker] if tuple(values) == names.lock_halves(names.lock_key("m", "worker")) else []
            pids += [pid for pid, place in self.places.items() if tuple(values) == halves_of(place)]
            self._rows = [(pid, "causeway worker m", "10.0.0.1", "noon") for pid in pids if pid is not None]
        return self

    def fetchone(self) -> tuple[object, ...] | None:
        return self._rows[0] if self._rows else None

    def fetchall(self) -> list[tuple[object, ...]]:
        return self._rows


def halves_of(place: str) -> tuple[int, int]:
    return names.lock_halves(names.lock_key(place, "place"))


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advisory, "_GRACE", 0.05)


@pytest.mark.usefixtures("soon")
def test_a_former_session_of_the_same_place_is_ended_and_no_other() -> None:
    server: Any = Server(7, {7: "here", 9: "here", 8: "there"})
    advisory.lock_worker(server, "m", 2.0, "here")
    assert server.ended == [7]
    other: Any = Server(8, {7: "here", 8: "there"})
    with pytest.raises(StateError, match="applies already"):
        advisory.lock_worker(other, "m", 0.3, "here")
    assert other.ended == []


@pytest.mark.usefixtures("soon")
def test_a_former_session_that_does_not_end_is_tried_again() -> None:
    server: Any = Server(7, {7: "here"}, ends=False)
    with pytest.raises(ConnectError, match="has been told to end"):
        advisory.lock_worker(server, "m", 0.3, "here")


@pytest.mark.usefixtures("soon")
def test_a_stop_ends_what_its_own_dead_worker_has_left() -> None:
    server: Any = Server(7, {7: "here"})
    advisory.wait_gone(server, "m", 2.0, former="here")
    assert server.ended == [7]
    other: Any = Server(7, {7: "there"})
    with pytest.raises(TimeoutExpired, match="still applies"):
        advisory.wait_gone(other, "m", 0.3, former="here")
    assert other.ended == []
