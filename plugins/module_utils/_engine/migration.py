# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One migration as a module call sees it: its spec, both ends, what is known of it. All is opened when first asked for."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any

from . import names
from .errors import MismatchError, SpecError, StateError
from .objects.mapping import IDENTITY, ObjectMapping
from .objects.rules import SchemaRule, compile_rules
from .objects.selection import Selection, select
from .plan import SqlChange, as_change
from .postgres.catalog import Catalog, observe_catalog
from .postgres.connect import Endpoint, connect, explain_errors
from .postgres.server import Server, observe_server
from .state.store import MigrationState, StateStore, TableCopy
from .state.tombstone import read_tombstone, without_tombstone

if TYPE_CHECKING:
    from .plan import Change
    from .postgres.connect import Connection


# A module keeps the books even where `writers` has made the account read-only by default; what moves rows does not. And
# what it has made and recorded must outlive a crash together: the slot at the source is on disk before its record is.
_WRITING = {"default_transaction_read_only": "off", "synchronous_commit": "on"}

_GOING = 3.0
"""Seconds for which the lock is tried: the session of the task before may not have ended at the server yet."""


@dataclass(frozen=True, slots=True)
class MigrationSpec:
    """A migration as the user wrote it. ``types`` is a subset of schema, full, incremental."""

    name: str
    source: Endpoint
    destination: Endpoint
    rules: tuple[SchemaRule, ...]
    types: frozenset[str]
    state_schema: str
    allow_keyless: bool
    conflicting_tables: str
    restart: bool
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def incremental(self) -> bool:
        return "incremental" in self.types

    def stored(self) -> Mapping[str, object]:
        """What the state tables keep of it: no secret, nothing that an address change would make untrue."""
        return {
            "objects": [{"schema": r.schema, "tables": list(r.tables), "exclude": list(r.exclude)} for r in self.rules],
            "types": sorted(self.types),
            "allow_keyless": self.allow_keyless,
            "conflicting_tables": self.conflicting_tables,
        }


def endpoint_of(end: str, options: Mapping[str, Any]) -> Endpoint:
    """An endpoint dict in community.postgresql's words to an Endpoint. Raises SpecError without a database."""
    given = {key: value for key, value in options.items() if value not in (None, "")}
    if not given.get("login_db") and not (given.get("connect_params") or {}).get("service"):
        raise SpecError(
            "reading the connection options", f"causeway_{end}", "login_db is missing", "Name the database."
        )
    port = int(given.get("login_port", 5432))
    if not 0 < port < 65536:
        raise SpecError(
            "reading the connection options", f"causeway_{end}", f"login_port {port} is no port", "Use 1 to 65535."
        )
    return Endpoint(
        end="source" if end == "source" else "destination",
        host=str(given.get("login_host", "")),
        port=port,
        user=str(given.get("login_user", "")),
        password=str(given.get("login_password", "")),
        dbname=str(given.get("login_db", "")),
        unix_socket=str(given.get("login_unix_socket", "")),
        ssl_mode=str(given.get("ssl_mode", "prefer")),
        ca_cert=str(given.get("ca_cert", "")),
        ssl_cert=str(given.get("ssl_cert", "")),
        ssl_key=str(given.get("ssl_key", "")),
        connect_params={str(k): str(v) for k, v in (given.get("connect_params") or {}).items()},
        session_role=str(given.get("session_role", "")),
    )


