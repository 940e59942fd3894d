# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person reads: whole for a whole result, and no crash for one that lacks something."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from ansible_collections.causeway.postgresql.plugins.plugin_utils import _blocks

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
    assert _blocks.findings(result, 100) == [
        "Precheck not passed: 1 error, 1 ignorable",
        "  source       PostgreSQL 14.22, database orders",
        "  destination  PostgreSQL 17.5, database orders",
        "",
        "ERROR (1). These block the migration.",
        "",
        "  id      object     seen, and what cures it",
        "  no_key  sales.log  it is so",
        "                     fix: CURE IT;",
        "",
        "IGNORABLE (1). These may be accepted: ignore_checks takes their ids.",
        "",
        "  id                 object  seen, and what cures it",
        "  worker_supervisor  mover1  it is so",
        "                             fix: CURE IT;",
    ]


def test_where_names_are_long_a_finding_is_a_paragraph() -> None:
    where = "source old.example.com:5432/orders as mover"
    result = {"findings": [finding("replication_connect", "error", where)], "counts": {"error": 1}, "passed": False}
    assert _blocks.findings(result, 79)[-3:] == [
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
    lines = _blocks.findings(result, 100)
    assert len(lines) < 40
    assert any("and 992 more" in line for line in lines)


def test_a_clean_precheck_is_two_lines_of_servers_and_a_verdict() -> None:
    lines = _blocks.findings({"findings": [], "counts": {}, "passed": True, **SERVERS}, 100)
    assert lines[0] == "Precheck passed: nothing found" and len(lines) == 3


def test_a_failure_before_anything_was_seen_shows_no_findings() -> None:
    assert _blocks.findings({"failed": True, "msg": "missing required arguments: name"}, 100) == []


def status(**other: Any) -> dict[str, Any]:
    return {
        "phase": "replicating",
        "name": "orders",
        **SERVERS,
        "totals": {"tables": 2, "waiting": 1, "copying": 0, "complete": 1, "rows": 1234567, "bytes": 1_200_000_000},
        "tables": [
            {"table": "sales.a", "state": "complete", "rows": 1234567, "bytes": 1_200_000_000, "seconds": 200},
            {"table": "sales.b", "state": "waiting", "rows": 0, "bytes": 0, "seconds": None},
        ],
        "slot": {
            "name": "dts_sync_orders",
            "exists": True,
            "active": True,
            "wal_status": "reserved",
            "retained_bytes": 16_000_000,
        },
        "cdc": {
            "wanted": "started",
            "state": "running",
            "down": False,
            "worker": {"host": "mover1", "pid": 77, "compiled": True},
            "lag_bytes": 1200,
            "lag_seconds": 0.012,
            "counters": {"inserts": 1000, "updates": 0},
            "last_error": {},
        },
        **other,
    }


def test_status() -> None:
    assert _blocks.status(status(), 110) == [
        "Migration orders: replicating",
        "  source       PostgreSQL 14.22, database orders",
        "  destination  PostgreSQL 17.5, database orders",
        "  copy         1 of 2 tables, 1 234 567 rows, 1.2 GB",
        "  slot         dts_sync_orders: in use, reserved, keeps 16.0 MB of WAL",
        "  CDC          running (wanted: started), on mover1 as pid 77, compiled",
        "  lag          1.2 kB behind, last change applied 12 ms after its commit",
        "  changes      1 000 inserts",
        "",
        "  table    copy           rows     size        time",
        "  sales.b  waiting           0  0 bytes",
        "  sales.a  complete  1 234 567   1.2 GB  3 min 20 s",
    ]


def test_status_says_how_fast_and_whether_it_catches_up() -> None:
    cdc = {
        **status()["cdc"],
        "source_rate": 5_000_000.0,
        "apply_rate": 1_000_000.0,
        "catch_up": {"verdict": "never", "sentence": "it will never catch up"},
        "settings": {"rows_per_second": 2000, "mb_per_second": 0.5},
        "engine_outdated": True,
    }
    lines = _blocks.status(status(cdc=cdc, tags={"stage": "production", "app": "shop"}), 160)
    assert "  tags         app=shop, stage=production" in lines
    assert "  rates        source 5.0 MB/s of WAL, applied 1.0 MB/s: it will never catch up" in lines
    assert "  limits       2 000 rows/s, 0.5 MB/s" in lines
    assert any("the worker runs another engine" in line for line in lines)


def test_a_task_that_was_changed_says_what_resting_costs() -> None:
    found = {"wanted": "paused", "state": "paused", "slot_keeps_bytes": 1_200_000_000, "settings": {}}
    assert _blocks.task({"changed": True, "task": found}, 100) == [
        "CDC task: paused (wanted: paused)",
        "  slot  keeps 1.2 GB of WAL at the source",
    ]
    found = {"wanted": "started", "state": "running", "slot_keeps_bytes": 5, "settings": {"rows_per_second": 500}}
    assert _blocks.task({"changed": True, "task": found}, 100)[1:] == ["  limits  500 rows/s"]
    assert _blocks.task({"changed": False, "task": found}, 100) == []


def test_a_worker_that_is_down_is_said_loudly() -> None:
    cdc = {"wanted": "started", "state": "running", "down": True, "lag_bytes": 5, "last_error": {"why": "it broke"}}
    lines = "\n".join(_blocks.status(status(cdc=cdc), 160))
    assert "DOWN: nobody applies" in lines and "it broke" in lines


def test_what_the_slot_guard_sees_is_said() -> None:
    finding = {"level": "critical", "code": "slot_lost_soon", "text": "the slot is lost in 10 min", "remedy": "Hurry."}
    guard = {"retained_seconds": 200.0, "slot_lost_in_pause": 600.0, "findings": [finding]}
    slot = {"name": "s", "exists": True, "active": True, "wal_status": "extended", "retained_bytes": 16_000_000}
    lines = _blocks.status(status(slot={**slot, "guard": guard}), 160)
    kept = "keeps 16.0 MB of WAL from the last 3 min 20 s; a pause of 10 min would lose it"
    assert f"  slot         s: in use, extended, {kept}" in lines
    assert "  CRITICAL     the slot is lost in 10 min. Hurry." in lines


def test_a_source_that_is_not_reached() -> None:
    away = {"reachable": False, "error": {"why": "Connection refused"}}
    lines = _blocks.status(status(source_server=away, slot={}), 120)
    assert "  source       not reached: Connection refused" in lines


def test_before_the_first_phase() -> None:
    lines = _blocks.status({"phase": "none", "name": "x", "selected": {"tables": 3, "bytes": 2_000_000}}, 100)
    assert "  copy         not begun: 3 tables, about 2.0 MB" in lines


def test_what_a_copy_has_moved() -> None:
    tables = [
        {"table": "a", "state": "complete", "rows": 1000, "bytes": 2_000_000, "seconds": 1.5},
        {"table": "b", "state": "copying", "rows": 5, "bytes": 10, "seconds": None},
    ]
    assert _blocks.copied({"changed": True, "tables": tables}, 100) == [
        "1 of 2 tables copied, 1 005 rows, 2.0 MB",
        "",
        "  table  copy       rows      size   time",
        "  b      copying       5  10 bytes",
        "  a      complete  1 000    2.0 MB  1.5 s",
    ]
    assert _blocks.copied({"changed": False, "tables": tables}, 100) == []
    assert _blocks.copied({"changed": True, "tables": tables, "runs": 0}, 100) == ["1 of 2 tables are to be copied"]
    objects = {"state": "complete", "objects": 1006, "bytes": 3_000_000, "moved": 1006}
    only_these = _blocks.copied({"changed": True, "tables": tables, "runs": 0, "large_objects": objects}, 100)
    assert only_these[0] == "1 of 2 tables copied, 1 005 rows, 2.0 MB, 1 006 large objects (3.0 MB)"


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
    assert _blocks.verdicts({"tables": tables}, 100) == [
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
    said = "12 large objects different: 2 differing, 1 gone (what was written after their copy is not captured)"
    assert _blocks.verdicts({"tables": [table], "large_objects": objects}, 100)[1] == said
    equal = {"verdict": "identical", "objects": 12, "differing": 0, "missing": 0, "gone": 0}
    assert _blocks.verdicts({"tables": [table], "large_objects": equal}, 100)[1] == "12 large objects identical"
    assert _blocks.verdicts({"tables": [table], "large_objects": {"verdict": "not copied"}}, 100)[1] == ""


def test_a_thousand_tables_are_cut() -> None:
    tables = [{"table": f"t{n}", "verdict": "identical", "source_rows": 1, "differing": 0} for n in range(1000)]
    lines = _blocks.verdicts({"tables": tables}, 100)
    assert len(lines) < 50 and lines[-1] == "  and 960 more tables"


def test_the_certificate() -> None:
    proved = {
        "verdict": "identical",
        "opened_at": "2026-11-22T10:00:00.000+00:00",
        "pause_ms": 432,
        "tables": 12,
        "rows": 1_000_000,
        "sequences": 3,
        "fenced_roles": ["app", "jobs"],
        "marker": {"number": 3, "position": "0/12"},
        "steps": [{"name": "fence", "seconds": 0.012}, {"name": "drain", "seconds": 1.2}],
    }
    assert _blocks.certificate({"certificate": proved}, 100) == [
        "Certificate of the cutover, verdict identical",
        "  opened        2026-11-22T10:00:00.000+00:00",
        "  pause         432 ms",
        "  tables        12",
        "  rows          1 000 000",
        "  sequences     3",
        "  fenced roles  app, jobs",
        "  marker        3 at 0/12",
        "",
        "  step    time",
        "  fence  12 ms",
        "  drain  1.2 s",
    ]


def test_the_certificate_says_of_large_objects_what_was_not_proved() -> None:
    objects = {"objects": 3, "copied_at": "2026-11-22 09:00:00.123+00", "captured": False, "compared": False}
    lines = _blocks.certificate({"certificate": {"verdict": "identical", "large_objects": objects}}, 100)
    assert lines[1] == "  large objects  3, as they were when copied (2026-11-22 09:00:00); not compared"


def test_a_failure_says_what_why_and_what_is_safe() -> None:
    error = {
        "code": "server_error",
        "doing": "copying a table",
        "object": "shop.x",
        "why": "permission denied for table x",
        "remedy": "Grant the missing privilege.",
        "sqlstate": "42501",
        "detail": "schema shop, table x",
    }
    assert _blocks.failure({"error": error}, 100, module="pg_full_copy", host="orders") == [
        "pg_full_copy failed on orders",
        "  what   copying a table shop.x",
        "  why    permission denied for table x (SQLSTATE 42501)",
        "  where  schema shop, table x",
        "  next   Grant the missing privilege.",
        "  safe   Run the same playbook again: it goes on from where this stopped.",
    ]


@pytest.mark.parametrize("code", ["would_lose_rows", "spec_error", "driver_missing", "connect_failed", "mismatch"])
def test_what_is_safe_depends_on_the_kind_of_error(code: str) -> None:
    error = {"code": code, "why": "x"}
    usual = _blocks.failure({"error": {"why": "x"}}, 100, module="m", host="h")[-1]
    assert _blocks.failure({"error": error}, 100, module="m", host="h")[-1] != usual


BLOCKS: list[Callable[[Mapping[str, Any], int], list[str]]] = [
    _blocks.findings,
    _blocks.status,
    _blocks.copied,
    _blocks.verdicts,
    _blocks.certificate,
    lambda result, width: _blocks.failure(result, width, module="m", host="h"),
]


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("result", [{}, {"failed": True, "msg": "x"}, {"changed": False, "skipped": True}])
def test_a_result_with_nothing_to_show_shows_nothing(
    block: Callable[[Mapping[str, Any], int], list[str]], result: dict[str, Any]
) -> None:
    assert block(result, 100) == []


def test_a_certificate_without_a_comment_says_what_that_means() -> None:
    lines = "\n".join(_blocks.certificate({"certificate": {"verdict": "identical", "comment": False}}, 100))
    assert "Only the owner of the destination database" in lines
    assert "note" not in "\n".join(_blocks.certificate({"certificate": {"verdict": "identical", "comment": True}}, 100))


def test_a_destination_in_production_is_said_once() -> None:
    result = {"findings": [], "opened_at": "2026-01-01", "msg": "Migration orders was cut over at 2026-01-01."}
    assert _blocks.findings(result, 100) == ["Migration orders was cut over at 2026-01-01."]
    assert _blocks.settled({"changed": True}, 100) == []


def test_a_copy_that_runs_is_one_line() -> None:
    line = {
        "percent": 42.31, "tables": 12, "complete": 3, "rows": 1234567, "bytes_per_second": 12_300_000, "eta": 200.0,
        "held": "a standby lags",
    }  # fmt: skip
    (said,) = _blocks.progress(line)
    assert (
        said.startswith("42.3 %, 3 of 12 tables, ")
        and "3 min 20 s left" in said
        and said.endswith("waits: a standby lags")
    )
    assert ", 7 large objects left, " in _blocks.progress({**line, "large_objects_left": 7})[0]
    (large,) = _blocks.progress({"table": "s.t", "rows": 5, "bytes": 10**9, "seconds": 61.0})
    assert large.startswith("table s.t is complete: 5 rows")
    assert _blocks.progress({}) == []
