# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The queue of parts at the destination: the runs of a copy, the tables given to each, and their parts.

A part is one transaction. A claim is the lock on the part's row, taken in the very transaction that copies the part and
marks it done, and it names its run: a crashed worker's claim is released, and a worker of an earlier run cannot claim.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..errors import StateError
from ..postgres._psycopg import sql
from ..postgres.catalog import Name
from ..postgres.connect import explain_errors
from ..postgres.key_ranges import KeyRange, Part
from ..postgres.lsn import Lsn
from .store import lsn_text

if TYPE_CHECKING:
    from .store import StateStore


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A run that has not ended, as its leader recorded it."""

    number: int
    form: str
    snapshot: str


@dataclass(frozen=True, slots=True)
class QueuedTable:
    """One table as it is given to a run.

    ``merge`` is set for a table that held rows before its copy; ``fingerprint`` identifies a table of which parts may
    be kept after a crash, empty for the others; ``resumes`` says that parts of an earlier run are kept, and ``parts``
    are those left.
    """

    relation: int
    name: Name
    merge: bool
    fingerprint: str
    resumes: bool
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class LockedCopy:
    """What was recorded of a table before a run, read under the lock of its row."""

    name: Name
    state: str
    found_empty: bool | None
    parts_done: int


@dataclass(frozen=True, slots=True)
class LeftParts:
    """The parts that an earlier run left of a table that it copied partly, by ranges of a key."""

    fingerprint: str
    key: KeyRange
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class WaitingPart:
    """A part of a table that a run has still to copy. ``merge`` is set for a table that held rows before its copy."""

    relation: int
    name: Name
    merge: bool
    part: Part


@dataclass(frozen=True, slots=True)
class Waiting:
    """Whether a part is ``free`` to be claimed, and whether one that is not done is ``claimed`` by another session."""

    free: bool
    claimed: bool


def begin_run(store: StateStore, form: str, timeline: int = 0) -> int:
    """Begin a run; return its number. Nothing refers to it until tables are given to it.

    ``timeline`` is the source's before the snapshot is taken: snapshot LSNs are on it (0: no changes follow the copy).
    """
    with explain_errors("beginning a copy run of migration", store.name):
        row = store.conn.execute(
            sql.SQL(
                "INSERT INTO {run} (migration, run, form, timeline, host, pid)"
                " SELECT %s, coalesce(max(run), 0) + 1, %s, nullif(%s, 0), %s, %s FROM {run} WHERE migration = %s RETURNING run"
            ).format(run=store.table("copy_run")),
            (store.name, form, timeline, socket.gethostname(), os.getpid(), store.name),
        ).fetchone()
    if row is None:
        raise StateError("beginning a copy run of migration", store.name, "no row came back", "Name the primary.")
    return int(row[0])


def set_run(store: StateStore, run: int, form: str, mark: Lsn, snapshot: str) -> None:
    """Record the run's snapshot. ``mark`` is its LSN, 0 where every table gets its own."""
    with explain_errors("recording the snapshot of a copy run of migration", store.name):
        store.conn.execute(
            sql.SQL(
                "UPDATE {} SET form = %s, mark = %s::pg_lsn, snapshot = %s WHERE migration = %s AND run = %s"
            ).format(store.table("copy_run")),
            (form, lsn_text(mark), snapshot, store.name, run),
        )


def close_run(store: StateStore, run: int) -> None:
    """Record that the run has ended."""
    with explain_errors("ending a copy run of migration", store.name):
        store.conn.execute(
            sql.SQL(
                "UPDATE {} SET finished_at = pg_catalog.clock_timestamp() WHERE migration = %s AND run = %s"
            ).format(store.table("copy_run")),
            (store.name, run),
        )


def find_open_run(store: StateStore) -> OpenRun | None:
    """Return the run that tables have been given to and that has not ended, if it is the latest; None before the first."""
    with explain_errors("looking for an open copy run of migration", store.name):
        row = store.conn.execute(
            sql.SQL(
                "SELECT r.run, r.form, coalesce(r.snapshot, '') FROM {run} r WHERE r.migration = %s"
                " AND r.finished_at IS NULL AND r.run = (SELECT max(run) FROM {run} WHERE migration = %s)"
                " AND EXISTS (SELECT FROM {part} p WHERE p.migration = r.migration AND p.run = r.run)"
            ).format(run=store.table("copy_run"), part=store.table("copy_part")),
            (store.name, store.name),
        ).fetchone()
    return None if row is None else OpenRun(*row)


