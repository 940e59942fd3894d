# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The findings of a precheck as lines."""

from __future__ import annotations

from typing import Any

from ansible_collections.causeway.postgresql.plugins.plugin_utils._blocks.findings import findings

SERVERS = {
    "source_server": {"reachable": True, "product": "PostgreSQL", "version": "14.22", "database": "orders"},
    "destination_server": {"product": "PostgreSQL", "version": "17.5", "database": "orders"},
}


def finding(check: str, severity: str, what: str) -> dict[str, Any]:
    return {
        "id": check,
        "severity": severity,
        "object": what,
        "why": "it matters",
        "evidence": {"query": "SELECT 1", "answer": "it is so"},
        "fix": "CURE IT;",
        "lock": "none",
    }


def test_findings_are_grouped_with_the_worst_first() -> None:
    result = {
        "findings": [finding("no_key", "error", "sales.log"), finding("worker_supervisor", "ignorable", "mover1")],
        "counts": {"error": 1, "warning": 0, "ignorable": 1, "note": 0},
        "passed": False,
        **SERVERS,
    }
    assert findings(result, 100) == [
        "Precheck not passed: 1 error, 1 ignorable",
        "  source       PostgreSQL 14.22, database orders",
        "  destination  PostgreSQL 17.5, database orders",
        "",
        "ERROR (1). These block the migration.",
        "",
        "  id      object     observed, and the fix",
        "  no_key  sales.log  it is so",
        "                     fix: CURE IT;",
        "",
        "IGNORABLE (1). These may be accepted: list their ids in ignore_checks.",
        "",
        "  id                 object  observed, and the fix",
        "  worker_supervisor  mover1  it is so",
        "                             fix: CURE IT;",
    ]


def test_where_names_are_long_a_finding_is_a_paragraph() -> None:
    where = "source old.example.com:5432/orders as mover"
    result = {"findings": [finding("replication_connect", "error", where)], "counts": {"error": 1}, "passed": False}
    assert findings(result, 79)[-3:] == [
        f"  replication_connect: {where}",
        "      it is so",
        "      fix: CURE IT;",
    ]


def test_many_objects_of_one_check_are_cut_with_their_number() -> None:
    result = {
        "findings": [finding("no_key", "error", f"t{number}") for number in range(1000)],
        "counts": {"error": 1000},
        "passed": False,
    }
    lines = findings(result, 100)
    assert len(lines) < 40
    assert any("and 992 more" in line for line in lines)


def test_a_clean_precheck_is_two_lines_of_servers_and_a_verdict() -> None:
    lines = findings({"findings": [], "counts": {}, "passed": True, **SERVERS}, 100)
    assert lines[0] == "Precheck passed: nothing found" and len(lines) == 3


def test_a_failure_before_anything_was_seen_shows_no_findings() -> None:
    assert findings({"failed": True, "msg": "missing required arguments: name"}, 100) == []
