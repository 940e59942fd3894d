# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a slot is the one that the migration made, and whether it still has all that is needed: one rule for the
modules and for the CDC worker.

Absence of evidence is a failure: a missing slot is not "lag 0", and a slot of our name is not ours because of it.
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
    " tables anew under a new slot."
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
    """A slot as pg_replication_slots shows it. ``active_pid`` is 0 for nobody; a position is 0 where there is none.

    ``wal_status`` is reserved, extended, unreserved, lost, or empty on a server that does not say. ``synced``: it is a
    standby's copy of the primary's.
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
    """Return in what a slot is another one than the recorded one; empty where it is that one.

    ``system`` is the identifier of the server that was asked, empty where it is not known. It is compared first: another
    server has no such slot, or a stranger's.
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
            return f"its {what} is {'unknown' if now == '' else now}, and it was {before} when this migration made it"
    return ""


def check_slot(
    recorded: Mapping[str, Any], found: Slot | None, system: System, confirmable: Lsn = NO_LSN, timeline: int = 0
) -> None:
    """Raise unless this is the slot that the migration made and it still has all that is needed. Pure.

    ``recorded`` is its identity as it was stored, ``confirmable`` the highest position that was recorded as durable at the
    destination (0: none), and ``timeline`` the one on which that counts. Where changes have been applied, a promotion is
    the CDC worker's to judge: it knows what it has taken, and reads the timeline's history (`timeline`). A slot behind
    ``confirmable`` is normal: what comes twice is skipped by its commit position.

    Raises MismatchError where it is another slot, LossError where changes are missing.
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
        raise LossError(LOOKING, name, "the source has no such slot any more", BEGIN_AGAIN)
    if found.wal_status == "lost" or found.confirmed == NO_LSN:
        raise LossError(LOOKING, name, "its WAL was removed (wal_status = lost, max_slot_wal_keep_size)", BEGIN_AGAIN)
    _check_source(recorded, system, confirmable, timeline if confirmable else int(recorded["timeline"]))
    _check_position(recorded, found, confirmable)


def _check_source(recorded: Mapping[str, Any], system: System, confirmable: Lsn, timeline: int) -> None:
    """Whether the source is still where the slot was made, and has all that was received from it. Raises LossError."""
    if timeline != system.timeline:
        if confirmable:
            return
        raise LossError(
            LOOKING,
            str(recorded["name"]),
            f"the source was promoted: it is on timeline {system.timeline}, the slot was made on {timeline}",
            "Commits that the old primary had not passed on may be at the destination and not here. " + BEGIN_AGAIN,
        )
    if system.flushed < confirmable:
        # Its commits would come under positions that we take for applied, and be skipped.
        raise LossError(
            LOOKING,
            str(recorded["name"]),
            f"the source's WAL ends at {format_lsn(system.flushed)}, and changes up to {format_lsn(confirmable)} were"
            " received from it: the source is an older copy of itself, or lost what it had called safe",
            "Compare both ends with the validate playbook; to be sure, release the migration and migrate again.",
        )


def _check_position(recorded: Mapping[str, Any], found: Slot, confirmable: Lsn) -> None:
    """A slot ahead of us has thrown away changes; one before its own consistent point is another one. Raises."""
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
            f"it is at {format_lsn(found.confirmed)}, ahead of {format_lsn(highest)}, the highest position that is"
            " recorded at the destination: the slot was advanced or recreated, or the destination is an older copy",
            BEGIN_AGAIN,
        )
