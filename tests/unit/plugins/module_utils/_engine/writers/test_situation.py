# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ways in which a role can write after a REVOKE from it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from unit.plugins.module_utils._engine.catalog_values import table

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.writers import situation as ways
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.writers.grants import Grant, Writer
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.writers.situation import Situation

TABLES = (table(1, "a"), table(2, "b"))
WRITER = Writer("App", False, True, (), (), (), False)
SITUATION = Situation("source", "App", "shop", "me", "me", TABLES, TABLES, WRITER, (), (), None)


def situation(to_all: tuple[Grant, ...] = (), **writer: Any) -> Situation:
    """Return a role that can write, apart from its own rights, in the given ways."""
    return replace(SITUATION, writer=replace(WRITER, **writer), public=to_all)


def to_public(name: str, privilege: str = "INSERT") -> Grant:
    return Grant("table", "s", name, "", "o", "", privilege, False, True)


def test_a_role_that_cannot_write_has_no_way_left() -> None:
    assert ways.remaining_paths(replace(SITUATION, writer=None)) == []
    assert not replace(SITUATION, writer=None).needs_brake


def test_its_own_rights_are_no_way_that_is_left() -> None:
    own = situation(owns=(("s", "a"),), grants=(replace(to_public("a"), grantee="App"),))
    assert ways.remaining_paths(own) == []
    assert not own.needs_brake


def test_a_superuser_can_write_to_every_table() -> None:
    found = situation(superuser=True)
    assert found.needs_brake
    assert ways.remaining_paths(found) == [
        {
            "path": "superuser",
            "via": "App",
            "tables": 2,
            "remedy": 'ALTER ROLE "App" NOSUPERUSER, or stop using it.',
        }
    ]


def test_each_role_that_it_is_a_member_of_is_a_way() -> None:
    found = situation(through=("pg_write_all_data", 'größe"'))
    assert found.needs_brake
    assert ways.remaining_paths(found) == [
        {
            "path": "membership",
            "via": "pg_write_all_data",
            "tables": 2,
            "remedy": 'REVOKE pg_write_all_data FROM "App" (directly, or from the role through which it is a member).',
        },
        {
            "path": "membership",
            "via": 'größe"',
            "tables": 2,
            "remedy": 'REVOKE "größe""" FROM "App" (directly, or from the role through which it is a member).',
        },
    ]


def test_a_table_of_which_public_has_several_rights_counts_once() -> None:
    rights = (to_public("b"), to_public("B", "DELETE"), to_public("b", "UPDATE"))
    found = situation(rights, public=True)
    assert found.needs_brake
    (way,) = ways.remaining_paths(found)
    assert (way["path"], way["via"], way["tables"]) == ("public", "PUBLIC", 2)
    assert str(way["remedy"]).startswith('REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON s."B", s.b ')


def test_the_remedy_for_public_names_three_tables() -> None:
    (way,) = ways.remaining_paths(situation(tuple(map(to_public, "dcba")), public=True))
    assert way["tables"] == 4
    assert way["remedy"] == "REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON s.a, s.b, s.c … FROM PUBLIC."


def test_a_way_that_no_catalog_shows_is_one_all_the_same() -> None:
    assert ways.unknown_path(SITUATION, {"writable": ["s.a"]}) == {
        "path": "unknown",
        "via": "App",
        "tables": 1,
        "remedy": 'Let nothing but the migration log in as "App". When it is released, drop "App" if it was made for the'
        " migration; never disable the only account that may administer the server.",
    }
    (warning,) = ways.warnings_of(SITUATION, [ways.unknown_path(SITUATION, {"writable": ["s.a"]})])
    assert 'role "App" can still write at the source' in warning and "unknown (App)" in warning
    assert ways.warnings_of(SITUATION, []) == ()
