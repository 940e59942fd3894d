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
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import StateError
from ..postgres._psycopg import sql
from ..postgres.catalog import qualified
from ..postgres.connect import explain_errors
from ..postgres.key_ranges import WHOLE, KeyRange, Part
from ..postgres.lsn import Lsn
from ..state.store import lsn_text
from .transfer.columns import FREEZE_FROM

if TYPE_CHECKING:
    from ..postgres.catalog import Table
    from ..state.store import StateStore


@dataclass(frozen=True, slots=True)
class Job:
    """One table that a run has to copy.

    ``heap`` and ``size`` are bytes, the latter with TOAST: it decides the order. ``merge`` is set for a table that held
    rows before us. ``key``: parts that are ranges of it may have marks of their own; ``fingerprint`` is then what the
    table is now, and ``resumes`` says that parts of an earlier run stay and ``parts`` are those that are left.
    """

    source: Table
    destination: Table
    parts: tuple[Part, ...]
    heap: int = 0
    size: int = 0
    merge: bool = False
    key: KeyRange | None = None
    fingerprint: str = ""
    resumes: bool = False

    @property
    def may_freeze(self) -> bool:
        """Whether its rows may be written frozen: COPY does that only in the transaction that has emptied the table."""
        return not self.merge and self.parts == WHOLE and self.size >= FREEZE_FROM


def begin_run(store: StateStore, form: str, timeline: int = 0) -> int:
    """Begin a run; returns its number. Nothing refers to it until tables are given to it.

    ``timeline`` is the source's before the snapshot is taken: marks count from there (0: nothing follows the copy).
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
        raise StateError("beginning a copy run of migration", store.name, "nothing came back", "Name the primary.")
    return int(row[0])


def set_run(store: StateStore, run: int, form: str, mark: Lsn, snapshot: str) -> None:
    """Record what the run sees the source through. ``mark`` is 0 where every table gets its own."""
    with explain_errors("recording the snapshot of a copy run of migration", store.name):
        store.conn.execute(
            sql.SQL(
                "UPDATE {} SET form = %s, mark = %s::pg_lsn, snapshot = %s WHERE migration = %s AND run = %s"
            ).format(store.table("copy_run")),
            (form, lsn_text(mark), snapshot, store.name, run),
        )


def close_run(store: StateStore, run: int) -> None:
    """Note that the run has ended."""
    with explain_errors("ending a copy run of migration", store.name):
        store.conn.execute(
            sql.SQL(
                "UPDATE {} SET finished_at = pg_catalog.clock_timestamp() WHERE migration = %s AND run = %s"
            ).format(store.table("copy_run")),
            (store.name, run),
        )


def part_of(row: Sequence[Any]) -> Part:
    """A row of `copy_part` (part, first_page, end_page, key_column, key_type, key_from, key_to) as a Part."""
    number, first, end, column, type_oid, low, high = row
    bounds = [None if bound is None else int(bound) for bound in (low, high)]
    return Part(number, first, end, None if column is None else KeyRange(column, type_oid, *bounds))


def partly_copied(store: StateStore) -> set[int]:
    """The tables, by source OID, of which a part was done by a run that did not come to its end."""
    with explain_errors("reading the state of the copy of migration", store.name):
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


_BEFORE_ALL = -1


class Claims:
    """Claiming and finishing parts of one run on a worker's own asyncpg session, inside its transaction.

    A claim begins behind the last one: of ten thousand parts nobody looks at those that are done. Only when nothing is
    found there, the whole run is looked at, for the parts that a dead host has let go of.
    """

    def __init__(self, store: StateStore, run: int) -> None:
        part, table = (store.table(name).as_string(None) for name in ("copy_part", "table_copy"))
        self.migration = store.name
        self.run = run
        self._host = socket.gethostname()
        self._last = _BEFORE_ALL
        self._claim = (
            "SELECT ordinal, relation::bigint, part, first_page, end_page, key_column, key_type, key_from, key_to"
            f" FROM {part} WHERE migration = $1 AND run = $2 AND ordinal > $3 AND state = 'waiting'"
            " AND relation <> ALL ($4::oid[]) ORDER BY ordinal LIMIT 1 FOR UPDATE SKIP LOCKED"
        )
        self._done = (
            f"UPDATE {part} SET state = 'done', rows = $5, bytes = $6, host = $7, mark = coalesce($8::text::pg_lsn, mark),"
            " finished_at = pg_catalog.clock_timestamp()"
            " WHERE migration = $1 AND run = $2 AND relation = $3 AND part = $4 AND state = 'waiting'"
        )
        self._lock = f"SELECT 1 FROM {table} WHERE migration = $1 AND run = $2 AND relation = $3 FOR UPDATE"
        self._finish = (
            f"UPDATE {table} t SET state = 'complete', rows = p.rows, bytes = p.bytes,"
            " mark = coalesce(p.mark, t.mark), finished_at = pg_catalog.clock_timestamp(),"
            " started_at = pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => $4)"
            " FROM (SELECT pg_catalog.sum(rows)::bigint AS rows, pg_catalog.sum(bytes)::bigint AS bytes, max(mark) AS mark,"
            f" pg_catalog.bool_and(state = 'done') AS done FROM {part} WHERE migration = $1 AND relation = $3) p"
            " WHERE t.migration = $1 AND t.run = $2 AND t.relation = $3 AND p.done"
        )

    async def claim(self, session: Any, leave_out: Collection[int]) -> tuple[int, Part] | None:
        """The next waiting part as (relation, Part), locked until the transaction ends; None when none is free."""
        for behind in dict.fromkeys((self._last, _BEFORE_ALL)):
            row = await session.fetchrow(self._claim, self.migration, self.run, behind, list(leave_out))
            if row is not None:
                self._last = row[0]
                return row[1], part_of(tuple(row)[2:])
        return None

    async def finish(
        self, session: Any, relation: int, part: Part, rows: int, size: int, *, mark: Lsn, seconds: float
    ) -> bool:
        """Mark a part done; True when it was the last of its table. ``mark`` is 0 where the run's own stands.

        The last one is decided under the lock of the table's row: of two that finish at once the second sees the first.
        Raises StateError when the part is no longer ours.
        """
        key = (self.migration, self.run, relation)
        tag = await session.execute(self._done, *key, part.number, rows, size, self._host, lsn_text(mark))
        if tag != "UPDATE 1" or not await session.fetch(self._lock, *key):
            raise StateError(
                "finishing a part of the copy of migration",
                self.migration,
                "a later run has taken the table over",
                "Nothing is lost: the other run copies it.",
            )
        finished: str = await session.execute(self._finish, *key, seconds)
        return finished == "UPDATE 1"


def observed(store: StateStore) -> list[Mapping[str, Any]]:
    """Every table's copy for a person: table, state, rows, bytes, mark, run, seconds."""
    with explain_errors("reading the state of the copy of migration", store.name):
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
