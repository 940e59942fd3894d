# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every built-in type in binary and text, and the user's own, through the worker: what arrives is what was written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.harness.streaming import Streaming
from support.tables.types_of_columns import BUILT_IN, OWN, OWN_TYPES
from support.witness import assert_identical


def table(name: str, types: dict[str, str]) -> str:
    columns = ", ".join(f"c{n} {kind}" for n, kind in enumerate(types))
    return f"CREATE TABLE {name} (id int PRIMARY KEY, note text, {columns}); ALTER TABLE {name} ALTER note SET STORAGE EXTERNAL;"


def insert(name: str, types: dict[str, str], first: int, last: int) -> str:
    values = ", ".join(types.values())
    return f"INSERT INTO {name} SELECT n, repeat('n', n * 100), {values} FROM generate_series({first}, {last}) n"


@pytest.fixture(
    scope="module", params=[f"{form}, {identity}" for form in ("binary", "text") for identity in ("DEFAULT", "FULL")]
)
def carried(
    request: pytest.FixtureRequest, make_lasting_pair: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Streaming]:
    """All types in a table with a key and in one without, after inserts, updates and deletes by a few rows and many."""
    form, dummy, identity = str(request.param).partition(", ")
    own = {} if form == "binary" else OWN
    keyless = {kind: value for kind, value in {**BUILT_IN, **own}.items() if kind not in ("needed",)}
    ddl = "" if form == "binary" else OWN_TYPES
    ddl += table("t", {**BUILT_IN, **own}) + table("k", keyless) + "ALTER TABLE k DROP CONSTRAINT k_pkey;"
    ddl += f"ALTER TABLE t REPLICA IDENTITY {identity}; ALTER TABLE k REPLICA IDENTITY FULL;"
    pair = make_lasting_pair()
    pair.destination.run(
        "CREATE SCHEMA own; CREATE TYPE own.shifts_the_oids AS ENUM ('x'); DROP TYPE own.shifts_the_oids"
    )
    pair.run("CREATE SCHEMA IF NOT EXISTS own; SET search_path = own, public;" + ddl)
    streaming = Streaming(pair, tmp_path_factory.mktemp("types"))
    source = pair.source
    streaming.begin(("own",))
    streaming.start()
    for name, types in (("t", {**BUILT_IN, **own}), ("k", keyless)):
        source.run(insert(name, types, 1, 60))
        nothing = ", ".join(f"c{n}" for n, kind in enumerate(types) if kind != "needed")
        count = nothing.count(",") + 1
        source.run(
            f"INSERT INTO {name} (id{', c' + str(list(types).index('needed')) if 'needed' in types else ''})"
            f" VALUES (1000{', 1' if 'needed' in types else ''})"
        )
        streaming.drain()
        source.run(f"UPDATE {name} SET ({nothing}) = ROW({', '.join(['NULL'] * count)}) WHERE id BETWEEN 10 AND 29")
        source.run(f"UPDATE {name} SET c0 = NOT c0 WHERE id BETWEEN 30 AND 49")
        source.run(f"DELETE FROM {name} WHERE id % 7 = 0")
        source.run(insert(name, types, 61, 62))
        streaming.drain()
        source.run(f"UPDATE {name} SET note = 'short', c1 = 1 WHERE id = 61")
        source.run(f"DELETE FROM {name} WHERE id = 62")
        streaming.drain()
    assert streaming.progress("conflicts") == 0
    assert f'"format": "{form}"' in streaming.log()
    yield streaming
    streaming.close()


@pytest.mark.parametrize("kind", [*BUILT_IN, *OWN])
def test_type_arrives_as_it_was(carried: Streaming, kind: str) -> None:
    if kind in OWN and '"format": "text"' not in carried.log():
        pytest.skip("it makes the stream text")
    column = f"c{[*BUILT_IN, *OWN].index(kind)}"
    for name in ("t", "k") if kind != "needed" else ("t",):
        query = f"SELECT id, ROW({column})::text FROM own.{name} ORDER BY 1, 2"
        here, there = (end.query(query) for end in carried.pair.ends)
        assert len(here) > 50
        assert len({value for dummy, value in here}) > 1
        assert here == there


def test_whole_rows_are_the_same(carried: Streaming) -> None:
    assert assert_identical(carried.pair, ["own"]) > 100
