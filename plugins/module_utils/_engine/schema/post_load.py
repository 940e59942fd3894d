# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans the statements that run after a section's transaction, each by itself: foreign keys are validated, tables
analyzed, materialized views refreshed. None of them blocks writers for longer than it takes to change a catalog.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..errors import StateError
from ..objects.mapping import DestinationName
from ..plan import SqlChange
from ..postgres._psycopg import sql
from ..postgres.catalog import qualified
from ..postgres.connect import explain_errors
from ..postgres.versions import has
from ..state.progress import passed_every_copy
from .execute import DeferredStatement

if TYPE_CHECKING:
    from ..migration import Migration
    from ..objects.mapping import ObjectMapping
    from ..postgres.connect import Connection
    from .compare import Comparison
    from .inventory import DatabaseObject, Inventory
    from .partitioned_foreign_keys import PartitionedKey


# An empty table has no statistics of its columns even when it was analyzed; reltuples shows nothing once an index was
# built. After a crash the server has lost the time of the last ANALYZE, and empty tables are analyzed again. For a
# partitioned one no server records that time: its partitions show it.
_UNANALYZED = """
WITH RECURSIVE known AS (
    SELECT c.oid, n.nspname, c.relname, c.relkind,
           EXISTS (SELECT FROM pg_catalog.pg_stats s WHERE s.schemaname = n.nspname AND s.tablename = c.relname)
               AS has_statistics,
           pg_catalog.pg_stat_get_last_analyze_time(c.oid) IS NULL
               AND pg_catalog.pg_stat_get_last_autoanalyze_time(c.oid) IS NULL AS never_counted
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = ANY (%s) AND c.relkind IN ('r', 'p')
), below (root, oid) AS (
    SELECT k.oid, k.oid FROM known k WHERE k.relkind = 'p' AND NOT k.has_statistics
    UNION ALL
    SELECT b.root, i.inhrelid FROM below b JOIN pg_catalog.pg_inherits i ON i.inhparent = b.oid
)
SELECT k.nspname, k.relname FROM known k WHERE k.relkind = 'r' AND NOT k.has_statistics AND k.never_counted
UNION ALL
SELECT k.nspname, k.relname FROM known k
 WHERE k.oid IN (SELECT b.root FROM below b JOIN known leaf ON leaf.oid = b.oid
                  WHERE leaf.relkind = 'r'
                    AND (leaf.never_counted OR leaf.has_statistics AND pg_catalog.pg_relation_size(leaf.oid) > 0))
"""


def may_be_not_valid(thing: DatabaseObject | None, destination: Inventory) -> bool:
    """Return whether a foreign key can be created first and validated later."""
    partitioned = thing is not None and "partitioned" in thing.detail
    return not partitioned or has(destination.version, "NOT VALID foreign keys of partitioned tables")


def later_changes(
    migration: Migration,
    comparison: Comparison,
    source: Inventory,
    destination: Inventory,
    split: Mapping[int, PartitionedKey],
) -> tuple[DeferredStatement, ...]:
    """Return the statements that remain when all objects exist, from the catalogs of both ends; ``split`` are the foreign
    keys that are created by way of their partitions. Raises ServerError.
    """
    mapping = migration.mapping
    planned = {item.entry.dump_id for item in comparison.missing["foreign_keys"]}
    checked: list[DeferredStatement] = []
    joined: list[DeferredStatement] = []
    filled: list[DeferredStatement] = []
    for entry in comparison.entries:
        thing = source.things.get((entry.class_oid, entry.oid))
        if thing is None:
            continue
        there = destination.details.get(thing.key_there(mapping))
        if entry.kind == "FK CONSTRAINT" and entry.dump_id in planned and thing.oid in split:
            leaves = [source.things[thing.class_oid, leaf.oid] for leaf in split[thing.oid].leaves]
            known = destination.details
            open_ones = [leaf for leaf in leaves if "valid" not in known.get(leaf.key_there(mapping), "")]
            checked += [DeferredStatement(_validation(leaf, mapping), leaf.relation) for leaf in open_ones]
            joining = _joining(thing, split[thing.oid], mapping)
            joined.append(DeferredStatement(joining, after=tuple(leaf.relation for leaf in open_ones)))
        elif entry.kind == "FK CONSTRAINT" and "valid" in thing.detail:
            made_so = entry.dump_id in planned and may_be_not_valid(thing, destination)
            if made_so or (there is not None and "valid" not in there):
                checked.append(DeferredStatement(_validation(thing, mapping), thing.relation))
        elif entry.kind == "MATERIALIZED VIEW" and thing.detail == "populated" and there in (None, "empty"):
            statement = sql.SQL("REFRESH MATERIALIZED VIEW {}").format(sql.Identifier(*mapping.there(thing.relation)))
            what = f"contents of {thing.identity}"
            filled.append(DeferredStatement(SqlChange("destination", what, "empty", "filled", (statement,))))
    return (*checked, *_statistics(migration), *joined, *filled)


