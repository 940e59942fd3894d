# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done last and outside the transaction of a section, each statement by itself: foreign keys are validated,
materialized views filled, tables given statistics. None of them keeps anybody from writing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._psycopg import sql
from ..catalog import Name, qualified
from ..connect import speaking
from ..errors import StateError
from ..plan import SqlChange

if TYPE_CHECKING:
    from ..connect import Connection
    from ..migration import Migration
    from .compare import Comparison
    from .standing import Standing, Thing

Later = SqlChange

NOT_VALID_ON_PARTITIONED = 180000
"""The first server version that has NOT VALID foreign keys of partitioned tables."""

# An empty table has no statistics of its columns even when it was counted; reltuples tells nothing once an index was
# built. After a crash the server has forgotten when it counted, and empty tables are counted again.
_UNANALYZED = """
SELECT n.nspname, c.relname
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = ANY (%s) AND c.relkind IN ('r', 'p')
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_stats s WHERE s.schemaname = n.nspname AND s.tablename = c.relname)
   AND pg_catalog.pg_stat_get_last_analyze_time(c.oid) IS NULL
   AND pg_catalog.pg_stat_get_last_autoanalyze_time(c.oid) IS NULL
"""


def may_be_not_valid(thing: Thing | None, destination: Standing) -> bool:
    """Whether a foreign key can be made first and checked later."""
    partitioned = thing is not None and "partitioned" in thing.detail
    return not partitioned or destination.version >= NOT_VALID_ON_PARTITIONED


def later_changes(
    migration: Migration, comparison: Comparison, source: Standing, destination: Standing
) -> tuple[Later, ...]:
    """What remains when all objects stand, from the catalogs of both ends. Raises ServerError."""
    incremental = migration.spec.incremental
    planned = {item.entry.dump_id for item in comparison.missing["foreign_keys"]}
    changes = []
    for entry in comparison.entries:
        thing = source.things.get((entry.class_oid, entry.oid))
        if thing is None:
            continue
        there = destination.details.get(thing.key)
        if entry.kind == "FK CONSTRAINT" and "valid" in thing.detail:
            made_so = entry.dump_id in planned and incremental and may_be_not_valid(thing, destination)
            if made_so or (there is not None and "valid" not in there):
                changes.append(_validation(thing))
        elif entry.kind == "MATERIALIZED VIEW" and thing.detail == "populated" and there in (None, "empty"):
            statement = sql.SQL("REFRESH MATERIALIZED VIEW {}").format(sql.Identifier(*thing.relation))
            changes.append(SqlChange("destination", f"contents of {thing.identity}", "empty", "filled", (statement,)))
    return (*changes, *_statistics(migration))


def _validation(thing: Thing) -> Later:
    statement = sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}").format(
        sql.Identifier(*thing.relation), sql.Identifier(thing.own_name)
    )
    return SqlChange("destination", f"foreign key {thing.identity}", "not valid", "valid", (statement,))


def _statistics(migration: Migration) -> tuple[Later, ...]:
    """Tables that nobody has counted yet; a partitioned one brings its partitions along."""
    tables = migration.selected().tables
    with speaking("looking for tables without statistics at the", "destination"):
        rows = migration.destination.execute(_UNANALYZED, (sorted({t.schema for t in tables}),)).fetchall()
        standing = _standing_tables(migration.destination, sorted({t.schema for t in tables}))
    bare = {(row[0], row[1]) for row in rows} | {t.qualified_name for t in tables if t.qualified_name not in standing}
    roots = {table.oid for table in tables if table.kind == "p" and table.qualified_name in bare}
    covered = {t.oid for t in tables if t.is_partition and any(parent in roots for parent in t.parents)}
    changes = []
    for table in tables:
        if table.qualified_name in bare and table.oid not in covered:
            statement = sql.SQL("ANALYZE {}").format(sql.Identifier(table.schema, table.name))
            what = f"statistics of {qualified(table.qualified_name)}"
            changes.append(SqlChange("destination", what, "none", "gathered", (statement,)))
    return tuple(changes)


def _standing_tables(conn: Connection, schemas: list[str]) -> set[Name]:
    rows = conn.execute(
        "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n"
        " ON n.oid = c.relnamespace WHERE n.nspname = ANY (%s) AND c.relkind IN ('r', 'p')",
        (schemas,),
    ).fetchall()
    return {(row[0], row[1]) for row in rows}


def require_one_position(migration: Migration) -> None:
    """Tables copied at different moments agree only when the changes after the last of them have been applied.

    Raises StateError when they have not been: a foreign key would be violated by rows that are still to come.
    """
    if not migration.spec.incremental:
        return
    with speaking("reading how far the changes are applied for", migration.name):
        row = migration.destination.execute(
            sql.SQL(
                "SELECT coalesce((SELECT applied FROM {} WHERE migration = %s) >="
                " coalesce((SELECT max(mark) FROM {} WHERE migration = %s), '0/0'), false)"
            ).format(migration.store.table("cdc_progress"), migration.store.table("table_copy")),
            (migration.name, migration.name),
        ).fetchone()
    if row is None or not row[0]:
        raise StateError(
            "making foreign keys for",
            migration.name,
            "the changes since the tables were copied have not all been applied",
            "Start the CDC task and wait for it (pg_cdc_task state: started wait: caught_up), then run this again.",
        )


def carry_out(migration: Migration, changes: tuple[Later, ...]) -> None:
    """Each statement by itself: what is done stays done if a later one fails. Raises ServerError."""
    for change in changes:
        change.execute(migration.destination, "finishing the schema at the destination:")