def spec_of(options: Mapping[str, Any]) -> MigrationSpec:
    """The options that all modules share (`_arguments`), to a Spec. Raises SpecError."""
    types = frozenset(options["types"])
    if not types or ("incremental" in types and types == {"schema", "incremental"}):
        raise SpecError(
            "reading the migration",
            "causeway_types",
            "schema and incremental without full leaves out the rows that stand at the source now",
            "Use [schema], [schema, full], [full], [schema, full, incremental] or [full, incremental].",
        )
    for option, variable in (("name", "causeway_name"), ("state_schema", "causeway_state_schema")):
        if not str(options[option]).strip():
            raise SpecError("reading the migration", variable, "it is empty", "Give it a name, or leave it out.")
    if not options["objects"]:
        raise SpecError(
            "reading the objects of the migration",
            "causeway_objects",
            "the list is empty, so nothing would be moved",
            "Name at least one schema: [{schema: public}].",
        )
    if "%" in str(options["state_schema"]):
        raise SpecError(
            "reading the migration",
            "causeway_state_schema",
            "the name holds a percent sign, which the driver takes for a parameter",
            "Choose another name for the state schema.",
        )
    return MigrationSpec(
        name=str(options["name"]),
        source=endpoint_of("source", options["source"]),
        destination=endpoint_of("destination", options["destination"]),
        rules=compile_rules(options["objects"]),
        types=types,
        state_schema=str(options["state_schema"]),
        allow_keyless=bool(options["allow_keyless"]),
        conflicting_tables=str(options["conflicting_tables"]),
        restart=bool(options["restart"]),
        tags={str(key): str(value) for key, value in (options.get("tags") or {}).items()},
    )


