# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a worker has to know before it takes up the stream: the marks of the tables, and the format of the values."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ...errors import StateError
from ...objects.mapping import ObjectMapping, tables_there
from ...objects.rules import SchemaRule
from ...objects.selection import select
from ...postgres.catalog import Catalog, observe_catalog
from ...postgres.connect import explain_errors
from ...postgres.lsn import Lsn, parse_lsn
from ...slot.plan import observe_slot
from ...slot.timeline import check_slot, copied_too_late, copy_again, position_after_switch, read_history
from ...state.copies import describe_uncopied, ranges_of_several_marks, table_copies, uncopied
from ..changes.part_marks import PartMarks, part_marks

if TYPE_CHECKING:
    import logging

    from ...postgres.connect import Connection
    from ...postgres.server import System
    from ...state.progress import Progress
    from ...state.store import MigrationState, StateStore


def table_marks(store: StateStore, migration: MigrationState, catalog: Catalog) -> dict[int, Lsn]:
    """The mark of every table, by source OID. Raises StateError while a selected table is not copied completely."""
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
    """The marks of the parts of every table that was copied in ranges of a key at different moments, by source OID."""
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
    """The position from which the stream may be taken up, after all that is known of slot and timeline."""
    confirmable = row.confirmable
    found = observe_slot(source, str(slot["name"]))
    if system.timeline != row.timeline and system.identifier == row.source_system:
        confirmable = position_after_switch(row, system, read_history(walsender, system.timeline))
        log.warning("the source is on timeline %s now, not on %s", system.timeline, row.timeline)
    check_slot(str(slot["name"]), found, slot, system, confirmable)
    copies = table_copies(store).values()
    if any((copy.timeline or row.timeline) != system.timeline for copy in copies):
        history = read_history(walsender, system.timeline)
        late, point = copied_too_late(copies, row.timeline, system.timeline, history)
        if late:
            raise copy_again(store, late, system.timeline, point)
    return confirmable


def wait_until_slot_inactive(source: Connection, slot: str, timeout: float) -> None:
    """Wait until nobody reads the slot: a walsender of ours whose connection has just been closed may not know yet.

    Whoever reads it after ``timeout`` seconds is met by START_REPLICATION, which says so. Raises ServerError.
    """
    deadline = time.monotonic() + timeout
    query = "SELECT active FROM pg_catalog.pg_replication_slots WHERE slot_name = %s"
    with explain_errors("waiting for the replication slot", slot):
        while (row := source.execute(query, (slot,)).fetchone()) and row[0] and time.monotonic() < deadline:
            time.sleep(0.02)


def binary_everywhere(
    source: Connection,
    catalog: Catalog,
    destination: Connection,
    state_schema: str,
    marks: dict[int, Lsn],
    mapping: ObjectMapping,
) -> bool:
    """Whether every column that is sent means the same bytes at both ends, and the source can send binary at all."""
    if source.info.server_version < 140000:
        return False
    with destination.transaction():
        # this session finds rows by index, and has forbidden itself the joins that a whole catalog needs
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
