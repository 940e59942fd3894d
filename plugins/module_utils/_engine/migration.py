# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One migration during a module call: its spec, both ends, its recorded state. Sessions are opened on first use."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .errors import MismatchError, StateError
from .objects.mapping import IDENTITY, ObjectMapping
from .objects.selection import Selection, select
from .plan import SqlChange, as_change
from .postgres.catalog import Catalog, observe_catalog
from .postgres.connect import connect, explain_errors
from .postgres.server import Server, observe_server
from .state.advisory import lock_run, lock_schema
from .state.copies import TableCopy, table_copies
from .state.store import MigrationState, StateStore
from .state.tombstone import read_tombstone, without_tombstone

if TYPE_CHECKING:
    from .plan import Change
    from .postgres.connect import Connection, Endpoint
    from .spec import MigrationSpec


# A module writes the state tables even if `writers` has made the account read-only by default; sessions that move rows do
# not. What it created and recorded must survive a crash together: the slot at the source is on disk before its record is.
_WRITING = {"default_transaction_read_only": "off", "synchronous_commit": "on"}


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
        """Open and return one more session, closed with the migration. Raises ConnectError."""
        return self._stack.enter_context(connect(endpoint, f"{purpose} {self.name}", **options))

    @cached_property
    def source(self) -> Connection:
        """Return the ordinary session at the source, autocommit."""
        return self.open(self.spec.source, "module", settings=_WRITING)

    @cached_property
    def destination(self) -> Connection:
        """Return the ordinary session at the destination, autocommit. It also holds the lock of this run."""
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
        """Read and return the destination's catalog, again at each call: what we do changes it."""
        return observe_catalog(self.destination, "destination", leave_out=self._own_schemas)

    def refresh_catalog(self) -> None:
        """Forget the source's catalog and the selection; the next use reads them again."""
        for name in ("source_catalog", "selection"):
            self.__dict__.pop(name, None)

    @property
    def _own_schemas(self) -> tuple[str, ...]:
        return tuple({"causeway", self.spec.state_schema})

    @cached_property
    def selection(self) -> Selection:
        """Return the selection, problems included: precheck shows them, everything else calls `selected`."""
        return select(self.spec.rules, self.source_catalog)

    @property
    def mapping(self) -> ObjectMapping:
        """Return the mapping of the selected objects' names to the destination's."""
        return IDENTITY

    def selected(self) -> Selection:
        """Return the selection. Raises SpecError if it has problems."""
        self.selection.require()
        return self.selection

    @cached_property
    def store(self) -> StateStore:
        return StateStore(self.destination, self.spec.state_schema, self.name)

    def state(self) -> MigrationState | None:
        """Read and return the migration's row; None before the first phase.

        Raises MismatchError if the name belongs to a migration from another source.
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
        """Return the copy state of every table; empty if the migration has no state."""
        return table_copies(self.store) if self.state() is not None else {}

    def opened_at(self) -> str:
        """Return when the destination was opened; empty before. This survives a release (`tombstone`)."""
        state = self.store.load()
        if state is not None:
            return state.opened_at
        return read_tombstone(self.destination, self.name)

    def require_released(self, opened: str) -> None:
        """Raise StateError before a restart over an opened destination, unless the old migration has been released."""
        if self.store.load() is not None:
            raise StateError(
                "beginning again with migration",
                self.name,
                f"it was cut over at {opened}, and what it created at both ends still exists",
                f"Run the release playbook first (-e causeway_confirm={self.name}), then migrate with causeway_restart.",
            )

    def lock(self, *, shared: bool = False) -> None:
        """Lock out other runs of this migration until this call ends. Raises StateError, naming the holder."""
        lock_run(self.destination, self.name, shared=shared)

    def registration(self) -> tuple[Change, ...]:
        """Return the changes that have to be made before any other: the state schema and the migration's row."""
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
        """Lock the state schema until the transaction ends: migrations that share it may begin and end at once, and the
        second has to see what the first has created or removed. Raises ServerError."""
        with explain_errors("waiting for the state tables of", self.name):
            lock_schema(self.destination, self.spec.state_schema, "state")

    def ensure_registered(self) -> None:
        """Create the state tables and the migration's row, in one transaction. Idempotent. Raises ServerError."""
        with self.destination.transaction():
            self.lock_state_schema()
            for change in self._registration():
                change.execute(self.destination, "creating the state tables")
            self.store.register(self.spec.stored(), self.source_server.system_identifier, self.source_server.database)
