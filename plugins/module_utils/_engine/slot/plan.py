# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans the migration's replication slot: its whole identity is stored when it is created, and compared at every check.

A slot that is missing, lost its WAL, or is ahead of what we recorded means that changes are missing: that is an error
for the operator, never "lag 0", and a slot is never recreated behind rows that were copied under an earlier one.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any

from .. import names
from ..capture.observed_publication import observe_publication
from ..capture.publication_members import BEFORE as PUBLICATION
from ..errors import LossError, MismatchError, ServerError, SpecError, StateError
from ..plan import Change, Leftover, Plan
from ..postgres.lsn import NO_LSN, Lsn
from ..postgres.server import Server, System, identify_system
from ..postgres.versions import has
from ..state.progress import read_progress
from .creation import create_slot, creation_statement, drop_slot, wait_inactive
from .former import former_slots
from .identity import BEGIN_AGAIN, LOOKING, Slot, check_slot, difference, observe_slot
from .timeline import following, observe_system

if TYPE_CHECKING:
    from ..migration import Migration

PLUGIN = "pgoutput"
_AFTER_US = 5
"""Seconds after our own timeout at which the server stops waiting for one transaction."""


class SlotStep(Enum):
    """What a run does with the slot."""

    KEEP = "keep"
    MAKE = "make"
    REMAKE = "drop what a crash left half made, and make it"


def decide(
    name: str,
    recorded: Mapping[str, Any] | None,
    found: Slot | None,
    system: System,
    confirmable: Lsn,
    timeline: int,
    copied: bool,
) -> SlotStep:
    """Return what to do with the slot. Pure.

    ``recorded`` is the slot in the state (``consistent_point`` None: we were about to create it), ``confirmable`` the
    highest position that was recorded as durable at the destination (0: none) on ``timeline``, ``copied`` says that
    tables have snapshot LSNs. Raises MismatchError and LossError.
    """
    if recorded is None or not recorded.get("consistent_point"):
        if copied:
            raise LossError(
                "making the replication slot",
                name,
                "tables have been copied already, and no slot holds what was written to them since",
                BEGIN_AGAIN,
            )
        if found is None:
            return SlotStep.MAKE
        if recorded is not None and found.plugin == PLUGIN and found.active_pid:
            raise StateError(
                "making the replication slot",
                name,
                f"an earlier run of this migration died while creating it, and pid {found.active_pid} at the source still"
                " does so",
                "Run the same playbook again in a minute, or end that session: it waits for open transactions.",
            )
        if recorded is None or found.plugin != PLUGIN:
            used = f", used by pid {found.active_pid}" if found.active_pid else ""
            raise MismatchError(
                LOOKING,
                name,
                f"a slot of that name already exists (plugin {found.plugin or 'none'}, database"
                f" {found.database or 'none'}{used}) and this migration did not create it",
                "Give the migration another causeway_name. Drop the slot only when you know whose it is, and that nothing"
                " reads it.",
            )
        return SlotStep.REMAKE
    check_slot(recorded, found, system, confirmable, timeline)
    return SlotStep.KEEP


def plan(migration: Migration, options: Mapping[str, Any]) -> Plan:
    """Return the plan for the slot. Raises EngineError. ``options``: failover (auto, always, never), former_sources,
    wal_disk_size (bytes), wait_timeout (s), state (present, absent)."""
    name = names.slot_name(migration.name)
    if options["state"] == "absent":
        return _plan_absent(migration, name, options["wait_timeout"]).then(former_slots(migration, name, options))
    if not migration.spec.incremental:
        return Plan(notes=("no replication slot is needed: the migration is not incremental",))
    if int(options["wal_disk_size"]) < 0:
        why = f"wal_disk_size {options['wal_disk_size']} is not a size"
        raise SpecError("reading the options of the replication slot", name, why, "Give bytes, or 0 if it is unknown.")
    migration.selected()
    state = migration.state()
    # In this order: the worker records a position before it confirms it, so what we read later is never behind.
    found = observe_slot(migration.source, name)
    progress = read_progress(migration.store) if state else None
    confirmable, timeline = (progress.confirmable, progress.timeline) if progress else (NO_LSN, 0)
    recorded = state.slot if state else None
    copied = bool(confirmable) or any(copy.mark for copy in migration.copies().values())
    system = observe_system(migration)
    step = decide(name, recorded, found, system, confirmable, timeline, copied)
    if step is SlotStep.KEEP and recorded is not None and found is not None:
        kept = _kept(recorded, found, wants_failover(options["failover"], migration.source_server))
        told = _told_disk(migration, recorded, int(options["wal_disk_size"]))
        return kept.then(following(migration, system)).then(told).then(former_slots(migration, name, options))
    return _plan_make(migration, name, step, options)


def wants_failover(asked: str, server: Server) -> bool:
    """Return whether standbys retain the slot too: with ``auto`` if the source can (PostgreSQL 17 and later)."""
    return asked == "always" or (
        asked == "auto" and has(server.version, "slot option FAILOVER") and not server.in_recovery
    )


def _kept(recorded: Mapping[str, Any], found: Slot, failover: bool) -> Plan:
    warnings = []
    if found.wal_status == "unreserved":
        warnings.append(
            f"replication slot {found.name}: its WAL is about to be removed (wal_status = unreserved); raise "
            "max_slot_wal_keep_size, and make sure that the CDC worker runs"
        )
    if failover != found.failover:
        warnings.append(
            f"replication slot {found.name} was created with failover = {str(found.failover).lower()}, which is not changed"
        )
    return Plan(result={"slot": {**recorded, "wal_status": found.wal_status}}, warnings=tuple(warnings))


