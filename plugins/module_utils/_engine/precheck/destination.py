# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Family "destination": is nothing in the way there, does it have the capacity, and may the account write to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..objects.mapping import tables_there
from ..postgres.catalog import qualified
from ..postgres.versions import has
from . import schema_phase
from .finding import Check, Found, at_both, at_destination

if TYPE_CHECKING:
    from ..objects.mapping import TableMapping
    from ..postgres.catalog import Table
    from .observed import DestinationView, Observation, SourceView

_SESSIONS_NEEDED = 8
"""Four copying connections, the snapshot's holder, the worker's two, and the module's own."""

_SESSIONS_AFTER_COPY = 3
"""Sessions that are still needed once all tables are copied; the worker's own may be among the used ones."""

_MANY_LOCKS = 0.8

_LOCKS_A_TABLE = 4


def _makes_schema(seen: Observation) -> bool:
    return "schema" in seen.spec.types


def _conflicting_tables(seen: Observation, source: SourceView, destination: DestinationView) -> Iterator[Found]:
    """Tables that are in the way. Where the migration makes no schema they must exist, and must be empty."""
    there = tables_there(destination.catalog)
    ignored = seen.spec.conflicting_tables == "ignore"
    for table in source.selection.tables:
        mapped = seen.mapped(table)
        name, shown = mapped.destination, qualified(mapped.destination)
        if name not in there or destination.owns(name):
            continue
        if not _makes_schema(seen) and name not in destination.filled:
            continue
        rows = "it holds rows" if name in destination.filled else "it holds no rows"
        yield Found(
            str(mapped),
            f"it exists at the destination and was not created by this migration; {rows}",
            "SELECT oid::regclass FROM pg_class",
            f"DROP TABLE {shown}; if it is not needed, or set causeway_conflicting_tables: ignore."
            if not ignored and _makes_schema(seen)
            else f"TRUNCATE {shown}; if its rows are not needed, or set causeway_conflicting_tables: ignore."
            if not ignored
            else "",
            severity="ignorable" if ignored else None,
        )


def _conflicting_rows(seen: Observation, source: SourceView, destination: DestinationView) -> Iterator[Found]:
    if seen.spec.conflicting_tables != "ignore":
        return
    for table in source.selection.leaves:
        mapped = seen.mapped(table)
        name = mapped.destination
        if name in destination.filled and not destination.owns(name):
            yield Found(str(mapped), "it holds rows", f"SELECT EXISTS (SELECT FROM ONLY {qualified(name)})")


def _conflicting_large_objects(seen: Observation, destination: DestinationView) -> Iterator[Found]:
    found = destination.standing_large_objects
    if found and seen.copies_large_objects:
        yield Found(
            f"large object {found[0]}",
            f"{len(found)} large objects there were not copied by this migration and have OIDs of the source's",
            "SELECT oid FROM pg_largeobject_metadata",
            f"SELECT lo_unlink({found[0]}); if it is not needed there, or set causeway_large_objects: false.",
        )


def _standing(
    seen: Observation, source: SourceView, destination: DestinationView
) -> Iterator[tuple[Table, TableMapping, Table | None]]:
    """Selected tables with what they are mapped to and the table there, where the migration itself makes none."""
    if _makes_schema(seen):
        return
    there = tables_there(destination.catalog)
    for table in source.selection.leaves:
        mapped = seen.mapped(table)
        yield table, mapped, there.get(mapped.destination)


def _table_missing(seen: Observation, source: SourceView, destination: DestinationView) -> Iterator[Found]:
    for dummy, mapped, other in _standing(seen, source, destination):
        if other is None or not other.holds_rows:
            yield Found(
                str(mapped),
                "none of that name" if other is None else "it is partitioned there and an ordinary table at the source",
                "SELECT oid::regclass, relkind FROM pg_class",
            )


def _column_mismatch(seen: Observation, source: SourceView, destination: DestinationView) -> Iterator[Found]:
    for table, mapped, other in _standing(seen, source, destination):
        if other is None:
            continue
        here = {mapped.column(column.name): column for column in table.columns}
        there = {column.name: column for column in other.columns}
        missing = [name for name in here if name not in there and not here[name].generated]
        demanded = [
            name
            for name, column in there.items()
            if name not in here and column.not_null and not column.generated and not column.identity
        ]
        generated = [
            name for name in here if name in there and bool(here[name].generated) != bool(there[name].generated)
        ]
        said = [
            f"{label} {', '.join(names)}"
            for label, names in (
                ("missing", missing),
                ("NOT NULL and unknown to the source", demanded),
                ("generated at one end only", generated),
            )
            if names
        ]
        if said:
            yield Found(str(mapped), "; ".join(said), "SELECT attname FROM pg_attribute")


