# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The timeline of a migration, beyond the plain lines that `StateStore.event` writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..postgres._psycopg import sql
from ..postgres.connect import explain_errors

if TYPE_CHECKING:
    from .store import StateStore


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the timeline. ``detail`` holds names, counts and LSNs only."""

    at: str
    who: str
    phase: str
    what: str
    detail: Mapping[str, Any]


def recent_events(store: StateStore, limit: int) -> list[Event]:
    """Return the last events, the oldest of them first. Raises ServerError."""
    query = sql.SQL(
        "SELECT at::text, who, phase, what, detail FROM {} WHERE migration = %s ORDER BY id DESC LIMIT %s"
    ).format(store.table("event"))
    with explain_errors("reading the timeline of migration", store.name):
        rows = store.conn.execute(query, (store.name, limit)).fetchall()
    return [Event(*row) for row in reversed(rows)]


def begin_event(store: StateStore, phase: str, what: str, detail: Mapping[str, object]) -> int | None:
    """Write an event in the open transaction; return its id for `count_up_event`. Raises psycopg.Error."""
    row = store.conn.execute(
        sql.SQL("INSERT INTO {} (migration, phase, what, detail) VALUES (%s, %s, %s, %s::jsonb) RETURNING id").format(
            store.table("event")
        ),
        (store.name, phase, what, json.dumps(detail)),
    ).fetchone()
    return None if row is None else int(row[0])


def count_up_event(store: StateStore, number: int, detail: Mapping[str, object], more: int) -> None:
    """Replace an event's detail in the open transaction, and add to its ``count``. Raises psycopg.Error."""
    store.conn.execute(
        sql.SQL(
            "UPDATE {} SET detail = %s::jsonb || pg_catalog.jsonb_build_object('count',"
            " (detail ->> 'count')::bigint + %s, 'last_at', pg_catalog.clock_timestamp()) WHERE id = %s"
        ).format(store.table("event")),
        (json.dumps(detail), more, number),
    )


def amend_event(store: StateStore, what: str, since: str, detail: Mapping[str, object]) -> bool:
    """Amend the detail of the events ``what`` after the last ``since``; False where there is none. Raises psycopg.Error."""
    query = sql.SQL(
        "UPDATE {event} SET detail = detail || %s::jsonb WHERE migration = %s AND what = %s"
        " AND id > (SELECT coalesce(max(id), 0) FROM {event} WHERE migration = %s AND what = %s)"
    ).format(event=store.table("event"))
    changed = store.conn.execute(query, (json.dumps(detail), store.name, what, store.name, since))
    return changed.rowcount > 0
