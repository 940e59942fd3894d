# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verdicts of the last comparison of contents, one for each table: counts only."""

from __future__ import annotations

from collections.abc import Iterable
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
