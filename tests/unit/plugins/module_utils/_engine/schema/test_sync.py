# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The right to create that new owners get while objects are given to them: which, where in the section, and till when."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.objects.mapping import IDENTITY
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.objects.owners import RoleInSchema
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.schema import sync
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.schema.compare import MissingObject
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.schema.inventory import Schema
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.schema.sync import (
    SchemaStep,
    SchemaSync,
    Steps,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.schema.toc import Entry

EXTENSION = SchemaStep(None, "extension x", ("CREATE EXTENSION x",))


def step(kind: str, name: str, owner: str = "", schema: str = "s") -> SchemaStep:
    entry = Entry(1, 0, 0, (), kind, "" if kind == "SCHEMA" else schema, name, owner, "")
    return SchemaStep(MissingObject(entry, None), f"{kind} {name}", ("MAKE",), owner)


def planned(monkeypatch: pytest.MonkeyPatch, lacking: set[RoleInSchema], *steps: SchemaStep) -> list[SchemaStep]:
    asked: Any = SimpleNamespace(migration=SimpleNamespace(destination=None, mapping=IDENTITY), section="pre_data")
    monkeypatch.setattr(sync, "lacking_create", lambda dummy, wanted: {one: True for one in wanted if one in lacking})
    inventory: Any = SimpleNamespace(user="mover")
    return SchemaSync._with_right_to_create(asked, list(steps), inventory)


def shown(steps: list[SchemaStep]) -> list[str]:
    return [" ".join(one.statements) if one.right else one.what for one in steps]


def test_nothing_is_granted_to_who_may_create_already(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [step("TABLE", "t", "app", "public"), step("TABLE", "u", "app", "public")]
    assert planned(monkeypatch, set(), *steps) == steps


def test_the_right_lasts_from_the_schemas_to_the_grants_of_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = planned(
        monkeypatch,
        {RoleInSchema("app", "public")},
        step("SCHEMA", "s", "boss"),
        step("COMMENT", "SCHEMA s"),
        step("SCHEMA", "t"),
        EXTENSION,
        step("TABLE", "a", "app"),
        step("ACL", "SCHEMA s"),
        step("TABLE", "b", "boss"),
        step("VIEW", "c", "app", "public"),
        step("FUNCTION", "d", "clerk", "t"),
    )
    assert shown(steps) == [
        "SCHEMA s",
        "COMMENT SCHEMA s",
        "SCHEMA t",
        "extension x",
        'GRANT CREATE ON SCHEMA "public" TO "app" GRANT CREATE ON SCHEMA "s" TO "app" GRANT CREATE ON SCHEMA "t" TO "clerk"',
        "TABLE a",
        "TABLE b",
        "VIEW c",
        "FUNCTION d",
        'REVOKE CREATE ON SCHEMA "public" FROM "app" REVOKE CREATE ON SCHEMA "s" FROM "app"'
        ' REVOKE CREATE ON SCHEMA "t" FROM "clerk"',
        "ACL SCHEMA s",
    ]
    assert [one.as_change().before for one in steps if one.right] == [None, "granted"]
    assert len(Steps(tuple(steps), ()).objects) == 9


def test_in_a_new_schema_that_the_account_keeps_every_owner_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = planned(monkeypatch, set(), step("SCHEMA", "s"), step("TABLE", "a", "app"))
    assert shown(steps)[1] == 'GRANT CREATE ON SCHEMA "s" TO "app"'


@pytest.mark.parametrize(
    ("ours", "there", "privileges", "named"),
    [
        (False, {"app USAGE"}, True, "clerk CREATE"),
        (False, {"app USAGE", "clerk CREATE"}, True, ""),
        (True, set(), True, ""),  # the section grants them
        (False, set(), False, ""),
    ],
)
def test_grants_on_a_schema_that_is_not_ours_are_not_left_out_silently(
    ours: bool, there: set[str], privileges: bool, named: str
) -> None:
    work: Any = SimpleNamespace(
        schemas=("s", "gone"), privileges=privileges, migration=SimpleNamespace(mapping=IDENTITY)
    )
    source: Any = SimpleNamespace(schemas={"s": Schema(True, frozenset({"app USAGE", "clerk CREATE"}))})
    destination: Any = SimpleNamespace(schemas={"s": Schema(ours, frozenset(there))})
    warnings = SchemaSync.grants_left_out(work, source, destination)
    assert bool(warnings) == bool(named)
    assert all(text.endswith(f": {named}.") for text in warnings)