def _validation(thing: DatabaseObject, mapping: ObjectMapping) -> SqlChange:
    statement = sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}").format(
        sql.Identifier(*mapping.there(thing.relation)), sql.Identifier(thing.own_name)
    )
    return SqlChange("destination", f"foreign key {thing.identity}", "not valid", "valid", (statement,))


def _joining(thing: DatabaseObject, key: PartitionedKey, mapping: ObjectMapping) -> SqlChange:
    """Return the change that adds the key of the partitioned table, which adopts those of the partitions."""
    statement = key.whole.adding(mapping, not_valid=False)
    return SqlChange("destination", f"foreign key {thing.identity}", "on each partition", "on the whole", (statement,))


def _statistics(migration: Migration) -> tuple[DeferredStatement, ...]:
    """Return ANALYZE for tables without statistics; that of a partitioned one covers its partitions."""
    tables = migration.selected().tables
    there = {table.oid: migration.mapping.there(table.qualified_name) for table in tables}
    schemas = sorted({name[0] for name in there.values()})
    with explain_errors("looking for tables without statistics at the", "destination"):
        rows = migration.destination.execute(_UNANALYZED, (schemas,)).fetchall()
        standing = _standing_tables(migration.destination, schemas)
    bare = {DestinationName((row[0], row[1])) for row in rows}
    divided = {parent for table in tables if table.is_partition for parent in table.parents}
    bare |= {there[t.oid] for t in tables if there[t.oid] not in standing and (t.kind == "r" or t.oid in divided)}
    roots = {table.oid for table in tables if table.kind == "p" and there[table.oid] in bare}
    covered = {t.oid for t in tables if t.is_partition and any(parent in roots for parent in t.parents)}
    changes = []
    for table in tables:
        if there[table.oid] in bare and table.oid not in covered:
            what = f"statistics of {qualified(there[table.oid])}"
            change = SqlChange("destination", what, "none", "gathered", (analyze_statement(there[table.oid]),))
            changes.append(DeferredStatement(change, table.qualified_name))
    return tuple(changes)


def analyze_statement(table: DestinationName) -> sql.Composed:
    """Return the ANALYZE of one table."""
    return sql.SQL("ANALYZE {}").format(sql.Identifier(*table))


def _standing_tables(conn: Connection, schemas: list[str]) -> set[DestinationName]:
    rows = conn.execute(
        "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n"
        " ON n.oid = c.relnamespace WHERE n.nspname = ANY (%s) AND c.relkind IN ('r', 'p')",
        (schemas,),
    ).fetchall()
    return {DestinationName((row[0], row[1])) for row in rows}


def require_one_position(migration: Migration) -> None:
    """Raise StateError unless the changes after the last table's copy have been applied: before, the tables are from
    different snapshots, and a foreign key would be violated by rows that are not applied yet.
    """
    if not migration.spec.incremental:
        return
    if not passed_every_copy(migration.store):
        raise StateError(
            "creating foreign keys for",
            migration.name,
            "the changes since the tables were copied have not all been applied",
            "Start the CDC task and wait for it (pg_cdc_task state: started wait: caught_up), then run this again.",
        )
