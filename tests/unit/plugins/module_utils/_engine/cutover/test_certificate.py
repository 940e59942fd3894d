# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The evidence of a cutover: what of it is stored, and how long the application was stopped."""

from __future__ import annotations

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cutover.certificate import Evidence
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.state.markers import Marker
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.validate.verdicts import Verdict


@pytest.mark.parametrize(
    ("fenced_at", "opened_after", "milliseconds"),
    [(100.0, 102.5, 2500), (100.0, 100.0004, 0), (100.0, 100.0016, 2), (0.0, 102.5, 0), (100.0, 0.0, 0), (0.0, 0.0, 0)],
)
def test_the_pause_lasts_from_the_fence_to_the_opening(
    fenced_at: float, opened_after: float, milliseconds: int
) -> None:
    assert Evidence(fenced_at=fenced_at, opened_after=opened_after).pause_ms == milliseconds


def test_nothing_has_been_proved_at_first() -> None:
    assert Evidence().closed_part() == {
        "fenced_roles": [],
        "bypassing_roles": [],
        "sessions_ended": 0,
        "marker": None,
        "drain_seconds": 0.0,
        "sequences": 0,
        "tables": 0,
        "rows": 0,
        "verdict": "identical",
        "definitions": {},
        "fenced_at": "",
        "steps": [],
    }


def test_the_stored_part_has_names_counts_and_positions() -> None:
    proofs = Evidence(
        fenced_at=100.0,
        roles=("app", "größe"),
        bypassing=("root",),
        sessions_ended=3,
        marker=Marker("7f", 0x16_B374_D848),
        drain_seconds=1.23456,
        sequences=4,
        verdicts={1: Verdict("identical", 10, 11), 2: Verdict("identical", 5, 5)},
        writer={"role": "app"},
        triggers=2,
        definitions={"compared": 12, "accepted": ["definition_changed_at_source view s.v"], "told": []},
        fenced_on="2026-03-04T05:06:07.089+00:00",
        steps=[{"name": "fence", "seconds": 0.5}],
    )
    assert proofs.closed_part() == {
        "fenced_roles": ["app", "größe"],
        "bypassing_roles": ["root"],
        "sessions_ended": 3,
        "marker": {"token": "7f", "position": "16/B374D848"},
        "drain_seconds": 1.235,
        "sequences": 4,
        "tables": 2,
        "rows": 15,
        "verdict": "identical",
        "definitions": {"compared": 12, "accepted": ["definition_changed_at_source view s.v"], "told": []},
        "fenced_at": "2026-03-04T05:06:07.089+00:00",
        "steps": [{"name": "fence", "seconds": 0.5}],
    }


def test_later_steps_do_not_reach_what_was_stored() -> None:
    proofs = Evidence()
    stored = proofs.closed_part()
    with proofs.timed("open"):
        pass
    assert stored["steps"] == []


def test_a_step_is_timed_even_where_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 10.25, 20.0, 21.23456])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    proofs = Evidence()
    with proofs.timed("fence"):
        pass
    with pytest.raises(KeyError), proofs.timed("drain"):
        raise KeyError
    assert proofs.steps == [{"name": "fence", "seconds": 0.25}, {"name": "drain", "seconds": 1.235}]
