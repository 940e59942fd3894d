# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The DDL of the state tables. They live in one schema at the destination, keyed by migration.

Every position is a pg_lsn, every time a timestamptz. No column may hold a row value or a secret.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..postgres._psycopg import sql

if TYPE_CHECKING:
    from psycopg.sql import Composed

STATE_FORMAT = 4
"""Incremented when a table changes its meaning; collection and worker both refuse a format that they do not know."""

_TABLES = (
    """CREATE TABLE {schema}.migration (
        name text PRIMARY KEY,
        state_format int NOT NULL,
        phase text NOT NULL,
        spec jsonb NOT NULL,
        source_system text NOT NULL,
        source_database text NOT NULL,
        before_image jsonb NOT NULL DEFAULT '{{}}',
        slot jsonb,
        schema_mark pg_lsn,
        fence jsonb,
        certificate jsonb,
        opened_at timestamptz,
        created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
        updated_at timestamptz NOT NULL DEFAULT pg_catalog.now())""",
    """CREATE TABLE {schema}.copy_run (
        migration text NOT NULL REFERENCES {schema}.migration ON DELETE CASCADE,
        run bigint NOT NULL,
        mark pg_lsn,
        timeline int,
        snapshot text,
        form text NOT NULL,
        host text NOT NULL,
        pid int NOT NULL,
        started_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
        finished_at timestamptz,
        PRIMARY KEY (migration, run))""",
    """CREATE TABLE {schema}.table_copy (
        migration text NOT NULL REFERENCES {schema}.migration ON DELETE CASCADE,
        relation oid NOT NULL,
        schema_name text NOT NULL,
        table_name text NOT NULL,
        state text NOT NULL CHECK (state IN ('waiting', 'copying', 'complete')),
        found_empty boolean,
        fingerprint text,
        run bigint,
        mark pg_lsn,
        rows bigint NOT NULL DEFAULT 0,
        bytes bigint NOT NULL DEFAULT 0,
        started_at timestamptz,
        finished_at timestamptz,
        PRIMARY KEY (migration, relation),
        CHECK (state <> 'complete' OR mark IS NOT NULL))""",
    """CREATE TABLE {schema}.copy_part (
        migration text NOT NULL,
        relation oid NOT NULL,
        part int NOT NULL,
        run bigint NOT NULL,
        ordinal int NOT NULL,
        first_page bigint NOT NULL,
        end_page bigint,
        key_column text,
        key_type oid,
        key_from numeric,
        key_to numeric,
        mark pg_lsn,
        state text NOT NULL CHECK (state IN ('waiting', 'done')),
        rows bigint NOT NULL DEFAULT 0,
        bytes bigint NOT NULL DEFAULT 0,
        host text,
        finished_at timestamptz,
        PRIMARY KEY (migration, relation, part),
        FOREIGN KEY (migration, relation) REFERENCES {schema}.table_copy ON DELETE CASCADE)""",
    # a claim searches the next waiting part, without reading those that are done
    "CREATE INDEX copy_part_queue ON {schema}.copy_part (migration, run, ordinal)",
    """CREATE TABLE {schema}.copy_task (
        migration text PRIMARY KEY REFERENCES {schema}.migration ON DELETE CASCADE,
        settings jsonb NOT NULL DEFAULT '{{}}',
        tables int NOT NULL DEFAULT 0,
        total bigint NOT NULL DEFAULT 0,
        started_at timestamptz,
        changed_at timestamptz NOT NULL DEFAULT pg_catalog.now())""",
    """CREATE TABLE {schema}.copy_host (
        migration text NOT NULL REFERENCES {schema}.migration ON DELETE CASCADE,
        host text NOT NULL,
        pid int NOT NULL,
        active int NOT NULL,
        rows bigint NOT NULL,
        bytes bigint NOT NULL,
        size bigint NOT NULL,
        rate double precision NOT NULL,
        held text NOT NULL,
        heartbeat timestamptz NOT NULL,
        PRIMARY KEY (migration, host, pid))""",
    """CREATE TABLE {schema}.large_object_copy (
        migration text PRIMARY KEY REFERENCES {schema}.migration ON DELETE CASCADE,
        run bigint NOT NULL,
        state text NOT NULL CHECK (state IN ('copying', 'complete')),
        total bigint NOT NULL,
        objects bigint NOT NULL DEFAULT 0,
        bytes bigint NOT NULL DEFAULT 0,
        started_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
        finished_at timestamptz)""",
    """CREATE TABLE {schema}.large_object (
        migration text NOT NULL REFERENCES {schema}.migration ON DELETE CASCADE,
        object oid NOT NULL,
        run bigint NOT NULL,
        PRIMARY KEY (migration, object))""",
    """CREATE TABLE {schema}.cdc_task (
        migration text PRIMARY KEY REFERENCES {schema}.migration ON DELETE CASCADE,
        wanted text NOT NULL CHECK (wanted IN ('started', 'paused', 'stopped', 'disarmed')),
        settings jsonb NOT NULL DEFAULT '{{}}',
        generation bigint NOT NULL DEFAULT 0,
        changed_at timestamptz NOT NULL DEFAULT pg_catalog.now())""",
    """CREATE TABLE {schema}.cdc_progress (
        migration text PRIMARY KEY REFERENCES {schema}.migration ON DELETE CASCADE,
        state text NOT NULL,
        token text,
        received pg_lsn,
        applied pg_lsn NOT NULL,
        confirmable pg_lsn NOT NULL,
        confirmed pg_lsn,
        source_system text NOT NULL,
        timeline int NOT NULL,
        lag_bytes bigint,
        lag_seconds double precision,
        source_rate double precision,
        apply_rate double precision,
        transactions bigint NOT NULL DEFAULT 0,
        inserts bigint NOT NULL DEFAULT 0,
        updates bigint NOT NULL DEFAULT 0,
        deletes bigint NOT NULL DEFAULT 0,
        truncates bigint NOT NULL DEFAULT 0,
        conflicts bigint NOT NULL DEFAULT 0,
        foreign_markers bigint NOT NULL DEFAULT 0,
        last_error jsonb,
        retrying_since timestamptz,
        engine text,
        host text,
        pid int,
        heartbeat timestamptz,
        slot_guard jsonb)""",
    """CREATE TABLE {schema}.marker (
        migration text NOT NULL REFERENCES {schema}.migration ON DELETE CASCADE,
        token text NOT NULL,
        written_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
        applied_at timestamptz,
        PRIMARY KEY (migration, token))""",
    """CREATE TABLE {schema}.validation (
        migration text NOT NULL REFERENCES {schema}.migration ON DELETE CASCADE,
        relation oid NOT NULL,
        schema_name text NOT NULL,
        table_name text NOT NULL,
        verdict text NOT NULL,
        source_rows bigint,
        destination_rows bigint,
        differing bigint NOT NULL DEFAULT 0,
        position pg_lsn,
        checked_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
        PRIMARY KEY (migration, relation))""",
    """CREATE TABLE {schema}.definition (
        migration text NOT NULL REFERENCES {schema}.migration ON DELETE CASCADE,
        kind text NOT NULL,
        schema_name text NOT NULL,
        name text NOT NULL,
        source text NOT NULL,
        destination text NOT NULL DEFAULT '')""",
    # a function's signature may be longer than an index entry
    "CREATE UNIQUE INDEX definition_name ON {schema}.definition"
    " (migration, pg_catalog.md5(kind || ' ' || schema_name || ' ' || name))",
    """CREATE TABLE {schema}.event (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        migration text NOT NULL REFERENCES {schema}.migration ON DELETE CASCADE,
        at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
        who text NOT NULL DEFAULT session_user,
        phase text NOT NULL,
        what text NOT NULL,
        detail jsonb NOT NULL DEFAULT '{{}}')""",
)

TABLE_NAMES = (
    *("migration", "copy_run", "table_copy", "copy_part", "copy_task", "copy_host"),
    *("large_object_copy", "large_object"),
    *("cdc_task", "cdc_progress", "marker", "validation", "definition", "event"),
)


def create_statements(schema: str) -> tuple[Composed, ...]:
    """Return the statements that create the state schema at the destination, in order."""
    name = sql.Identifier(schema)
    first = sql.SQL("CREATE SCHEMA {schema}").format(schema=name)
    return (first, *(sql.SQL(table).format(schema=name) for table in _TABLES))


def drop_statements(schema: str, *, shared: bool) -> tuple[Composed, ...]:
    """Return the statements that drop the tables, and the schema with them unless it holds something else (``shared``):
    a database that is the source of another migration has that one's heartbeat there."""
    name = sql.Identifier(schema)
    tables = sql.SQL(", ").join(sql.Identifier(schema, table) for table in TABLE_NAMES)
    drop = sql.SQL("DROP TABLE {}").format(tables)
    return (drop,) if shared else (drop, sql.SQL("DROP SCHEMA {}").format(name))
