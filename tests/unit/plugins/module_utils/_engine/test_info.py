# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of a migration's status that are computed from what was observed: sentence, lag, rates, totals."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine import info

QUIET: dict[str, Any] = {
    "name": "shop",
    "phase": "copied",
    "opened_at": "",
    "totals": {"tables": 0, "complete": 0, "bytes": 0},
    "cdc": {},
    "slot": {},
    "fence": "open",
    "source_server": {"reachable": True},
}
RUNNING: dict[str, Any] = {"state": "running", "down": False, "lag_bytes": None, "lag_seconds": None}
STALLED = {"verdict": "stalled", "sentence": "nothing was committed"}


@pytest.mark.parametrize(
    ("seen", "sentence"),
    [
        ({}, "Migration shop: phase copied."),
        ({"phase": "none", "name": "größe"}, "Migration größe: phase none."),
        (
            {"totals": {"tables": 3, "complete": 1, "bytes": 1_234_000_000}},
            "Migration shop: phase copied, 1 of 3 tables copied (1.2 GB).",
        ),
        ({"cdc": RUNNING}, "Migration shop: phase copied, CDC running."),
        (
            {"cdc": {**RUNNING, "down": True}},
            "Migration shop: phase copied, the CDC worker is down: run the migrate playbook again.",
        ),
        ({"cdc": {**RUNNING, "lag_bytes": 0}}, "Migration shop: phase copied, CDC running, 0 bytes behind."),
        (
            {"cdc": {**RUNNING, "lag_bytes": 1000, "lag_seconds": 4.21}},
            "Migration shop: phase copied, CDC running, 1.0 kB, 4.2 s behind.",
        ),
        (
            {"cdc": {**RUNNING, "lag_bytes": 1000, "lag_seconds": 0}},
            "Migration shop: phase copied, CDC running, 1.0 kB, 0 ms behind.",
        ),
        (
            {"cdc": {**RUNNING, "catch_up": STALLED}},
            "Migration shop: phase copied, CDC running, nothing was committed.",
        ),
        (
            {"cdc": {**RUNNING, "catch_up": {"verdict": "caught_up", "sentence": "caught up"}}},
            "Migration shop: phase copied, CDC running.",
        ),
        (
            {"cdc": {**RUNNING, "state": "paused"}, "slot": {"retained_bytes": 0}},
            "Migration shop: phase copied, CDC paused, the slot retains 0 bytes of WAL at the source meanwhile.",
        ),
        ({"cdc": {**RUNNING, "state": "paused"}}, "Migration shop: phase copied, CDC paused."),
        ({"cdc": RUNNING, "slot": {"retained_bytes": 5000}}, "Migration shop: phase copied, CDC running."),
        (
            {"slot": {"guard": {"findings": [{"text": "one"}, {"text": "two"}]}}},
            "Migration shop: phase copied, one, two.",
        ),
        (
            {"fence": "fenced"},
            "Migration shop: phase copied, the source is fenced: run the cutover playbook again; migrate and release lift the fence.",
        ),
        (
            {"fence": "closed"},
            "Migration shop: phase copied, the source is closed: run the cutover playbook again to open the destination.",
        ),
        (
            {"fence": "closed", "opened_at": "2026-03-04", "phase": "opened"},
            "Migration shop: phase opened, opened at 2026-03-04.",
        ),
        ({"source_server": {"reachable": False}}, "Migration shop: phase copied, the source cannot be reached."),
    ],
)
def test_the_sentence_says_what_the_operator_has_to_know(seen: dict[str, Any], sentence: str) -> None:
    assert info._sentence({**QUIET, **seen}) == sentence


def test_the_lag_of_a_running_worker_is_what_it_measured() -> None:
    shown = {"lag_bytes": 10, "lag_seconds": 0.5, "applied": "0/10"}
    assert info._lag(shown, {"source_position": "0/FF"}, running=True) == {"lag_bytes": 10, "lag_seconds": 0.5}
    assert info._lag({}, {}, running=True) == {"lag_bytes": None, "lag_seconds": None}


@pytest.mark.parametrize(
    ("shown", "position", "lag"),
    [
        ({"applied": "0/10"}, "0/FF", 239),
        ({"applied": "0/10", "confirmable": "0/20"}, "0/FF", 223),
        ({"applied": "0/20", "confirmable": "0/10"}, "0/FF", 223),
        ({"applied": "1/0"}, "0/FF", 0),
        ({"applied": "0/FFFFFFFF"}, "1/0", 1),
    ],
)
def test_without_a_worker_the_sources_position_gives_the_lag(shown: dict[str, Any], position: str, lag: int) -> None:
    stale = {"lag_bytes": 10, "lag_seconds": 0.5}
    found = info._lag({**stale, **shown}, {"source_position": position}, running=False)
    assert found == {"lag_bytes": lag, "lag_seconds": None}


@pytest.mark.parametrize(
    ("shown", "slot"), [({}, {"source_position": "0/FF"}), ({"applied": "0/10"}, {}), ({"applied": ""}, {})]
)
def test_without_both_positions_there_is_no_lag_in_bytes(shown: dict[str, Any], slot: dict[str, Any]) -> None:
    assert info._lag({"lag_bytes": 10, **shown}, slot, running=False)["lag_bytes"] is None


LAG = {"lag_bytes": 600, "lag_seconds": 30.0}


def test_the_rates_of_a_running_worker_give_a_forecast() -> None:
    assert info._rates("running", {"source_rate": 10.0, "apply_rate": 20.0}, LAG) == {
        "source_rate": 10.0,
        "apply_rate": 20.0,
        "catch_up": {"verdict": "catching_up", "seconds": 60.0, "sentence": "caught up in about 1 min"},
    }


@pytest.mark.parametrize(
    ("state", "shown", "verdict"),
    [
        ("paused", {"source_rate": 10.0, "apply_rate": 20.0}, "unknown"),
        ("", {"source_rate": 10.0, "apply_rate": 20.0}, "unknown"),
        ("running", {}, "unknown"),
        ("running", {"source_rate": 10.0}, "unknown"),
        ("running", {"apply_rate": 10.0}, "unknown"),
    ],
)
def test_there_are_no_rates_of_a_worker_that_does_not_run(state: str, shown: dict[str, Any], verdict: str) -> None:
    assert info._rates(state, shown, LAG) == {
        "source_rate": None,
        "apply_rate": None,
        "catch_up": {"verdict": verdict, "seconds": None, "sentence": ""},
    }


def test_a_rate_of_zero_is_a_rate() -> None:
    found = info._rates("running", {"source_rate": 0.0, "apply_rate": 0.0}, LAG)
    assert (found["source_rate"], found["apply_rate"], found["catch_up"]["verdict"]) == (0.0, 0.0, "stalled")


def test_totals_count_tables_by_state_and_add_up_the_rest() -> None:
    assert info._totals([]) == {"tables": 0, "waiting": 0, "copying": 0, "complete": 0, "rows": 0, "bytes": 0}
    tables = [
        {"state": "complete", "rows": 5, "bytes": 100},
        {"state": "complete", "rows": 0, "bytes": 0},
        {"state": "copying", "rows": 7, "bytes": 10},
        {"state": "waiting", "rows": 0, "bytes": 0},
    ]
    assert info._totals(tables) == {"tables": 4, "waiting": 1, "copying": 1, "complete": 2, "rows": 12, "bytes": 110}
