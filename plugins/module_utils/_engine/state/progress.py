# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The progress row of a CDC task: its readers, and the writers outside the transactions that carry rows.

Only `cdc.apply.progress` writes what moves with the rows. A progress row belongs to one direction of one migration, and
lives in the database where that direction's changes are applied.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from ..flow.rates import Rates
from ..postgres._psycopg import sql
from ..postgres.connect import explain_errors
from ..postgres.lsn import Lsn, format_lsn, parse_lsn

if TYPE_CHECKING:
    from psycopg.sql import Composed

    from ..postgres.connect import Connection
    from .store import StateStore

Direction = Literal["forward"]

TABLE: Final = "cdc_progress"

UNREPLICATED: Final = {"synchronous_commit": "local"}
"""Settings of a session that only reports: what a worker says of itself waits for no standby."""

FORWARD: Final[Direction] = "forward"
"""From the source to the destination: the only direction that has a progress row so far."""

COUNTERS: Final = ("transactions", "inserts", "updates", "deletes", "truncates", "conflicts", "foreign_markers")
"""The counters of a task over its life."""

_READING: Final = "reading the progress of migration"

_COLUMNS: Final = (
    "state, coalesce(token, ''), applied::text, confirmable::text, source_system, timeline,"
    " coalesce(last_error, '{{}}'), coalesce(host, ''), lag_bytes, lag_seconds, source_rate, apply_rate,"
    " inserts + updates + deletes + truncates"
)

SHOWN: Final = (
    *("state", "applied", "confirmable", "confirmed", "received", "timeline"),
    *("lag_bytes", "lag_seconds", "source_rate", "apply_rate"),
    *COUNTERS,
    *("last_error", "engine", "host", "pid"),
)
"""The columns that a module returns of a task."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress row.

    ``applied`` is the commit END position of the last source transaction whose rows are here, ``confirmable`` what may be
    confirmed to the source. ``error`` is the last one as its parts, empty for none; ``changes`` counts those applied to
    selected tables, without markers; ``lag_seconds`` and ``rates`` are None until they are known.
    """

    state: str
    token: str
    applied: Lsn
    confirmable: Lsn
    source_system: str
    timeline: int
    error: Mapping[str, Any] = field(default_factory=dict)
    host: str = ""
    lag_bytes: int | None = None
    lag_seconds: float | None = None
    rates: Rates | None = None
    changes: int = 0


@dataclass(frozen=True, slots=True)
class SlotReport:
    """What the worker's slot monitor last saw, and how many seconds ago the worker was last heard of."""

    seen: Mapping[str, Any]
    age: float | None


@dataclass(frozen=True, slots=True)
class ShownProgress:
    """The whole row as plain data without the worker's token, and how many seconds ago the worker was last heard of."""

    values: Mapping[str, Any]
    age: float | None


def progress_table(store: StateStore, direction: Direction = FORWARD) -> Composed:
    """Return the table with the progress rows of this direction, qualified, for SQL."""
    return {FORWARD: store.table(TABLE)}[direction]


def _fetch(store: StateStore, template: str, values: tuple[object, ...] = (), doing: str = _READING) -> Any:
    query = sql.SQL(template).format(table=progress_table(store))
    with explain_errors(doing, store.name):
        return store.conn.execute(query, (*values, store.name)).fetchone()


def read_progress(store: StateStore, conn: Connection | None = None, direction: Direction = FORWARD) -> Progress | None:
    """Return the row of one direction, read over ``conn`` (by default the store's); None where there is none.

    Raises ServerError.
    """
    query = sql.SQL(f"SELECT {_COLUMNS} FROM {{}} WHERE migration = %s").format(progress_table(store, direction))
    with explain_errors(_READING, store.name):
        row = (conn or store.conn).execute(query, (store.name,)).fetchone()
    if row is None:
        return None
    state, token, applied, confirmable, system, timeline, error, host, lag, seconds, *rates, changes = row
    return Progress(
        *(state, token, parse_lsn(applied), parse_lsn(confirmable), system, timeline, error, host),
        *(lag, seconds, None if None in rates else Rates(*rates), changes),
    )


