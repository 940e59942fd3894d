# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The differences between the definitions as lines."""

from __future__ import annotations

from typing import Any

from ansible_collections.causeway.postgresql.plugins.plugin_utils._blocks.differences import differences


def one(severity: str = "error", name: str = "view s.v", **more: Any) -> dict[str, Any]:
    return {
        "id": "definition_changed_at_source",
        "severity": severity,
        "object": name,
        "cause": "it was changed at the source",
        "fix": "CREATE OR REPLACE VIEW …\n  AS SELECT 1;",
        **more,
    }


def test_a_result_without_a_comparison_has_no_block() -> None:
    assert differences({}, 100) == []


def test_the_errors_come_first_and_what_is_ignored_last() -> None:
    found = [one("warning", "index s.i"), one(), one(name="view s.w", ignored=True, fix="")]
    assert differences({"differences": found, "definitions": 1234}, 100) == [
        "1 234 facts about definitions compared, 3 differences",
        "",
        "ERROR (1). The cutover refuses these.",
        "",
        "  definition_changed_at_source view s.v",
        "      it was changed at the source",
        "      fix: CREATE OR REPLACE VIEW … …",
        "",
        "WARNING (1). The cutover goes on with these, and its certificate names them.",
        "",
        "  definition_changed_at_source index s.i",
        "      it was changed at the source",
        "      fix: CREATE OR REPLACE VIEW … …",
        "",
        "IGNORED (1).",
        "",
        "  definition_changed_at_source view s.w",
        "      it was changed at the source",
    ]


def test_of_many_the_first_are_shown_with_the_number_of_the_others() -> None:
    assert (
        differences({"differences": [one()] * 25, "definitions": 1}, 100)[-1] == "  and 5 more in the module's result"
    )
