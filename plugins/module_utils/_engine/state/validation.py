# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What validation remembers: the verdicts of the last comparison of contents, one for each table, counts only; and what
both ends' definitions were when this migration created them, digests only.

One major version prints an expression otherwise than another, so each end is later held against its own record.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..postgres._psycopg import sql
from ..postgres.catalog import Name
from ..postgres.connect import explain_errors

if TYPE_CHECKING:
    from .store import StateStore


@dataclass(frozen=True, slots=True)
class StoredVerdict:
    """One table's verdict. ``checked_at`` is set where it was read."""

    relation: int
    name: Name
    verdict: str
    source_rows: int | None
    destination_rows: int | None
    differing: int
    checked_at: str = ""


def record_verdicts(store: StateStore, verdicts: Iterable[StoredVerdict]) -> None:
    """Write these verdicts, in one transaction. Raises ServerError."""
    statement = sql.SQL(
        "INSERT INTO {} AS v (migration, relation, schema_name, table_name, verdict, source_rows, destination_rows,"
        " differing) VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (migration, relation) DO UPDATE SET"
        " verdict = excluded.verdict, source_rows = excluded.source_rows,"
        " destination_rows = excluded.destination_rows, differing = excluded.differing,"
        " checked_at = pg_catalog.now()"
    ).format(store.table("validation"))
    rows = [
        (store.name, one.relation, *one.name, one.verdict, one.source_rows, one.destination_rows, one.differing)
        for one in verdicts
    ]
    with (
        explain_errors("recording the verdicts of migration", store.name),
        store.conn.transaction(),
        store.conn.cursor() as cursor,
    ):
        cursor.executemany(statement, rows)


def read_verdicts(store: StateStore) -> list[StoredVerdict]:
    """Return the verdicts, by name. Raises ServerError."""
    query = sql.SQL(
        "SELECT relation::bigint, schema_name, table_name, verdict, source_rows, destination_rows, differing,"
        " checked_at::text FROM {} WHERE migration = %s ORDER BY 2, 3"
    ).format(store.table("validation"))
    with explain_errors("reading the validation of migration", store.name):
        rows = store.conn.execute(query, (store.name,)).fetchall()
    return [StoredVerdict(row[0], (row[1], row[2]), *row[3:]) for row in rows]


FactName = tuple[str, str, str]
"""Type alias: kind, schema and name of a fact, as the source's dump has them."""


@dataclass(frozen=True, slots=True)
class RecordedDefinition:
    """The digests of one fact when it was created: as the source printed it, and as the destination did afterwards
    (empty until that is known)."""

    source: str
    destination: str = ""


def record_source(store: StateStore, digests: Mapping[FactName, str], *, anew: bool = False) -> None:
    """Record how the source prints these facts; what is recorded stays, or is replaced with ``anew``, which also forgets
    the destination's print. In the caller's transaction. Raises ServerError."""
    conflict = "DO UPDATE SET source = excluded.source, destination = ''" if anew else "DO NOTHING"
    statement = sql.SQL(
        "INSERT INTO {} (migration, kind, schema_name, name, source)"
        " SELECT %s, * FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[])"
        " ON CONFLICT (migration, pg_catalog.md5(kind || ' ' || schema_name || ' ' || name)) " + conflict
    ).format(store.table("definition"))
    columns = [[name[number] for name in digests] for number in range(3)]
    with explain_errors("recording the definitions of migration", store.name):
        store.conn.execute(statement, (store.name, *columns, list(digests.values())))


def record_destination(store: StateStore, digests: Mapping[FactName, str]) -> None:
    """Record how the destination prints those of these facts whose print there is not known yet. Raises ServerError."""
    statement = sql.SQL(
        "UPDATE {} d SET destination = found.digest"
        " FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[]) found (kind, schema_name, name, digest)"
        " WHERE d.migration = %s AND d.destination = ''"
        " AND (d.kind, d.schema_name, d.name) = (found.kind, found.schema_name, found.name)"
    ).format(store.table("definition"))
    columns = [[name[number] for name in digests] for number in range(3)]
    with explain_errors("recording the definitions of migration", store.name):
        store.conn.execute(statement, (*columns, list(digests.values()), store.name))


def read_definitions(store: StateStore) -> dict[FactName, RecordedDefinition]:
    """Return what is recorded. Raises ServerError."""
    query = sql.SQL("SELECT kind, schema_name, name, source, destination FROM {} WHERE migration = %s")
    with explain_errors("reading the definitions of migration", store.name):
        rows = store.conn.execute(query.format(store.table("definition")), (store.name,)).fetchall()
    return {(row[0], row[1], row[2]): RecordedDefinition(row[3], row[4]) for row in rows}