def show_progress(store: StateStore) -> Mapping[str, Any]:
    """Return the row's `SHOWN` columns by name, positions as text; empty where there is none. Raises ServerError."""
    columns = sql.SQL(", ").join([sql.Identifier(column) for column in SHOWN])
    with explain_errors(_READING, store.name):
        row = store.conn.execute(
            sql.SQL("SELECT {} FROM {} WHERE migration = %s").format(columns, progress_table(store)), (store.name,)
        ).fetchone()
    return dict(zip(SHOWN, row, strict=True)) if row else {}


def show_whole_progress(store: StateStore) -> ShownProgress | None:
    """Return the whole row for an operator; None where there is none. Raises ServerError."""
    row = _fetch(
        store,
        "SELECT pg_catalog.to_jsonb(p) - 'token' - 'migration',"
        " extract(epoch FROM pg_catalog.clock_timestamp() - p.heartbeat)::float8 FROM {table} p WHERE p.migration = %s",
    )
    return ShownProgress(*row) if row else None


HEARD: Final = 30.0
"""Seconds for which what a worker says of itself counts: it does so twice a second."""

_MEASURED: Final = ("lag_bytes", "lag_seconds", "source_rate", "apply_rate")


def as_known(values: Mapping[str, Any], age: float | None, *, lives: bool) -> Mapping[str, Any]:
    """Return what a worker has said as far as it counts now: what it measured is None, once it has not been heard of.

    ``lives`` says whether a session holds its lock; one that does and is silent is in state ``unknown``. Pure.
    """
    if lives and age is not None and age <= HEARD:
        return values
    unknown = {name: None for name in _MEASURED if name in values}
    return {**values, **unknown, **({"state": "unknown"} if lives and values.get("state") == "running" else {})}


def read_slot_report(store: StateStore) -> SlotReport:
    """Return what the slot monitor recorded; an empty report where it never did. Raises ServerError."""
    row = _fetch(
        store,
        "SELECT coalesce(slot_guard, '{{}}'), extract(epoch FROM pg_catalog.clock_timestamp() - heartbeat)::float8"
        " FROM {table} WHERE migration = %s",
    )
    return SlotReport(*row) if row else SlotReport({}, None)


def asked_or_alive_recently(store: StateStore, days: int) -> bool:
    """Return whether the operator has asked for the task, or a worker of it has lived, within so many days.

    Raises ServerError.
    """
    query = sql.SQL(
        "SELECT greatest(t.changed_at, p.heartbeat) > pg_catalog.clock_timestamp()"
        " - pg_catalog.make_interval(days => %s) FROM {} t LEFT JOIN {} p USING (migration)"
        " WHERE t.migration = %s"
    ).format(store.table("cdc_task"), progress_table(store))
    with explain_errors("reading when the operator last asked for the CDC task of", store.name):
        row = store.conn.execute(query, (days, store.name)).fetchone()
    return bool(row and row[0])


def starting_or_retrying(store: StateStore, seconds: float) -> bool:
    """Return whether a worker has reported within so many seconds that it starts or retries. Raises ServerError."""
    row = _fetch(
        store,
        "SELECT state IN ('starting', 'retrying')"
        " AND heartbeat > pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => %s)"
        " FROM {table} WHERE migration = %s",
        (seconds,),
    )
    return bool(row and row[0])


def passed_every_copy(store: StateStore) -> bool:
    """Return whether the changes are applied up to the newest snapshot that a table was copied under.

    Raises ServerError.
    """
    query = sql.SQL(
        "SELECT coalesce((SELECT applied FROM {} WHERE migration = %s) >="
        " coalesce((SELECT mark FROM {} WHERE migration = %s ORDER BY mark DESC NULLS LAST LIMIT 1), '0/0'), false)"
    ).format(progress_table(store), store.table("table_copy"))
    with explain_errors("reading how far the changes are applied for", store.name):
        row = store.conn.execute(query, (store.name, store.name)).fetchone()
    return bool(row and row[0])


