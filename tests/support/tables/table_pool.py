# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables of all shapes for random schedules: keys, identities, types, constraints, and what the destination has otherwise.

Every one has the columns id, part, u, n and big, so that any statement fits any table; what the source refuses, it refuses.
"""

from __future__ import annotations

import dataclasses
import random

KEYS = {
    "by id": ("PRIMARY KEY (id)", "DEFAULT"),
    "by id, full": ("PRIMARY KEY (id)", "FULL"),
    "by two columns": ("PRIMARY KEY (part, id)", "DEFAULT"),
    "by two columns, full": ("PRIMARY KEY (id, part)", "FULL"),
    "by index": ("PRIMARY KEY (id), UNIQUE (part, id)", "USING INDEX {name}_part_id_key"),
    "by unique index alone": ("UNIQUE (id)", "USING INDEX {name}_id_key"),
    "deferrable": ("PRIMARY KEY (id) DEFERRABLE INITIALLY DEFERRED", "FULL"),
    "keyless": ("CHECK (id IS NOT NULL)", "FULL"),
    "nullable unique key": ("UNIQUE (u, n)", "FULL"),
    "inserts only": ("PRIMARY KEY (id)", "NOTHING"),
    "by generated column": ("g bigint GENERATED ALWAYS AS (id * 2) STORED PRIMARY KEY", "FULL"),
    "by generated column, found by id": (
        "g bigint GENERATED ALWAYS AS (id * 2) STORED PRIMARY KEY, UNIQUE (id)",
        "FULL",
    ),
    "by identity beside": ("PRIMARY KEY (id), a int GENERATED ALWAYS AS IDENTITY", "DEFAULT"),
    "partitioned": ("PRIMARY KEY (id, part)", "DEFAULT"),
}
TYPES = {
    "bool": "{x} % 2 = 0",
    "bigint": "{x}::bigint * 8007199254740993",
    "float8": "CASE {x} % 3 WHEN 0 THEN '-0' WHEN 1 THEN 'NaN' ELSE '0.1' END::float8",
    "numeric(9,2)": "{x} / 7.0",
    "varchar(20)": "'ä' || {x}",
    "char(4)": "'c' || {x} % 9",
    "bytea": "decode(md5('' || {x}), 'hex')",
    "date": "CASE {x} % 3 WHEN 0 THEN 'infinity' ELSE '0044-03-15 BC' END::date",
    "timestamptz": "to_timestamp({x})",
    "interval": "{x} * interval '1 month -1 day'",
    "uuid": "md5('' || {x})::uuid",
    "json": "('{{\"a\" : ' || {x} || '}}')::json",
    "jsonb": "jsonb_build_object('n', {x})",
    "xml": "('<a n=\"' || {x} || '\"/>')::xml",
    "inet": "'10.0.0.1'::inet + {x}",
    "bit(5)": "({x} % 32)::bit(5)",
    "varbit": "({x} % 32)::bit(5)::varbit",
    "money": "{x}::int::money",
    "point": "point({x}, 1)",
    "tsvector": "to_tsvector('simple', 'fat cat ' || {x})",
    "int[]": "ARRAY[{x}, NULL]",
    "int4range": "int4range({x}, {x} + 5)",
    "text": "E'\\\\N\\t\\n' || {x}",
}
OWN_TYPES = {
    "mood": "(ARRAY['sad', 'so ''so'])[1 + abs({x}) % 2]::mood",
    "mood[]": "ARRAY['sad', NULL]::mood[]",
    "positive": "abs({x}) + 1",
    "pair": "ROW({x}, 'x,\"y')::pair",
    "floats": "floats(0, abs({x}) + 1)",
    "regtype": "'int'::regtype",
}
OWN = (
    "CREATE TYPE mood AS ENUM ('sad', 'so ''so'); CREATE DOMAIN positive AS int CHECK (VALUE > 0);"
    "CREATE TYPE pair AS (a int, b text); CREATE TYPE floats AS RANGE (subtype = float8);"
)


@dataclasses.dataclass(frozen=True)
class PoolTable:
    """``names`` are the columns that a row may give, ``values`` their expressions over {x}."""

    name: str
    shape: str
    source: str
    destination: str
    names: str
    values: str
    typed: tuple[tuple[str, str], ...]
    compared: str
    leaves: tuple[str, ...]


def pool(seed: int, count: int, own_types: bool) -> list[PoolTable]:
    """So many tables; every shape occurs before one occurs again."""
    chance = random.Random(seed)
    shapes = list(KEYS)
    return [_table(f"t{n}", shapes[n % len(shapes)], chance, own_types) for n in range(count)]


def _table(name: str, shape: str, chance: random.Random, own_types: bool) -> PoolTable:
    constraint, identity = KEYS[shape]
    chosen = chance.sample(list(TYPES.items()), 4)
    if own_types:
        chosen += chance.sample(list(OWN_TYPES.items()), 2)
    typed = tuple((f"c{n}", expression) for n, (dummy, expression) in enumerate(chosen))
    columns = ["id bigint NOT NULL", "part text NOT NULL", "u int", "n numeric", "big text"]
    columns += [f"c{n} {kind}" for n, (kind, dummy) in enumerate(chosen)]
    more = [constraint]
    if shape != "partitioned" and chance.random() < 0.5:
        more.append("UNIQUE (u)" + (" DEFERRABLE" if chance.random() < 0.3 else ""))
    shuffled = chance.sample(columns, len(columns)) if chance.random() < 0.5 else columns
    # a column of the destination's own; not beside partitions, whose columns are the parent's
    extra = ["own text DEFAULT 'mine'"] if chance.random() < 0.3 else []
    leaves = (f"{name}_a", f"{name}_b", f"{name}_rest") if shape == "partitioned" else (name,)

    def ddl(listed: list[str]) -> str:
        made = f"CREATE TABLE {name} ({', '.join(listed + more)})"
        if shape == "partitioned":
            made += (
                f" PARTITION BY LIST (part); CREATE TABLE {name}_a PARTITION OF {name} FOR VALUES IN ('a');"
                f"CREATE TABLE {name}_b PARTITION OF {name} FOR VALUES IN ('b', 'c');"
                f"CREATE TABLE {name}_rest PARTITION OF {name} DEFAULT"
            )
        made += "".join(f"; ALTER TABLE {leaf} ALTER big SET STORAGE EXTERNAL" for leaf in leaves)
        return made + "".join(f"; ALTER TABLE {leaf} REPLICA IDENTITY {identity.format(name=name)}" for leaf in leaves)

    compared = ", ".join(f"t.{column.split()[0]}" for column in sorted(columns))
    if "GENERATED" in constraint:
        compared += ", t.a" if "IDENTITY" in constraint else ", t.g"
    return PoolTable(
        name=name,
        shape=shape,
        source=ddl(columns),
        destination=ddl(shuffled + extra),
        names="id, part, u, n, big, " + ", ".join(column for column, dummy in typed),
        values="{x}, {part}, {u}, {n}, {big}, " + ", ".join(expression for dummy, expression in typed),
        typed=typed,
        compared=compared,
        leaves=leaves,
    )
