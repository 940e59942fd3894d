# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Creates foreign keys of partitioned tables by way of their partitions.

Before PostgreSQL 18 that of a partitioned table cannot be created first and validated later: creating it reads all
partitions under a lock that blocks writers. If each partition has the same key already, and validated, the server
adopts those and reads nothing. A key that has a comment is created at once, since the comment follows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..postgres._psycopg import sql
from ..postgres.connect import explain_errors
from ..postgres.versions import has

if TYPE_CHECKING:
    from ..objects.mapping import ObjectMapping
    from ..postgres.catalog import Name
    from ..postgres.connect import Connection
    from .inventory import DatabaseObject, Inventory

# A key that references a partitioned table has rows for each of its partitions as well, which the server adds itself.
_BELOW = """
WITH RECURSIVE below (root, oid, relation, target) AS (
    SELECT k.oid, k.oid, k.conrelid, k.confrelid FROM pg_catalog.pg_constraint k WHERE k.oid = ANY (%s::oid[])
    UNION ALL
    SELECT b.root, k.oid, k.conrelid, b.target
      FROM below b JOIN pg_catalog.pg_constraint k ON k.conparentid = b.oid
     WHERE k.confrelid = b.target AND k.conrelid <> b.relation
)
SELECT b.root::bigint, b.oid::bigint, n.nspname, c.relname, k.conname, pg_catalog.pg_get_constraintdef(b.oid)
  FROM below b
  JOIN pg_catalog.pg_constraint k ON k.oid = b.oid
  JOIN pg_catalog.pg_class c ON c.oid = b.relation
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' OR b.oid = b.root
 ORDER BY n.nspname, c.relname
"""


@dataclass(frozen=True, slots=True)
class Key:
    """A foreign key of one table, as the source's catalog writes it."""

    oid: int
    table: Name
    name: str
    definition: str

    def adding(self, mapping: ObjectMapping, *, not_valid: bool) -> sql.Composed:
        """Return the statement that adds the key at the destination."""
        return sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}").format(
            sql.Identifier(*mapping.there(self.table)),
            sql.Identifier(self.name),
            sql.SQL(self.definition + " NOT VALID" if not_valid else self.definition),
        )


@dataclass(frozen=True, slots=True)
class PartitionedKey:
    """The key of a partitioned table, and those of all its leaves."""

    whole: Key
    leaves: tuple[Key, ...]


def by_partitions(
    conn: Connection, things: Iterable[DatabaseObject], destination: Inventory
) -> Mapping[int, PartitionedKey]:
    """Return by OID the foreign keys that are created by way of partitions. Raises ServerError."""
    if has(destination.version, "NOT VALID foreign keys of partitioned tables"):
        return {}
    if not has(conn.info.server_version, "pg_constraint.conparentid"):  # nor foreign keys of partitioned tables
        return {}
    roots = [thing.oid for thing in things if "partitioned" in thing.detail and "valid" in thing.detail]
    if not roots:
        return {}
    with explain_errors("reading the foreign keys of partitions at the", "source"):
        rows = conn.execute(_BELOW, (roots,)).fetchall()
    whole = {row[0]: Key(row[1], (row[2], row[3]), row[4], row[5]) for row in rows if row[0] == row[1]}
    leaves: dict[int, list[Key]] = {root: [] for root in whole}
    for row in rows:
        if row[0] != row[1]:
            leaves[row[0]].append(Key(row[1], (row[2], row[3]), row[4], row[5]))
    return {root: PartitionedKey(key, tuple(leaves[root])) for root, key in whole.items() if leaves[root]}
