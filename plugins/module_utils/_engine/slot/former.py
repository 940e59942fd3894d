# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds and drops the slot that a failover of the source left on the old primary."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..errors import EngineError, SpecError
from ..plan import Change, Leftover, Plan
from ..postgres.connect import Endpoint, connect, explain_errors
from ..postgres.server import System, observe_server
from .creation import drop_slot
from .identity import LOOKING, difference, observe_slot
from .timeline import observe_system

if TYPE_CHECKING:
    from ..migration import Migration
    from ..postgres.connect import Connection


@dataclass(frozen=True, slots=True)
class FormerPrimary:
    """A server that was the source before: whether a slot exists there (``stands``), and ``why`` it may not be dropped,
    empty if it may."""

    endpoint: Endpoint
    stands: bool
    why: str

    @property
    def place(self) -> str:
        return f"{self.endpoint.host}:{self.endpoint.port}"


def former_slots(migration: Migration, name: str, options: Mapping[str, Any]) -> Plan:
    """Return the plan that drops the slot on the servers that were the source before a failover (``former_sources``)."""
    state = migration.state()
    recorded = state.slot if state else None
    if not recorded or not recorded.get("consistent_point"):
        return Plan()
    by_hand = f"SELECT pg_catalog.pg_drop_replication_slot('{name}')"
    system = observe_system(migration)
    given = [former_endpoint(migration.spec.source, one) for one in options.get("former_sources") or ()]
    found = [observe_former(one, migration.name, recorded, system) for one in given]
    left = [Leftover("source", f"replication slot {name} at {f.place}", f.why, (by_hand,)) for f in found if f.why]
    mine = [former for former in found if former.stands and not former.why]
    notes: tuple[str, ...] = ()
    if not given and int(recorded["timeline"]) != system.timeline:
        notes = (
            f"The source was promoted after the slot was created (timeline {recorded['timeline']}, now"
            f" {system.timeline}). If the former primary comes back, {name} still exists there and retains WAL: name that"
            f" server in causeway_former_sources, or run there: {by_hand}",
        )
    changes = [Change("source", f"replication slot {name} at {f.place}", "left over", None, (by_hand,)) for f in mine]

    def apply() -> Mapping[str, object]:
        for former in mine:
            drop_former(migration, former, name)
        return {}

    result = {"left_behind": [one.as_result() for one in left]}
    return Plan(tuple(changes), result, apply, notes, tuple([str(one) for one in left]))


def drop_former(migration: Migration, former: FormerPrimary, name: str) -> None:
    """Drop the slot that is left over on a former source. Raises ConnectError, ServerError."""
    with closing(connect(former.endpoint, f"former {migration.name}")) as conn:
        drop_slot(conn, name)


def former_endpoint(source: Endpoint, given: Mapping[str, Any]) -> Endpoint:
    """Return the source's account at another address. Raises SpecError if the address is the source's."""
    there = replace(source, host=str(given["login_host"]), port=int(given.get("login_port") or source.port))
    if (there.host, there.port) == (source.host, source.port):
        raise SpecError(
            "reading the former sources",
            f"{there.host}:{there.port}",
            "this is the source itself",
            "Name only servers that were the source before a failover.",
        )
    return there


def observe_former(endpoint: Endpoint, migration: str, recorded: Mapping[str, Any], now: System) -> FormerPrimary:
    """Look for the slot there. A slot that cannot be read, or is not certainly ours and left over, is only reported."""
    try:
        with closing(connect(endpoint, f"former {migration}")) as conn:
            return FormerPrimary(endpoint, *_left_over(conn, recorded, now))
    except EngineError as exc:
        return FormerPrimary(endpoint, False, f"it could not be checked ({exc.why})")


def _left_over(conn: Connection, recorded: Mapping[str, Any], now: System) -> tuple[bool, str]:
    server = observe_server(conn, "source")
    found = observe_slot(conn, str(recorded["name"]))
    with explain_errors(LOOKING, str(recorded["name"])):
        timeline = conn.execute("SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()").fetchone()
    if found is None:
        return False, ""
    other = difference(recorded, found, server.system_identifier)
    if other:
        return True, other
    if server.in_recovery and found.synced:
        return False, ""  # a standby's copy of the slot in use: it is dropped with that one
    if not server.in_recovery and (timeline is None or timeline[0] >= now.timeline):
        return True, f"that server is itself a primary, on timeline {timeline[0] if timeline else 'unknown'}"
    return True, f"pid {found.active_pid} there reads it" if found.active_pid else ""