class Migration:
    """Both ends of one migration for the length of one module call; leaving the context closes all sessions."""

    def __init__(self, spec: MigrationSpec) -> None:
        self.spec = spec
        self._stack = ExitStack()

    def __enter__(self) -> Migration:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def name(self) -> str:
        return self.spec.name

    def open(self, endpoint: Endpoint, purpose: str, **options: Any) -> Connection:
        """One more session, closed with the migration. Raises ConnectError."""
        return self._stack.enter_context(connect(endpoint, f"{purpose} {self.name}", **options))

    @cached_property
    def source(self) -> Connection:
        """The ordinary session at the source, autocommit."""
        return self.open(self.spec.source, "module", settings=_WRITING)

    @cached_property
    def destination(self) -> Connection:
        """The ordinary session at the destination, autocommit. It also holds the lock of this run."""
        return self.open(self.spec.destination, "module", settings=_WRITING)

    @cached_property
    def source_server(self) -> Server:
        return observe_server(self.source, "source")

    @cached_property
    def destination_server(self) -> Server:
        return observe_server(self.destination, "destination")

    @cached_property
    def source_catalog(self) -> Catalog:
        return observe_catalog(self.source, "source", leave_out=self._own_schemas)

    def destination_catalog(self) -> Catalog:
        """Read anew at each call: what we do changes it."""
        return observe_catalog(self.destination, "destination", leave_out=self._own_schemas)

    def refresh_catalog(self) -> None:
        """Forget what was read of the source's catalog; whoever asks next gets it, and the selection, as it is now."""
        for name in ("source_catalog", "selection"):
            self.__dict__.pop(name, None)

    @property
    def _own_schemas(self) -> tuple[str, ...]:
        return tuple({"causeway", self.spec.state_schema})

    @cached_property
    def selection(self) -> Selection:
        """What is selected, problems included: precheck shows them, everything else calls `selected`."""
        return select(self.spec.rules, self.source_catalog)

    @property
    def mapping(self) -> ObjectMapping:
        """What the selected objects are called at the destination."""
        return IDENTITY

    def selected(self) -> Selection:
        """The selection without problems. Raises SpecError."""
        self.selection.require()
        return self.selection

    @cached_property
    def store(self) -> StateStore:
        return StateStore(self.destination, self.spec.state_schema, self.name)

    def state(self) -> MigrationState | None:
        """The migration's row as it is now; None before the first phase.

        Raises MismatchError where the name belongs to a migration from another source.
        """
        state = self.store.load()
        if state is not None:
            self._same_source(state)
        return state

    def _same_source(self, state: MigrationState) -> None:
        server = self.source_server
        known = state.source_system and server.system_identifier
        if (known and state.source_system != server.system_identifier) or state.source_database != server.database:
            raise MismatchError(
                "opening the migration",
                self.name,
                f"it was begun from database {state.source_database} of system {state.source_system}, and the source is"
                f" now {server.database} of system {server.system_identifier or 'unknown'}",
                "Give this migration another causeway_name, or correct causeway_source.",
            )

    def copies(self) -> dict[int, TableCopy]:
        """The copy state of every table; empty where the state is."""
        return self.store.table_copies() if self.state() is not None else {}

    def opened_at(self) -> str:
        """When the destination was opened; empty before. Survives a release (`tombstone`)."""
        state = self.store.load()
        if state is not None:
            return state.opened_at
        return read_tombstone(self.destination, self.name)

    def require_released(self, opened: str) -> None:
        """Before beginning again over an opened destination. Raises StateError while the old migration is kept."""
        if self.store.load() is not None:
            raise StateError(
                "beginning again with migration",
                self.name,
                f"it was cut over at {opened}, and what it made at both ends still stands",
                f"Run the release playbook first (-e causeway_confirm={self.name}), then migrate with causeway_restart.",
            )

    def lock(self, *, shared: bool = False) -> None:
        """Keep other runs of this migration out until this call ends. Raises StateError, naming the holder."""
        function = "pg_try_advisory_lock_shared" if shared else "pg_try_advisory_lock"
        key = names.lock_key(self.name, "run")
        deadline = time.monotonic() + _GOING
        with explain_errors("taking the lock of the migration", self.name):
            while True:
                row = self.destination.execute(f"SELECT pg_catalog.{function}(%s)", (key,)).fetchone()
                if row and row[0]:
                    return
                if time.monotonic() > deadline:
                    break
                time.sleep(0.1)
            holders = self.destination.execute(
                "SELECT a.pid, a.application_name, coalesce(a.client_addr::text, 'local'), a.backend_start::text"
                "  FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a USING (pid)"
                " WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1"
                "   AND l.classid::bigint = %s AND l.objid::bigint = %s",
                names.lock_halves(key),
            ).fetchall()
        # Of another account's session only a member of pg_read_all_stats sees more than the pid.
        held = "; ".join(
            f"pid {pid} ({name}) from {address} since {since}" if since else f"pid {pid}, of another account"
            for pid, name, address, since in holders
        )
        raise StateError(
            "taking the lock of the migration",
            self.name,
            f"another run works on it: {held or 'it has just gone'}",
            "Wait until it has finished. If its machine is gone, end that session at the destination.",
        )

    def registration(self) -> tuple[Change, ...]:
        """What has to be written before anything else can be: the state schema and the migration's row."""
        return as_change(self._registration(), self.destination)

    def _registration(self) -> Sequence[SqlChange]:
        install = self.store.install_statements()
        changes = []
        if install:
            changes.append(SqlChange("destination", f"schema {self.spec.state_schema}", None, "state tables", install))
        if self.spec.restart and read_tombstone(self.destination, self.name):
            statement = without_tombstone(self.destination, self.name)
            changes.append(SqlChange("destination", "database comment", "opened", None, (statement,)))
        return changes

    def lock_state_schema(self) -> None:
        """Until the transaction ends: migrations that share the schema may begin and end at once, and the second has to
        find what the first has made or taken away. Raises ServerError."""
        key = (names.lock_key(self.spec.state_schema, "state"),)
        with explain_errors("waiting for the state tables of", self.name):
            self.destination.execute("SELECT pg_catalog.pg_advisory_xact_lock(%s)", key)

    def ensure_registered(self) -> None:
        """Make the state tables and the migration's row, in one transaction. Idempotent. Raises ServerError."""
        with self.destination.transaction():
            self.lock_state_schema()
            for change in self._registration():
                change.execute(self.destination, "making the state tables")
            self.store.register(self.spec.stored(), self.source_server.system_identifier, self.source_server.database)
