# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the readers of the progress row make of it, and where they look for it."""

from __future__ import annotations

from typing import Any, cast

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import StateError, TimeoutExpired
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.flow.rates import Rates
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.state.markers import Marker, wait_applied
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.state.progress import (
    Progress,
    as_known,
    progress_table,
    read_progress,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.state.store import StateStore

ROW: tuple[Any, ...] = ("running", "abc", "0/10", "0/20", "system", 1, {}, "host", 100, 0.5, 10.0, 20.0, 7)


class Answers:
    """A connection that gives one row after the other."""

    def __init__(self, *rows: Any) -> None:
        self.rows = list(rows)
        self.asked: list[str] = []

    def execute(self, query: Any, values: object) -> Answers:
        self.asked.append(query.as_string(None))
        return self

    def fetchone(self) -> Any:
        return self.rows.pop(0) if len(self.rows) > 1 else self.rows[0]


def store(*rows: Any) -> tuple[StateStore, Answers]:
    conn = Answers(*rows)
    return StateStore(cast("Any", conn), "causeway", "orders"), conn


def test_the_row_is_read_over_the_connection_of_the_database_that_changes_are_applied_in() -> None:
    destination, unused = store(None)
    other = Answers(ROW)
    assert read_progress(destination, cast("Any", other)) == Progress(
        "running", "abc", 16, 32, "system", 1, {}, "host", 100, 0.5, Rates(10.0, 20.0), 7
    )
    assert not unused.asked
    assert progress_table(destination).as_string(None) in other.asked[0]
    assert read_progress(destination) is None


@pytest.mark.parametrize("rates", [(None, 20.0), (10.0, None), (None, None)])
def test_one_rate_alone_is_no_rates(rates: tuple[float | None, float | None]) -> None:
    found = read_progress(store((*ROW[:10], *rates, 7))[0])
    assert found is not None and found.rates is None


def test_a_marker_is_waited_for_until_it_is_applied_or_the_task_has_ended() -> None:
    marker = Marker("5f", 99)
    failed = ("failed", *ROW[1:6], {"doing": "applying", "object": "t", "why": "no", "remedy": "Look."}, *ROW[7:])
    applied = (True,)
    assert wait_applied(store(None, None, (False,), ROW, applied)[0], marker, 10, poll=0) < 10
    with pytest.raises(StateError, match="the task is failed: applying t: no") as stopped:
        wait_applied(store((False,), ROW, (False,), failed)[0], marker, 10, poll=0)
    assert stopped.value.remedy == "Look."
    with pytest.raises(TimeoutExpired):
        wait_applied(store(None, ROW)[0], marker, 0, poll=0)


SAID = {"state": "running", "applied": "0/5", "lag_bytes": 0, "lag_seconds": 0.0, "source_rate": 1.0, "apply_rate": 2.0}


@pytest.mark.parametrize(
    ("age", "lives", "state", "lag"),
    [
        (1.0, True, "running", 0),
        (31.0, True, "unknown", None),
        (None, True, "unknown", None),
        (1.0, False, "running", None),
    ],
)
def test_what_a_worker_measured_counts_as_long_as_it_is_heard_of(
    age: float | None, lives: bool, state: str, lag: int | None
) -> None:
    known = as_known(SAID, age, lives=lives)
    assert (known["state"], known["lag_bytes"], known["applied"]) == (state, lag, "0/5")
    assert (known["apply_rate"] is None) is (lag is None)
    assert as_known({}, None, lives=False) == {}
    assert as_known({"state": "retrying"}, 90.0, lives=True)["state"] == "retrying"