def lock_copies(store: StateStore, relations: Sequence[int], names: Sequence[Name]) -> dict[int, LockedCopy]:
    """Return what is recorded of these tables, by source OID, and of others that were copied under one of these names.

    Locks the parts first and the tables then, as a finishing worker does: after this, the transactions of an earlier
    run's workers have ended. Raises psycopg.Error.
    """
    conn, tables = store.conn, {"part": store.table("copy_part"), "table": store.table("table_copy")}
    schemas, own_names = zip(*names, strict=True)
    found = conn.execute(
        sql.SQL(
            "SELECT t.relation::bigint FROM {table} t WHERE t.migration = %s AND (t.relation = ANY (%s::oid[])"
            " OR (t.schema_name, t.table_name) IN (SELECT * FROM ROWS FROM (pg_catalog.unnest(%s::text[]),"
            " pg_catalog.unnest(%s::text[])) AS n))"
        ).format(**tables),
        (store.name, list(relations), list(schemas), list(own_names)),
    ).fetchall()
    values = (store.name, [row[0] for row in found])
    for name, order in (("part", "relation, part"), ("table", "relation")):
        conn.execute(
            sql.SQL("SELECT FROM {} WHERE migration = %s AND relation = ANY (%s::oid[]) ORDER BY {} FOR UPDATE").format(
                tables[name], sql.SQL(order)
            ),
            values,
        )
    rows = conn.execute(
        sql.SQL(
            "SELECT t.relation::bigint, t.schema_name, t.table_name, t.state, t.found_empty,"
            "       (SELECT count(*) FROM {part} p WHERE (p.migration, p.relation) = (t.migration, t.relation)"
            "           AND p.state = 'done')"
            "  FROM {table} t WHERE t.migration = %s AND t.relation = ANY (%s::oid[])"
        ).format(**tables),
        values,
    ).fetchall()
    return {row[0]: LockedCopy((row[1], row[2]), row[3], row[4], row[5]) for row in rows}


def forget_copy(store: StateStore, relation: int) -> None:
    """Delete what is recorded of one table's copy, parts included. Raises psycopg.Error."""
    store.conn.execute(
        sql.SQL("DELETE FROM {} WHERE migration = %s AND relation = %s").format(store.table("table_copy")),
        (store.name, relation),
    )


def write_queue(store: StateStore, run: int, mark: Lsn, queued: Sequence[QueuedTable]) -> None:
    """Write the rows of the run's tables and parts, which are copied in this order; a part copied by an earlier run
    keeps its own snapshot LSN. Raises psycopg.Error."""
    numbered = list(enumerate((table, part) for table in queued for part in table.parts))
    with store.conn.cursor() as cursor:
        cursor.execute(
            sql.SQL("DELETE FROM {} WHERE migration = %s AND relation = ANY (%s::oid[])").format(
                store.table("copy_part")
            ),
            (store.name, [table.relation for table in queued if not table.resumes]),
        )
        cursor.executemany(
            sql.SQL(
                "INSERT INTO {} AS t (migration, relation, schema_name, table_name, state, found_empty, fingerprint, run,"
                " mark) VALUES (%s, %s, %s, %s, 'copying', %s, %s, %s, %s::pg_lsn) ON CONFLICT (migration, relation)"
                " DO UPDATE SET (schema_name, table_name, state, found_empty, fingerprint, run, mark, rows, bytes,"
                " started_at, finished_at) = (excluded.schema_name, excluded.table_name, excluded.state,"
                " excluded.found_empty, excluded.fingerprint, excluded.run, excluded.mark, 0, 0, NULL, NULL)"
            ).format(store.table("table_copy")),
            [
                (
                    store.name,
                    table.relation,
                    *table.name,
                    not table.merge,
                    table.fingerprint or None,
                    run,
                    lsn_text(mark),
                )
                for table in queued
            ],
        )
        cursor.executemany(
            sql.SQL(
                "UPDATE {} SET run = %s, ordinal = %s, mark = %s::pg_lsn"
                " WHERE migration = %s AND relation = %s AND part = %s AND state = 'waiting'"
            ).format(store.table("copy_part")),
            [
                (run, ordinal, lsn_text(mark), store.name, table.relation, part.number)
                for ordinal, (table, part) in numbered
                if table.resumes
            ],
        )
        cursor.executemany(
            sql.SQL(
                "INSERT INTO {} (migration, relation, part, run, ordinal, first_page, end_page, key_column, key_type,"
                " key_from, key_to, mark, state) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s::pg_lsn, 'waiting')"
            ).format(store.table("copy_part")),
            [
                (store.name, table.relation, part.number, run, ordinal, *_bounds(part), lsn_text(mark))
                for ordinal, (table, part) in numbered
                if not table.resumes
            ],
        )


