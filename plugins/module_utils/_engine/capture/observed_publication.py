# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a publication of the source from its catalog."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..postgres.connect import explain_errors
from ..postgres.versions import has

if TYPE_CHECKING:
    from ..postgres.catalog import Name
    from ..postgres.connect import Connection

_PUBLICATION = """
SELECT p.oid::bigint, p.puballtables, p.pubinsert AND p.pubupdate AND p.pubdelete AND {truncate},
       coalesce((pg_catalog.to_jsonb(p) ->> 'pubviaroot')::boolean, false),
       coalesce(pg_catalog.to_jsonb(p) ->> 'pubgencols', 'n') = 's'
  FROM pg_catalog.pg_publication p WHERE p.pubname = %s
"""

# Row filters and column lists exist from PostgreSQL 15 on; to_jsonb shows those that the server has.
_MEMBERS = """
SELECT c.oid::bigint, n.nspname, c.relname, r.oid::bigint,
       coalesce(pg_catalog.to_jsonb(r) ->> 'prqual', pg_catalog.to_jsonb(r) ->> 'prattrs') IS NOT NULL
  FROM pg_catalog.pg_publication_rel r
  JOIN pg_catalog.pg_class c ON c.oid = r.prrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE r.prpubid::bigint = %s ORDER BY 2, 3
"""


@dataclass(frozen=True, slots=True)
class Publication:
    """A publication. ``whole_rows`` is false if a member has a row filter or a column list; ``rows`` are
    the OIDs in pg_publication_rel by the member's. ``generated``: it sends stored generated columns."""

    oid: int
    all_tables: bool
    all_operations: bool
    via_root: bool
    whole_rows: bool
    members: Mapping[int, Name]
    rows: Mapping[int, int]
    generated: bool = False

    @property
    def as_we_make_them(self) -> bool:
        """Return whether it has the options of the publications that we create, which are never altered."""
        return not self.all_tables and self.all_operations and not self.via_root and self.whole_rows


def statement(server_version: int) -> str:
    """Return the query for a publication by its name; TRUNCATE is published from PostgreSQL 11 on."""
    truncate = "p.pubtruncate" if has(server_version, "pg_publication.pubtruncate") else "true"
    return _PUBLICATION.format(truncate=truncate)


def observe_publication(conn: Connection, name: str) -> Publication | None:
    """Return the publication of that name, or None. Raises ServerError."""
    with explain_errors("reading the publication", name):
        row = conn.execute(statement(conn.info.server_version), (name,)).fetchone()
        if row is None:
            return None
        members = conn.execute(_MEMBERS, (row[0],)).fetchall()
    oid, all_tables, all_operations, via_root, generated = row
    return Publication(
        oid,
        all_tables,
        all_operations,
        via_root,
        whole_rows=not any(member[4] for member in members),
        members={member[0]: (member[1], member[2]) for member in members},
        rows={member[0]: member[3] for member in members},
        generated=generated,
    )
