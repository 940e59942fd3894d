# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of every table's copy, and the one answer to whether a table is copied."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ..postgres._psycopg import sql
from ..postgres.catalog import Name, qualified
from ..postgres.connect import explain_errors
from ..postgres.lsn import Lsn, parse_lsn

if TYPE_CHECKING:
    from ..postgres.catalog import Table
    from .store import StateStore

_READING = "reading the state of the copy of migration"


@dataclass(frozen=True, slots=True)
class TableCopy:
    """One table's copy: ``mark`` is its snapshot LSN, 0 while there is none; ``found_empty`` None until it was checked;
    ``timeline`` the source's when the snapshot was taken, 0 where that is unknown."""

    relation: int
    name: Name
    state: str
    found_empty: bool | None
    run: int
    mark: Lsn
    rows: int
    bytes: int
    timeline: int = 0


@dataclass(frozen=True, slots=True)
class ShownCopy:
    """One table's copy for an operator. ``rows`` and ``bytes`` count the parts that are done; ``seconds`` is None before
    it began."""

    table: str
    state: str
    run: int
    mark: str
    rows: int
    bytes: int
    seconds: float | None


@dataclass(frozen=True, slots=True)
class KeyRangeMark:
    """One range of a key and the snapshot LSN that it was copied under; ``low`` and ``high`` as `key_order` has them."""

    column: str
    type_oid: int
    low: int | None
    high: int | None
    mark: Lsn


class KnownCopy(Protocol):
    """What decides whether a copy is complete: its table's name and its state."""

    @property
    def name(self) -> Name: ...

    @property
    def state(self) -> str: ...


def uncopied(tables: Iterable[Table], copies: Mapping[int, KnownCopy]) -> list[Table]:
    """Return those of the source's tables whose rows are not all at the destination under their present name. Pure.

    ``copies`` is by source OID. A table that was renamed after its copy is not copied: under its present name the
    destination may have another table's rows.
    """
    return [
        table
        for table in tables
        if (copy := copies.get(table.oid)) is None or copy.state != "complete" or copy.name != table.qualified_name
    ]


def describe_uncopied(tables: Sequence[Table], copies: Mapping[int, KnownCopy]) -> str:
    """Return these tables for an error text, with the name that one was copied under where that differs. Pure."""
    named = []
    for table in tables[:10]:
        copy = copies.get(table.oid)
        renamed = copy is not None and copy.state == "complete" and copy.name != table.qualified_name
        named.append(f"{table} (copied as {qualified(copy.name)})" if copy is not None and renamed else str(table))
    return f"{len(tables)} tables are not copied completely: {', '.join(named)}"


def table_copies(store: StateStore) -> dict[int, TableCopy]:
    """Return every table's copy, by source OID. Raises ServerError."""
    query = sql.SQL(
        "SELECT t.relation::bigint, t.schema_name, t.table_name, t.state, t.found_empty, coalesce(t.run, 0),"
        " t.mark::text, t.rows, t.bytes, coalesce(r.timeline, 0)"
        " FROM {} t LEFT JOIN {} r USING (migration, run)"
        " WHERE t.migration = %s ORDER BY t.schema_name, t.table_name"
    ).format(store.table("table_copy"), store.table("copy_run"))
    with explain_errors(_READING, store.name):
        rows = store.conn.execute(query, (store.name,)).fetchall()
    return {
        row[0]: TableCopy(
            *(row[0], (row[1], row[2]), row[3], row[4], row[5]),
            *(parse_lsn(row[6]) if row[6] else 0, row[7], row[8], row[9]),
        )
        for row in rows
    }


_SHOWN = """
SELECT t.schema_name, t.table_name, t.state, coalesce(t.run, 0), coalesce(t.mark::text, ''),
       greatest(t.rows, coalesce(p.rows, 0))::bigint, greatest(t.bytes, coalesce(p.bytes, 0))::bigint,
       extract(epoch FROM coalesce(t.finished_at, pg_catalog.clock_timestamp()) - t.started_at)::float8
  FROM {table} t
  LEFT JOIN (SELECT relation, sum(rows) AS rows, sum(bytes) AS bytes FROM {part}
              WHERE migration = %(name)s GROUP BY 1) p ON p.relation = t.relation
 WHERE t.migration = %(name)s ORDER BY 1, 2
"""


def copies_of_others(store: StateStore) -> list[Name]:
    """Return the tables, by the source's name, that other migrations with the same state tables copy; none where
    there are no state tables. Raises ServerError."""
    if not store.installed():
        return []
    query = sql.SQL("SELECT schema_name, table_name FROM {} WHERE migration <> %s").format(store.table("table_copy"))
    with explain_errors("reading what other migrations copy beside", store.name):
        return store.conn.execute(query, (store.name,)).fetchall()


