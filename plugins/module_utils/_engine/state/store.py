# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The row of a migration, and the state schema that holds it.

The state tables are the only memory: no file, no Ansible fact. All calls take the destination's connection.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import StateError
from ..postgres._psycopg import sql
from ..postgres.connect import explain_errors
from ..postgres.lsn import Lsn, format_lsn
from .tables import STATE_FORMAT, TABLE_NAMES, create_statements

if TYPE_CHECKING:
    from psycopg.sql import Composable, Composed

    from ..postgres.connect import Connection

PHASES = ("registered", "prepared", "schema", "copied", "replicating", "finalized", "validated", "opened")
"""In order; a phase is reached and never left, but by a restart."""

_UNMISTAKABLE = ("table_copy", "copy_part", "cdc_task", "cdc_progress")
"""Names of state tables that no other table has by chance."""


@dataclass(frozen=True, slots=True)
class MigrationState:
    """The row of `migration`. ``before_image`` holds the originals, which release restores; ``slot`` the whole identity
    of the slot; ``fence`` what the cutover revoked; ``certificate`` what it proved."""

    name: str
    phase: str
    spec: Mapping[str, Any]
    source_system: str
    source_database: str
    before_image: Mapping[str, Any] = field(repr=False)
    slot: Mapping[str, Any] | None
    fence: Mapping[str, Any] | None = field(repr=False)
    certificate: Mapping[str, Any] | None = field(repr=False)
    opened_at: str

    def reached(self, phase: str) -> bool:
        """Return whether the migration has reached ``phase`` or a later one."""
        return PHASES.index(self.phase) >= PHASES.index(phase)


