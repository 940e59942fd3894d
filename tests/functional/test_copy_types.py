# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every type through the full copy, each in a table of its own: binary where the bytes mean the same at both ends."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from support.harness.modules import Migration
from support.tables.types_of_columns import BUILT_IN, OWN, OWN_TYPES
from support.witness import assert_identical

TYPES = {**BUILT_IN, **OWN}
TEXT_ONLY = {
    "mood[]",
    "positive[]",
    "pair",
    "pair[]",
    "whole",
    "floats",
    "floats[]",
    "aclitem",
    *(kind for kind in OWN if kind.startswith("reg")),
}
"""Their bytes hold OIDs, which are others at the destination, or there are none at all."""


@pytest.fixture(scope="module")
def copied(make_lasting_pair: Callable[..., Any]) -> tuple[Any, dict[str, set[str]]]:
    """The pair after the copy, and the formats in which each table was read and written."""
    pair = make_lasting_pair()
    pair.destination.run("CREATE TYPE shifts_the_oids AS ENUM ('x'); DROP TYPE shifts_the_oids")
    pair.run(OWN_TYPES)
    for number, (kind, value) in enumerate(TYPES.items()):
        pair.run(f"CREATE TABLE t{number} (id int PRIMARY KEY, v {kind})")
        pair.source.run(f"INSERT INTO t{number} SELECT n, {value} FROM generate_series(1, 60) n")
        if kind != "needed":
            pair.source.run(f"INSERT INTO t{number} VALUES (1000)")
    objects = [{"schema": "public"}]
    job = Migration("types", pair.source.endpoint, pair.destination.endpoint, objects, {"types": ["full"]})
    formats: dict[str, set[str]] = {}
    for statement in job.run("pg_full_copy")["statements"]:
        if named := re.search(r'"public"\."(t\d+)"', statement["sql"]):
            formats.setdefault(named[1], set()).update(re.findall(r"binary|text", statement["sql"].lower()) or {"text"})
    return pair, formats


@pytest.mark.parametrize("kind", TYPES)
def test_type_arrives_as_it_was(copied: tuple[Any, dict[str, set[str]]], kind: str) -> None:
    pair, formats = copied
    name = f"t{list(TYPES).index(kind)}"
    here, there = (end.query(f"SELECT id, v::text FROM {name} ORDER BY 1") for end in pair.ends)
    assert len(here) >= 60 and here == there
    assert formats[name] == {"text" if kind in TEXT_ONLY else "binary"}


def test_all_rows_are_the_same(copied: tuple[Any, dict[str, set[str]]]) -> None:
    assert assert_identical(copied[0], ["public"]) == 61 * len(TYPES) - 1
