# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Observes the CDC task: control row, applying worker, process on this host, progress, and the WAL that its slot retains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import names
from ..cdc.control.config import PID_FILE
from ..cdc.control.pidfile import held_by
from ..errors import EngineError
from ..postgres._psycopg import psycopg
from ..state.advisory import Holder, holder
from ..state.progress import as_known, show_progress, show_whole_progress
from ..state.task import ControlRow, read_control

if TYPE_CHECKING:
    from ..migration import Migration


@dataclass(frozen=True, slots=True)
class ObservedTask:
    """The observed task. ``control`` and ``holder`` are None if there is none, ``process`` if none runs on this host;
    ``retained`` is the bytes of WAL that the slot retains, None if unknown."""

    control: ControlRow | None
    holder: Holder | None
    process: int | None
    progress: Mapping[str, Any]
    retained: int | None = None

    @classmethod
    def none(cls) -> ObservedTask:
        """Return the task of a migration that has no state yet."""
        return cls(None, None, None, {})

    @property
    def runs(self) -> bool:
        return self.holder is not None or self.process is not None

    def result(self) -> Mapping[str, object]:
        """Return the task as data for the module's answer."""
        control = self.control
        return {
            "wanted": control.wanted if control else None,
            "settings": dict(control.settings) if control else {},
            "running": self.runs,
            "slot_keeps_bytes": self.retained,
            **self.progress,
        }


def observe_task(migration: Migration, folder: Path) -> ObservedTask:
    """Observe the task. Raises ServerError, and StateError for state tables of another version."""
    process = held_by(folder / PID_FILE)
    store = migration.store
    if store.load() is None:
        return ObservedTask(None, None, process, {})
    progress, whole, worker = show_progress(store), show_whole_progress(store), holder(store.conn, store.name)
    progress = as_known(progress, whole.age if whole else None, lives=worker is not None)
    return ObservedTask(
        *(read_control(store), worker, process, progress),
        _retained(migration) if progress else None,
    )


def _retained(migration: Migration) -> int | None:
    """Return the bytes of WAL that the slot retains, or None: a task can be stopped while the source is down."""
    try:
        row = migration.source.execute(
            "SELECT pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), restart_lsn)::bigint"
            " FROM pg_catalog.pg_replication_slots WHERE slot_name = %s",
            (names.slot_name(migration.name),),
        ).fetchone()
    except (EngineError, psycopg.Error):
        return None
    return int(row[0]) if row and row[0] is not None else None