def analyze_queue(store: StateStore) -> None:
    """Analyze the queue: without statistics a worker that finishes a part may read all of its run to find it."""
    with explain_errors("counting the parts of the copy of migration", store.name):
        for name in ("copy_part", "table_copy"):
            store.conn.execute(sql.SQL("ANALYZE {}").format(store.table(name)))


def _bounds(part: Part) -> tuple[int, int | None, str | None, int | None, int | None, int | None]:
    """Return first_page, end_page, key_column, key_type, key_from, key_to."""
    key = part.key
    ranged = (None, None, None, None) if key is None else (key.column, key.type_oid, key.low, key.high)
    return (part.first_page, part.end_page, *ranged)


def part_of(row: Sequence[Any]) -> Part:
    """Return a row (part, first_page, end_page, key_column, key_type, key_from, key_to) as a Part. Pure."""
    number, first, end, column, type_oid, low, high = row
    bounds = [None if bound is None else int(bound) for bound in (low, high)]
    return Part(number, first, end, None if column is None else KeyRange(column, type_oid, *bounds))


def read_left_parts(store: StateStore, relations: Sequence[int]) -> dict[int, LeftParts]:
    """Return what is left of these tables, by source OID; only of those of which parts are done and parts are left."""
    with explain_errors("reading the parts that are left in the copy of migration", store.name):
        rows = store.conn.execute(
            sql.SQL(
                "SELECT t.relation::bigint, t.fingerprint, p.part, p.first_page, p.end_page, p.key_column,"
                " p.key_type::bigint, p.key_from, p.key_to FROM {table} t JOIN {part} p USING (migration, relation)"
                " WHERE t.migration = %s AND t.relation = ANY (%s::oid[]) AND t.state <> 'complete' AND t.found_empty"
                " AND t.fingerprint IS NOT NULL AND p.state = 'waiting' AND p.key_column IS NOT NULL"
                " AND EXISTS (SELECT FROM {part} d WHERE d.migration = t.migration AND d.relation = t.relation"
                "  AND d.state = 'done') ORDER BY t.relation, p.part"
            ).format(table=store.table("table_copy"), part=store.table("copy_part")),
            (store.name, list(relations)),
        ).fetchall()
    return left_parts((row[0], row[1], part_of(row[2:])) for row in rows)


def left_parts(rows: Iterable[tuple[int, str, Part]]) -> dict[int, LeftParts]:
    """Return the parts by table, from rows of OID, fingerprint and part by key. Pure."""
    found: dict[int, LeftParts] = {}
    for relation, fingerprint, part in rows:
        if part.key is not None:
            earlier = found.get(relation, LeftParts(fingerprint, KeyRange(part.key.column, part.key.type_oid), ()))
            found[relation] = replace(earlier, parts=(*earlier.parts, part))
    return found


def parts_to_copy(store: StateStore, run: int) -> list[WaitingPart]:
    """Return the parts of a run that wait, in their order."""
    with explain_errors("reading the tables of a copy run of migration", store.name):
        rows = store.conn.execute(
            sql.SQL(
                "SELECT t.relation::bigint, t.schema_name, t.table_name, NOT coalesce(t.found_empty, true),"
                " p.part, p.first_page, p.end_page, p.key_column, p.key_type::bigint, p.key_from, p.key_to"
                " FROM {table} t JOIN {part} p USING (migration, relation)"
                " WHERE t.migration = %s AND t.run = %s AND p.run = t.run AND p.state = 'waiting' ORDER BY p.ordinal"
            ).format(table=store.table("table_copy"), part=store.table("copy_part")),
            (store.name, run),
        ).fetchall()
    return [WaitingPart(row[0], (row[1], row[2]), row[3], part_of(row[4:])) for row in rows]


def waiting_parts(store: StateStore, run: int, leave_out: Collection[int]) -> Waiting:
    """Return whether parts of a run are free or claimed, except for those of the tables in ``leave_out``."""
    with explain_errors("looking for parts that are left in the copy of migration", store.name):
        row = store.conn.execute(
            sql.SQL(
                "WITH waiting AS (SELECT FROM {part} WHERE migration = %(name)s AND run = %(run)s AND state = 'waiting'"
                " AND relation <> ALL (%(out)s::oid[]) LIMIT 1), free AS (SELECT FROM {part} WHERE migration = %(name)s"
                " AND run = %(run)s AND state = 'waiting' AND relation <> ALL (%(out)s::oid[]) LIMIT 1"
                " FOR UPDATE SKIP LOCKED) SELECT EXISTS (SELECT FROM free), EXISTS (SELECT FROM waiting)"
            ).format(part=store.table("copy_part")),
            {"name": store.name, "run": run, "out": list(leave_out)},
        ).fetchone()
    free, waiting = row or (False, False)
    return Waiting(free, waiting and not free)
