# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the stream may be taken up where we stand: the slot's identity and position, and the source's timeline.

Absence of evidence is a failure: a missing slot is not "lag 0", and a slot of our name is not ours because of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import LossError, MismatchError, StateError
from ..postgres._psycopg import sql
from ..postgres.catalog import qualified
from ..postgres.connect import explain_errors, simple_query
from ..postgres.lsn import NO_LSN, Lsn, format_lsn, parse_lsn

if TYPE_CHECKING:
    from ..cdc.apply.progress import Progress
    from ..postgres.connect import Connection
    from ..postgres.server import System
    from ..state.store import StateStore, TableCopy
    from .plan import Slot

_BEGIN_AGAIN = (
    "What changed at the source since then is lost for this migration: set causeway_restart: true and copy again."
)


def check_slot(slot: str, found: Slot | None, made: Mapping[str, Any], system: System, confirmable: Lsn) -> None:
    """Raise unless this is the slot that the migration made and it still has all that we need.

    ``made`` is its identity as it was stored; ``confirmable`` the highest position that we recorded as such. A slot
    behind it is normal: what comes twice is skipped by its commit position.
    """
    doing = "taking up the replication slot"
    if system.identifier != made["system_identifier"]:
        raise MismatchError(
            doing,
            slot,
            f"the source is system {system.identifier}, and the slot was made on system {made['system_identifier']}",
            "Name the source that the migration was begun from, or release the migration and begin again.",
        )
    if found is None:
        raise LossError(doing, slot, "the source has no such slot any more", _BEGIN_AGAIN)
    if (found.plugin, found.database) != (made["plugin"], made["database"]):
        raise MismatchError(
            doing,
            slot,
            f"it is of plugin {found.plugin} in database {found.database}, ours is of {made['plugin']} in"
            f" {made['database']}",
            "Somebody made another slot of that name. Drop it, set causeway_restart: true and copy again.",
        )
    if found.wal_status == "lost" or found.confirmed == NO_LSN:
        raise LossError(doing, slot, "its WAL was removed (wal_status = lost, max_slot_wal_keep_size)", _BEGIN_AGAIN)
    if system.flushed < confirmable:
        # Its commits would come under positions that we take for applied, and be skipped.
        raise LossError(
            doing,
            slot,
            f"the source's WAL ends at {format_lsn(system.flushed)}, and changes up to {format_lsn(confirmable)} were"
            " received from it: the source is an older copy of itself, or lost what it had called safe",
            "Compare both ends with the validate playbook; to be sure, set causeway_restart: true and copy again.",
        )
    if found.confirmed > confirmable:
        raise LossError(
            doing,
            slot,
            f"it stands at {format_lsn(found.confirmed)}, ahead of {format_lsn(confirmable)}, the highest position that"
            " is recorded at the destination: the slot was advanced or made anew, or the destination is an older copy",
            _BEGIN_AGAIN,
        )


def read_history(walsender: Connection, timeline: int) -> str:
    """The timeline's history file, as TIMELINE_HISTORY gives it. Raises ServerError."""
    rows = simple_query(walsender, f"TIMELINE_HISTORY {timeline}", "reading the history of timeline", str(timeline))
    return rows[0][1] or "" if rows else ""


def switch_point(history: str, timeline: int) -> Lsn | None:
    """Where ``timeline`` ended, from a later timeline's history file; None when it is no ancestor."""
    for line in history.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == str(timeline):
            return parse_lsn(words[1])
    return None


def position_after_switch(progress: Progress, system: System, history: str) -> Lsn:
    """The confirmable position on the source's present timeline, which is not the one of our progress.

    Up to the switch point both have the same past; beyond it nothing may be skipped by its position. Raises LossError
    where we have taken what the present source never had.
    """
    doing, what = "following the source to timeline", str(system.timeline)
    point = switch_point(history, progress.timeline)
    if point is None or progress.timeline > system.timeline:
        raise LossError(
            doing,
            what,
            f"timeline {progress.timeline}, on which changes were applied, is no part of its past",
            "The source is another branch of that cluster. Name the right one, or begin again with causeway_restart.",
        )
    if progress.applied > point:
        raise LossError(
            doing,
            what,
            f"changes up to {format_lsn(progress.applied)} stand at the destination, and the source left timeline"
            f" {progress.timeline} at {format_lsn(point)}: some of them never happened there",
            "Compare both ends with the validate playbook; to be sure, set causeway_restart: true and copy again.",
        )
    return min(progress.confirmable, point)


def copied_too_late(
    copies: Iterable[TableCopy], timeline: int, present: int, history: str
) -> tuple[list[TableCopy], Lsn]:
    """The tables whose rows hold what the source, on timeline ``present``, never had, and where it left the other one.

    Each mark counts on the timeline on which it was taken; ``timeline`` stands where that is not known. Pure.
    """
    late, left = [], NO_LSN
    for copy in copies:
        began = copy.timeline or timeline
        if copy.state != "complete" or began == present:
            continue
        point = switch_point(history, began)
        if point is None or copy.mark > point:
            late.append(copy)
            left = max(left, point or NO_LSN)
    return late, left


def copy_again(store: StateStore, late: Sequence[TableCopy], present: int, point: Lsn) -> StateError:
    """Take back that these tables are complete, so that the next full copy empties them and copies them anew.

    Returns what the task ends with. Raises LossError for tables that held rows before us: nobody knows which are ours.
    """
    named = ", ".join(qualified(copy.name) for copy in late[:10])
    doing = "following the source to timeline"
    why = f"{len(late)} tables were copied after {format_lsn(point)}, where the source left its old timeline: {named}"
    mixed = [qualified(copy.name) for copy in late if copy.found_empty is False]
    if mixed:
        raise LossError(
            doing,
            str(present),
            f"{why}; {', '.join(mixed[:10])} held rows before, so what was copied cannot be taken back",
            "Compare these tables with the validate playbook; to be sure, release the migration and begin again.",
        )
    with explain_errors("taking back the copies of migration", store.name), store.conn.transaction():
        store.conn.execute(
            sql.SQL(
                "UPDATE {} SET state = 'copying' WHERE migration = %s AND relation = ANY (%s::oid[])"
                " AND state = 'complete'"
            ).format(store.table("table_copy")),
            (store.name, [copy.relation for copy in late]),
        )
        store.event("replicating", "tables to be copied again after a failover", {"timeline": present, "said": why})
    return StateError(
        doing,
        str(present),
        f"{why}; they hold rows that never happened there",
        "Run the migrate playbook: it copies just these tables again, under a new mark, and CDC goes on for all others.",
    )
