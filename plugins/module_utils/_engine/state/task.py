# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The control row of a CDC task.

``wanted`` is the wanted state; ``generation`` rises with every change, so that a worker knows what it has seen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import names
from ..postgres._psycopg import sql
from ..postgres.connect import explain_errors

if TYPE_CHECKING:
    from psycopg.sql import Composed

    from .store import StateStore

CHANNEL_PREFIX = "causeway_"


@dataclass(frozen=True, slots=True)
class ControlRow:
    """The control row. ``wanted`` is started, paused, stopped or disarmed."""

    wanted: str
    settings: Mapping[str, Any]
    generation: int


def channel(name: str) -> str:
    """Return the NOTIFY channel of one migration's control row."""
    return CHANNEL_PREFIX + names.slug(name, 50)


def read_control(store: StateStore) -> ControlRow | None:
    """Return the control row, or None before the task exists. Raises ServerError."""
    with explain_errors("reading the control row of migration", store.name):
        row = store.conn.execute(
            sql.SQL("SELECT wanted, settings, generation FROM {} WHERE migration = %s").format(store.table("cdc_task")),
            (store.name,),
        ).fetchone()
    return ControlRow(*row) if row else None


def set_wanted(store: StateStore, wanted: str, settings: Mapping[str, object] | None = None) -> None:
    """Write the wanted state and, where given, the settings; notify the worker. ``disarmed`` is final.

    Raises ServerError.
    """
    with explain_errors(f"asking for state {wanted} of migration", store.name), store.conn.transaction():
        store.conn.execute(
            sql.SQL(
                "INSERT INTO {} AS t (migration, wanted, settings) VALUES (%s, %s, coalesce(%s::jsonb, '{{}}'))"
                " ON CONFLICT (migration) DO UPDATE SET wanted = excluded.wanted, generation = t.generation + 1,"
                " settings = coalesce(%s::jsonb, t.settings), changed_at = pg_catalog.now()"
                " WHERE t.wanted <> 'disarmed'"
            ).format(store.table("cdc_task")),
            (store.name, wanted, *(2 * (None if settings is None else json.dumps(settings),))),
        )
        store.conn.execute("SELECT pg_catalog.pg_notify(%s, %s)", (channel(store.name), wanted))


def control_statement(store: StateStore, wanted: str, settings: Mapping[str, object], *, exists: bool) -> Composed:
    """Return the statement that sets the control row, for the operator to read; `set_wanted` executes it."""
    text = (
        "UPDATE {table} SET wanted = {wanted}, settings = {settings} WHERE migration = {name}"
        if exists
        else "INSERT INTO {table} (migration, wanted, settings) VALUES ({name}, {wanted}, {settings})"
    )
    return sql.SQL(text).format(
        table=store.table("cdc_task"),
        name=sql.Literal(store.name),
        wanted=sql.Literal(wanted),
        settings=sql.Literal(json.dumps(settings, sort_keys=True)),
    )


def delete_control(store: StateStore) -> Composed:
    """Return the statement that deletes the control row."""
    return sql.SQL("DELETE FROM {} WHERE migration = {}").format(store.table("cdc_task"), sql.Literal(store.name))
