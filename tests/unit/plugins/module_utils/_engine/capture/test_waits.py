# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A wait is told at once: as a line of JSON, on the timeline and as a warning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.capture.waits import Waits
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import ConnectError, StateError
from ansible_collections.causeway.postgresql.plugins.plugin_utils._blocks.outcome import waits as shown

HOLDER = "pid 7 (nightly report, user app, idle in transaction) in a transaction since noon"


class Store:
    """Notes the events; one that cannot be reached raises."""

    def __init__(self, *, reachable: bool = True) -> None:
        self.events: list[tuple[str, str, Any]] = []
        self._reachable = reachable

    def event(self, phase: str, what: str, detail: Any) -> None:
        if not self._reachable:
            raise ConnectError("writing an event", "", "no route", "")
        self.events.append((phase, what, detail))


def told(store: Any, file: str = "") -> Waits:
    waits = Waits(store, "prepared", file)
    waits("replica identity of s.t", [HOLDER])
    return waits


def test_it_is_told_in_three_places(tmp_path: Path) -> None:
    store, file = Store(), tmp_path / "lines"
    waits = told(store, str(file))
    waits("replica identity of s.u", [])
    (first, second) = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    assert HOLDER in first["waits"] and "s.u" in second["waits"]
    assert waits.warnings == [first["waits"], second["waits"]]
    assert store.events[0] == (
        "prepared",
        "waiting for a lock at the source",
        {"what": "replica identity of s.t", "held_by": [HOLDER]},
    )
    assert shown(first) == [f"waiting: {first['waits']}"]
    assert shown({}) == []


def test_a_destination_out_of_reach_does_not_end_the_wait() -> None:
    assert HOLDER in told(Store(reachable=False)).warnings[0]


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="progress_file"):
        told(Store(), str(tmp_path / "missing" / "lines"))