def _type_mismatch(seen: Observation, source: SourceView, destination: DestinationView) -> Iterator[Found]:
    for table, mapped, other in _standing(seen, source, destination):
        there = {column.name: column for column in other.columns} if other else {}
        said = [
            f"{column.name}: source {column.type_name}, destination {found.type_name}"
            for column in table.columns
            if (found := there.get(mapped.column(column.name)))
            and found.type_name != mapped.type_name(column.name, column.type_name)
        ]
        if said:
            yield Found(str(mapped), "; ".join(said), "SELECT format_type(atttypid, atttypmod) FROM pg_attribute")


def _destination_replica_role(seen: Observation, destination: DestinationView) -> Iterator[Found]:
    error = destination.replica_role
    if error is None or not {"full", "incremental"} & seen.spec.types:
        return
    user = destination.server.user
    yield Found(
        user,
        f"{error.why} (SQLSTATE {error.sqlstate})",
        "BEGIN; SET LOCAL session_replication_role = replica; ROLLBACK",
        f'GRANT SET ON PARAMETER session_replication_role TO "{user}";'
        if has(destination.server.version, "GRANT SET ON PARAMETER")
        else "Use an account that may set it: a superuser, or the cloud's privileged account.",
    )


def _destination_create(seen: Observation, source: SourceView, destination: DestinationView) -> Iterator[Found]:
    server = destination.server
    wanted = [seen.spec.state_schema] if destination.state is None else []
    if _makes_schema(seen):
        schemas = {table.schema for table in source.selection.tables} | set(source.selection.schemas)
        wanted += sorted(map(seen.mapping.schema, schemas))
    missing = [schema for schema in wanted if schema not in destination.catalog.schemas]
    if missing and not destination.may_create_schemas:
        yield Found(
            server.database,
            f"CREATE false; schemas to create: {', '.join(missing)}",
            "SELECT has_database_privilege(current_database(), 'CREATE')",
            f'GRANT CREATE ON DATABASE "{server.database}" TO "{server.user}";',
        )
    for schema in destination.closed_schemas:
        if schema in wanted:
            yield Found(
                schema,
                "CREATE false",
                "SELECT has_schema_privilege(oid, 'CREATE') FROM pg_namespace",
                f'GRANT CREATE, USAGE ON SCHEMA "{schema}" TO "{server.user}";',
            )


def _destination_write(seen: Observation, destination: DestinationView) -> Iterator[Found]:
    for name in destination.unwritable:
        yield Found(
            str(seen.mapping.table(seen.mapping.back(name))),
            "false",
            "SELECT has_table_privilege(oid, 'INSERT'), … FROM pg_class",
            f'GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON {qualified(name)} TO "{destination.server.user}";',
        )


def _destination_temp(seen: Observation, destination: DestinationView) -> Iterator[Found]:
    if seen.spec.incremental and not destination.may_use_temp:
        server = destination.server
        yield Found(
            server.database,
            "false",
            "SELECT has_database_privilege(current_database(), 'TEMP')",
            f'GRANT TEMP ON DATABASE "{server.database}" TO "{server.user}";',
        )


def _connections_free(seen: Observation) -> Iterator[Found]:
    state = seen.destination.state if seen.destination else None
    needed = _SESSIONS_AFTER_COPY if state and state.reached("copied") else _SESSIONS_NEEDED
    for view in (seen.source, seen.destination):
        if view is None or view.sessions is None:
            continue
        free = view.sessions.limit - view.sessions.used
        if free < needed:
            yield Found(
                f"{view.server.end} {view.server.database}",
                f"{max(free, 0)} free ({view.sessions.used} of {view.sessions.limit} used), {needed} needed",
                "SELECT count(*) FROM pg_stat_activity; SHOW max_connections",
            )


