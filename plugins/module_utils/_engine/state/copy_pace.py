# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pace of a copy, which all hosts obey; what each host reports; and the progress of all hosts together."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ..postgres._psycopg import sql
from ..postgres.connect import explain_errors

if TYPE_CHECKING:
    from .store import StateStore

ALIVE = 5.0
"""Seconds after which a host that reports nothing no longer counts."""

_TOTALS = """
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

_REPORT = """
WITH me AS (
    INSERT INTO {host} AS h (migration, host, pid, active, rows, bytes, size, rate, held, heartbeat)
    VALUES (%(name)s, %(host)s, %(pid)s, %(active)s, %(rows)s, %(bytes)s, %(size)s, %(rate)s, %(held)s,
            pg_catalog.clock_timestamp())
    ON CONFLICT (migration, host, pid) DO UPDATE SET (active, rows, bytes, size, rate, held, heartbeat) =
        (excluded.active, excluded.rows, excluded.bytes, excluded.size, excluded.rate, excluded.held, excluded.heartbeat)
)
SELECT coalesce((SELECT settings FROM {task} WHERE migration = %(name)s), '{{}}'::jsonb),
       coalesce((SELECT sum(active) FROM {host} WHERE migration = %(name)s AND (host, pid) <> (%(host)s, %(pid)s)
           AND heartbeat > pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => %(alive)s)), 0)::int
"""


@dataclass(frozen=True, slots=True)
class HostReport:
    """One host's report: workers that copy, rows and bytes of COPY data that it moved, ``size`` in bytes of the tables
    at the source, ``rate`` in such bytes a second, and what delays it (``held``)."""

    host: str
    pid: int
    active: int
    rows: int
    bytes: int
    size: int
    rate: float
    held: str


@dataclass(frozen=True, slots=True)
class CopyTotals:
    """A copy over all hosts: ``size`` of ``total`` bytes of the tables at the source are read, at ``rate`` a second;
    ``seconds`` since it began; ``objects_left`` large objects are not copied yet."""

    settings: Mapping[str, Any]
    tables: int
    total: int
    seconds: float
    complete: int
    rows: int
    size: int
    bytes: int
    rate: float
    hosts: int
    active: int
    held: str
    objects: int
    objects_left: int


def set_pace(store: StateStore, settings: Mapping[str, Any]) -> None:
    """Set the limits for every host of a copy, which reads them twice a second. Raises ServerError."""
    with explain_errors("setting the pace of the copy of migration", store.name):
        store.conn.execute(
            sql.SQL(
                "INSERT INTO {} (migration, settings) VALUES (%s, %s::jsonb) ON CONFLICT (migration) DO UPDATE"
                " SET settings = excluded.settings, changed_at = pg_catalog.now()"
            ).format(store.table("copy_task")),
            (store.name, json.dumps(settings)),
        )


def read_pace(store: StateStore) -> Mapping[str, Any] | None:
    """Return the limits that hosts obey; None where none were ever set. Raises ServerError."""
    with explain_errors("reading the pace of the copy of migration", store.name):
        row = store.conn.execute(
            sql.SQL("SELECT settings FROM {} WHERE migration = %s").format(store.table("copy_task")), (store.name,)
        ).fetchone()
    return None if row is None else dict(row[0])


def begin_copy(store: StateStore, tables: int, total: int) -> None:
    """Begin a copy of so many tables, of which ``total`` bytes are to be read: earlier hosts no longer count."""
    names = {"task": store.table("copy_task"), "host": store.table("copy_host")}
    with explain_errors("beginning the copy of migration", store.name), store.conn.transaction():
        store.conn.execute(
            sql.SQL(
                "INSERT INTO {task} (migration, tables, total, started_at)"
                " VALUES (%s, %s, %s, pg_catalog.clock_timestamp()) ON CONFLICT (migration) DO UPDATE"
                " SET (tables, total, started_at) = (excluded.tables, excluded.total, excluded.started_at)"
            ).format(**names),
            (store.name, tables, total),
        )
        store.conn.execute(
            sql.SQL(
                "DELETE FROM {host} WHERE migration = %s"
                " AND heartbeat < pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => %s)"
            ).format(**names),
            (store.name, ALIVE),
        )


def read_totals(store: StateStore) -> CopyTotals | None:
    """Return the progress of a copy over all hosts; None before one has begun. Raises ServerError."""
    query = sql.SQL(_TOTALS).format(
        **{key: store.table(f"copy_{key}") for key in ("task", "part", "host")},
        table=store.table("table_copy"),
        objects=store.table("large_object_copy"),
    )
    with explain_errors("reading the progress of the copy of migration", store.name):
        row = store.conn.execute(query, {"name": store.name, "alive": ALIVE}).fetchone()
    return None if row is None or row[3] is None else CopyTotals(*row)


def report_host(store: StateStore, report: HostReport) -> tuple[Mapping[str, Any], int]:
    """Record this host's report; return the limits of all hosts, and how many workers copy on the others.

    Raises ServerError.
    """
    query = sql.SQL(_REPORT).format(host=store.table("copy_host"), task=store.table("copy_task"))
    with explain_errors("reporting the progress of the copy of migration", store.name):
        row = store.conn.execute(query, {"name": store.name, "alive": ALIVE, **asdict(report)}).fetchone()
    return row or ({}, 0)
