# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes to large objects at the source: no stream carries them, so only that they happen can be reported.

The source's statistics count the rows that are written in the two catalogs of large objects, those of transactions that
were rolled back too. The count before they were copied, or else when the task first ran, is kept in the originals.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from ..postgres.connect import explain_errors
from ..state.events import amend_event
from ..state.large_objects import copies_objects

if TYPE_CHECKING:
    from ..postgres.connect import Connection
    from ..state.store import StateStore

COPIED: Final = "large objects copied"
WRITTEN: Final = "large objects were written at the source"
BEFORE: Final = "large_objects"

_WRITES = """
SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint FROM pg_catalog.pg_stat_all_tables
 WHERE relid IN ('pg_catalog.pg_largeobject'::regclass, 'pg_catalog.pg_largeobject_metadata'::regclass)
"""


def written_rows(source: Connection) -> int:
    """Return how many rows of large objects the source has counted as written. Raises psycopg.Error."""
    row = source.execute(_WRITES).fetchone()
    return int(row[0]) if row else 0


def written_since(written: int, first: int) -> int:
    """Return the rows since the count was ``first``. A lower count means that the source has lost its statistics, as
    after a crash."""
    return written - first if written >= first else written


def written_warning(source: Connection, store: StateStore, before_image: Mapping[str, Any]) -> str:
    """Return the warning that precedes a cutover; empty if nothing was written. Raises ServerError."""
    first = before_image.get(BEFORE, {}).get("written")
    if first is None:
        return ""
    with explain_errors("counting what was written to large objects at the", "source"):
        rows = written_since(written_rows(source), int(first))
        remedy = remedy_of(store)
    said = f"The source's statistics count {rows} rows of large objects that were written meanwhile."
    return f"{said} {remedy}" if rows else ""


def remedy_of(store: StateStore) -> str:
    """Return what to do about writes to them, given whether this migration copies them. Raises psycopg.Error."""
    return REMEDY if copies_objects(store) else REMEDY_LEFT_OUT


class LargeObjectWatch:
    """Maintains the one event of the migration that says how much was written."""

    def __init__(self) -> None:
        self._told: int | None = None

    def compare(self, written: int, store: StateStore) -> None:
        """Compare with the count before the copy, or when the task first ran. Raises psycopg.Error and EngineError."""
        if written == self._told:
            return
        if rows := written_since(written, self._first(store, written)):
            self._report(store, rows)
        self._told = written

    @staticmethod
    def _first(store: StateStore, written: int) -> int:
        state = store.load()
        known = state.before_image.get(BEFORE, {}).get("written") if state else None
        if known is None:
            store.record_original(BEFORE, {"written": written})
            return written
        return int(known)

    @staticmethod
    def _report(store: StateStore, count: int) -> None:
        """Write one event, and update it until they are copied again."""
        detail = {"rows_written": count, "remedy": remedy_of(store)}
        if not amend_event(store, WRITTEN, COPIED, detail):
            store.event("replicating", WRITTEN, detail)


REMEDY: Final = (
    "Large objects are as they were when they were copied: no stream carries what is written to them. Stop the"
    " application's writes to them, then run migrate with causeway_resync: [pg_catalog.pg_largeobject], before the"
    " cutover."
)
REMEDY_LEFT_OUT: Final = (
    "Large objects are not copied (causeway_large_objects: false). Copy those that are needed after the application has"
    " stopped writing: lo_export at the source and lo_import with the same OID at the destination, or"
    " pg_dump --large-objects."
)
