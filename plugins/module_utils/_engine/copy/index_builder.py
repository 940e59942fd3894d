# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds keys, indexes and statistics of complete tables while other tables are still copied.

Nothing here has to succeed for the copy to be right: the sections of pg_schema_sync compare the catalogs afterwards and
create what is missing, as after a crash in between.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..errors import EngineError, ServerError
from ..postgres._psycopg import sql
from ..postgres.async_connect import explain_errors, open_session
from ..schema.build_limits import BuildLimits
from ..schema.deferred_indexes import held_back
from ..schema.post_load import analyze_statement
from ..schema.table_builds import TableBuilds
from ..state.copies import uncopied

if TYPE_CHECKING:
    from ..migration import Migration
    from ..postgres.catalog import Name, Table

BUILT_MEANWHILE = ("42P07", "42P16", "42710")
"""The server's answers if another worker host has built the object before us."""


class Builder:
    """The builds of one module call, in an event loop of their own beside the copy's runs.

    ``wanted`` is by table and shrinks: a table is begun once. Leaving the context cancels what is still being built.
    """

    def __init__(self, migration: Migration, wanted: dict[Name, TableBuilds], limits: BuildLimits) -> None:
        self._migration = migration
        self._wanted = wanted
        self._limits = limits
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle: list[Any] = []
        self._room = asyncio.Semaphore(max(1, limits.jobs))
        self._errors: list[EngineError] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Builder:
        self._thread.start()
        return self

    def __exit__(self, *dummy: object) -> None:
        asyncio.run_coroutine_threadsafe(self._cancel(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def begin(self, table: Table, *, ranged: bool = False) -> None:
        """Begin the builds of a table whose rows are complete. A second call for the same table does nothing.

        ``ranged``: it was cut by a key, so that some indexes may have to wait (`held_back`).
        """
        behind = self._wanted.pop(table.qualified_name, None)
        if behind is not None and ranged:
            behind = behind.without_held(held_back(self._migration))
        if behind is not None:
            self._loop.call_soon_threadsafe(self._begin, table, behind)

    def begin_complete(self) -> None:
        """Begin the builds that are missing of tables that an earlier call has copied."""
        leaves = self._migration.selected().leaves
        left = {table.oid for table in uncopied(leaves, self._migration.copies())}
        for table in leaves:
            if table.oid not in left:
                self.begin(table)

    def finish(self) -> None:
        """Wait for all builds. Raises the first error, after everything that could be built has been."""
        asyncio.run_coroutine_threadsafe(self._finish(), self._loop).result()
        if self._errors:
            raise self._errors[0]

    def _begin(self, table: Table, behind: TableBuilds) -> None:
        task = self._loop.create_task(self._build(table, behind))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _finish(self) -> None:
        while self._tasks:
            await asyncio.wait(set(self._tasks))
        while self._idle:
            await self._idle.pop().close(timeout=10)

    async def _cancel(self) -> None:
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        while self._idle:
            self._idle.pop().terminate()

    async def _build(self, table: Table, behind: TableBuilds) -> None:
        try:
            for step in behind.keys:
                await self._execute(step.what, step.statements)
            others = [self._execute(step.what, step.statements) for step in behind.others]
            for outcome in await asyncio.gather(*others, return_exceptions=True):
                if isinstance(outcome, BaseException):
                    raise outcome
            if behind.analyze:
                there = self._migration.mapping.there(table.qualified_name)
                await self._execute(f"statistics of {table}", (analyze_statement(there).as_string(None),))
        except EngineError as exc:
            self._errors.append(exc)

    async def _execute(self, what: str, statements: Iterable[str]) -> None:
        """Build one object in one transaction, on a free session of ours."""
        async with self._room:
            session = self._idle.pop() if self._idle else await self._open()
            try:
                async with explain_errors("creating at the destination", what), session.transaction():
                    for statement in statements:
                        await session.execute(statement)
            except ServerError as exc:
                if exc.sqlstate not in BUILT_MEANWHILE:
                    raise
            finally:
                if session.is_closed():
                    session.terminate()
                else:
                    self._idle.append(session)

    async def _open(self) -> Any:
        """Open a session that builds, with asynchronous commit: a crash that loses a build also loses what was committed
        after it, so that nothing has to wait for the disk."""
        migration = self._migration
        session = await open_session(migration.destination, migration.spec.destination, f"index {migration.name}")
        pinned = {
            "maintenance_work_mem": self._limits.setting,
            "synchronous_commit": "off",
            "standard_conforming_strings": "on",
            "client_min_messages": "warning",
        }
        async with explain_errors("preparing a session at the", "destination"):
            for name, value in pinned.items():
                text = sql.SQL("SET {} = {}").format(sql.Identifier(name), sql.Literal(value)).as_string(None)
                await session.execute(text)
        return session
