# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rows of pg_publication_rel that make up the migration's publication, as recorded when we created or altered it.

pgoutput silently leaves out what is written to a table while it is not a member. A member that was removed and added
again has another row, so this is noticed even if both have happened since the last check.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import LossError
from ..postgres.catalog import Name, qualified
from ..postgres.connect import explain_errors

if TYPE_CHECKING:
    from ..postgres.connect import Connection

BEFORE = "publication"
"""Key in the originals: {"name": …, "oid": …, "members": …}; OID and members are set once it has been created."""

MEMBERS = "members"
"""Key beside the publication's OID in the originals: {relation OID as text: OID of its row in pg_publication_rel}."""

PARTITIONS = "partitions"
"""Key beside it: {relation OID as text: transaction that attached it} of what is below the partitioned members."""

BEGIN_AGAIN = "Release this migration and migrate again: the tables have to be copied again."

_COPY_AGAIN = "Run the migrate playbook: it publishes them again and copies these tables again."

# A table that was dropped took its row with it, and nothing can be written to it any more.
_OTHERS = """
SELECT n.nspname, c.relname, r.oid IS NOT NULL, c.oid::bigint
  FROM pg_catalog.jsonb_each_text(%s::jsonb) m
  JOIN pg_catalog.pg_class c ON c.oid = m.key::oid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_publication_rel r ON r.prrelid = c.oid AND r.prpubid::bigint = %s
 WHERE r.oid IS DISTINCT FROM m.value::oid ORDER BY 1, 2
"""


# The row of a partition is another one once it was detached and attached again: what was written in between is in no stream.
_ATTACHED_AGAIN = """
SELECT n.nspname, c.relname, true, c.oid::bigint
  FROM pg_catalog.jsonb_each_text(%s::jsonb) m
  JOIN pg_catalog.pg_class c ON c.oid = m.key::oid AND c.relispartition
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_inherits i ON i.inhrelid = c.oid
 WHERE i.xmin::text <> m.value ORDER BY 1, 2
"""

_PARTITIONS = """
WITH RECURSIVE below (oid, attached) AS (
    SELECT i.inhrelid, i.xmin::text FROM pg_catalog.pg_inherits i
      JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid AND c.relispartition WHERE i.inhparent = ANY (%s::oid[])
    UNION
    SELECT i.inhrelid, i.xmin::text FROM below b JOIN pg_catalog.pg_inherits i ON i.inhparent = b.oid
)
SELECT oid::bigint, attached FROM below
"""


def partitions_below(source: Connection, members: Collection[int]) -> dict[str, str]:
    """Return what is below the partitioned ones of ``members``, as `PARTITIONS` records it. Raises ServerError."""
    with explain_errors("reading the partitions of the published tables at the", "source"):
        rows = source.execute(_PARTITIONS, (list(members),)).fetchall()
    return {str(oid): attached for oid, attached in rows}


def left_since(source: Connection, name: str, recorded: Mapping[str, Any]) -> list[tuple[Name, bool, int]]:
    """Return the tables that we published and that have left publication ``name`` since: name, whether another session
    added it again, and OID. A partition of a published root leaves it where it is detached.

    ``recorded`` is the publication's entry in the originals; if it names no members nothing is checked.
    """
    members = recorded.get(MEMBERS)
    if not members:
        return []
    with explain_errors("reading the publication", name):
        rows = source.execute(_OTHERS, (json.dumps(members), recorded.get("oid")), prepare=True).fetchall()
        if partitions := recorded.get(PARTITIONS):
            rows += source.execute(_ATTACHED_AGAIN, (json.dumps(partitions),), prepare=True).fetchall()
    return [((schema, table), back, oid) for schema, table, back, oid in rows]


def require_members(source: Connection, name: str, recorded: Mapping[str, Any]) -> None:
    """Raise LossError if a table that we published has left publication ``name`` since, even if it was added again."""
    left = left_since(source, name, recorded)
    if not left:
        return
    shown = ", ".join(qualified(table) for table, dummy, oid in left[:5])
    more = f" and {len(left) - 5} more" if len(left) > 5 else ""
    back = " and added again" if all(back for dummy, back, oid in left) else ""
    raise LossError(
        "looking at the publication",
        name,
        f"{shown}{more} was removed from it{back}: changes written to it meanwhile are not in the stream",
        _COPY_AGAIN,
    )
