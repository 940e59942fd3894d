# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a worker needs before it resumes the stream: position, snapshot LSNs of the tables, and the format of values."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ... import names
from ...capture.publication_members import BEFORE as PUBLICATION
from ...capture.publication_members import require_members
from ...errors import StateError
from ...objects.mapping import IDENTITY, ObjectMapping, tables_there
from ...objects.rules import SchemaRule
from ...objects.selection import select
from ...postgres.catalog import Catalog, observe_catalog
from ...postgres.connect import connect, explain_errors
from ...postgres.lsn import Lsn, format_lsn, parse_lsn
from ...postgres.server import identify_system, require_primary
from ...postgres.versions import has
from ...slot.identity import check_slot, observe_slot
from ...slot.timeline import copied_too_late, copy_again, position_after_switch, read_history
from ...state.copies import describe_uncopied, ranges_of_several_marks, table_copies, uncopied
from ..changes.part_marks import PartMarks, part_marks

if TYPE_CHECKING:
    import logging

    from ...postgres.connect import Connection
    from ...postgres.server import System
    from ...state.progress import Progress
    from ...state.store import MigrationState, StateStore
    from ..control.config import WorkerConfig
    from .connections import Sessions

_RUN_MIGRATE = "Run the migrate playbook: it runs the steps that come before."


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """Where a stream is resumed, and over which sessions.

    ``patience`` is the seconds after which a stream that says nothing is looked for: the source's wal_sender_timeout, or
    less; ``marks`` the snapshot LSN of every table's copy,
    by source OID; ``applied`` the position up to which changes are applied at the destination, ``confirmable`` the one
    from which the stream is requested; ``binary`` whether values come in binary format.
    """

    source: Connection
    walsender: Connection
    patience: float
    slot: str
    publication: str
    marks: dict[int, Lsn]
    applied: Lsn
    confirmable: Lsn
    timeline: int
    binary: bool

    def described(self) -> dict[str, object]:
        """Return the same for log and timeline."""
        return {
            "from": format_lsn(self.confirmable),
            "timeline": self.timeline,
            "format": "binary" if self.binary else "text",
            "tables": len(self.marks),
        }


def resume(stack: ExitStack, config: WorkerConfig, sessions: Sessions, log: logging.Logger) -> ResumePoint:
    """Connect to the source, check that the stream may be resumed here, and claim the progress.

    ``stack`` closes the connections. Raises EngineError.
    """
    slot = dict(sessions.migration.slot or {})
    row = sessions.progress.load()
    if not slot or row is None:
        raise StateError("starting the CDC worker of", config.name, "the migration has no slot", _RUN_MIGRATE)
    source = stack.enter_context(connect(config.source, f"worker {config.name}"))
    require_primary(source)
    catalog = observe_catalog(source, "source", leave_out=("causeway",))
    marks = table_marks(sessions.store, sessions.migration, catalog)
    sender_timeout = _sender_timeout(source)
    walsender = stack.enter_context(connect(config.source, f"stream {config.name}", replication=True))
    system = identify_system(walsender, config.source)
    confirmable = resume_position(source, walsender, slot, row, system, sessions.store, log)
    publication = names.publication_name(config.name)
    require_members(source, publication, sessions.migration.before_image.get(PUBLICATION, {}))
    binary = binary_everywhere(source, catalog, sessions.store.conn, config.state_schema, marks, IDENTITY)
    sessions.progress.claim(system.identifier, system.timeline, row.applied, confirmable)
    return ResumePoint(
        source=source,
        walsender=walsender,
        patience=min(sender_timeout or config.source.patience, config.source.patience),
        slot=str(slot["name"]),
        publication=publication,
        marks=marks,
        applied=row.applied,
        confirmable=confirmable,
        timeline=system.timeline,
        binary=binary,
    )


def _sender_timeout(source: Connection) -> float:
    query = "SELECT setting::int FROM pg_catalog.pg_settings WHERE name = 'wal_sender_timeout'"
    row = source.execute(query).fetchone()
    return float((row or (60000,))[0]) / 1000


