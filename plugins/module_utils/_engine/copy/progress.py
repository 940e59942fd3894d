# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a copy has come, and its pace: the rows `copy_task` (what all hosts go by) and `copy_host` (what each does)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..postgres._psycopg import sql
from ..postgres.connect import explain_errors
from .transfer.pace import Pace, pace_of

if TYPE_CHECKING:
    from ..state.store import StateStore

ALIVE = 5.0
"""Seconds after which a host that says nothing counts no more."""

_READ = """
SELECT k.settings, k.tables, k.total, extract(epoch FROM pg_catalog.clock_timestamp() - k.started_at)::float8,
       coalesce(c.complete, 0), coalesce(c.rows, 0)::bigint, coalesce(h.size, 0)::bigint, coalesce(h.bytes, 0)::bigint,
       coalesce(h.rate, 0)::float8, coalesce(h.hosts, 0), coalesce(h.active, 0)::int, coalesce(h.held, ''),
       coalesce(o.objects, 0), CASE o.state WHEN 'copying' THEN greatest(o.total - o.objects, 1) ELSE 0 END
  FROM {task} k
  LEFT JOIN {objects} o USING (migration)
  LEFT JOIN (SELECT count(*) FILTER (WHERE t.state = 'complete') AS complete,
                    sum(greatest(t.rows, coalesce(p.rows, 0))) AS rows
               FROM {table} t
               LEFT JOIN (SELECT relation, run, sum(rows) AS rows FROM {part} WHERE migration = %(name)s GROUP BY 1, 2) p
                 ON p.relation = t.relation AND p.run = t.run
              WHERE t.migration = %(name)s) c ON true
  LEFT JOIN (SELECT sum(size) AS size, sum(bytes) AS bytes, sum(rate) FILTER (WHERE alive) AS rate,
                    count(*) FILTER (WHERE alive) AS hosts, sum(active) FILTER (WHERE alive) AS active,
                    max(held) FILTER (WHERE alive) AS held
               FROM (SELECT *, heartbeat > pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => %(alive)s)
                               AS alive FROM {host} WHERE migration = %(name)s) one) h ON true
 WHERE k.migration = %(name)s
"""


def set_pace(store: StateStore, pace: Pace) -> None:
    """Give every host of a copy these limits: they look twice a second. Raises ServerError."""
    with explain_errors("setting the pace of the copy of migration", store.name):
        store.conn.execute(
            sql.SQL(
                "INSERT INTO {} (migration, settings) VALUES (%s, %s::jsonb) ON CONFLICT (migration) DO UPDATE"
                " SET settings = excluded.settings, changed_at = pg_catalog.now()"
            ).format(store.table("copy_task")),
            (store.name, json.dumps(pace.stored())),
        )


def read_pace(store: StateStore) -> Pace | None:
    """The limits that hosts go by; None where nobody has set any. Raises ServerError."""
    with explain_errors("reading the pace of the copy of migration", store.name):
        row = store.conn.execute(
            sql.SQL("SELECT settings FROM {} WHERE migration = %s").format(store.table("copy_task")), (store.name,)
        ).fetchone()
    return None if row is None else pace_of(row[0])


def begin(store: StateStore, tables: int, total: int) -> None:
    """A copy of so many tables, of which ``total`` bytes are to be read, begins: what earlier ones did counts no more."""
    names = {name: store.table(name) for name in ("copy_task", "copy_host")}
    with explain_errors("beginning the copy of migration", store.name), store.conn.transaction():
        store.conn.execute(
            sql.SQL(
                "INSERT INTO {copy_task} (migration, tables, total, started_at)"
                " VALUES (%s, %s, %s, pg_catalog.clock_timestamp()) ON CONFLICT (migration) DO UPDATE"
                " SET (tables, total, started_at) = (excluded.tables, excluded.total, excluded.started_at)"
            ).format(**names),
            (store.name, tables, total),
        )
        store.conn.execute(
            sql.SQL(
                "DELETE FROM {copy_host} WHERE migration = %s"
                " AND heartbeat < pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => %s)"
            ).format(**names),
            (store.name, ALIVE),
        )


def read_progress(store: StateStore) -> Mapping[str, Any]:
    """What a person is shown of a copy, over all hosts; empty before one has begun. Raises ServerError.

    ``percent`` is of the bytes that the tables have at the source; ``eta`` is in seconds, None where it cannot be told.
    """
    query = sql.SQL(_READ).format(
        **{key: store.table(f"copy_{key}") for key in ("task", "part", "host")},
        table=store.table("table_copy"),
        objects=store.table("large_object_copy"),
    )
    with explain_errors("reading the progress of the copy of migration", store.name):
        row = store.conn.execute(query, {"name": store.name, "alive": ALIVE}).fetchone()
    if row is None or row[3] is None:
        return {}
    settings, tables, total, seconds, complete, rows, done, size, rate, hosts, active, held, objects, left = row
    told = progress_of(tables, complete, total, done, rows=rows, size=size, rate=rate, seconds=seconds, left=left)
    return told | {
        "large_objects": objects,
        "large_objects_left": left,
        "hosts": hosts,
        "workers": active,
        "held": held,
        "pace": pace_of(settings).stored(),
    }


def progress_of(
    tables: int,
    complete: int,
    total: int,
    done: int,
    *,
    rows: int,
    size: int,
    rate: float,
    seconds: float,
    left: int = 0,
) -> dict[str, Any]:
    """The same from counts. Pure. ``done`` of ``total`` bytes are read, at ``rate`` bytes a second now; ``left`` large
    objects are not copied yet."""
    ended = complete >= tables and not left
    share = 1.0 if ended else min(0.999, done / total if total else 0.0)
    unread = max(0, total - done)
    return {
        "percent": round(100 * share, 1),
        "tables": tables,
        "complete": complete,
        "rows": rows,
        "bytes": size,
        "rows_per_second": round(rows / seconds) if seconds > 0 and not ended else 0,
        "bytes_per_second": round(rate),
        "eta": 0.0 if ended else round(unread / rate, 1) if rate > 0 and total else None,
    }
