# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What follows a section of the schema: the destination's print of it is recorded, and what is in no schema is carried.

Nothing is taken from the destination here: a right that only it has may be the one that this migration works with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import DriverError, ServerError
from ..plan import Change, Plan
from ..postgres._psycopg import sql
from ..postgres.connect import explain_errors
from ..schema.plan import plan as plan_section
from ..state.validation import read_definitions, record_destination
from .database_level import Item, observe_items
from .definitions import Definitions, keeps_privileges, keys_of

if TYPE_CHECKING:
    from psycopg.sql import Composable

    from ..migration import Migration
    from ..runner import Runner

CARRIED = ("setting", "cast", "default privilege", "right on the database", "event trigger")
"""Kinds that database_level: carry gives to the destination."""

_REPLACED = ("setting", "right on the database")
"""Kinds whose statement also changes what exists; of the others only what is missing is created."""


@dataclass(frozen=True, slots=True)
class Carried:
    """One item to carry, with what the destination has instead."""

    item: Item
    before: Item | None

    @property
    def what(self) -> str:
        return f"{self.item.kind} {self.item.name}"

    def statements(self) -> tuple[Composable, ...]:
        """Return what gives it to the destination; an event trigger is disabled until the opening."""
        made = (self.item.make,) if self.item.make is not None else ()
        if self.item.kind != "event trigger":
            return made
        return (*made, sql.SQL("ALTER EVENT TRIGGER {} DISABLE").format(sql.Identifier(self.item.name)))


def plan(migration: Migration, options: Mapping[str, Any], runner: Runner) -> Plan:
    """Return the plan of one section of the schema, then of what follows the last one. ``options`` are those of
    `schema.plan.plan`, and database_level (report, carry). Raises EngineError."""
    section = plan_section(migration, options, runner)
    if options["section"] != "foreign_keys":
        return section
    if options["database_level"] == "carry":
        section = section.then(_plan_carry(migration))
    client_bin = str(options.get("client_bin") or "")
    return section.then(Plan(record=lambda: _record_prints(migration, runner, client_bin)))


def _record_prints(migration: Migration, runner: Runner, client_bin: str) -> Mapping[str, object]:
    """Record how the destination prints what was created, where its version prints otherwise than the source's. Raises
    EngineError."""
    if migration.source_server.major == migration.destination_server.major and migration.mapping.is_identity:
        return {}
    recorded = read_definitions(migration.store)
    if all(one.destination for one in recorded.values()):
        return {}
    reader = Definitions(migration, runner, client_bin, privileges=keeps_privileges(migration.state()))
    try:
        found = reader.destination(keys_of(recorded)).found
    except DriverError:
        return {}  # the comparison needs the same programs, and says so
    names = {(key.kind, key.schema, key.name): one.digest for key, one in found.items()}
    record_destination(migration.store, {name: digest for name, digest in names.items() if name in recorded})
    return {}


def to_carry(
    source: Mapping[tuple[str, str], Item], destination: Mapping[tuple[str, str], Item], asleep: Iterable[str] = ()
) -> tuple[Carried, ...]:
    """Return the items that the destination lacks, or has otherwise. Pure."""
    mine = set(asleep)
    found = []
    for key in sorted(source):
        item, there = source[key], destination.get(key)
        if item.kind not in CARRIED or (item.kind == "event trigger" and item.name in mine):
            continue
        if there is None or (item.kind in _REPLACED and there.text != item.text):
            found.append(Carried(item, there))
    return tuple(found)


def _plan_carry(migration: Migration) -> Plan:
    database = migration.destination_server.database
    source = observe_items(migration.source, "source", migration.name, database)
    destination = observe_items(migration.destination, "destination", migration.name, database)
    state = migration.state()
    items = to_carry(source, destination, state.before_image.get("event_triggers", {}) if state else ())
    changes = [
        Change(
            "destination",
            one.what,
            None if one.before is None else "another",
            "as at the source",
            tuple(s.as_string(migration.destination) for s in one.statements()) if one.item.shown else (),
        )
        for one in items
    ]
    return Plan(changes=tuple(changes), apply=lambda: _carry(migration, items))


def _carry(migration: Migration, items: Sequence[Carried]) -> Mapping[str, object]:
    """Give each item to the destination, in a transaction of its own; return what the server refused as warnings."""
    refused = []
    for one in items:
        try:
            with explain_errors("carrying to the destination", one.what), migration.destination.transaction():
                for statement in one.statements():
                    migration.destination.execute(sql.SQL("{}").format(statement))
                if one.item.kind == "event trigger":
                    state = one.item.text.rpartition(" ")[2]
                    migration.store.record_original("event_triggers", {one.item.name: state})
        except ServerError as exc:
            why = exc.sqlstate and f"SQLSTATE {exc.sqlstate}"
            refused.append(f"The destination refuses {one.what} to this account ({why}): it is left to the operator.")
    return {"carried": [one.what for one in items], "warnings": refused}