def _told_disk(migration: Migration, recorded: Mapping[str, Any], disk: int) -> Plan:
    """Return the plan that records the size of the disk of pg_wal for the slot monitor, if another one is configured."""
    before = int(recorded.get("wal_disk_size", 0))
    if before == disk:
        return Plan()

    def apply() -> Mapping[str, object]:
        record = {**recorded, "wal_disk_size": disk}
        migration.store.set_json("slot", record)
        return {"slot": record}

    what = f"record of replication slot {recorded['name']}"
    return Plan((Change("destination", what, {"wal_disk_size": before}, {"wal_disk_size": disk}),), apply=apply)


def _plan_make(migration: Migration, name: str, step: SlotStep, options: Mapping[str, Any]) -> Plan:
    failover = wants_failover(options["failover"], migration.source_server)
    version = migration.source_server.version
    if failover and not has(version, "slot option FAILOVER"):
        raise SpecError(
            "making the replication slot",
            name,
            f"failover slots exist from PostgreSQL 17 on, the source is {migration.source_server.version_text[:40]}",
            "Leave failover at auto.",
        )
    statement = creation_statement(name, PLUGIN, failover, version)
    drop = (f"SELECT pg_catalog.pg_drop_replication_slot('{name}')",) if step is SlotStep.REMAKE else ()
    before = "half made" if step is SlotStep.REMAKE else None
    after = {"plugin": PLUGIN, "database": migration.source_server.database, "failover": failover}
    change = Change("source", f"replication slot {name}", before, after, (*drop, statement))

    def apply() -> Mapping[str, object]:
        _require_publication(migration)
        # We cancel first; should we die before, the server must not wait for ever, with the unfinished slot in use.
        given_up = {"lock_timeout": f"{int((options['wait_timeout'] + _AFTER_US) * 1000)}ms"}
        walsender = migration.open(migration.spec.source, "slot", replication=True, settings=given_up)
        system = identify_system(walsender, migration.spec.source)
        record: dict[str, Any] = {
            "name": name,
            "plugin": PLUGIN,
            "database": migration.source_server.database,
            "consistent_point": None,
            "system_identifier": system.identifier,
            "timeline": system.timeline,
            "failover": failover,
            **({"wal_disk_size": int(options["wal_disk_size"])} if options["wal_disk_size"] else {}),
        }
        # The intent first: a slot of our name that exists after a crash is then known to be ours, and unused.
        migration.store.set_json("slot", record)
        if step is SlotStep.REMAKE:
            drop_slot(migration.source, name)
        record["consistent_point"] = create_slot(walsender, migration.source, statement, name, options["wait_timeout"])
        with migration.destination.transaction():
            migration.store.set_json("slot", record)
            migration.store.advance("prepared")
        check_slot(record, observe_slot(migration.source, name), system)
        return {"slot": record}

    notes = []
    if observe_publication(migration.source, names.publication_name(migration.name)) is None:
        notes.append("the publication does not exist yet; pg_publication creates it before this runs")
    return Plan(changes=(change,), apply=apply, notes=tuple(notes))


def _require_publication(migration: Migration) -> None:
    """Raise StateError if the publication is missing: what is written before it exists can never be decoded."""
    name = names.publication_name(migration.name)
    state = migration.store.load()
    found = observe_publication(migration.source, name)
    if found is None or state is None or not state.before_image.get(PUBLICATION):
        raise StateError(
            "making the replication slot",
            names.slot_name(migration.name),
            f"publication {name} does not exist yet, and has to exist before the slot",
            "Run pg_publication first.",
        )


def _plan_absent(migration: Migration, name: str, wait: float) -> Plan:
    state = migration.state()
    recorded = state.slot if state else None
    if not recorded:
        return Plan(result={"left_behind": []})
    found = observe_slot(migration.source, name)
    by_hand = f"SELECT pg_catalog.pg_drop_replication_slot('{name}')"
    if found is None:
        record = Change("destination", f"record of replication slot {name}", "there", None)
        return Plan((record,), {"left_behind": []}, lambda: _forget(migration), ("the slot is gone already",))
    made = bool(recorded.get("consistent_point"))
    stranger = difference(recorded, found, observe_system(migration).identifier) if made else ""
    if stranger:
        leftover = Leftover("source", f"replication slot {name}", stranger, (by_hand,))
        return Plan(result={"left_behind": [leftover.as_result()]}, warnings=(str(leftover),))

    def apply() -> Mapping[str, object]:
        why = ""
        pid = wait_inactive(migration.source, name, wait)
        if pid:
            why = f"pid {pid} still reads it after {wait:g} s"
        else:
            try:
                drop_slot(migration.source, name)
            except ServerError as exc:
                why = exc.why
        if why:
            left = Leftover("source", f"replication slot {name}", why, (by_hand,))
            return {"left_behind": [left.as_result()]}
        return _forget(migration)

    change = Change("source", f"replication slot {name}", dict(recorded), None, (by_hand,))
    return Plan((change,), {"left_behind": []}, apply)


def _forget(migration: Migration) -> Mapping[str, object]:
    migration.store.set_json("slot", None)
    return {"left_behind": []}
