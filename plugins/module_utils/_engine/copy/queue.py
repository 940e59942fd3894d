# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The queue of parts at the destination: `copy_run`, `table_copy` and `copy_part` (design: a part is one transaction).

A claim is the lock on the part's row, taken in the very transaction that copies the part and marks it done, and it
names its run: who dies loses it, and who is left over from an earlier run can claim nothing.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .._psycopg import psycopg, sql
from ..catalog import Name, qualified
from ..connect import speaking
from ..errors import MismatchError, StateError
from ..lsn import Lsn
from ..state import lsn_text
from .columns import FREEZE_FROM
from .parts import WHOLE, Part

if TYPE_CHECKING:
    from ..catalog import Table
    from ..connect import Connection
    from ..state import StateStore


@dataclass(frozen=True, slots=True)
class Job:
    """One table that a run has to copy. ``size`` is in bytes, TOAST included, and decides the order; ``merge`` is set
    for a table that held rows before us."""

    source: Table
    destination: Table
    parts: tuple[Part, ...]
    size: int = 0
    merge: bool = False

    @property
    def may_freeze(self) -> bool:
        """Whether its rows may be written frozen: COPY does that only in the transaction that has emptied the table."""
        return not self.merge and self.parts == WHOLE and self.size >= FREEZE_FROM


@dataclass(frozen=True, slots=True)
class _Known:
    """What the rows of one table say before a run."""

    name: Name
    state: str
    found_empty: bool | None
    parts_done: int


def open_run(store: StateStore, form: str) -> int:
    """Begin a run; returns its number. Nothing refers to it until tables are given to it."""
    with speaking("beginning a copy run of migration", store.name):
        row = store.conn.execute(
            sql.SQL(
                "INSERT INTO {run} (migration, run, form, host, pid)"
                " SELECT %s, coalesce(max(run), 0) + 1, %s, %s, %s FROM {run} WHERE migration = %s RETURNING run"
            ).format(run=store.table("copy_run")),
            (store.name, form, socket.gethostname(), os.getpid(), store.name),
        ).fetchone()
    if row is None:
        raise StateError("beginning a copy run of migration", store.name, "nothing came back", "Name the primary.")
    return int(row[0])


def set_run(store: StateStore, run: int, form: str, mark: Lsn, snapshot: str) -> None:
    """Record what the run sees the source through. ``mark`` is 0 where every table gets its own."""
    with speaking("recording the snapshot of a copy run of migration", store.name):
        store.conn.execute(
            sql.SQL(
                "UPDATE {} SET form = %s, mark = %s::pg_lsn, snapshot = %s WHERE migration = %s AND run = %s"
            ).format(store.table("copy_run")),
            (form, lsn_text(mark), snapshot, store.name, run),
        )


def close_run(store: StateStore, run: int) -> None:
    """Note that the run has ended."""
    with speaking("ending a copy run of migration", store.name):
        store.conn.execute(
            sql.SQL(
                "UPDATE {} SET finished_at = pg_catalog.clock_timestamp() WHERE migration = %s AND run = %s"
            ).format(store.table("copy_run")),
            (store.name, run),
        )


def enqueue(store: StateStore, run: int, mark: Lsn, jobs: Sequence[Job], *, keep_foreign_rows: bool) -> tuple[Job, ...]:
    """Give tables to a run, in one transaction: what an earlier run left of them is emptied, their parts are laid out.

    Returns the jobs that are to be done, biggest first, less those that turned out to be complete. Only a table that
    we found empty, and of which parts are done, is emptied. Raises MismatchError for a table that holds other rows,
    unless ``keep_foreign_rows`` (conflicting_tables: ignore) makes it a merge.
    """
    with speaking("preparing the copy of migration", store.name), store.conn.transaction():
        known = _lock_known(store, jobs)
        _take_back_moved(store, jobs, known)
        biggest_first = sorted(jobs, key=lambda job: (-job.size, job.source.qualified_name))
        todo = [
            _admit(store.conn, job, known.get(job.source.oid), keep_foreign_rows)
            for job in biggest_first
            if not is_complete(known.get(job.source.oid), job.source)
        ]
        _write(store, run, mark, todo)
    return tuple(todo)


def is_complete(known: _Known | None, table: Table) -> bool:
    """Whether a table's rows all stand at the destination, under the name that it has now."""
    return known is not None and known.state == "complete" and known.name == table.qualified_name


