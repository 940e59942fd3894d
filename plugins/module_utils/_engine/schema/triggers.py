# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disables triggers and rules that fire even for a replicating session: what they did at the source would be done twice.
Their state is recorded in the originals and restored at the cutover.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ..objects.mapping import DestinationName
from ..postgres._psycopg import sql
from ..postgres.catalog import qualified

if TYPE_CHECKING:
    from psycopg.sql import Composed

    from ..objects.mapping import ObjectMapping
    from ..state.store import StateStore
    from .compare import MissingObject

_STATES = {"A": "ALWAYS", "R": "REPLICA"}
_EVENT_STATES = {"O": "ENABLE", "A": "ENABLE ALWAYS", "R": "ENABLE REPLICA"}
_KINDS = {"TRIGGER": "triggers", "RULE": "rules"}


def disabled_triggers(missing: Iterable[MissingObject], mapping: ObjectMapping) -> dict[str, dict[str, dict[str, str]]]:
    """Return the state to record of these triggers and rules: ``{"triggers" | "rules": {"schema.table": {name: "A" |
    "R"}}}``, by the destination's tables."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for item in missing:
        if item.entry.kind in _KINDS and item.thing and item.thing.detail in _STATES:
            tables = found.setdefault(_KINDS[item.entry.kind], {})
            tables.setdefault(qualified(mapping.there(item.thing.relation)), {})[item.thing.own_name] = (
                item.thing.detail
            )
    return found


def remember_asleep(store: StateStore, found: Mapping[str, Mapping[str, Mapping[str, str]]]) -> None:
    """Add their state to the originals, in the caller's transaction; recorded state is not changed. Raises ServerError."""
    state = store.load()
    for key, tables in found.items():
        known = dict(state.before_image.get(key, {})) if state else {}
        merged = {table: {**names, **known.get(table, {})} for table, names in tables.items()}
        image = {**(dict(state.before_image) if state else {}), key: {**known, **merged}}
        store.set_json("before_image", image)
        state = store.load()


def enable_triggers_statements(before_image: Mapping[str, Any]) -> tuple[Composed, ...]:
    """Return the statements that restore disabled triggers and rules at the cutover, and enable the event triggers that
    were carried to the destination. Running them twice is harmless."""
    statements = []
    for word, key in _KINDS.items():
        for table, names in sorted(before_image.get(key, {}).items()):
            for name, state in sorted(names.items()):
                statements.append(
                    sql.SQL("ALTER TABLE {} ENABLE " + _STATES[state] + " " + word + " {}").format(
                        sql.Identifier(*name_of(table)), sql.Identifier(name)
                    )
                )
    for name, state in sorted(before_image.get("event_triggers", {}).items()):
        if state in _EVENT_STATES:
            statements.append(sql.SQL("ALTER EVENT TRIGGER {} " + _EVENT_STATES[state]).format(sql.Identifier(name)))
    return tuple(statements)


def name_of(text: str) -> DestinationName:
    """Return a name from its text, the inverse of `catalog.qualified`, for what was recorded of the destination's tables."""
    parts: list[str] = []
    position = 0
    while position < len(text):
        if text[position] == '"':
            end = position + 1
            while text[end : end + 2] == '""' or text[end] != '"':
                end += 2 if text[end : end + 2] == '""' else 1
            parts.append(text[position + 1 : end].replace('""', '"'))
            position = end + 2
        else:
            end = text.find(".", position)
            end = len(text) if end < 0 else end
            parts.append(text[position:end])
            position = end + 1
    return DestinationName((parts[0], parts[1]))