def _max_locks(seen: Observation, source: SourceView, destination: DestinationView) -> Iterator[Found]:
    """Compare the lock table with the locks of one transaction: pg_dump and CREATE PUBLICATION lock every table, a
    restore also its row type, its TOAST table and that one's index, and the sequences."""
    tables, sequences = len(source.selection.tables), len(source.selection.sequences)
    wanted = []
    if _makes_schema(seen) or seen.spec.incremental:
        wanted.append((source.server, tables))
    if _makes_schema(seen) and not (destination.state and destination.state.reached("schema")):
        wanted.append((destination.server, _LOCKS_A_TABLE * tables + sequences))
    for server, needed in wanted:
        sessions = int(server.setting("max_connections", "100")) + int(server.setting("max_prepared_transactions", "0"))
        room = int(server.setting("max_locks_per_transaction", "64")) * sessions
        if needed > room * _MANY_LOCKS:
            yield Found(
                f"{server.end} {server.database}",
                f"room for {room} locks of all sessions, about {needed} in one transaction for {tables} tables",
                "SHOW max_locks_per_transaction; SHOW max_connections; SHOW max_prepared_transactions",
                f"ALTER SYSTEM SET max_locks_per_transaction = {needed // sessions + 64}; then restart the {server.end}.",
            )


def _replication_role_default(dummy: Observation, destination: DestinationView) -> Iterator[Found]:
    value = destination.ordinary.get("session_replication_role", "origin")
    if value != "origin":
        yield Found(destination.server.database, value, "SHOW session_replication_role")


CHECKS = (
    Check(
        "conflicting_tables",
        "error",
        "A table of that name exists at the destination: its rows would be mixed with the source's.",
        "Drop it if it is not needed, or set causeway_conflicting_tables: ignore to keep its rows.",
        at_both(_conflicting_tables),
        lock="DROP TABLE: ACCESS EXCLUSIVE at the destination",
    ),
    Check(
        "conflicting_large_objects",
        "error",
        "A large object of that OID exists at the destination, and is not overwritten.",
        "Remove it there, or store it under another OID; or causeway_large_objects: false.",
        at_destination(_conflicting_large_objects),
    ),
    Check(
        "conflicting_rows",
        "note",
        "With conflicting_tables: ignore the copy keeps the rows that exist there; captured changes overwrite them.",
        "Nothing to do, or empty the table.",
        at_both(_conflicting_rows),
    ),
    Check(
        "table_missing",
        "error",
        "The migration creates no schema (causeway_types), so the table has to exist.",
        "Create it, or add schema to causeway_types.",
        at_both(_table_missing),
    ),
    Check(
        "column_mismatch",
        "error",
        "Rows of the source do not fit the table that exists there.",
        "Make the columns alike, or drop the table and add schema to causeway_types.",
        at_both(_column_mismatch),
        lock="ALTER TABLE: ACCESS EXCLUSIVE at the destination",
    ),
    Check(
        "type_mismatch",
        "error",
        "Values may be refused or changed by the other type.",
        "ALTER TABLE … ALTER COLUMN … TYPE at the destination.",
        at_both(_type_mismatch),
        lock="ACCESS EXCLUSIVE at the destination while the table is rewritten",
    ),
    Check(
        "destination_replica_role",
        "error",
        "Rows are written with session_replication_role = replica, so that triggers and foreign keys do not act twice.",
        "GRANT SET ON PARAMETER session_replication_role (15 and later), or use a privileged account.",
        at_destination(_destination_replica_role),
    ),
    Check(
        "destination_create",
        "error",
        "The account has to create the schemas and tables, and those of the migration's state.",
        "GRANT CREATE on the database or the schema to the account.",
        at_both(_destination_create),
    ),
    *schema_phase.OWNERS,
    Check(
        "destination_write",
        "error",
        "Tables that exist already have to be written to.",
        "GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE on the table to the account.",
        at_destination(_destination_write),
    ),
    Check(
        "destination_temp_privilege",
        "error",
        "Changes are staged in temporary tables.",
        "GRANT TEMP on the database to the account.",
        at_destination(_destination_temp),
        incremental=True,
    ),
    Check(
        "connections_free",
        "error",
        "The copy opens several connections at both ends; the application must not be locked out.",
        "Raise max_connections, or end sessions that are not needed.",
        _connections_free,
        lock="a restart of the server",
    ),
    Check(
        "max_locks_per_transaction",
        "warning",
        "The schema is read under locks on all tables at once, and created in one transaction.",
        "Raise max_locks_per_transaction at that end and restart it.",
        at_both(_max_locks),
        lock="a restart of the server",
    ),
    Check(
        "session_replication_role_default",
        "note",
        "Sessions of the application would not fire triggers or check foreign keys after the cutover.",
        "ALTER DATABASE … RESET session_replication_role before the cutover.",
        at_destination(_replication_role_default),
    ),
)
