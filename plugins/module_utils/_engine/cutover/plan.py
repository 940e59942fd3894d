# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan that cuts over: fence the source, prove the destination, open it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..errors import SpecError, StateError
from ..large_objects.writes import written_warning
from ..plan import Change, Plan
from ..schema.triggers import enable_triggers_statements
from ..state.advisory import holder
from ..state.task import read_control
from ..writers import fence
from ..writers.left_fence import lift_fence
from ..writers.sessions import require_nothing_prepared
from . import opening
from .drain import require_catching_up
from .execute import Cutover, Limits
from .readiness import require_alike

if TYPE_CHECKING:
    from ..drift.comparison import Drift
    from ..migration import Migration
    from ..state.store import MigrationState

_DOING = "cutting over migration"


def plan_opened(migration: Migration, limits: Limits, drift: Drift) -> Plan:
    """Return the Plan that cuts over; once the destination has been opened, one that returns the stored certificate.

    The definitions of both ends are compared here, before anything is taken from the application. Raises EngineError.
    """
    stored = migration.store.load()
    if stored is not None and stored.opened_at:
        return Plan(result={"opened_at": stored.opened_at, "certificate": opening.certificate_of(migration)})
    opened = migration.opened_at()
    if opened and not migration.spec.restart:
        return Plan(result={"opened_at": opened, "certificate": None})
    if not migration.spec.incremental:
        raise SpecError(
            _DOING,
            migration.name,
            "it has no incremental part, so nothing keeps the destination up to date while the application is fenced",
            "Stop the application yourself, run migrate once more, and switch it; or add incremental to its types.",
        )
    state = migration.state()
    notes = () if state else ("nothing has been migrated yet; run migrate before the cutover",)
    if state is not None:
        _require_ready(migration, state, limits, drift)

    def apply() -> Mapping[str, object]:
        if state is None:
            raise _not_yet(migration, "it has not been migrated")
        cutover = Cutover(migration, limits, drift)
        certificate = cutover.run()
        return {"opened_at": certificate["opened_at"], "certificate": certificate, "warnings": cutover.warnings}

    found = fence.observe(migration)
    warnings = _warnings(found) + _told(drift)
    if state is not None and (written := written_warning(migration.source, migration.store, state.before_image)):
        warnings += (written,)
    compared = drift.seen.as_result() if drift.seen else {}
    changes = _changes(migration, state, found, limits)
    return Plan(changes=changes, result=compared, apply=apply, notes=notes, warnings=warnings)


def _told(drift: Drift) -> tuple[str, ...]:
    """Return a sentence for what differs and does not stop the cutover; each difference is in the module's result."""
    told = [one.object for one in drift.seen.differences if one.severity == "warning"] if drift.seen else []
    if not told:
        return ()
    more = f" and {len(told) - 5} more" if len(told) > 5 else ""
    return (f"The ends differ in {', '.join(told[:5])}{more}: the result says how, and what removes each difference.",)


def _warnings(found: fence.Fence) -> tuple[str, ...]:
    if not found.bypassing:
        return ()
    return (
        f"No fence stops {', '.join(found.bypassing)} (superusers, roles that can become one, or members of"
        " pg_write_all_data): make sure that nothing writes to the source with them. A write behind the fence stops the"
        " cutover.",
    )


def _changes(
    migration: Migration, state: MigrationState | None, found: fence.Fence, limits: Limits
) -> tuple[Change, ...]:
    """Return what a cutover changes, with the statements that are known before it is done."""
    revokes = tuple(statement.as_string(migration.source) for statement in found.statements())
    triggers = enable_triggers_statements(state.before_image) if state else ()
    shown = tuple(statement.as_string(migration.destination) for statement in triggers)
    changes = [
        Change("source", "right to write the selected tables", [str(grant) for grant in found.grants], None, revokes),
        Change("destination", "sequences", "as they were copied", "as at the source"),
        Change("worker host", "CDC task", "started", "disarmed"),
        Change("destination", f"migration {migration.name}", "replicating", "opened"),
    ]
    if limits.revoke_writer:
        changes.insert(3, Change("destination", "right of the migration's account to write", "granted", "revoked"))
    if shown:
        changes.insert(3, Change("destination", "triggers and rules", "disabled", "as at the source", shown))
    return tuple(changes)


def _not_yet(migration: Migration, why: str) -> StateError:
    return StateError(_DOING, migration.name, why, "Run the migrate playbook until it changes nothing, then cut over.")


def _require_ready(migration: Migration, state: MigrationState, limits: Limits, drift: Drift) -> None:
    """Check what must be true before the application loses any right. Raises StateError, MismatchError."""
    standing = fence.fence_state(migration.source, migration.name)
    if standing in ("none", "lost"):
        lift_fence(migration)  # raises where it was lost while the source was being closed
    if standing in ("closed", "fenced"):
        # Closed, it only goes forward. Fenced by a run that is gone, a refusal here would leave the application without
        # its rights: the same is checked again behind the fence, and a failure there lifts the fence.
        return
    if not state.reached("validated"):
        raise _not_yet(migration, f"it has reached phase {state.phase}, and the contents were never compared")
    require_alike(migration)
    require_nothing_prepared(migration.source, migration.selected().written)
    control = read_control(migration.store)
    if control is None or control.wanted != "started" or holder(migration.destination, migration.name) is None:
        raise _not_yet(migration, "its CDC worker is not running")
    require_catching_up(migration, limits.catch_up)
    drift.require_equal(_DOING)