def table_marks(store: StateStore, migration: MigrationState, catalog: Catalog) -> dict[int, Lsn]:
    """Return the snapshot LSN of every table's copy, by source OID. Raises StateError while a selected table is not
    copied completely.
    """
    rules = tuple([SchemaRule(o["schema"], tuple(o["tables"]), tuple(o["exclude"])) for o in migration.spec["objects"]])
    leaves = select(rules, catalog).leaves
    if "full" not in migration.spec["types"]:
        point = parse_lsn(str((migration.slot or {})["consistent_point"]))
        return {table.oid: point for table in leaves}
    copies = table_copies(store)
    missing = uncopied(leaves, copies)
    if missing:
        raise StateError(
            "starting the CDC worker of",
            migration.name,
            describe_uncopied(missing, copies),
            "Run the migrate playbook: the full copy comes before the changes.",
        )
    return {oid: copy.mark for oid, copy in copies.items() if copy.state == "complete"}


def table_parts(store: StateStore) -> dict[int, PartMarks]:
    """Return the snapshot LSNs of each table that was copied in ranges of a key at different moments, by source OID."""
    found: dict[int, PartMarks] = {}
    for oid, ranges in ranges_of_several_marks(store).items():
        first = ranges[0]
        parts = part_marks(first.column, first.type_oid, [(one.low, one.high, one.mark) for one in ranges])
        if parts is not None:
            found[oid] = parts
    return found


def resume_position(
    source: Connection,
    walsender: Connection,
    slot: dict[str, object],
    row: Progress,
    system: System,
    store: StateStore,
    log: logging.Logger,
) -> Lsn:
    """Return the position from which the stream may be resumed, once slot and timeline have been checked.

    Raises EngineError.
    """
    confirmable = row.confirmable
    found = observe_slot(source, str(slot["name"]))
    if system.timeline != row.timeline and system.identifier == row.source_system:
        history = read_history(walsender, system.timeline)
        confirmable = position_after_switch(row.applied, row.confirmable, row.timeline, system.timeline, history)
        log.warning("the source is on timeline %s now, not on %s", system.timeline, row.timeline)
    check_slot(slot, found, system, confirmable, system.timeline)
    copies = table_copies(store).values()
    if any((copy.timeline or row.timeline) != system.timeline for copy in copies):
        history = read_history(walsender, system.timeline)
        late, point = copied_too_late(copies, row.timeline, system.timeline, history)
        if late:
            raise copy_again(store, late, system.timeline, point)
    return confirmable


_SLOT_READER = """
SELECT s.active_pid, coalesce(a.application_name = %s AND a.usename = session_user, false)
  FROM pg_catalog.pg_replication_slots s LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = s.active_pid
 WHERE s.slot_name = %s
"""
_GRACE = 2.0
"""Seconds for which a walsender may end by itself before it is ended."""


def wait_until_slot_inactive(source: Connection, slot: str, name: str, timeout: float) -> None:
    """Wait until no session reads the slot: the walsender of a connection just closed may not have ended yet.

    One that a former session of this migration's worker has left is ended: under the worker's lock there is no other.
    Returns after ``timeout`` seconds in any case: START_REPLICATION reports a session that still reads it. Raises
    ServerError.
    """
    began = time.monotonic()
    with explain_errors("waiting for the replication slot", slot):
        while (row := source.execute(_SLOT_READER, (f"causeway stream {name}"[:63], slot)).fetchone()) and row[0]:
            waited = time.monotonic() - began
            if waited > timeout:
                return
            if row[1] and waited > _GRACE:
                source.execute("SELECT pg_catalog.pg_terminate_backend(%s)", (row[0],))
            time.sleep(0.02)


def binary_everywhere(
    source: Connection,
    catalog: Catalog,
    destination: Connection,
    state_schema: str,
    marks: dict[int, Lsn],
    mapping: ObjectMapping,
) -> bool:
    """Return whether every column that is sent means the same bytes at both ends, and the source can send binary."""
    if not has(source.info.server_version, "stream option binary"):
        return False
    with destination.transaction():
        # this session finds rows by index, and has disabled the joins that a whole catalog needs
        destination.execute("SET LOCAL enable_hashjoin = on")
        there = tables_there(observe_catalog(destination, "destination", leave_out=("causeway", state_schema)))
    for oid in marks:
        table = catalog.tables.get(oid)
        if table is None:
            continue
        other = there.get(mapping.there(table.qualified_name))
        if not table.binary_safe or other is None or not other.binary_safe:
            return False
    return True
