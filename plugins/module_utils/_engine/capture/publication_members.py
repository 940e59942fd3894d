# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which rows of pg_publication_rel make the migration's publication, as noted when it was made or altered by us.

pgoutput leaves out what is written to a table while it is no member, without a word. A member that was taken out and put
back has another row, so that this is seen even when both have happened since the last look.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..errors import LossError
from ..postgres.catalog import qualified
from ..postgres.connect import explain_errors

if TYPE_CHECKING:
    from ..postgres.connect import Connection

BEFORE = "publication"
"""Key of the before-image: {"name": …, "oid": …, "members": …}; OID and members are there once it was made."""

MEMBERS = "members"
"""Key beside the publication's OID in the before-image: {relation OID as text: OID of its row in pg_publication_rel}."""

BEGIN_AGAIN = "Release this migration and migrate again: the tables have to be copied anew."

# A table that was dropped took its row with it, and nothing can be written to it any more.
_OTHERS = """
SELECT n.nspname, c.relname, r.oid IS NOT NULL
  FROM pg_catalog.jsonb_each_text(%s::jsonb) m
  JOIN pg_catalog.pg_class c ON c.oid = m.key::oid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_publication_rel r ON r.prrelid = c.oid AND r.prpubid::bigint = %s
 WHERE r.oid IS DISTINCT FROM m.value::oid ORDER BY 1, 2
"""


def require_members(source: Connection, name: str, recorded: Mapping[str, Any]) -> None:
    """Raise LossError where a table that we published has left publication ``name`` since, even if it has come back.

    ``recorded`` is the publication's part of the before-image; where it names no members nothing is asked.
    """
    members = recorded.get(MEMBERS)
    if not members:
        return
    with explain_errors("reading the publication", name):
        rows = source.execute(_OTHERS, (json.dumps(members), recorded.get("oid")), prepare=True).fetchall()
    if not rows:
        return
    shown = ", ".join(qualified((schema, table)) for schema, table, dummy in rows[:5])
    more = f" and {len(rows) - 5} more" if len(rows) > 5 else ""
    back = " and put back" if all(row[2] for row in rows) else ""
    raise LossError(
        "looking at the publication",
        name,
        f"{shown}{more} was taken out of it{back}: what was written there meanwhile is not in the stream",
        BEGIN_AGAIN,
    )
