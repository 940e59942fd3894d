# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After a failover of the source: which tables have to be copied again, and the slot that stays on the old primary."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..errors import EngineError, SpecError
from ..plan import Change, Leftover, Plan
from ..postgres.catalog import qualified
from ..postgres.connect import Endpoint, connect, explain_errors
from ..postgres.server import System, identify_system, observe_server
from .creation import drop_slot
from .timeline import copied_too_late, copy_again, read_history

if TYPE_CHECKING:
    from ..migration import Migration
    from ..postgres.connect import Connection

_SLOT = """
SELECT s.plugin, s.database, coalesce(s.active_pid, 0),
       coalesce((pg_catalog.to_jsonb(s) ->> 'synced')::boolean, false)
  FROM pg_catalog.pg_replication_slots s WHERE s.slot_name = %s
"""


def observe_system(migration: Migration) -> System:
    """IDENTIFY_SYSTEM over a replication connection of its own. Raises ConnectError, ServerError."""
    walsender = migration.open(migration.spec.source, "system", replication=True)
    try:
        return identify_system(walsender, migration.spec.source)
    finally:
        walsender.close()


def following(migration: Migration, plan: Plan, system: System) -> Plan:
    """``plan``, and after a failover the tables that have to be copied again. The worker looks too (`cdc.slot_guard`)."""
    state = migration.state()
    slot = state.slot if state and state.slot else {}
    made_on = int(slot.get("timeline") or system.timeline)
    copies = migration.copies().values()
    if all((copy.timeline or made_on) == system.timeline for copy in copies):
        return plan
    with closing(connect(migration.spec.source, f"history {migration.name}", replication=True)) as walsender:
        history = read_history(walsender, system.timeline)
    late, point = copied_too_late(copies, made_on, system.timeline, history)
    if not late:
        return plan
    changes = tuple(
        [Change("destination", f"copy of {qualified(one.name)}", "complete", "to be made again") for one in late]
    )

    def apply() -> Mapping[str, object]:
        copy_again(migration.store, late, system.timeline, point)
        return plan.apply() if plan.changes else {}

    return replace(plan, changes=(*plan.changes, *changes), apply=apply)


@dataclass(frozen=True, slots=True)
class FormerPrimary:
    """A server that was the source before, and what stands there: ``why`` not may be dropped, empty where it may."""

    endpoint: Endpoint
    stands: bool
    why: str

    @property
    def place(self) -> str:
        return f"{self.endpoint.host}:{self.endpoint.port}"


def with_former(migration: Migration, plan: Plan, name: str, options: Mapping[str, Any]) -> Plan:
    """``plan``, and the slot of that name on the servers that were the source before a failover (``former_sources``)."""
    state = migration.state()
    recorded = state.slot if state else None
    if not recorded or not recorded.get("consistent_point"):
        return plan
    by_hand = f"SELECT pg_catalog.pg_drop_replication_slot('{name}')"
    system = observe_system(migration)
    given = [former_endpoint(migration.spec.source, one) for one in options.get("former_sources") or ()]
    found = [observe_former(one, migration.name, name, recorded, system) for one in given]
    left = [Leftover("source", f"replication slot {name} at {f.place}", f.why, (by_hand,)) for f in found if f.why]
    mine = [former for former in found if former.stands and not former.why]
    notes: tuple[str, ...] = ()
    if not given and int(recorded["timeline"]) != system.timeline:
        notes = (
            f"The source was promoted since the slot was made (timeline {recorded['timeline']}, now {system.timeline})."
            f" If the server that was primary before comes back, {name} still stands there and keeps WAL: name it in"
            f" causeway_former_sources, or run there: {by_hand}",
        )
    changes = [Change("source", f"replication slot {name} at {f.place}", "left over", None, (by_hand,)) for f in mine]

    def apply() -> Mapping[str, object]:
        result = dict(plan.apply()) if plan.changes else dict(plan.result)
        for former in mine:
            drop_former(migration, former, name)
        return {**result, "left_behind": [*_listed(result), *told]}

    def _listed(result: Mapping[str, Any]) -> list[Any]:
        return [one for one in result.get("left_behind", ()) if one not in told]

    told = [one.as_result() for one in left]
    return replace(
        plan,
        changes=(*plan.changes, *changes),
        result={**plan.result, "left_behind": [*_listed(plan.result), *told]},
        apply=apply,
        notes=(*plan.notes, *notes),
        warnings=(*plan.warnings, *[str(one) for one in left]),
    )


def drop_former(migration: Migration, former: FormerPrimary, name: str) -> None:
    """Drop the slot that is left over on a former source. Raises ConnectError, ServerError."""
    with closing(connect(former.endpoint, f"former {migration.name}")) as conn:
        drop_slot(conn, name)


def former_endpoint(source: Endpoint, given: Mapping[str, Any]) -> Endpoint:
    """The source's account at another address. Raises SpecError where the address is the source's."""
    there = replace(source, host=str(given["login_host"]), port=int(given.get("login_port") or source.port))
    if (there.host, there.port) == (source.host, source.port):
        raise SpecError(
            "reading the former sources",
            f"{there.host}:{there.port}",
            "this is the source itself",
            "Name servers that were the source before a failover, and are no longer.",
        )
    return there


def observe_former(
    endpoint: Endpoint, migration: str, name: str, recorded: Mapping[str, Any], now: System
) -> FormerPrimary:
    """Look for the slot there. Whatever cannot be seen or is not surely left over is said, and not dropped."""
    try:
        with closing(connect(endpoint, f"former {migration}")) as conn:
            return FormerPrimary(endpoint, *_left_over(conn, name, recorded, now))
    except EngineError as exc:
        return FormerPrimary(endpoint, False, f"it could not be looked at ({exc.why})")


def _left_over(conn: Connection, name: str, recorded: Mapping[str, Any], now: System) -> tuple[bool, str]:
    server = observe_server(conn, "source")
    with explain_errors("looking at the replication slot", name):
        row = conn.execute(_SLOT, (name,)).fetchone()
        timeline = conn.execute("SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()").fetchone()
    if row is None:
        return False, ""
    plugin, database, active, synced = row
    if server.system_identifier != recorded["system_identifier"]:
        return True, f"it is another system ({server.system_identifier or 'unknown'})"
    if (plugin, database) != (recorded["plugin"], recorded["database"]):
        return True, f"it is of plugin {plugin} in database {database}, ours is another one"
    if server.in_recovery and synced:
        return False, ""  # a standby's copy of the slot in use: it goes with that one
    if not server.in_recovery and (timeline is None or timeline[0] >= now.timeline):
        return True, f"that server is a primary on timeline {timeline[0] if timeline else 'unknown'} itself"
    return True, f"pid {active} there reads it" if active else ""
