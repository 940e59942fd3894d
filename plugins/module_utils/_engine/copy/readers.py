# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The source side of one copying worker: a session that reads part after part in the form of its run's snapshot.

Only where the run has an exported snapshot is one imported. Otherwise each session reads under a snapshot of its own, and a
table is one part: so all of its rows are of one moment, the one that its snapshot LSN names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ..capture.snapshot import Form, SnapshotTooLarge, writers_excluded
from ..postgres.async_connect import open_session
from ..postgres.lsn import NO_LSN, Lsn
from .transfer.own_slot import OwnSlotReading
from .transfer.source_reader import SnapshotReading

if TYPE_CHECKING:
    from ..migration import Migration
    from ..postgres.catalog import Table
    from ..state.store import StateStore
    from .limits import Limits
    from .reporter import CopyReporter
    from .transfer.table_fingerprint import Fingerprint

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Reader:
    """A source side that is ready to be copied from. ``mark`` is its snapshot LSN, 0 for the run's own."""

    reading: SnapshotReading | OwnSlotReading
    seen: Fingerprint
    mark: Lsn


class SourceReaders:
    """One worker's readings, one after the other. ``snapshot`` is the run's, empty if nothing may be imported; ``tell``
    gets what a wait for open transactions is for."""

    def __init__(
        self, migration: Migration, limits: Limits, run: int, form: Form, snapshot: str, *, purpose: str, tell: Tell
    ) -> None:
        self._migration = migration
        self._patience = limits.patience
        self._form = form
        self._snapshot = snapshot
        self._purpose = purpose
        self._session: Any = None
        self._own_slot = OwnSlotReading(
            migration, run, self._patience.timeout, self._patience.retries, patience=limits.slot_patience, tell=tell
        )

    async def open(self) -> None:
        """Open the session, if the form needs one now. Raises ConnectError, ServerError."""
        if self._form != "own_slot":
            await self._opened()

    async def begin(self, table: Table) -> Reader:
        """Return the source side of a part of this table, in the run's form.

        Raises TableChanged, SnapshotGone, TimeoutExpired, ServerError.
        """
        if self._form == "own_slot":
            try:
                mark, seen = await self._own_slot.begin(table)
                return Reader(self._own_slot, seen, mark)
            except SnapshotTooLarge:
                self._form = "share"  # like a whole run: the snapshot LSN is each table's own in both
        timeout, retries = self._patience.timeout, self._patience.retries
        reading = SnapshotReading(await self._opened(), self._migration.source, timeout, retries)
        if self._snapshot:
            return Reader(reading, await reading.begin(self._snapshot, table), NO_LSN)
        excluding = partial(writers_excluded, self._migration, table) if self._form == "share" else None
        mark, seen = await reading.begin_own(table, excluding)
        return Reader(reading, seen, mark)

    async def _opened(self) -> Any:
        if self._session is None:
            self._session = await open_session(self._migration.source, self._migration.spec.source, self._purpose)
        return self._session

    @property
    def has_walsender(self) -> bool:
        """Return whether it reads under a slot of its own."""
        return self._own_slot.is_open

    @property
    def has_lost_its_session(self) -> bool:
        """Return whether the server has ended the session."""
        return self._session is not None and bool(self._session.is_closed())

    async def close(self) -> None:
        """Close the session in good order."""
        self._own_slot.close()
        if self._session is not None:
            await self._session.close(timeout=10)

    def recover(self) -> None:
        """Make ready for another part after a failure: a slot's snapshot stays, if it still can be read under."""
        self._own_slot.recover()
        self._drop_session()

    def terminate(self) -> None:
        """Drop everything; open transactions are rolled back. Harmless after `close`."""
        self._own_slot.close()
        self._drop_session()

    def _drop_session(self) -> None:
        if self._session is not None:
            self._session.terminate()
            self._session = None


def tell_waits(store: StateStore, gauge: CopyReporter | None) -> Tell:
    """Return a function that writes what a copy waits for to the timeline, and shows it as long as the wait lasts."""

    def tell(why: str) -> None:
        if gauge is not None:
            gauge.waits_for = why
        if why:
            store.event("copied", "the copy waits for open transactions at the source", {"why": why})

    return tell
