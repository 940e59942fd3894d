# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes to large objects at the source: they are in no stream, so that they happen is all that can be told.

The source's statistics count the rows that are written in the two catalogs of large objects, those of transactions that
were rolled back too. What the count was when the task first ran is kept in the before-image.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from .._psycopg import sql

if TYPE_CHECKING:
    from ..connect import Connection
    from ..state import StateStore

WRITTEN: Final = "large objects were written at the source"
BEFORE: Final = "large_objects"

_WRITES = """
SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint FROM pg_catalog.pg_stat_all_tables
 WHERE relid IN ('pg_catalog.pg_largeobject'::regclass, 'pg_catalog.pg_largeobject_metadata'::regclass)
"""


def written_rows(source: Connection) -> int:
    """How many rows of large objects the source has counted as written. Raises psycopg.Error."""
    row = source.execute(_WRITES).fetchone()
    return int(row[0]) if row else 0


class LargeObjectWatch:
    """Keeps one event of the migration that says how much was written."""

    def __init__(self) -> None:
        self._told: int | None = None

    def compare(self, written: int, store: StateStore) -> None:
        """With what was counted when the task first ran. Raises psycopg.Error and EngineError."""
        if written == self._told:
            return
        first = self._first(store, written)
        if written < first:  # the source has forgotten its statistics, as after a crash
            first = 0
        if written > first:
            self._tell(store, written - first)
        self._told = written

    @staticmethod
    def _first(store: StateStore, written: int) -> int:
        state = store.load()
        known = state.before_image.get(BEFORE, {}).get("written") if state else None
        if known is None:
            store.remember_before(BEFORE, {"written": written})
            return written
        return int(known)

    @staticmethod
    def _tell(store: StateStore, count: int) -> None:
        detail = json.dumps({"rows_written": count, "remedy": REMEDY})
        found = store.conn.execute(
            sql.SQL("UPDATE {} SET detail = detail || %s::jsonb WHERE migration = %s AND what = %s").format(
                store.table("event")
            ),
            (detail, store.name, WRITTEN),
        )
        if found.rowcount == 0:
            store.event("replicating", WRITTEN, json.loads(detail))


REMEDY: Final = (
    "Large objects are not moved. Copy those that are needed after the application has stopped writing: "
    "lo_export at the source and lo_import with the same OID at the destination, or pg_dump --large-objects."
)