class StateStore:
    """Reads and writes the state of one migration in ``schema`` at the destination."""

    def __init__(self, conn: Connection, schema: str, name: str) -> None:
        self.conn = conn
        self.schema = schema
        self.name = name

    def table(self, name: str) -> Composed:
        """Return a state table, qualified, for SQL."""
        return sql.SQL("{}.{}").format(sql.Identifier(self.schema), sql.Identifier(name))

    def _run(self, doing: str, template: str, values: Sequence[object] = (), **tables: Composable) -> list[Any]:
        names = {"s": sql.Identifier(self.schema), **tables}
        with explain_errors(doing, f"schema {self.schema} at the destination"):
            cursor = self.conn.execute(sql.SQL(template).format(**names), values)
            return cursor.fetchall() if cursor.description else []

    def _tables(self) -> set[str] | None:
        """Return the tables of the state schema; None where the schema is missing."""
        rows = self._run(
            "looking for the state tables",
            "SELECT coalesce(pg_catalog.array_agg(c.relname::text) FILTER (WHERE c.relkind = 'r'), '{{}}')"
            "  FROM pg_catalog.pg_namespace n LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid"
            " WHERE n.nspname = %s GROUP BY n.oid",
            (self.schema,),
        )
        return set(rows[0][0]) if rows else None

    def installed(self) -> bool:
        """Return whether the state schema exists. Raises StateError for one that Causeway did not create, or that was
        damaged.
        """
        there = self._tables()
        if there is not None and "migration" not in there:
            if there & set(_UNMISTAKABLE):
                raise self._damaged(there)
            raise StateError(
                "looking for the state tables",
                f"schema {self.schema} at the destination",
                "a schema of that name exists that Causeway did not create",
                "Name another one with causeway_state_schema.",
            )
        return there is not None

    def _damaged(self, there: set[str]) -> StateError:
        missing = ", ".join(f"{self.schema}.{name}" for name in TABLE_NAMES if name not in there)
        return StateError(
            "reading the state of the migration",
            self.name,
            f"bookkeeping tables are missing at the destination: {missing}",
            "They must exist as long as the migration does. Restore them from a backup of this moment. Without one begin"
            " again, with another causeway_name and causeway_state_schema; the slot of this migration at the source retains"
            " WAL until it is dropped.",
        )

    def load(self) -> MigrationState | None:
        """Return the migration's row, or None. Raises StateError for a state format of another release, and where a
        state table is missing."""
        if not self.installed():
            return None
        rows = self._run(
            "reading the state of the migration",
            "SELECT name, phase, spec, source_system, source_database, before_image, slot, fence, certificate,"
            " coalesce(opened_at::text, ''), state_format FROM {s}.migration WHERE name = %s",
            (self.name,),
        )
        if not rows:
            return None
        if rows[0][10] != STATE_FORMAT:
            raise StateError(
                "reading the state of the migration",
                self.name,
                f"its state has format {rows[0][10]}, this collection knows {STATE_FORMAT}",
                "Finish this migration with the collection that began it, or release it and begin again.",
            )
        there = self._tables() or set()
        if not there.issuperset(TABLE_NAMES):
            raise self._damaged(there)
        return MigrationState(*rows[0][:10])

    def install_statements(self) -> tuple[Composed, ...]:
        """Return the DDL that creates the state schema; empty where it exists.

        Raises StateError where another release created it and its migrations are not released yet.
        """
        if not self.installed():
            return create_statements(self.schema)
        there = self._tables() or set()
        if there.issuperset(TABLE_NAMES):
            return ()
        older = self._run(
            "looking for migrations of another release",
            "SELECT name FROM {s}.migration WHERE state_format <> %s ORDER BY 1",
            (STATE_FORMAT,),
        )
        if not older:
            raise self._damaged(there)
        raise StateError(
            "creating the state tables of migration",
            self.name,
            f"those in schema {self.schema} were created by another release, for {', '.join(row[0] for row in older[:5])}",
            "Finish or release those with the collection that began them, or name another causeway_state_schema.",
        )

    def register(self, spec: Mapping[str, object], source_system: str, source_database: str) -> None:
        """Write the migration's row. Idempotent."""
        self._run(
            "registering the migration",
            "INSERT INTO {s}.migration (name, state_format, phase, spec, source_system, source_database)"
            " VALUES (%s, %s, 'registered', %s::jsonb, %s, %s) ON CONFLICT (name) DO NOTHING",
            (self.name, STATE_FORMAT, json.dumps(spec), source_system, source_database),
        )

    def forget_statement(self) -> Composed:
        """Return the statement that deletes everything recorded of this migration."""
        return sql.SQL("DELETE FROM {} WHERE name = {}").format(self.table("migration"), sql.Literal(self.name))

    def forget(self) -> None:
        """Delete everything recorded of this migration."""
        with explain_errors("forgetting the migration", self.name):
            self.conn.execute(self.forget_statement())

    def others(self) -> int:
        """Return how many other migrations share the schema."""
        rows = self._run("counting migrations", "SELECT count(*) FROM {s}.migration WHERE name <> %s", (self.name,))
        return int(rows[0][0])

    def shares_schema(self) -> bool:
        """Return whether the schema holds any relation but the state tables."""
        rows = self._run(
            "looking at the state schema",
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.relnamespace = %s::regnamespace"
            " AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relname <> ALL (%s))",
            (sql.Identifier(self.schema).as_string(self.conn), list(TABLE_NAMES)),
        )
        return bool(rows[0][0])

    def advance(self, phase: str) -> None:
        """Note that ``phase`` is reached; never goes back. Writes an event when it is new."""
        earlier = list(PHASES[: PHASES.index(phase)])
        rows = self._run(
            f"noting phase {phase}",
            "UPDATE {s}.migration SET phase = %s, updated_at = pg_catalog.now()"
            " WHERE name = %s AND phase = ANY (%s) RETURNING name",
            (phase, self.name, earlier),
        )
        if rows:
            self.event(phase, "phase reached")

    def set_json(self, column: str, value: Mapping[str, object] | None) -> None:
        """Set one of ``before_image``, ``slot``, ``fence``, ``certificate``, ``spec``."""
        self._run(
            f"recording {column}",
            "UPDATE {s}.migration SET {column} = %s::jsonb, updated_at = pg_catalog.now() WHERE name = %s",
            (None if value is None else json.dumps(value), self.name),
            column=sql.Identifier(column),
        )

    def record_original(self, key: str, values: Mapping[str, object]) -> None:
        """Add to the originals under ``key`` what is not recorded yet: the first value found is the original."""
        self._run(
            "recording the originals",
            "UPDATE {s}.migration SET before_image = pg_catalog.jsonb_set(before_image, ARRAY[%s::text],"
            " %s::jsonb || coalesce(before_image -> %s, '{{}}'::jsonb)) WHERE name = %s",
            (key, json.dumps(values), key, self.name),
        )

    def change_originals(self, key: str, values: Mapping[str, Mapping[str, object]]) -> None:
        """Add to each original under ``key`` that is recorded already: what was set later is known beside what was found."""
        for name, value in values.items():
            self._run(
                "recording the originals",
                "UPDATE {s}.migration SET before_image = pg_catalog.jsonb_set(before_image, ARRAY[%s, %s]::text[],"
                " (before_image -> %s -> %s) || %s::jsonb) WHERE name = %s AND before_image -> %s ? %s",
                (key, name, key, name, json.dumps(value), self.name, key, name),
            )

    def drop_original(self, key: str, names: Sequence[str]) -> None:
        """Remove from the originals under ``key`` what has been restored, so that a value found later counts again."""
        self._run(
            "recording the originals",
            "UPDATE {s}.migration SET before_image = pg_catalog.jsonb_set(before_image, ARRAY[%s::text],"
            " coalesce(before_image -> %s, '{{}}'::jsonb) - %s::text[]) WHERE name = %s",
            (key, key, list(names), self.name),
        )

    def record_schema_mark(self, mark: Lsn) -> None:
        """Record the snapshot LSN that the schema was read under. Raises ServerError."""
        self._run(
            "recording the snapshot of the schema in the state of the migration",
            "UPDATE {s}.migration SET schema_mark = %s::pg_lsn WHERE name = %s",
            (lsn_text(mark), self.name),
        )

    def record_opened(self, certificate: Mapping[str, object], opened_at: str) -> None:
        """Record certificate and opening; nothing where they are recorded already. Raises ServerError."""
        self._run(
            "recording the opening in the state of the migration",
            "UPDATE {s}.migration SET certificate = %s::jsonb, opened_at = %s::timestamptz, phase = 'opened',"
            " updated_at = pg_catalog.now() WHERE name = %s AND opened_at IS NULL",
            (json.dumps(certificate), opened_at, self.name),
        )

    def event(self, phase: str, what: str, detail: Mapping[str, object] | None = None) -> None:
        """Write one line of the timeline. ``detail`` holds names, counts and LSNs only."""
        self._run(
            "writing an event",
            "INSERT INTO {s}.event (migration, phase, what, detail) VALUES (%s, %s, %s, %s::jsonb)",
            (self.name, phase, what, json.dumps(detail or {})),
        )


def lsn_text(value: Lsn) -> str | None:
    """Return a position for a pg_lsn parameter; NULL for none."""
    return format_lsn(value) if value else None
