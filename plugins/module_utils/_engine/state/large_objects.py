# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The large objects that this migration has copied, one row each, and the progress of the copy of all of them.

A row says that this migration has created the object at the destination: no other object is overwritten or removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..postgres._psycopg import sql
from ..postgres.connect import explain_errors

if TYPE_CHECKING:
    from ..postgres.connect import Connection
    from .store import StateStore


@dataclass(frozen=True, slots=True)
class ObjectsCopied:
    """The copy of all large objects: ``state`` is copying or complete, ``run`` counts how often all were copied.

    ``total`` is what the source held when this run began, ``objects`` and ``bytes`` what it has copied.
    """

    run: int
    state: str
    total: int
    objects: int
    bytes: int
    finished_at: str


def _execute(store: StateStore, template: str, *values: object) -> Any:
    query = sql.SQL(template).format(one=store.table("large_object"), all=store.table("large_object_copy"))
    return store.conn.execute(query, values)


def _oids(rows: Any) -> list[int]:
    return [row[0] for row in rows.fetchall()]


def read_copied(store: StateStore) -> ObjectsCopied | None:
    """Return the copy of a migration's large objects; None before it was begun. Raises ServerError."""
    query = "SELECT run, state, total, objects, bytes, coalesce(finished_at::text, '') FROM {all} WHERE migration = %s"
    with explain_errors("reading the state of the large objects of migration", store.name):
        row = _execute(store, query, store.name).fetchone()
    return None if row is None else ObjectsCopied(*row)


def begin_objects(store: StateStore, total: int) -> int:
    """Begin to copy all large objects, ``total`` of them; return the number of the run. Raises psycopg.Error."""
    row = _execute(
        store,
        "INSERT INTO {all} AS c (migration, run, state, total) VALUES (%s, 1, 'copying', %s)"
        " ON CONFLICT (migration) DO UPDATE SET (run, state, total, objects, bytes, started_at, finished_at) ="
        " (c.run + 1, 'copying', excluded.total, 0, 0, excluded.started_at, NULL) RETURNING run",
        *(store.name, total),
    ).fetchone()
    return int(row[0]) if row else 0


def record_objects(store: StateStore, run: int, oids: Sequence[int], size: int) -> bool:
    """Record the copy of these objects, ``size`` bytes, in the open transaction; return False if a later run has begun.

    Raises psycopg.Error.
    """
    _execute(
        store,
        "INSERT INTO {one} (migration, object, run) SELECT %s, o, %s FROM pg_catalog.unnest(%s::oid[]) o"
        " ON CONFLICT (migration, object) DO UPDATE SET run = excluded.run",
        *(store.name, run, list(oids)),
    )
    counted = _execute(
        store,
        "UPDATE {all} SET objects = objects + %s, bytes = bytes + %s WHERE migration = %s AND run = %s",
        *(len(oids), size, store.name, run),
    )
    return bool(counted.rowcount == 1)


def complete_objects(store: StateStore, run: int) -> None:
    """Record that a run has copied all large objects. Raises psycopg.Error."""
    _execute(
        store,
        "UPDATE {all} SET state = 'complete', finished_at = pg_catalog.clock_timestamp() WHERE migration = %s AND run = %s",
        *(store.name, run),
    )


def objects_of_run(store: StateStore, run: int, oids: Sequence[int]) -> list[int]:
    """Return those of these objects that the run has copied already. Raises psycopg.Error."""
    query = "SELECT object::bigint FROM {one} WHERE migration = %s AND run = %s AND object = ANY (%s::oid[])"
    return _oids(_execute(store, query, store.name, run, list(oids)))


def own_objects(store: StateStore, oids: Sequence[int]) -> list[int]:
    """Return those of these objects that this migration has created. Raises psycopg.Error."""
    query = "SELECT object::bigint FROM {one} WHERE migration = %s AND object = ANY (%s::oid[])"
    return _oids(_execute(store, query, store.name, list(oids)))


def objects_before_run(store: StateStore, run: int, limit: int) -> list[int]:
    """Return the migration's first ``limit`` objects by OID that this run has not seen. Raises psycopg.Error."""
    query = "SELECT object::bigint FROM {one} WHERE migration = %s AND run < %s ORDER BY object LIMIT %s"
    return _oids(_execute(store, query, store.name, run, limit))


def forget_objects(store: StateStore, oids: Sequence[int]) -> None:
    """Delete the rows of these objects, which are no longer at the destination. Raises psycopg.Error."""
    _execute(store, "DELETE FROM {one} WHERE migration = %s AND object = ANY (%s::oid[])", store.name, list(oids))


def copies_objects(store: StateStore) -> bool:
    """Return whether this migration has begun to copy large objects at all. Raises psycopg.Error."""
    return _execute(store, "SELECT FROM {all} WHERE migration = %s", store.name).fetchone() is not None


def count_own_objects(store: StateStore, conn: Connection, oids: Sequence[int] | None = None) -> int:
    """Return how many objects this migration has created, of all or of these, as ``conn`` sees it.

    Raises psycopg.Error.
    """
    query = sql.SQL("SELECT count(*) FROM {} WHERE migration = %s AND (%s OR object = ANY (%s::oid[]))").format(
        store.table("large_object")
    )
    row = conn.execute(query, (store.name, oids is None, list(oids or ()))).fetchone()
    return int(row[0]) if row else 0


def foreign_objects(store: StateStore, after: int, limit: int, *, known: bool) -> list[int]:
    """Return the first large objects of the destination above OID ``after`` that this migration has not created.

    ``known`` says that the migration has a state, which lists its objects; without one it has none. Raises
    psycopg.Error.
    """
    ours = " AND NOT EXISTS (SELECT FROM {one} o WHERE o.migration = %s AND o.object = m.oid)" if known else ""
    query = f"SELECT m.oid::bigint FROM pg_catalog.pg_largeobject_metadata m WHERE m.oid > %s::oid{ours} ORDER BY m.oid LIMIT %s"
    return _oids(_execute(store, query, after, *((store.name,) if known else ()), limit))
