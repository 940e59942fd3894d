# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Executes statements each by itself, those of different tables in parallel."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ..errors import EngineError, ServerError
from ..plan import SqlChange
from ..postgres._psycopg import sql
from ..postgres.catalog import Name
from ..postgres.connect import connect, explain_errors

if TYPE_CHECKING:
    from ..migration import Migration
    from .build_limits import BuildLimits

ATTEMPTS = 5
"""Attempts at a statement that lost a deadlock against the CDC worker, or did not get a lock."""

_DOING = "finishing the schema at the destination:"


@dataclass(frozen=True, slots=True)
class DeferredStatement:
    """One statement outside a section's transaction. ``table``: it locks this table against others of its kind, and may
    run in parallel with those of other tables; None: it runs after all those, in order, if none failed on ``after``.
    """

    change: SqlChange
    table: Name | None = None
    after: tuple[Name, ...] = ()


def retry_deadlocks(work: Callable[[], None]) -> None:
    """Call ``work``, and retry it if it lost a deadlock or did not get a lock. Raises what the last attempt raises."""
    for attempt in range(ATTEMPTS):
        try:
            work()
            return
        except ServerError as exc:
            if exc.sqlstate not in ("40P01", "55P03") or attempt == ATTEMPTS - 1:
                raise
            time.sleep(attempt + 1)


def carry_out(migration: Migration, later: Iterable[DeferredStatement], limits: BuildLimits) -> None:
    """Execute the statements; each is committed by itself. Raises the first EngineError, after all statements that do not
    depend on a failed one have been executed.
    """
    sizes = {table.qualified_name: table.bytes for table in migration.selected().tables}
    beside: dict[Name, list[SqlChange]] = {}
    alone: list[DeferredStatement] = []
    for one in later:
        if one.table is None:
            alone.append(one)
        else:
            beside.setdefault(one.table, []).append(one.change)
    # The largest tables first, so that no large one is begun last while the other sessions are idle.
    tables = Tables(migration, limits, sorted(beside.items(), key=lambda item: -sizes.get(item[0], 0)))
    errors = tables.work()
    for one in alone:
        if not tables.undone.intersection(one.after):
            try:
                retry_deadlocks(partial(one.change.execute, migration.destination, _DOING))
            except EngineError as exc:
                errors.append(exc)
    if errors:
        raise errors[0]


class Tables:
    """The statements of several tables, over sessions of their own. ``undone`` are the tables where one failed, or that
    no session reached.
    """

    def __init__(
        self, migration: Migration, limits: BuildLimits, tables: Sequence[tuple[Name, Sequence[SqlChange]]]
    ) -> None:
        self.undone: set[Name] = set()
        self._migration = migration
        self._limits = limits
        self._jobs = min(max(1, limits.jobs), len(tables))
        self._waiting: Iterator[tuple[Name, Sequence[SqlChange]]] = iter(tables)
        self._errors: list[EngineError] = []

    def work(self) -> list[EngineError]:
        """Execute all of them; return the errors."""
        if not self._jobs:
            return []
        with ThreadPoolExecutor(self._jobs, "finish") as pool:
            broken = [one.result() for one in [pool.submit(self._take) for dummy in range(self._jobs)]]
        left = {table for table, dummy in self._waiting}
        self.undone |= left
        # A session that could not be opened matters only if the other sessions left tables undone.
        return self._errors + [error for error in broken if error and (left or self._errors)]

    def _take(self) -> EngineError | None:
        """Take table after table until none is left; return the error that ended this before, or None."""
        try:
            with connect(self._migration.spec.destination, f"finish {self._migration.name}") as conn:
                with explain_errors("preparing a session at the", "destination"):
                    conn.execute(sql.SQL("SET maintenance_work_mem = {}").format(sql.Literal(self._limits.setting)))
                for table, changes in self._waiting:
                    try:
                        for change in changes:
                            change.execute(conn, _DOING)
                    except EngineError as exc:
                        self.undone.add(table)
                        self._errors.append(exc)
                        if conn.closed:
                            break
        except EngineError as exc:
            return exc
        return None