def show_copies(store: StateStore) -> list[ShownCopy]:
    """Return every table's copy for an operator, by name, also while it runs. Raises ServerError."""
    query = sql.SQL(_SHOWN).format(table=store.table("table_copy"), part=store.table("copy_part"))
    with explain_errors("reading the copy of migration", store.name):
        rows = store.conn.execute(query, {"name": store.name}).fetchall()
    return [
        ShownCopy(
            table=qualified((row[0], row[1])),
            state=row[2],
            run=row[3],
            mark=row[4],
            rows=row[5],
            bytes=row[6],
            seconds=round(row[7], 3) if row[7] is not None else None,
        )
        for row in rows
    ]


def observed_copies(store: StateStore) -> list[Mapping[str, Any]]:
    """Return every table's copy as a module returns it: table, state, rows, bytes, mark, run, seconds."""
    query = sql.SQL(
        "SELECT schema_name, table_name, state, rows, bytes, coalesce(mark::text, ''), coalesce(run, 0),"
        " pg_catalog.round(coalesce(extract(epoch FROM finished_at - started_at), 0)::numeric, 3)::float8"
        " FROM {} WHERE migration = %s ORDER BY 1, 2"
    ).format(store.table("table_copy"))
    with explain_errors(_READING, store.name):
        rows = store.conn.execute(query, (store.name,)).fetchall()
    keys = ("state", "rows", "bytes", "mark", "run", "seconds")
    return [{"table": qualified((row[0], row[1])), **dict(zip(keys, row[2:], strict=True))} for row in rows]


def partly_copied(store: StateStore) -> set[int]:
    """Return the tables, by source OID, of which a part was copied by a run that did not finish."""
    query = sql.SQL(
        "SELECT DISTINCT p.relation::bigint FROM {} p JOIN {} t USING (migration, relation)"
        " WHERE p.migration = %s AND p.state = 'done' AND t.state <> 'complete' AND t.found_empty"
    ).format(store.table("copy_part"), store.table("table_copy"))
    with explain_errors(_READING, store.name):
        rows = store.conn.execute(query, (store.name,)).fetchall()
    return {row[0] for row in rows}


def ranges_of_several_marks(store: StateStore) -> dict[int, list[KeyRangeMark]]:
    """Return the ranges of each table that was copied in ranges of a key under more than one snapshot LSN, by source
    OID, in ascending order. Raises ServerError."""
    query = sql.SQL(
        "SELECT relation::bigint, key_column, key_type::bigint, key_from, key_to, mark::text FROM {part}"
        " WHERE migration = %s AND relation IN (SELECT relation FROM {part} WHERE migration = %s"
        "  AND key_column IS NOT NULL GROUP BY relation HAVING count(DISTINCT mark) > 1 AND count(mark) = count(*))"
        " ORDER BY relation, key_from NULLS FIRST"
    ).format(part=store.table("copy_part"))
    with explain_errors(_READING, store.name):
        rows = store.conn.execute(query, (store.name, store.name)).fetchall()
    tables: dict[int, list[KeyRangeMark]] = {}
    for relation, column, type_oid, low, high, mark in rows:
        bounds = [None if bound is None else int(bound) for bound in (low, high)]
        tables.setdefault(relation, []).append(KeyRangeMark(column, type_oid, bounds[0], bounds[1], parse_lsn(mark)))
    return tables


def columns_between_marks(store: StateStore) -> dict[int, str]:
    """Return the key column, by source OID, of each table whose ranges have or are about to get several snapshot LSNs.

    Raises ServerError.
    """
    query = sql.SQL(
        "SELECT relation::bigint, min(key_column) FROM {} WHERE migration = %s AND key_column IS NOT NULL"
        " GROUP BY relation HAVING count(DISTINCT mark) > 1 OR count(DISTINCT state) > 1"
    ).format(store.table("copy_part"))
    with explain_errors("reading the snapshot LSNs of the copy of migration", store.name):
        return dict(store.conn.execute(query, (store.name,)).fetchall())


def reset_copies(store: StateStore, relations: Sequence[int]) -> None:
    """Forget that these tables, by source OID, are complete: the next run empties them, and keeps none of their parts.

    Raises ServerError.
    """
    query = sql.SQL(
        "UPDATE {} SET state = 'copying', fingerprint = NULL WHERE migration = %s AND relation = ANY (%s::oid[])"
    ).format(store.table("table_copy"))
    with explain_errors("preparing to copy tables again in migration", store.name):
        store.conn.execute(query, (store.name, list(relations)))


def take_back_copies(store: StateStore, relations: Sequence[int]) -> None:
    """Forget that these tables, by source OID, are complete, where they are. Raises psycopg.Error."""
    store.conn.execute(
        sql.SQL(
            "UPDATE {} SET state = 'copying' WHERE migration = %s AND relation = ANY (%s::oid[]) AND state = 'complete'"
        ).format(store.table("table_copy")),
        (store.name, list(relations)),
    )
