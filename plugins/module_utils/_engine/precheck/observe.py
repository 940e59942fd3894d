# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Observes both ends for the checks. A part that fails becomes a finding, not an exception: the others still count."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from .. import names
from ..capture.published import Published
from ..capture.replica_identity import held_tables
from ..errors import ConnectError, EngineError
from ..large_objects.objects import closed_objects, standing_objects
from ..objects.extensions import Extension, needed_extensions, not_there, observe_offers, try_to_create
from ..objects.mapping import DestinationName
from ..objects.owners import observe_giving
from ..postgres._psycopg import psycopg
from ..postgres.catalog import holding_rows
from ..postgres.connect import explain_errors, server_error
from ..postgres.server import identify_system
from ..postgres.versions import has
from ..state.advisory import holder, is_held
from ..state.copies import table_copies
from ..state.progress import read_progress
from ..writers.fence import fence_state
from . import queries
from .host import observe_host
from .observed import (
    DestinationView,
    Fellow,
    Observation,
    Publication,
    Sessions,
    Slot,
    SourceView,
    Transaction,
)
from .schema_phase import OFFERS

if TYPE_CHECKING:
    from ..migration import Migration
    from ..objects.extensions import Offer
    from ..objects.mapping import ObjectMapping
    from ..postgres.catalog import Catalog
    from ..postgres.connect import Connection, Endpoint
    from ..runner import Runner
    from ..state.store import MigrationState

Answer = TypeVar("Answer")

_NO_OFFERS: Mapping[str, Offer] = {}

_NONE_CLOSED: tuple[int, tuple[int, ...]] = (0, ())


class _Guard:
    """Collects failures, by the name of the part that could not be observed."""

    def __init__(self) -> None:
        self.failures: dict[str, EngineError] = {}

    def __call__(self, part: str, look: Callable[[], Answer], otherwise: Answer) -> Answer:
        """Return what ``look`` returns; where it fails, record the failure and return ``otherwise``."""
        try:
            return look()
        except EngineError as exc:
            self.failures[part] = exc
            return otherwise


def observe(
    migration: Migration,
    runner: Runner,
    *,
    client_bin: str = "",
    worker_home: str = "",
    large_objects: bool = True,
    identity: str = "auto",
    revoke_writer: bool = True,
    privileges: bool = True,
) -> Observation:
    """Observe everything once. Writes nothing; every failure is recorded in the result, none is raised."""
    host = observe_host(migration.spec, runner, client_bin, worker_home)
    if psycopg is None:  # without the driver no server can be asked, and the check on drivers says so
        return Observation(spec=migration.spec, host=host)
    guard = _Guard()
    source = guard("source", lambda: _source(migration, guard), None)
    if source is not None and migration.spec.incremental:
        guard("replication", lambda: _replication(migration), None)
        source = replace(source, held=guard("source: locks", lambda: held_tables(migration, identity), ()))
    destination = guard("destination", lambda: _destination(migration, guard, source), None)
    giving = None
    if source is not None and destination is not None:
        selection, ends = source.selection, (migration.source, migration.destination)
        giving = guard("owners", lambda: observe_giving(*ends, selection, migration.mapping), None)
        source = replace(source, fellows=_fellows(migration, guard, destination.account))
    return Observation(
        migration.spec,
        host,
        source,
        destination,
        guard.failures,
        large_objects,
        identity,
        revoke_writer,
        migration.mapping,
        giving,
        privileges,
    )


def _fellows(migration: Migration, guard: _Guard, account: str) -> tuple[Fellow, ...]:
    """Return the roles of other sessions at the source that have the rights of this account of the destination."""
    rows = _Asker(guard, migration.source, "source").rows("sessions", queries.FELLOWS, (account,))
    return tuple(Fellow(role, sessions, tuple(applications)) for role, sessions, applications in rows)


class _Asker:
    """Runs the queries of one end, each of them guarded by itself."""

    def __init__(self, guard: _Guard, conn: Connection, end: str) -> None:
        self._guard = guard
        self.conn = conn
        self.end = end

    def rows(self, part: str, query: str, parameters: Any = None) -> list[Any]:
        """Return all rows; none where the query failed."""

        def ask() -> list[Any]:
            with explain_errors(f"looking at {part} of the", self.end):
                return self.conn.execute(query, parameters).fetchall()

        return self._guard(f"{self.end}: {part}", ask, [])

    def names(self, part: str, query: str, parameters: Any = None) -> tuple[str, ...]:
        """Return the first column of all rows."""
        return tuple(row[0] for row in self.rows(part, query, parameters))

    def value(self, part: str, query: str, otherwise: Answer, parameters: Any = None) -> Answer:
        """Return the first column of the first row; ``otherwise`` where there is none."""
        found = self.rows(part, query, parameters)
        return otherwise if not found or found[0][0] is None else found[0][0]


