# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which tables need FULL, over every identity and key that a table can have."""

from __future__ import annotations

import dataclasses

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.capture import replica_identity
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres.catalog import Table, UniqueIndex

PRIMARY = UniqueIndex("pk", ("id",), True, True, False, True, True)
UNIQUE = dataclasses.replace(PRIMARY, name="uq", primary=False)
DEFERRABLE = dataclasses.replace(PRIMARY, immediate=False)
NULLABLE = dataclasses.replace(UNIQUE, all_not_null=False)
EXPRESSION = dataclasses.replace(UNIQUE, columns=("",))


def table(letter: str, *indexes: UniqueIndex, index: str = "", kind: str = "r") -> Table:
    return Table(
        oid=1,
        schema="s",
        name="t",
        kind=kind,
        persistence="p",
        owner="o",
        replica_identity=letter,
        identity_index=index,
        parents=(),
        is_partition=False,
        pages=0,
        rows=0.0,
        bytes=0,
        columns=(),
        unique_indexes=indexes,
    )


CASES = [
    (table("d", PRIMARY), True),
    (table("d", PRIMARY, UNIQUE), True),
    (table("d", UNIQUE), False),  # the stream of identity DEFAULT knows the primary key only
    (table("d", DEFERRABLE), False),
    (table("d"), False),
    (table("n", PRIMARY), False),
    (table("f"), True),
    (table("i", UNIQUE, index="uq"), True),
    (table("i", PRIMARY, NULLABLE, index="uq"), False),
    (table("i", EXPRESSION, index="uq"), False),
    (table("i", PRIMARY, index="gone"), False),
]


@pytest.mark.parametrize(("found", "enough"), CASES)
def test_an_identity_is_enough_when_its_key_finds_every_row(found: Table, enough: bool) -> None:
    assert replica_identity.identifies_rows(found) is enough
    assert (replica_identity.wanted_identity(found, "auto") is None) is enough
    full = replica_identity.Identity("f")
    assert replica_identity.wanted_identity(found, "full") == (None if found.replica_identity == "f" else full)


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (table("n", UNIQUE, PRIMARY), replica_identity.Identity("d")),
        (table("i", PRIMARY, index="gone"), replica_identity.Identity("d")),
        (table("d", UNIQUE), replica_identity.Identity("i", "uq")),
        (table("d", NULLABLE, UNIQUE), replica_identity.Identity("i", "uq")),
        (table("d", DEFERRABLE), replica_identity.Identity("f")),
        (table("n", NULLABLE, EXPRESSION), replica_identity.Identity("f")),
        (table("d"), replica_identity.Identity("f")),
    ],
)
def test_the_least_identity_that_works_is_wanted(found: Table, wanted: replica_identity.Identity) -> None:
    assert replica_identity.wanted_identity(found, "auto") == wanted


@pytest.mark.parametrize("mode", ["full", "auto"])
def test_a_partitioned_table_has_no_rows_to_identify(mode: str) -> None:
    assert replica_identity.wanted_identity(table("d", kind="p"), mode) is None
    assert replica_identity.wanted_identity(table("n", kind="p"), mode) is None


def test_statements_name_one_table_only_and_quote_what_needs_it() -> None:
    odd = dataclasses.replace(table("d"), schema="a b", name='q"t')
    made = replica_identity.identity_statement(odd, replica_identity.Identity("i", "in dex")).as_string(None)
    assert made == 'ALTER TABLE ONLY "a b"."q""t" REPLICA IDENTITY USING INDEX "in dex"'
    assert (
        replica_identity.identity_statement(odd, replica_identity.Identity("n"))
        .as_string(None)
        .endswith("REPLICA IDENTITY NOTHING")
    )
