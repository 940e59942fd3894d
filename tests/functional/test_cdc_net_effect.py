# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a real source writes, decoded, batched, compacted and written as COPY payloads, makes the destination equal.

The statements here are the plainest that the net effect allows; how the worker runs them is tested elsewhere.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import psycopg
import pytest
from psycopg import sql
from support.witness import assert_identical

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes import copy_format
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes.batch_limits import BatchLimits
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes.batcher import (
    Batch,
    Batcher,
    RelationStep,
    Segment,
    TruncateStep,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes.compaction import (
    Compacted,
    TableShape,
    compact,
    delete_then_insert,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes.keys import (
    UniqueIndex,
    other_uniques,
    table_key,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes.messages import Relation
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes.pgoutput import decode

COLUMNS = """id int NOT NULL, part text NOT NULL, n int, big text, num numeric, at timestamptz, list int[], doc jsonb"""
TABLES = f"""
CREATE SCHEMA s;
CREATE TABLE s.plain ({COLUMNS}, PRIMARY KEY (id), UNIQUE (n));
CREATE TABLE s.full_row ({COLUMNS}, PRIMARY KEY (id), UNIQUE (n));
CREATE TABLE s."Ünder Index" ({COLUMNS}, PRIMARY KEY (id), UNIQUE (part, id));
CREATE TABLE s.keyless ({COLUMNS});
ALTER TABLE s.plain ALTER big SET STORAGE EXTERNAL;
ALTER TABLE s.full_row ALTER big SET STORAGE EXTERNAL, REPLICA IDENTITY FULL;
ALTER TABLE s."Ünder Index" ALTER big SET STORAGE EXTERNAL,
  REPLICA IDENTITY USING INDEX "Ünder Index_part_id_key";
ALTER TABLE s.keyless ALTER big SET STORAGE EXTERNAL, REPLICA IDENTITY FULL;
"""
NAMES = ["plain", "full_row", "Ünder Index", "keyless"]
ROW = """%(id)s, %(part)s, %(n)s, CASE WHEN %(big)s THEN repeat(%(part)s, 3000) ELSE E'\\\\N\\t\\n\\r\\\\' END,
  %(id)s / 7.0, to_timestamp(%(id)s), ARRAY[%(id)s, NULL], %(doc)s"""


def change_at_random(cursor: psycopg.Cursor[Any], table: str, dice: random.Random) -> None:
    """One statement, which may fail (a unique value that is taken), under a savepoint that is sometimes rolled back."""
    values = {
        "id": dice.randrange(12),
        "part": dice.choice("ab"),
        "n": dice.choice([None, *range(8)]),
        "big": dice.random() < 0.5,
        "other": dice.randrange(12),
        "doc": '{"a": [1, null]}',
    }
    statement = dice.choice(
        [
            f"INSERT INTO {{}} VALUES ({ROW})",
            f"INSERT INTO {{}} VALUES ({ROW})",
            "UPDATE {} SET num = num + 1, at = at + '1 s' WHERE id = %(id)s",
            "UPDATE {} SET num = num + 1 WHERE id >= %(id)s",
            "UPDATE {} SET n = %(n)s WHERE id = %(id)s",
            "UPDATE {} SET id = %(other)s WHERE id = %(id)s",
            "UPDATE {} SET id = %(other)s, doc = NULL WHERE id = %(id)s AND part = %(part)s",
            "UPDATE {} SET part = %(part)s, big = repeat('z', 5000) WHERE id = %(id)s",
            "DELETE FROM {} WHERE id = %(id)s",
            "TRUNCATE {}" if dice.random() < 0.1 else "DELETE FROM {} WHERE n = %(n)s",
        ]
    )
    cursor.execute("SAVEPOINT one")
    try:
        cursor.execute(sql.SQL(statement).format(sql.Identifier("s", table)), values)
    except psycopg.errors.UniqueViolation:
        cursor.execute("ROLLBACK TO one")
    if dice.random() < 0.1:
        cursor.execute("ROLLBACK TO one")


def swap(cursor: psycopg.Cursor[Any], table: str, dice: random.Random) -> None:
    """Two rows exchange their keys, or their unique values, by way of a spare one."""
    name = sql.Identifier("s", table)
    column, spare = dice.choice([("id", 99), ("n", 99)])
    one, other = dice.sample(range(12), 2)
    for new, old in ((spare, one), (one, other), (other, spare)):
        cursor.execute("SAVEPOINT one")
        try:
            cursor.execute(
                sql.SQL("UPDATE {0} SET {1} = %s WHERE {1} = %s").format(name, sql.Identifier(column)), [new, old]
            )
        except psycopg.errors.UniqueViolation:
            cursor.execute("ROLLBACK TO one")


class PlainApplier:
    """Applies pieces by set-based statements, and counts how often they met a constraint."""

    def __init__(self, pair: Any, binary: bool) -> None:
        self.pair = pair
        self.binary = binary
        self.shapes: dict[int, TableShape] = {}
        self.names: dict[int, sql.Identifier] = {}
        self.columns: dict[int, list[str]] = {}
        self.fallbacks = 0
        self.rowwise = 0

    def apply(self, cursor: psycopg.Cursor[Any], piece: Batch) -> None:
        for step in piece.steps:
            if isinstance(step, RelationStep):
                self.learn(step.relation)
            elif isinstance(step, TruncateStep):
                for relation in step.relations:
                    cursor.execute(sql.SQL("TRUNCATE ONLY {}").format(self.names[relation.oid]))
            elif isinstance(step, Segment):
                for oid, changes in step.by_table().items():
                    self.apply_table(cursor, compact(changes, self.shapes[oid]))

    def learn(self, relation: Relation) -> None:
        name = sql.Identifier(relation.schema, relation.name)
        ends = [unique_indexes(end.sql, f'{relation.schema}."{relation.name}"') for end in self.pair.ends]
        key = table_key(relation, ends[0], ends[1])
        assert (key is None) == (relation.name == "keyless")
        uniques = other_uniques(relation, key, ends[1])
        self.names[relation.oid] = name
        self.columns[relation.oid] = [column.name for column in relation.columns]
        self.shapes[relation.oid] = TableShape(relation.oid, len(relation.columns), key, False, uniques)

    def apply_table(self, cursor: psycopg.Cursor[Any], net: Compacted) -> None:
        attempts = [net, delete_then_insert(net)]
        cursor.execute("SAVEPOINT net")
        for attempt in attempts:
            try:
                if attempt is not None:
                    return self.statements(cursor, attempt)
            except psycopg.errors.UniqueViolation:
                cursor.execute("ROLLBACK TO net")
                self.fallbacks += 1
        self.one_by_one(cursor, net.changes, net.shape)
        return None

    def statements(self, cursor: psycopg.Cursor[Any], net: Compacted) -> None:
        oid = net.shape.relation_oid
        name, columns = self.names[oid], self.columns[oid]
        everything = range(len(columns))
        if net.removed:
            self.remove(cursor, net)
        if net.shape.key is not None:
            keys = [columns[at] for at in net.shape.key]
            if net.deletes:
                self.stage(cursor, name, [(f"k{at}", key) for at, key in enumerate(keys)], net.deletes)
                touched = cursor.execute(
                    sql.SQL("DELETE FROM ONLY {} t USING staging s WHERE {}").format(name, matching(keys))
                )
                assert touched.rowcount == len(net.deletes)
            for group in net.updates:
                wanted = [(f"k{at}", key) for at, key in enumerate(keys)]
                wanted += [(f"a{at}", columns[at]) for at in group.assigned]
                rows = [
                    [*key, *(row.values[at] for at in group.assigned)]
                    for key, row in zip(group.keys, group.rows, strict=True)
                ]
                self.stage(cursor, name, wanted, rows)
                pairs = [
                    sql.SQL("{} = s.{}").format(sql.Identifier(columns[at]), sql.Identifier(f"a{at}"))
                    for at in group.assigned
                ]
                touched = cursor.execute(
                    sql.SQL("UPDATE ONLY {} t SET {} FROM staging s WHERE {}").format(
                        name, sql.SQL(", ").join(pairs), matching(keys)
                    )
                )
                assert touched.rowcount == len(rows)
        if net.rowwise:
            self.rowwise += 1
            self.one_by_one(cursor, net.rowwise, net.shape)
        if net.inserts:
            self.copy(cursor, name, [columns[at] for at in everything], [row.values for row in net.inserts])

    def one_by_one(self, cursor: psycopg.Cursor[Any], changes: Sequence[Any], shape: TableShape) -> None:
        for change in changes:
            net = compact([change], shape)
            assert not net.rowwise
            self.statements(cursor, net)

    def remove(self, cursor: psycopg.Cursor[Any], net: Compacted) -> None:
        """Rows of a multiset, by output text."""
        oid = net.shape.relation_oid
        columns = self.columns[oid]
        number = copy_format.binary_int8 if self.binary else copy_format.text_int
        rows = [[*row.values, number(count)] for row, count in net.removed]
        self.stage(cursor, self.names[oid], [(column, column) for column in columns], rows, counted=True)
        listed = sql.SQL(", ").join(map(sql.Identifier, columns))
        touched = cursor.execute(
            sql.SQL(
                "DELETE FROM ONLY {0} WHERE ctid IN (SELECT t.ctid FROM (SELECT ctid, ROW({1})::text AS line,"
                " row_number() OVER (PARTITION BY ROW({1})::text) AS nth FROM ONLY {0}) t"
                " JOIN staging s ON ROW({2})::text = t.line AND t.nth <= s.how_many)"
            ).format(
                self.names[oid],
                listed,
                sql.SQL(", ").join([sql.Identifier("s", column) for column in columns]),
            )
        )
        assert touched.rowcount == sum(count for dummy, count in net.removed)

    def stage(
        self, cursor: psycopg.Cursor[Any], name: sql.Identifier, wanted: Any, rows: Any, counted: bool = False
    ) -> None:
        selected: list[sql.Composable] = [
            sql.SQL("{} AS {}").format(sql.Identifier(column), sql.Identifier(alias)) for alias, column in wanted
        ]
        if counted:
            selected.append(sql.SQL("0::bigint AS how_many"))
        cursor.execute("DROP TABLE IF EXISTS staging")
        cursor.execute(
            sql.SQL("CREATE TEMP TABLE staging AS SELECT {} FROM ONLY {} WITH NO DATA").format(
                sql.SQL(", ").join(selected), name
            )
        )
        self.copy(cursor, sql.Identifier("staging"), None, rows)

    def copy(self, cursor: psycopg.Cursor[Any], name: sql.Identifier, columns: Any, rows: Any) -> None:
        listed = sql.SQL("({})").format(sql.SQL(", ").join(map(sql.Identifier, columns))) if columns else sql.SQL("")
        how = sql.SQL("(FORMAT {})").format(sql.SQL("binary" if self.binary else "text"))
        payload = copy_format.copy_binary(rows) if self.binary else copy_format.copy_text(rows)
        with cursor.copy(sql.SQL("COPY {} {} FROM STDIN {}").format(name, listed, how)) as copy:
            for chunk in payload:
                copy.write(chunk)


def matching(keys: Sequence[str]) -> sql.Composed:
    return sql.SQL(" AND ").join(
        [sql.SQL("t.{} = s.{}").format(sql.Identifier(key), sql.Identifier(f"k{at}")) for at, key in enumerate(keys)]
    )


def unique_indexes(connection: psycopg.Connection[Any], table: str) -> list[UniqueIndex]:
    rows = connection.execute(
        "SELECT i.indexrelid::regclass::text, array_agg(a.attname::text ORDER BY a.attnum), i.indimmediate,"
        " i.indpred IS NOT NULL, i.indexprs IS NOT NULL, i.indisvalid, i.indisprimary, bool_and(a.attnotnull)"
        " FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)"
        " WHERE i.indisunique AND i.indrelid = %s::regclass GROUP BY i.indexrelid, i.indimmediate, i.indpred::text,"
        " i.indexprs::text, i.indisvalid, i.indisprimary, i.indpred IS NOT NULL, i.indexprs IS NOT NULL",
        [table],
    ).fetchall()
    return [UniqueIndex(row[0], tuple(row[1]), *row[2:]) for row in rows]


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
@pytest.mark.parametrize("seed", range(3))
def test_the_net_effect_of_a_real_stream_makes_the_destination_equal(pair: Any, binary: bool, seed: int) -> None:
    pair.run(TABLES)
    source = pair.source
    source.run("CREATE PUBLICATION p FOR ALL TABLES")
    slot = f"net_{source.dbname}"
    source.value("SELECT lsn FROM pg_create_logical_replication_slot(%s, 'pgoutput')", [slot])
    dice = random.Random(seed)
    with source.connect() as writer:
        for dummy in range(150):
            with writer.transaction(), writer.cursor() as cursor:
                for dummy2 in range(dice.choice([1, 3, 30])):
                    table = dice.choice(NAMES)
                    (swap if dice.random() < 0.2 and table != "keyless" else change_at_random)(cursor, table, dice)
    stream = source.query(
        "SELECT data FROM pg_logical_slot_get_binary_changes(%s, NULL, NULL, 'proto_version', '1',"
        " 'publication_names', 'p', 'binary', %s)",
        [slot, str(binary).lower()],
    )
    oids = {row[0]: 0 for row in source.query("SELECT oid FROM pg_class WHERE relnamespace = 's'::regnamespace")}
    batcher = Batcher(oids, limits=BatchLimits(max_changes=[5, 100, 10_000][seed], max_age=3600))
    pieces: list[Batch] = []
    for (data,) in stream:
        pieces += batcher.add(decode(data), len(data))
    last = batcher.flush()
    pieces += [] if last is None else [last]
    assert sum(piece.changes for piece in pieces) > 500
    applier = PlainApplier(pair, binary)
    with pair.destination.connect() as connection, connection.transaction(), connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        for piece in pieces:
            applier.apply(cursor, piece)
    assert assert_identical(pair, {"s"}) > 0
    print(
        f"\n{len(stream)} messages, {len(pieces)} pieces, {applier.fallbacks} fallbacks, {applier.rowwise} row by row"
    )
