# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verdict on each table as lines."""

from __future__ import annotations

from ansible_collections.causeway.postgresql.plugins.plugin_utils._blocks.validation import verdicts


def test_verdicts_have_the_differing_tables_first_and_say_how_to_see_it() -> None:
    tables = [
        {"table": "a", "verdict": "identical", "source_rows": 1000, "destination_rows": 1000, "differing": 0},
        {
            "table": "b",
            "verdict": "different",
            "source_rows": 7,
            "destination_rows": 6,
            "differing": 1,
            "find": "SELECT * FROM b",
        },
    ]
    assert verdicts({"tables": tables}, 100) == [
        "1 of 2 tables identical, 1 007 rows read at the source",
        "",
        "  table  verdict    source rows  destination rows  differing",
        "  b      different            7                 6          1",
        "  a      identical        1 000             1 000          0",
        "",
        "The first difference of each:",
        "  b  SELECT * FROM b",
    ]


def test_the_verdict_on_large_objects_is_a_line_of_its_own() -> None:
    table = {"table": "a", "verdict": "identical", "source_rows": 1, "destination_rows": 1, "differing": 0}
    objects = {"verdict": "different", "objects": 12, "differing": 2, "missing": 0, "gone": 1}
    said = "12 large objects different: 2 differing, 1 gone (changes made after their copy are not captured)"
    assert verdicts({"tables": [table], "large_objects": objects}, 100)[1] == said
    equal = {"verdict": "identical", "objects": 12, "differing": 0, "missing": 0, "gone": 0}
    assert verdicts({"tables": [table], "large_objects": equal}, 100)[1] == "12 large objects identical"
    assert verdicts({"tables": [table], "large_objects": {"verdict": "not copied"}}, 100)[1] == ""


def test_a_thousand_tables_are_cut() -> None:
    tables = [{"table": f"t{n}", "verdict": "identical", "source_rows": 1, "differing": 0} for n in range(1000)]
    lines = verdicts({"tables": tables}, 100)
    assert len(lines) < 50 and lines[-1] == "  and 960 more tables"
