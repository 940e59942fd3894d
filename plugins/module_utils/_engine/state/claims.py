# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims on the parts of a copy run, on a copying worker's own asyncpg session and inside its transaction.

A claim is the lock on the part's row (`copy_queue`).
"""

from __future__ import annotations

import socket
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from ..errors import StateError
from ..postgres.key_ranges import Part
from ..postgres.lsn import Lsn
from .copy_queue import part_of
from .store import lsn_text

if TYPE_CHECKING:
    from .store import StateStore

_BEFORE_ALL = -1


class Claims:
    """Claims and finishes parts of one run on a worker's own asyncpg session, inside its transaction.

    A search begins after the last claim, so that of ten thousand parts those that are done are not read. Only when
    it finds none, the whole run is searched, for the parts that a dead host has released.
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
            " FROM (SELECT pg_catalog.sum(rows)::bigint AS rows, pg_catalog.sum(bytes)::bigint AS bytes,"
            " (pg_catalog.array_agg(mark ORDER BY mark DESC NULLS LAST))[1] AS mark,"
            f" pg_catalog.bool_and(state = 'done') AS done FROM {part} WHERE migration = $1 AND relation = $3) p"
            " WHERE t.migration = $1 AND t.run = $2 AND t.relation = $3 AND p.done"
        )

    async def claim(self, session: Any, leave_out: Collection[int]) -> tuple[int, Part] | None:
        """Return the next waiting part as (relation, Part), locked until the transaction ends; None when none is free.

        Raises asyncpg's errors.
        """
        for behind in dict.fromkeys((self._last, _BEFORE_ALL)):
            row = await session.fetchrow(self._claim, self.migration, self.run, behind, list(leave_out))
            if row is not None:
                self._last = row[0]
                return row[1], part_of(tuple(row)[2:])
        return None

    async def finish(
        self, session: Any, relation: int, part: Part, rows: int, size: int, *, mark: Lsn, seconds: float
    ) -> bool:
        """Mark a part done; return whether it was the last of its table. ``mark`` is 0 where the run has one for all.

        The last one is decided under the lock of the table's row: of two that finish at once the second sees the first.
        Raises StateError when the part belongs to a later run.
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
