# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.objects.extensions import (
    Extension,
    Offer,
    create_statements,
    in_order,
    not_there,
    other_version,
)

HSTORE = Extension("hstore", "1.8", "ext")
OFFER = Offer("1.9", frozenset({"1.8", "1.9"}), True)


def made(extension: Extension, offer: Offer | None, *schemas: str) -> list[str]:
    return [statement.as_string(None) for statement in create_statements(extension, offer, schemas)]


def test_an_extension_is_made_as_it_is_at_the_source() -> None:
    create = """CREATE EXTENSION "hstore" SCHEMA "ext" VERSION '1.8'"""
    assert made(HSTORE, OFFER, "ext") == [create]
    assert made(HSTORE, OFFER) == ['CREATE SCHEMA IF NOT EXISTS "ext"', create]
    assert other_version(HSTORE, OFFER) == ""


def test_a_version_that_is_not_offered_is_left_to_the_server_and_told() -> None:
    older = Offer("1.7", frozenset({"1.6", "1.7"}), True)
    assert made(HSTORE, older, "ext") == ['CREATE EXTENSION "hstore" SCHEMA "ext"']
    assert other_version(HSTORE, older) == "1.7"
    assert made(HSTORE, None, "ext") == ['CREATE EXTENSION "hstore" SCHEMA "ext"']
    assert other_version(HSTORE, None) == ""


def test_what_an_extension_requires_is_made_before_it() -> None:
    found = in_order(
        [
            Extension("a", "1", "s", ("z", "plpgsql")),
            Extension("m", "1", "s"),
            Extension("z", "1", "s", ("y",)),
            Extension("y", "1", "s"),
        ]
    )
    assert [extension.name for extension in found] == ["y", "z", "a", "m"]
    assert [extension.name for extension in not_there(found, {"z", "a"})] == ["y", "m"]
