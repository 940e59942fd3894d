# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of a migration: its state is dropped, and what the other modules left at the source is reported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from .. import names
from ..capture.observed_publication import observe_publication
from ..errors import StateError
from ..plan import Leftover, Plan, SqlChange, as_change
from ..postgres.connect import explain_errors
from ..state.advisory import holder
from ..state.source_schema import changes_to_drop, forget_heartbeat
from ..state.tables import drop_statements

if TYPE_CHECKING:
    from ..migration import Migration

_DOING = "releasing migration"


def plan_released(migration: Migration) -> Plan:
    """Return the Plan that drops the migration's state, with the last one the schema; its result lists leftovers."""
    if migration.store.load() is None:
        return Plan(result={"left_behind": []})
    _require_ended(migration)
    left = [leftover.as_result() for leftover in _still_there(migration)]

    def apply() -> Mapping[str, object]:
        conn = migration.destination
        with explain_errors(_DOING, migration.name), conn.transaction():
            # Counted again behind the lock that registering takes: another migration may be registering right now.
            migration.lock_state_schema()
            _state_change(migration).execute(conn, _DOING)
        return {"left_behind": left}

    changes = as_change([_state_change(migration)], migration.destination)
    return Plan(changes=changes, result={"left_behind": left}, apply=apply)


def _state_change(migration: Migration) -> SqlChange:
    """Return the drop of the migration's rows, or with the last migration of tables and schema, if ours alone."""
    store = migration.store
    if store.others():
        what = f"state of migration {migration.name}"
        return SqlChange("destination", what, "state tables", None, (store.forget_statement(),))
    statements = drop_statements(migration.spec.state_schema, shared=store.shares_schema())
    return SqlChange("destination", f"schema {migration.spec.state_schema}", "state tables", None, statements)


def _require_ended(migration: Migration) -> None:
    found = holder(migration.destination, migration.name)
    if found is not None:
        raise StateError(
            _DOING,
            migration.name,
            f"its CDC worker still applies (pid {found.pid} at the destination, from {found.address})",
            "End it with pg_cdc_task state: absent.",
        )


def _still_there(migration: Migration) -> list[Leftover]:
    """Return what of ours is left at the source after the other modules have dropped what they created."""
    conn = migration.source
    left = []
    with explain_errors("looking for the slot of migration", migration.name):
        slot = names.slot_name(migration.name)
        row = conn.execute(
            "SELECT active FROM pg_catalog.pg_replication_slots WHERE slot_name = %s", (slot,)
        ).fetchone()
    if row is not None:
        why = "another session reads it" if row[0] else "pg_repl_slot did not drop it"
        left.append(Leftover("source", f"slot {slot}", why, (f"SELECT pg_drop_replication_slot('{slot}')",)))
    publication = names.publication_name(migration.name)
    if observe_publication(conn, publication) is not None:
        statement = f"DROP PUBLICATION {publication}"
        left.append(Leftover("source", f"publication {publication}", "pg_publication did not drop it", (statement,)))
    if changes_to_drop(conn, migration.name):
        why = "pg_publication did not drop it"
        delete = forget_heartbeat(migration.name)
        left.append(Leftover("source", "heartbeat row", why, (delete.as_string(conn),)))
    return left
