# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks that a slot is the one that the migration created, and still has all that is needed: one rule for the modules
and for the CDC worker.

Absence of evidence is a failure: a missing slot is not "lag 0", and a slot is not ours because it has our name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import LossError, MismatchError
from ..postgres.connect import explain_errors
from ..postgres.lsn import NO_LSN, Lsn, format_lsn, parse_lsn

if TYPE_CHECKING:
    from ..postgres.connect import Connection
    from ..postgres.server import System

LOOKING = "looking at the replication slot"
BEGIN_AGAIN = (
    "What changed at the source since then is lost for this migration: release it and migrate again, which copies the"
    " tables again under a new slot."
)

# to_jsonb sees the columns that this version has: wal_status from 13, failover and synced from 17.
_SLOT = """
SELECT s.slot_name, coalesce(s.plugin, ''), s.slot_type, coalesce(s.database, ''), s.temporary,
       coalesce(s.active_pid, 0), s.confirmed_flush_lsn::text, s.restart_lsn::text,
       coalesce(pg_catalog.to_jsonb(s) ->> 'wal_status', ''),
       coalesce((pg_catalog.to_jsonb(s) ->> 'failover')::boolean, false),
       coalesce((pg_catalog.to_jsonb(s) ->> 'synced')::boolean, false)
  FROM pg_catalog.pg_replication_slots s WHERE s.slot_name = %s
"""


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot as pg_replication_slots shows it. ``active_pid`` is 0 if no session reads it; a position is 0 if there is none.

    ``wal_status`` is reserved, extended, unreserved, lost, or empty on a server that does not show it. ``synced``: it is
    a standby's copy of the primary's.
    """

    name: str
    plugin: str
    kind: str
    database: str
    temporary: bool
    active_pid: int
    confirmed: Lsn
    restart: Lsn
    wal_status: str
    failover: bool
    synced: bool = False


def observe_slot(conn: Connection, name: str) -> Slot | None:
    """Return the slot of that name, or None. Raises ServerError."""
    with explain_errors(LOOKING, name):
        row = conn.execute(_SLOT, (name,)).fetchone()
    if row is None:
        return None
    return Slot(*row[:6], *(parse_lsn(text) if text else 0 for text in row[6:8]), *row[8:])


def difference(recorded: Mapping[str, Any], found: Slot | None, system: str) -> str:
    """Return how a slot differs from the recorded one; empty if it is that one.

    ``system`` is the identifier of the server that was asked, empty if unknown. It is compared first: another server has
    no such slot, or an unrelated one.
    """
    pairs: list[tuple[str, object, object]] = [("system identifier", recorded["system_identifier"], system)]
    if found is not None:
        pairs += [
            ("name", recorded["name"], found.name),
            ("plugin", recorded["plugin"], found.plugin),
            ("database", recorded["database"], found.database),
            ("type", "logical", found.kind),
            ("temporary", False, found.temporary),
            ("failover", bool(recorded.get("failover")), found.failover),
        ]
    for what, before, now in pairs:
        if before != now:
            return (
                f"its {what} is {'unknown' if now == '' else now}, and it was {before} when this migration created it"
            )
    return ""


def check_slot(
    recorded: Mapping[str, Any], found: Slot | None, system: System, confirmable: Lsn = NO_LSN, timeline: int = 0
) -> None:
    """Raise unless this is the slot that the migration created and it still has all that is needed. Pure.

    ``recorded`` is its identity as it was stored, ``confirmable`` the highest position that was recorded as durable at the
    destination (0: none), and ``timeline`` the one of that position. Once changes have been applied, the CDC worker
    judges a promotion: it knows what it has received, and reads the timeline's history (`timeline`). A slot behind
    ``confirmable`` is normal: changes that are sent twice are skipped by their commit position.

    Raises MismatchError for another slot, LossError if changes are missing.
    """
    name = str(recorded["name"])
    other = difference(recorded, found, system.identifier)
    if other:
        raise MismatchError(
            LOOKING,
            name,
            other,
            "Correct causeway_source if it names another server; otherwise another session recreated the slot. "
            + BEGIN_AGAIN,
        )
    if found is None:
        raise LossError(LOOKING, name, "the slot no longer exists at the source", BEGIN_AGAIN)
    if found.wal_status == "lost" or found.confirmed == NO_LSN:
        raise LossError(LOOKING, name, "its WAL was removed (wal_status = lost, max_slot_wal_keep_size)", BEGIN_AGAIN)
    _check_source(recorded, system, confirmable, timeline if confirmable else int(recorded["timeline"]))
    _check_position(recorded, found, confirmable)


def _check_source(recorded: Mapping[str, Any], system: System, confirmable: Lsn, timeline: int) -> None:
    """Raise LossError unless the source is still on the slot's timeline, and has all that was received from it."""
    if timeline != system.timeline:
        if confirmable:
            return
        raise LossError(
            LOOKING,
            str(recorded["name"]),
            f"the source was promoted: it is on timeline {system.timeline}, the slot was created on {timeline}",
            "Commits that the old primary had not replicated may exist at the destination and not here. " + BEGIN_AGAIN,
        )
    if system.flushed < confirmable:
        # Its new commits would have positions that count as applied, and be skipped.
        raise LossError(
            LOOKING,
            str(recorded["name"]),
            f"the source's WAL ends at {format_lsn(system.flushed)}, and changes up to {format_lsn(confirmable)} were"
            " received from it: the source is an older copy of itself, or lost commits that it had confirmed",
            "Compare both ends with the validate playbook; to be sure, release the migration and migrate again.",
        )


def _check_position(recorded: Mapping[str, Any], found: Slot, confirmable: Lsn) -> None:
    """Raise LossError for a slot that is ahead of us: changes are lost; or before its own consistent point: another one."""
    began = parse_lsn(recorded["consistent_point"])
    if found.confirmed < began:
        raise MismatchError(
            LOOKING,
            found.name,
            f"it is at {format_lsn(found.confirmed)}, before its own consistent point {recorded['consistent_point']}",
            "It is another slot of the same name. " + BEGIN_AGAIN,
        )
    highest = confirmable or began
    if found.confirmed > highest:
        raise LossError(
            LOOKING,
            found.name,
            f"it is at {format_lsn(found.confirmed)}, ahead of {format_lsn(highest)}, the highest position"
            " recorded at the destination: the slot was advanced or recreated, or the destination is an older copy",
            BEGIN_AGAIN,
        )
