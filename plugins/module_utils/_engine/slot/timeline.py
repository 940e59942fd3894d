# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides after a failover of the source what still holds on its new timeline: our position, and each table's copy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from ..errors import LossError, StateError
from ..plan import Change, Plan
from ..postgres.catalog import qualified
from ..postgres.connect import connect, explain_errors, simple_query
from ..postgres.lsn import NO_LSN, Lsn, format_lsn, parse_lsn
from ..postgres.server import System, identify_system
from ..state.copies import take_back_copies

if TYPE_CHECKING:
    from ..migration import Migration
    from ..postgres.connect import Connection
    from ..state.copies import TableCopy
    from ..state.store import StateStore


def observe_system(migration: Migration) -> System:
    """Return IDENTIFY_SYSTEM over a replication connection of its own. Raises ConnectError, ServerError."""
    walsender = migration.open(migration.spec.source, "system", replication=True)
    try:
        return identify_system(walsender, migration.spec.source)
    finally:
        walsender.close()


def read_history(walsender: Connection, timeline: int) -> str:
    """Return the timeline's history file, from TIMELINE_HISTORY. Raises ServerError."""
    rows = simple_query(walsender, f"TIMELINE_HISTORY {timeline}", "reading the history of timeline", str(timeline))
    return rows[0][1] or "" if rows else ""


def switch_point(history: str, timeline: int) -> Lsn | None:
    """Return where ``timeline`` ended, from a later timeline's history file; None if it is no ancestor."""
    for line in history.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == str(timeline):
            return parse_lsn(words[1])
    return None


def position_after_switch(applied: Lsn, confirmable: Lsn, timeline: int, present: int, history: str) -> Lsn:
    """Return the confirmable position on the source's ``present`` timeline, which is not our position's ``timeline``.

    Up to the switch point both have the same past; beyond it nothing may be skipped by its position. Raises LossError
    if we have applied what the present source never had.
    """
    doing, what = "following the source to timeline", str(present)
    point = switch_point(history, timeline)
    if point is None or timeline > present:
        raise LossError(
            doing,
            what,
            f"timeline {timeline}, on which changes were applied, is not part of its history",
            "The source is another branch of that cluster. Name the right one, or release the migration and migrate again.",
        )
    if applied > point:
        raise LossError(
            doing,
            what,
            f"changes up to {format_lsn(applied)} were applied at the destination, and the source left timeline"
            f" {timeline} at {format_lsn(point)}: some of them never happened there",
            "Compare both ends with the validate playbook; to be sure, release the migration and migrate again.",
        )
    return min(confirmable, point)


def copied_too_late(
    copies: Iterable[TableCopy], timeline: int, present: int, history: str
) -> tuple[list[TableCopy], Lsn]:
    """Return the tables with rows that the source, on timeline ``present``, never had, and where it left the other one.

    Each snapshot LSN belongs to the timeline on which it was taken, by default ``timeline``. Pure.
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


def following(migration: Migration, system: System) -> Plan:
    """Return the plan that marks tables to be copied again after a failover; an empty one if there are none.

    The CDC worker checks too, before it resumes the stream.
    """
    state = migration.state()
    slot = state.slot if state and state.slot else {}
    made_on = int(slot.get("timeline") or system.timeline)
    copies = migration.copies().values()
    if all((copy.timeline or made_on) == system.timeline for copy in copies):
        return Plan()
    with closing(connect(migration.spec.source, f"history {migration.name}", replication=True)) as walsender:
        history = read_history(walsender, system.timeline)
    late, point = copied_too_late(copies, made_on, system.timeline, history)
    if not late:
        return Plan()

    def apply() -> Mapping[str, object]:
        copy_again(migration.store, late, system.timeline, point)
        return {}

    changes = [Change("destination", f"copy of {qualified(one.name)}", "complete", "to be made again") for one in late]
    return Plan(tuple(changes), apply=apply)


def copy_again(store: StateStore, late: Sequence[TableCopy], present: int, point: Lsn) -> StateError:
    """Take back that these tables are complete, so that the next full copy empties them and copies them again.

    Return the error that the task ends with. Raises LossError for tables that held rows before us: which rows are ours
    is not recorded.
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
        take_back_copies(store, [copy.relation for copy in late])
        store.event("replicating", "tables to be copied again after a failover", {"timeline": present, "said": why})
    return StateError(
        doing,
        str(present),
        f"{why}; they hold rows that the source never had",
        "Run the migrate playbook: it copies just these tables again, under a new snapshot, and CDC continues for all others.",
    )
