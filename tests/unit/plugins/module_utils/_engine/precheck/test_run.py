# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The precheck on a worker host that lacks its drivers: the only thing that can be said without a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.migration import Migration
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.precheck import host, observe, run
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.precheck.catalogue import PrecheckError
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.runner import Outcome
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.spec import spec_of

NOWHERE = {"login_host": "192.0.2.1", "login_db": "orders", "login_port": 1}
OPTIONS = {
    "name": "orders",
    "source": NOWHERE,
    "destination": NOWHERE,
    "objects": [{"schema": "shop"}],
    "types": ["schema", "full", "incremental"],
    "state_schema": "causeway",
    "allow_keyless": False,
    "conflicting_tables": "report",
    "restart": False,
}


class Tools:
    """A worker host whose client programs answer as given; an empty answer is a program that is not there."""

    def __init__(self, **answers: Outcome) -> None:
        self.answers = answers

    def run(self, argv: Sequence[str], environment: Mapping[str, str]) -> Outcome:
        return self.answers[argv[0].rpartition("/")[2]]

    def find(self, program: str, folder: str) -> str:
        return f"{folder}/{program}" if program in self.answers else ""


@pytest.fixture
def without_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (observe, host, run):
        monkeypatch.setattr(module, "psycopg", None)
    monkeypatch.setattr(host, "PSYCOPG_MISSING", "No module named 'psycopg'")


@pytest.mark.usefixtures("without_driver")
def test_without_the_driver_that_is_the_finding_and_not_a_crash() -> None:
    tools = Tools(pg_dump=Outcome(0, "pg_dump (PostgreSQL) 17.5\n", ""), pg_restore=Outcome(127, "", "no libpq\n"))
    with Migration(spec_of(OPTIONS)) as migration, pytest.raises(PrecheckError) as caught:
        run.plan(migration, tools, run.PrecheckOptions(client_bin="/opt/bin"))
    findings = caught.value.result["findings"]
    assert isinstance(findings, list)
    errors = {(one["id"], one["object"]): one["evidence"]["answer"] for one in findings if one["severity"] == "error"}
    assert errors == {
        ("drivers", "psycopg"): "No module named 'psycopg'",
        ("client_tools", "pg_restore"): "it does not run: no libpq",
    }
    assert caught.value.result["source_server"] == {}


@pytest.mark.usefixtures("without_driver")
def test_never_only_tells() -> None:
    with Migration(spec_of(OPTIONS)) as migration:
        plan = run.plan(migration, Tools(), run.PrecheckOptions(fail_on="never"))
    assert not plan.changed and plan.result["passed"] is True
    assert plan.result["counts"] == {"error": 3, "warning": 0, "ignorable": 1, "note": 0}
