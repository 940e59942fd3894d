# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What any module's result may say, and that no block crashes on a result that lacks something."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from ansible_collections.causeway.postgresql.plugins.plugin_utils._blocks.certificate import certificate
from ansible_collections.causeway.postgresql.plugins.plugin_utils._blocks.findings import findings
from ansible_collections.causeway.postgresql.plugins.plugin_utils._blocks.full_copy import copied
from ansible_collections.causeway.postgresql.plugins.plugin_utils._blocks.outcome import failure, settled
from ansible_collections.causeway.postgresql.plugins.plugin_utils._blocks.status import status
from ansible_collections.causeway.postgresql.plugins.plugin_utils._blocks.task import task
from ansible_collections.causeway.postgresql.plugins.plugin_utils._blocks.validation import verdicts


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
    assert failure({"error": error}, 100, module="pg_full_copy", host="orders") == [
        "pg_full_copy failed on orders",
        "  what   copying a table shop.x",
        "  why    permission denied for table x (SQLSTATE 42501)",
        "  where  schema shop, table x",
        "  next   Grant the missing privilege.",
        "  safe   Run the same playbook again: it continues where this run stopped.",
    ]


@pytest.mark.parametrize("code", ["would_lose_rows", "spec_error", "driver_missing", "connect_failed", "mismatch"])
def test_what_is_safe_depends_on_the_kind_of_error(code: str) -> None:
    error = {"code": code, "why": "x"}
    usual = failure({"error": {"why": "x"}}, 100, module="m", host="h")[-1]
    assert failure({"error": error}, 100, module="m", host="h")[-1] != usual


def test_a_destination_in_production_is_said_once() -> None:
    result = {"findings": [], "opened_at": "2026-01-01", "msg": "Migration orders was cut over at 2026-01-01."}
    assert findings(result, 100) == ["Migration orders was cut over at 2026-01-01."]
    assert settled({"changed": True}, 100) == []


BLOCKS: list[Callable[[Mapping[str, Any], int], list[str]]] = [
    findings,
    status,
    task,
    copied,
    verdicts,
    certificate,
    lambda result, width: failure(result, width, module="m", host="h"),
]


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("result", [{}, {"failed": True, "msg": "x"}, {"changed": False, "skipped": True}])
def test_a_result_with_nothing_to_show_shows_nothing(
    block: Callable[[Mapping[str, Any], int], list[str]], result: dict[str, Any]
) -> None:
    assert block(result, 100) == []