def _replication(migration: Migration) -> None:
    """Open a real replication connection and close it at once, as it counts against max_wal_senders."""
    walsender = migration.open(migration.spec.source, "precheck", replication=True)
    try:
        identify_system(walsender, migration.spec.source)
    finally:
        walsender.close()


def _ordinary(migration: Migration, guard: _Guard, endpoint: Endpoint) -> dict[str, str]:
    """Return the settings that the application's sessions start with, from a session without our pinned ones."""

    def ask() -> dict[str, str]:
        conn = migration.open(endpoint, "precheck", pinned=False)
        try:
            with explain_errors("reading the settings of an ordinary session at the", endpoint.end):
                return dict(conn.execute(queries.ORDINARY).fetchall())
        finally:
            conn.close()

    return guard(f"{endpoint.end}: ordinary settings", ask, {})


def _clock(ask: _Asker) -> float:
    """Return the server's clock less the worker host's in seconds, compared at the middle of the round trip."""
    began = time.time()
    there = ask.value("clock", queries.CLOCK, 0.0)
    ended = time.time()
    return there - (began + ended) / 2 if there else 0.0


def _sessions(ask: _Asker) -> Sessions | None:
    found = ask.rows("sessions", queries.SESSIONS)
    return Sessions(limit=found[0][0] + found[0][1], used=found[0][1]) if found else None


def _stale_collations(ask: _Asker, version: int) -> tuple[str, ...]:
    stale = ask.names("collations", queries.STALE_COLLATIONS)
    if has(version, "pg_database.datcollversion") and has(version, "pg_database_collation_actual_version"):
        stale += ask.names("database collation", queries.STALE_DATABASE_COLLATION)
    return stale


def _source(migration: Migration, guard: _Guard) -> SourceView:
    ask = _Asker(guard, migration.source, "source")
    server, catalog, selection = migration.source_server, migration.source_catalog, migration.selection
    relations, written = ([one.oid for one in them] for them in (selection.tables, selection.written))
    schemas = sorted({table.schema for table in selection.tables} | set(selection.schemas))
    rights = ask.rows("database privileges", queries.DATABASE_PRIVILEGES) or [(True, True)]
    account = ask.rows("account", queries.ACCOUNT) or [(True, False)]
    walsenders = ask.rows("walsenders", queries.WALSENDERS) or [(0, 0)]
    return SourceView(
        server=server,
        catalog=catalog,
        selection=selection,
        ordinary=_ordinary(migration, guard, migration.spec.source),
        slots=tuple(Slot(*row) for row in ask.rows("replication slots", queries.SLOTS)),
        published=guard("source: publications", lambda: Published(migration.source, catalog), None),
        fence=guard("source: fence", lambda: fence_state(migration.source, migration.name), "none"),
        walsenders=walsenders[0][0],
        limited_walsenders=walsenders[0][1],
        standbys=ask.names("standbys", queries.STANDBYS),
        prepared=tuple(Transaction(*row) for row in ask.rows("prepared transactions", queries.PREPARED)),
        long_transactions=tuple(Transaction(*row) for row in ask.rows("transactions", queries.LONG_TRANSACTIONS, ())),
        publications=tuple(Publication(*row) for row in ask.rows("publications", queries.PUBLICATIONS)),
        leftovers=tuple(ask.rows("leftovers", queries.LEFTOVERS, (names.publication_name(migration.name),))),
        extensions=guard("source: extensions", lambda: needed_extensions(migration.source, selection), ()),
        stale_collations=_stale_collations(ask, server.version),
        sessions=_sessions(ask),
        wal_rate=ask.value("WAL rate", queries.WAL_RATE, None) if has(server.version, "pg_stat_wal") else None,
        may_replicate=account[0][0],
        superuser=account[0][1],
        closed_schemas=ask.names("schema privileges", queries.CLOSED_SCHEMAS, (schemas, "USAGE")),
        unreadable=tuple(ask.rows("table privileges", queries.WITHOUT_PRIVILEGE, (relations, ["SELECT"]))),
        fenced=tuple(ask.rows("owners' rights", queries.FENCED, (written,))),
        foreign_owners=tuple(ask.rows("owners", queries.FOREIGN_OWNERS, (written,))),
        may_create=rights[0][0],
        large_objects=ask.value("large objects", queries.LARGE_OBJECTS, 0),
        closed_large_objects=guard("source: large objects", lambda: closed_objects(migration.source), _NONE_CLOSED),
        clock=_clock(ask),
    )


