# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every module, given what it cannot use or servers that are not there: one clear message, and no traceback."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import pathlib
import socket
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest
from ansible.module_utils import basic
from support.clusters.pairs import Pair
from support.clusters.servers import ROOT
from support.harness.modules import Migration

MODULES = sorted(path.stem for path in (ROOT / "plugins" / "modules").glob("pg_*.py"))
NEEDED: dict[str, dict[str, Any]] = {
    "pg_cdc_task": {"worker_home": "/tmp/causeway-no-worker"},
    "pg_schema_sync": {"section": "pre_data"},
}
"""What a module cannot be called without, beside what all take."""
# What looks only at the destination, or says what it could not see, need not fail for want of a source.
REPORTS_THE_SOURCE = {"pg_migration_info"}


@pytest.fixture(scope="module")
def ends(make_lasting_pair: Callable[..., Pair]) -> Pair:
    pair = make_lasting_pair()
    pair.source.run(
        "CREATE SCHEMA shop; CREATE TABLE shop.orders (id int PRIMARY KEY); CREATE TABLE shop.log (line text)"
    )
    return pair


@pytest.fixture(scope="module")
def closed_port() -> Iterator[int]:
    """A port that refuses: bound, so that nobody else gets it, and not listened on."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def answer(module: str, migration: Migration, **more: Any) -> dict[str, Any]:
    """What the module answers, run here: some hundreds of processes would take minutes."""
    code = importlib.import_module(f"ansible_collections.causeway.postgresql.plugins.modules.{module}")
    said = io.StringIO()
    with (
        mock.patch.object(basic, "_ANSIBLE_ARGS", migration.arguments(more)),
        mock.patch.object(basic, "_ANSIBLE_PROFILE", "legacy", create=True),
        contextlib.redirect_stdout(said),
        pytest.raises(SystemExit),
    ):
        code.main()
    result: dict[str, Any] = json.loads(said.getvalue().strip().splitlines()[-1])
    return result


def refusal(ends: Pair, module: str, *, leave_out: str = "", **arguments: Any) -> dict[str, Any]:
    """How the module fails; that it does, in one message that is no traceback and holds no password."""
    given: dict[str, Any] = {
        "source": ends.source.endpoint,
        "destination": ends.destination.endpoint,
        "objects": [{"schema": "shop"}],
        "more": {**NEEDED.get(module, {}), "allow_keyless": True},
    }
    given = {**given, **{key: arguments.pop(key) for key in list(arguments) if key in given}}
    given["more"] = {key: value for key, value in {**given["more"], **arguments}.items() if key != leave_out}
    result = answer(module, Migration("arguments", **given))
    assert result.get("failed"), result
    said = str(result["msg"])
    assert "Traceback" not in str(result) and "exception" not in result
    assert len(said) > 20 and "\n" not in said.strip()
    for end in ends.ends:
        assert end.endpoint["login_password"] not in str(result)
    return result


def clear(result: dict[str, Any], code: str) -> dict[str, str]:
    """The error as data: all of what, where, why and what to do next."""
    error: dict[str, str] = result["error"]
    assert error["code"] == code, error
    assert error["doing"] and error["object"] and error["why"] and error["remedy"]
    assert error["why"] in result["msg"] and error["remedy"] in result["msg"]
    return error


def test_all_modules_are_here() -> None:
    assert len(MODULES) == 12 and NEEDED.keys() <= set(MODULES)


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"nonsense": 1}, "Unsupported parameters"),
        ({"types": ["schema", "everything"]}, "value of types must be one or more of"),
        ({"objects": "shop"}, "dictionary requested"),
        ({"objects": [{"tables": [{"name": "orders"}]}]}, "missing required arguments: schema found in objects"),
        ({"source": {"login_port": "five"}}, "login_port"),
        ({"source": {"loginhost": "x"}}, "Unsupported parameters"),
        ({"conflicting_tables": "drop"}, "conflicting_tables"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_wrong_arguments(ends: Pair, module: str, arguments: dict[str, Any], says: str) -> None:
    assert says in refusal(ends, module, **arguments)["msg"]


@pytest.mark.parametrize("module", MODULES)
def test_arguments_that_are_not_there(ends: Pair, module: str) -> None:
    nothing = Migration("", {}, {}, [])
    with mock.patch.object(nothing, "arguments", lambda dummy: b'{"ANSIBLE_MODULE_ARGS": {}}'):
        said = answer(module, nothing)["msg"]
    assert said.startswith("missing required arguments")
    for name in ("destination", "name", "objects", "source", *(NEEDED.get(module, {}))):
        assert name in said


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        (module, {"state": "wherever"})
        for module in MODULES
        if module
        not in ("pg_full_copy", "pg_data_validate", "pg_migration_info", "pg_migration_precheck", "pg_schema_sync")
    ]
    + [
        ("pg_schema_sync", {"section": "middle"}),
        ("pg_revoke_writer", {"end": "north"}),
        ("pg_migration_precheck", {"fail_on": "monday"}),
        ("pg_replica_identity", {"identity": "mine"}),
        ("pg_cdc_task", {"wait": "long"}),
        ("pg_migration_info", {"wait": "long"}),
    ],
)
def test_a_value_that_is_no_choice(ends: Pair, module: str, arguments: dict[str, Any]) -> None:
    ((name, value),) = arguments.items()
    said = refusal(ends, module, **arguments)["msg"]
    assert f"value of {name} must be one of" in said and value in said


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"types": ["schema", "incremental"]}, "causeway_types"),
        ({"types": []}, "causeway_types"),
        ({"objects": []}, "objects"),
        ({"objects": [{"schema": ""}]}, "objects"),
        ({"objects": [{"schema": "shop", "tables": [{"name": ""}]}]}, "shop"),
        ({"source": {"login_host": "127.0.0.1"}}, "causeway_source"),
        ({"destination": {"login_host": "127.0.0.1"}}, "causeway_destination"),
        ({"state_schema": ""}, "state_schema"),
    ],
)
def test_what_cannot_be_meant(ends: Pair, module: str, arguments: dict[str, Any], names: str) -> None:
    assert names in clear(refusal(ends, module, **arguments), "spec_error")["object"]


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("pg_cdc_task", {"retry_connection": -1}),
        ("pg_cdc_task", {"retry_other": 100000}),
        ("pg_cdc_task", {"batch_size": 0}),
        ("pg_cdc_task", {"batch_age": -1.0}),
        ("pg_cdc_task", {"wait_timeout": -5}),
        ("pg_migration_info", {"wait_timeout": 0}),
        ("pg_cdc_task", {"stop_timeout": -5}),
        ("pg_cutover", {"timeout": 0}),
        ("pg_cutover", {"parallel": 0}),
        ("pg_cutover", {"catch_up_timeout": -1}),
        ("pg_data_validate", {"settle_timeout": -1}),
        ("pg_data_validate", {"parallel": 0}),
        ("pg_full_copy", {"parallel": 0}),
        ("pg_full_copy", {"part_size": 0}),
        ("pg_full_copy", {"lock_timeout": -1}),
        ("pg_publication", {"lock_timeout": -2}),
        ("pg_publication", {"lock_retries": -2}),
        ("pg_publication", {"wait_timeout": -2}),
        ("pg_replica_identity", {"lock_timeout": -2}),
        ("pg_repl_slot", {"wait_timeout": -2}),
        ("pg_migration_precheck", {"ignore_checks": ["no_such_check"]}),
        ("pg_revoke_writer", {"role": "nobody of that name"}),
    ],
)
def test_values_out_of_range(ends: Pair, module: str, arguments: dict[str, Any]) -> None:
    ((name, value),) = arguments.items()
    error = clear(refusal(ends, module, **arguments), "spec_error")
    where = value[0] if isinstance(value, list) else value if isinstance(value, str) else name
    assert where in error["object"] or where in error["why"]


SELECTS = [module for module in MODULES if module not in ("pg_migration_info", "pg_cdc_task", "pg_cutover")]


@pytest.mark.parametrize("module", SELECTS)
@pytest.mark.parametrize(
    ("objects", "names"),
    [
        ([{"schema": "shopp"}], "shopp"),
        ([{"schema": "shop", "tables": [{"name": "order_*"}]}], 'shop."order_*"'),
    ],
    ids=["schema", "table"],
)
def test_a_name_that_matches_nothing(ends: Pair, module: str, objects: list[dict[str, Any]], names: str) -> None:
    result = refusal(ends, module, objects=objects)
    if module == "pg_migration_precheck":
        found = [one for one in result["findings"] if one["id"] == "pattern_matches_nothing"]
        assert [one["object"] for one in found] == [names]
    else:
        assert names in clear(result, "spec_error")["object"]


@pytest.mark.parametrize("end", ["source", "destination"])
@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("case", ["closed port", "wrong password", "missing database", "unknown host"])
def test_a_server_that_is_not_there(ends: Pair, closed_port: int, module: str, end: str, case: str) -> None:
    endpoint = {
        **(ends.source if end == "source" else ends.destination).endpoint,
        "connect_params": {"connect_timeout": "2"},
    }
    cases: dict[str, tuple[dict[str, Any], str]] = {
        "closed port": ({"login_port": closed_port}, str(closed_port)),
        "wrong password": ({"login_password": "certainly not it"}, "password"),
        "missing database": ({"login_db": "no such database"}, "no such database"),
        "unknown host": ({"login_host": "nowhere.invalid"}, "nowhere.invalid"),
    }
    wrong, says = cases[case]
    if module in REPORTS_THE_SOURCE and end == "source":
        source, more = {**endpoint, **wrong}, NEEDED.get(module, {})
        migration = Migration("arguments", source, ends.destination.endpoint, [{"schema": "shop"}], more)
        server = answer(module, migration)["source_server"]
        assert not server["reachable"] and says in str(server["error"])
        return
    changed: dict[str, Any] = {end: {**endpoint, **wrong}}
    result = refusal(ends, module, **changed)
    assert "certainly not it" not in str(result)
    if module == "pg_migration_precheck":  # all that it found, with what could not be seen among it
        (found,) = (one for one in result["findings"] if one["id"] in (f"{end}_connect", f"{end}_database_missing"))
        assert found["severity"] == "error" and found["fix"] and says in str(found)
        return
    error = clear(result, "connect_failed")
    assert end in error["doing"] + error["object"]
    assert says in result["msg"]


def test_nothing_was_made(ends: Pair) -> None:
    """All of the above changed nothing at either end."""
    for end in ends.ends:
        assert end.query("SELECT nspname FROM pg_namespace WHERE nspname = 'causeway'") == []
        assert end.query("SELECT slot_name FROM pg_replication_slots WHERE database = current_database()") == []
        assert end.query("SELECT pubname FROM pg_publication") == []
    assert not pathlib.Path(NEEDED["pg_cdc_task"]["worker_home"]).exists()
