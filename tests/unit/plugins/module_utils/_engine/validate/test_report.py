# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A verdict as a return value, and the error for contents that differ."""

from __future__ import annotations

import pytest
from unit.plugins.module_utils._engine.catalog_values import table

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.validate import report
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.validate.verdicts import Verdict


def test_a_verdict_is_returned_under_the_tables_name() -> None:
    verdict = Verdict("unsettled", 10, 9, differing=1, unsettled=2, find="SELECT 1")
    assert report.as_result(table(name='größe "1"'), verdict) == {
        "table": 's."größe ""1"""',
        "verdict": "unsettled",
        "source_rows": 10,
        "destination_rows": 9,
        "differing": 1,
        "unsettled": 2,
        "find": "SELECT 1",
    }


def test_an_identical_table_has_nothing_to_find() -> None:
    assert report.as_result(table(), Verdict("identical", 0, 0)) == {
        "table": "s.t",
        "verdict": "identical",
        "source_rows": 0,
        "destination_rows": 0,
        "differing": 0,
        "unsettled": 0,
        "find": "",
    }


@pytest.mark.parametrize(
    ("number", "what"),
    [
        (1, "s.t1 (1 rows)"),
        (5, "s.t1 (1 rows), s.t2 (2 rows), s.t3 (3 rows), s.t4 (4 rows), s.t5 (5 rows)"),
        (7, "s.t1 (1 rows), s.t2 (2 rows), s.t3 (3 rows), s.t4 (4 rows), s.t5 (5 rows) and 2 more tables"),
    ],
)
def test_the_error_counts_rows_of_the_first_tables_and_shows_none(number: int, what: str) -> None:
    wrong = [table(oid, f"t{oid}") for oid in range(1, number + 1)]
    verdicts = {oid: Verdict("different", 9, 9, differing=oid, find=f"SELECT {oid}") for oid in range(1, number + 1)}
    error = report.difference(wrong, verdicts, {"identical": False})
    assert (error.code, error.what, error.result) == ("mismatch", what, {"identical": False})
    assert error.remedy.startswith("Look at the first one at both ends: SELECT 1 . ")