def create_progress(store: StateStore, slot: Mapping[str, Any]) -> None:
    """Create the row at the slot's consistent point; where it exists only reset the state. Raises ServerError."""
    query = sql.SQL(
        "INSERT INTO {} (migration, state, applied, confirmable, source_system, timeline)"
        " VALUES (%s, 'starting', %s::pg_lsn, %s::pg_lsn, %s, %s) ON CONFLICT (migration) DO UPDATE"
        " SET state = 'starting', last_error = NULL, retrying_since = NULL, token = NULL"
    ).format(progress_table(store))
    point = slot["consistent_point"]
    with explain_errors("recording where the CDC task begins for", store.name):
        store.conn.execute(query, (store.name, point, point, slot["system_identifier"], slot["timeline"]))


def mark_stopped(store: StateStore) -> None:
    """Record that the worker has stopped, where it could not do so itself. Raises ServerError."""
    query = sql.SQL(
        "UPDATE {} SET state = 'stopped' WHERE migration = %s AND state IN ('starting', 'running', 'paused', 'retrying')"
    ).format(progress_table(store))
    with explain_errors("recording state stopped of migration", store.name):
        store.conn.execute(query, (store.name,))


def record_state(store: StateStore, token: str, state: str, error: Mapping[str, str] | None = None) -> None:
    """Record the observed state, and the last error with it, while the row is this worker's or no worker's.

    ``retrying`` keeps when it began. Raises ServerError.
    """
    query = sql.SQL(
        "UPDATE {} SET state = %s, last_error = coalesce(%s::jsonb, CASE WHEN %s THEN last_error END),"
        " retrying_since = CASE WHEN %s THEN coalesce(retrying_since, pg_catalog.now()) END,"
        " heartbeat = pg_catalog.clock_timestamp() WHERE migration = %s AND coalesce(token, %s) = %s"
    ).format(progress_table(store))
    told = None if error is None else json.dumps(error)
    keeps_error = state in ("failed", "retrying", "starting")
    with explain_errors(f"recording state {state} of migration", store.name):
        store.conn.execute(query, (state, told, keeps_error, state == "retrying", store.name, token, token))


def record_heartbeat(
    store: StateStore, token: str, received: Lsn, lag: tuple[int, float] | None, rates: Rates | None
) -> Mapping[str, int] | None:
    """Record that the worker is alive, with lag and rates; NULL for what is not known now.

    Returns the `COUNTERS`; None where the row is no longer this worker's. Raises psycopg.Error.
    """
    query = sql.SQL(
        "UPDATE {} SET heartbeat = pg_catalog.clock_timestamp(), lag_bytes = %s,"
        " lag_seconds = %s, source_rate = %s, apply_rate = %s,"
        " received = greatest(received, %s::pg_lsn) WHERE migration = %s AND token = %s RETURNING {}"
    ).format(progress_table(store), sql.SQL(", ").join([sql.Identifier(name) for name in COUNTERS]))
    measured = (*(lag or (None, None)), rates.source if rates else None, rates.apply if rates else None)
    row = store.conn.execute(query, (*measured, format_lsn(received), store.name, token), prepare=True).fetchone()
    return None if row is None else dict(zip(COUNTERS, row, strict=True))


def record_slot_report(store: StateStore, token: str, seen: Mapping[str, Any]) -> None:
    """Record what the slot monitor sees, while the row is this worker's. Raises ServerError."""
    query = sql.SQL("UPDATE {} SET slot_guard = %s::jsonb WHERE migration = %s AND token = %s").format(
        progress_table(store)
    )
    with explain_errors("recording what the slot guard sees of migration", store.name):
        store.conn.execute(query, (json.dumps(seen), store.name, token), prepare=True)