def _lock_known(store: StateStore, jobs: Sequence[Job]) -> dict[int, _Known]:
    """What is known of these tables, and of others under whose names they stand now, by source OID.

    Locks the parts first and the tables then, as a finishing worker does: whoever is left over has ended after this.
    """
    conn, names = store.conn, {"part": store.table("copy_part"), "table": store.table("table_copy")}
    schemas, tables = zip(*(job.source.qualified_name for job in jobs), strict=True)
    relations = conn.execute(
        sql.SQL(
            "SELECT t.relation::bigint FROM {table} t WHERE t.migration = %s AND (t.relation = ANY (%s::oid[])"
            " OR (t.schema_name, t.table_name) IN (SELECT * FROM ROWS FROM (pg_catalog.unnest(%s::text[]),"
            " pg_catalog.unnest(%s::text[])) AS n))"
        ).format(**names),
        (store.name, [job.source.oid for job in jobs], list(schemas), list(tables)),
    ).fetchall()
    values = (store.name, [row[0] for row in relations])
    for name, order in (("part", "relation, part"), ("table", "relation")):
        conn.execute(
            sql.SQL("SELECT FROM {} WHERE migration = %s AND relation = ANY (%s::oid[]) ORDER BY {} FOR UPDATE").format(
                names[name], sql.SQL(order)
            ),
            values,
        )
    rows = conn.execute(
        sql.SQL(
            "SELECT t.relation::bigint, t.schema_name, t.table_name, t.state, t.found_empty,"
            "       (SELECT count(*) FROM {part} p WHERE (p.migration, p.relation) = (t.migration, t.relation)"
            "           AND p.state = 'done')"
            "  FROM {table} t WHERE t.migration = %s AND t.relation = ANY (%s::oid[])"
        ).format(**names),
        values,
    ).fetchall()
    return {row[0]: _Known((row[1], row[2]), row[3], row[4], row[5]) for row in rows}


def _take_back_moved(store: StateStore, jobs: Sequence[Job], known: dict[int, _Known]) -> None:
    """A table that was renamed, or dropped and made anew, stands at the destination under a name that is, or may be,
    another table's by now: the rows that we copied there go first, and what is known of them."""
    present = {job.source.oid: job.source.qualified_name for job in jobs}
    for relation, found in list(known.items()):
        if present.get(relation) == found.name:
            continue
        if found.parts_done and not found.found_empty:
            raise MismatchError(
                "copying table",
                qualified(found.name),
                "it was copied into rows that stood there before, and was renamed or made anew at the source since",
                "Rename the destination's table, or release the migration and begin again.",
            )
        if found.parts_done:
            empty_table(store.conn, found.name)
        store.conn.execute(
            sql.SQL("DELETE FROM {} WHERE migration = %s AND relation = %s").format(store.table("table_copy")),
            (store.name, relation),
        )
        del known[relation]


def _admit(conn: Connection, job: Job, found: _Known | None, keep_foreign_rows: bool) -> Job:
    """Make sure that the destination's table may be filled, and say whether by copying or by merging."""
    name = job.destination.qualified_name
    if found is not None and found.found_empty and found.parts_done:
        empty_table(conn, name)
        return job
    row = conn.execute(sql.SQL("SELECT EXISTS (SELECT FROM ONLY {})").format(sql.Identifier(*name))).fetchone()
    if row is not None and not row[0]:
        return job
    if not keep_foreign_rows:
        raise MismatchError(
            "copying table",
            str(job.source),
            "the destination's table holds rows that this migration did not copy",
            "Empty it or drop it, or set causeway_conflicting_tables: ignore to keep its rows.",
        )
    if not any(index.valid for index in job.destination.unique_indexes):
        raise MismatchError(
            "copying table",
            str(job.source),
            "the destination's table holds rows and has no key by which to tell what is missing",
            "Give it a primary key, or empty it.",
        )
    return replace(job, parts=WHOLE, merge=True)


def empty_table(conn: Connection, name: Name) -> None:
    """Take away the rows that we copied; row by row where a foreign key forbids TRUNCATE. A missing table is empty."""
    table = sql.Identifier(*name)
    conn.execute("SET LOCAL session_replication_role = replica")
    try:
        with conn.transaction():
            conn.execute(sql.SQL("TRUNCATE ONLY {}").format(table))
    except psycopg.errors.FeatureNotSupported:
        conn.execute(sql.SQL("DELETE FROM ONLY {}").format(table))
    except psycopg.errors.UndefinedTable:
        pass


def _write(store: StateStore, run: int, mark: Lsn, jobs: Sequence[Job]) -> None:
    relations = [job.source.oid for job in jobs]
    with store.conn.cursor() as cursor:
        cursor.execute(
            sql.SQL("DELETE FROM {} WHERE migration = %s AND relation = ANY (%s::oid[])").format(
                store.table("copy_part")
            ),
            (store.name, relations),
        )
        cursor.executemany(
            sql.SQL(
                "INSERT INTO {} AS t (migration, relation, schema_name, table_name, state, found_empty, run, mark)"
                " VALUES (%s, %s, %s, %s, 'copying', %s, %s, %s::pg_lsn) ON CONFLICT (migration, relation) DO UPDATE"
                " SET (schema_name, table_name, state, found_empty, run, mark, rows, bytes, started_at, finished_at)"
                " = (excluded.schema_name, excluded.table_name, excluded.state, excluded.found_empty, excluded.run,"
                " excluded.mark, 0, 0, NULL, NULL)"
            ).format(store.table("table_copy")),
            [
                (store.name, job.source.oid, *job.source.qualified_name, not job.merge, run, lsn_text(mark))
                for job in jobs
            ],
        )
        numbered = enumerate((job.source.oid, part) for job in jobs for part in job.parts)
        cursor.executemany(
            sql.SQL(
                "INSERT INTO {} (migration, relation, part, run, ordinal, first_page, end_page, state)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s, 'waiting')"
            ).format(store.table("copy_part")),
            [
                (store.name, oid, part.number, run, ordinal, part.first_page, part.end_page)
                for ordinal, (oid, part) in numbered
            ],
        )


