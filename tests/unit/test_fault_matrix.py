# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fault matrix names tests that exist, and the table of failpoints names the places that the engine has."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MATRIX = (ROOT / "docs" / "fault-matrix.md").read_text(encoding="utf-8")
PLACES = (ROOT / "docs" / "hacking" / "failpoints.md").read_text(encoding="utf-8")
CDC = ROOT / "plugins" / "module_utils" / "_engine" / "cdc"
STEPS = (
    *("batch sent", "staging filled", "DML done", "progress written"),
    *("commit sent", "commit answered", "position recorded", "feedback sent"),
)


def test_every_test_that_the_matrix_names_is_there() -> None:
    named = set(re.findall(r"`(test_\w+\.py)::(test_\w+)`", MATRIX))
    assert len(named) > 30
    for file, function in sorted(named):
        text = (ROOT / "tests" / "functional" / file).read_text(encoding="utf-8")
        assert re.search(rf"^def {function}\(", text, re.MULTILINE), f"{file}::{function}"


def test_every_row_of_the_matrix_names_a_test_or_is_of_the_steps_of_a_batch() -> None:
    rows = [line for line in MATRIX.splitlines() if line.startswith("| ") and not line.startswith(("| ---", "| fault"))]
    for row in rows:
        assert "::test_" in row or row.split("|")[1].strip() in (*STEPS, "step"), row


def test_the_worker_has_all_sixteen_places_and_both_pages_name_the_steps() -> None:
    engine = "".join(path.read_text(encoding="utf-8") for path in CDC.rglob("*.py"))
    for step in STEPS:
        for when in ("before", "after"):
            assert f'failpoint("{when} {step}")' in engine, f"{when} {step}"
        assert f"| {step} |" in MATRIX, step
        assert f"| `{step}` |" in PLACES, step