def _destination(migration: Migration, guard: _Guard, source: SourceView | None) -> DestinationView:
    conn = migration.destination
    ask = _Asker(guard, conn, "destination")
    server, catalog = migration.destination_server, migration.destination_catalog()
    state, state_failure = _state(migration, source)
    standing = _standing(catalog, source, migration.mapping)
    rights = ask.rows("database privileges", queries.DATABASE_PRIVILEGES) or [(True, True)]
    wanted = ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"]
    extensions = tuple(Extension(*row) for row in ask.rows("extensions", queries.EXTENSIONS))
    missing = not_there(source.extensions if source else (), {one.name for one in extensions})
    offers = guard(OFFERS, lambda: _offers(conn, missing), _NO_OFFERS)
    return DestinationView(
        server=server,
        catalog=catalog,
        ordinary=_ordinary(migration, guard, migration.spec.destination),
        account=conn.info.user,
        synchronous_standbys=ask.value("standbys", queries.SYNCHRONOUS_STANDBYS, 0),
        extensions=extensions,
        offers=offers,
        refused_extensions=guard(
            "destination: extensions", lambda: _refused_extensions(migration, missing, offers, catalog), {}
        ),
        stale_collations=_stale_collations(ask, server.version),
        sessions=_sessions(ask),
        replica_role=_replica_role(conn),
        may_create_schemas=rights[0][0],
        may_use_temp=rights[0][1],
        closed_schemas=ask.names("schema privileges", queries.CLOSED_SCHEMAS, (list(catalog.schemas), "CREATE")),
        unwritable=tuple(
            map(DestinationName, ask.rows("table privileges", queries.WITHOUT_PRIVILEGE, (list(standing), wanted)))
        ),
        filled=guard("destination: rows", lambda: _filled(conn, list(standing.values())), frozenset()),
        clock=_clock(ask),
        state=state,
        state_failure=state_failure,
        copied=guard("destination: copies", lambda: _copied(migration, state), frozenset()),
        worker=guard("destination: worker", lambda: holder(conn, migration.name), None),
        cutting_over=guard("destination: runs", lambda: is_held(conn, migration.name, "run"), False),
        worker_host=_worker_host(migration, guard, state),
        standing_large_objects=guard(
            "destination: large objects", lambda: _large_objects(migration, source, state), ()
        ),
    )


def _large_objects(migration: Migration, source: SourceView | None, state: MigrationState | None) -> tuple[int, ...]:
    """Return the OIDs that are in the copy's way; none where the source could not be read or has no large objects."""
    return standing_objects(migration, ours=state is not None) if source and source.large_objects else ()


def _state(migration: Migration, source: SourceView | None) -> tuple[MigrationState | None, EngineError | None]:
    """Return the migration's row, or why it cannot be used. Without the source its owner cannot be verified."""
    try:
        return (migration.state() if source else migration.store.load()), None
    except ConnectError:
        raise
    except EngineError as exc:
        return None, exc


def _standing(catalog: Catalog, source: SourceView | None, mapping: ObjectMapping) -> dict[int, DestinationName]:
    """Return the ordinary tables of the destination that selected ones are mapped to, by OID there."""
    selected = {mapping.there(table.qualified_name) for table in source.selection.tables} if source else set()
    named = {table.oid: DestinationName(table.qualified_name) for table in catalog.tables.values() if table.holds_rows}
    return {oid: name for oid, name in named.items() if name in selected}


def _filled(conn: Connection, tables: list[DestinationName]) -> frozenset[DestinationName]:
    return frozenset(map(DestinationName, holding_rows(conn, tables)))


def _replica_role(conn: Connection) -> EngineError | None:
    """Try it in a transaction that is rolled back, and return the refusal: no attribute says whether it is allowed."""
    try:
        with conn.transaction(force_rollback=True):
            conn.execute("SET LOCAL session_replication_role = replica")
    except psycopg.Error as exc:
        return server_error(exc, "trying session_replication_role at the", "destination")
    return None


def _offers(conn: Connection, missing: tuple[Extension, ...]) -> Mapping[str, Offer]:
    return observe_offers(conn, [extension.name for extension in missing]) if missing else {}


def _refused_extensions(
    migration: Migration, missing: tuple[Extension, ...], offers: Mapping[str, Offer], catalog: Catalog
) -> dict[str, EngineError]:
    """Return why extensions that the schema phase would make cannot be made. Raises ServerError."""
    todo = [replace(one, schema=migration.mapping.schema(one.schema)) for one in missing if one.name in offers]
    if not todo or "schema" not in migration.spec.types or migration.destination_server.in_recovery:
        return {}
    return try_to_create(migration.destination, todo, offers, {"pg_catalog", *catalog.schemas})


def _copied(migration: Migration, state: MigrationState | None) -> frozenset[DestinationName]:
    """The destination's tables that the copy has begun, or has found empty: their rows are ours."""
    if state is None:
        return frozenset()
    ours = [copy for copy in table_copies(migration.store).values() if copy.state != "waiting" or copy.found_empty]
    return frozenset(migration.mapping.there(copy.name) for copy in ours)


def _worker_host(migration: Migration, guard: _Guard, state: MigrationState | None) -> str:
    row = guard("destination: progress", lambda: read_progress(migration.store), None) if state else None
    return row.host if row else ""