def partly_copied(store: StateStore) -> set[int]:
    """The tables, by source OID, of which a part was done by a run that did not come to its end."""
    with speaking("reading the state of the copy of migration", store.name):
        rows = store.conn.execute(
            sql.SQL(
                "SELECT DISTINCT p.relation::bigint FROM {} p JOIN {} t USING (migration, relation)"
                " WHERE p.migration = %s AND p.state = 'done' AND t.state <> 'complete' AND t.found_empty"
            ).format(store.table("copy_part"), store.table("table_copy")),
            (store.name,),
        ).fetchall()
    return {row[0] for row in rows}


@dataclass(frozen=True, slots=True)
class Waiting:
    """Whether a part is ``free`` to be claimed, and whether one that is not done is ``claimed`` by somebody."""

    free: bool
    claimed: bool


def waiting_parts(store: StateStore, run: int, leave_out: Collection[int]) -> Waiting:
    """How it stands with the parts of a run that are not done, but for those of some tables."""
    with speaking("looking for parts that are left in the copy of migration", store.name):
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


class Claims:
    """Claiming and finishing parts of one run on a worker's own asyncpg session, inside its transaction."""

    def __init__(self, store: StateStore, run: int) -> None:
        part, table = (store.table(name).as_string(None) for name in ("copy_part", "table_copy"))
        self.migration = store.name
        self.run = run
        self._host = socket.gethostname()
        self._claim = (
            f"SELECT relation::bigint, part, first_page, end_page FROM {part}"
            " WHERE migration = $1 AND run = $2 AND state = 'waiting' AND relation <> ALL ($3::oid[])"
            " ORDER BY ordinal LIMIT 1 FOR UPDATE SKIP LOCKED"
        )
        self._done = (
            f"UPDATE {part} SET state = 'done', rows = $5, bytes = $6, host = $7,"
            " finished_at = pg_catalog.clock_timestamp()"
            " WHERE migration = $1 AND run = $2 AND relation = $3 AND part = $4 AND state = 'waiting'"
        )
        self._lock = f"SELECT 1 FROM {table} WHERE migration = $1 AND run = $2 AND relation = $3 FOR UPDATE"
        self._finish = (
            f"UPDATE {table} t SET state = 'complete', rows = p.rows, bytes = p.bytes,"
            " mark = coalesce($4::text::pg_lsn, t.mark), finished_at = pg_catalog.clock_timestamp(),"
            " started_at = pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => $5)"
            " FROM (SELECT pg_catalog.sum(rows)::bigint AS rows, pg_catalog.sum(bytes)::bigint AS bytes,"
            f" pg_catalog.bool_and(state = 'done') AS done FROM {part} WHERE migration = $1 AND relation = $3) p"
            " WHERE t.migration = $1 AND t.run = $2 AND t.relation = $3 AND p.done"
        )

    async def claim(self, session: Any, leave_out: Collection[int]) -> tuple[int, Part] | None:
        """The next waiting part as (relation, Part), locked until the transaction ends; None when none is free."""
        row = await session.fetchrow(self._claim, self.migration, self.run, list(leave_out))
        return None if row is None else (row[0], Part(row[1], row[2], row[3]))

    async def finish(
        self, session: Any, relation: int, part: Part, rows: int, size: int, *, mark: Lsn, seconds: float
    ) -> bool:
        """Mark a part done; True when it was the last of its table. ``mark`` is 0 where the run's own stands.

        The last one is decided under the lock of the table's row: of two that finish at once the second sees the first.
        Raises StateError when the part is no longer ours.
        """
        key = (self.migration, self.run, relation)
        tag = await session.execute(self._done, *key, part.number, rows, size, self._host)
        if tag != "UPDATE 1" or not await session.fetch(self._lock, *key):
            raise StateError(
                "finishing a part of the copy of migration",
                self.migration,
                "a later run has taken the table over",
                "Nothing is lost: the other run copies it.",
            )
        finished: str = await session.execute(self._finish, *key, lsn_text(mark), seconds)
        return finished == "UPDATE 1"


def observed(store: StateStore) -> list[Mapping[str, Any]]:
    """Every table's copy for a person: table, state, rows, bytes, mark, run, seconds."""
    with speaking("reading the state of the copy of migration", store.name):
        rows = store.conn.execute(
            sql.SQL(
                "SELECT schema_name, table_name, state, rows, bytes, coalesce(mark::text, ''), coalesce(run, 0),"
                " pg_catalog.round(coalesce(extract(epoch FROM finished_at - started_at), 0)::numeric, 3)::float8"
                " FROM {} WHERE migration = %s ORDER BY 1, 2"
            ).format(store.table("table_copy")),
            (store.name,),
        ).fetchall()
    keys = ("state", "rows", "bytes", "mark", "run", "seconds")
    return [{"table": qualified((row[0], row[1])), **dict(zip(keys, row[2:], strict=True))} for row in rows]
