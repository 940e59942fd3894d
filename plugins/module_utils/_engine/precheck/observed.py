# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the checks judge: both ends, the worker host and the migration's own state, observed once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..objects.mapping import IDENTITY
from ..postgres.catalog import qualified

if TYPE_CHECKING:
    from ..capture.published import Published
    from ..errors import EngineError
    from ..objects.extensions import Extension, Offer
    from ..objects.mapping import DestinationName, ObjectMapping, TableMapping
    from ..objects.owners import Giving
    from ..objects.selection import Selection
    from ..postgres.catalog import Catalog, Name, Table
    from ..postgres.server import Server
    from ..spec import MigrationSpec
    from ..state.advisory import Holder
    from ..state.store import MigrationState


@dataclass(frozen=True, slots=True)
class Slot:
    """A replication slot of the source's cluster."""

    name: str
    plugin: str
    database: str
    active: bool
    temporary: bool
    inactive: float | None = None
    """Seconds since it was last read, from PostgreSQL 17 on; None where that is not known."""


@dataclass(frozen=True, slots=True)
class Transaction:
    """An open transaction: a session's (``pid``), or a prepared one (``gid``). ``age`` is in seconds."""

    pid: int
    gid: str
    user: str
    database: str
    application: str
    since: str
    age: float


@dataclass(frozen=True, slots=True)
class Publication:
    """A publication of the source. ``comment`` is the state of the fence where it is a migration's."""

    name: str
    all_tables: bool
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Fellow:
    """A role that is the migration's destination account, or may become it, with sessions in the source's database."""

    role: str
    sessions: int
    applications: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sessions:
    """How many sessions a server admits for the migration's account, and how many are open."""

    limit: int
    used: int


@dataclass(frozen=True, slots=True)
class SourceView:
    """The source. ``foreign_owners`` are owners of selected tables and sequences that the account is no member of, with their
    number. ``fenced`` are the owners that may not write to their own: owner, TABLE or SEQUENCE, the names as SQL.
    ``ordinary`` are the settings of a session that pins nothing; ``clock`` is the server's time less the worker host's, in
    seconds; ``wal_rate`` bytes a second since the server's statistics began, None if unknown.
    ``published`` is what its publications send; ``fellows`` are the roles of
    other sessions that have the rights of the destination's account; ``fence`` is the state of this migration's;
    ``held`` are tables whose identity has to change, each with a transaction that has held a lock on it for a while.
    ``limited_walsenders`` are those walsenders whose account is no superuser; ``superuser`` says that ours is one.
    ``closed_large_objects`` are those that the account may not read: their number, and the first OIDs."""

    server: Server
    catalog: Catalog
    selection: Selection
    ordinary: Mapping[str, str] = field(default_factory=dict, repr=False)
    slots: tuple[Slot, ...] = ()
    walsenders: int = 0
    limited_walsenders: int = 0
    published: Published | None = None
    fellows: tuple[Fellow, ...] = ()
    fence: str = "none"
    held: tuple[tuple[str, str], ...] = ()
    standbys: tuple[str, ...] = ()
    prepared: tuple[Transaction, ...] = ()
    long_transactions: tuple[Transaction, ...] = ()
    publications: tuple[Publication, ...] = ()
    leftovers: tuple[tuple[str, str], ...] = ()
    extensions: tuple[Extension, ...] = ()
    stale_collations: tuple[str, ...] = ()
    sessions: Sessions | None = None
    wal_rate: float | None = None
    may_replicate: bool = True
    superuser: bool = False
    closed_schemas: tuple[str, ...] = ()
    unreadable: tuple[Name, ...] = ()
    foreign_owners: tuple[tuple[str, int], ...] = ()
    fenced: tuple[tuple[str, str, tuple[str, ...]], ...] = ()
    may_create: bool = True
    large_objects: int = 0
    closed_large_objects: tuple[int, tuple[int, ...]] = (0, ())
    clock: float = 0.0


@dataclass(frozen=True, slots=True)
class DestinationView:
    """The destination, and the state of this migration that is recorded there.

    ``account`` is the one that logs in; ``cutting_over`` says that a run of this migration holds its lock now;
    ``synchronous_standbys`` are connected and count for a commit, -1 if the account may not see that.
    Tables have the destination's names: ``filled`` are selected ones that exist and hold rows, ``copied`` those whose
    rows are ours, ``unwritable`` those that the account may not write. ``replica_role`` is the error of a refused
    `SET session_replication_role`; ``closed_schemas`` are those in which the account may not create objects;
    ``offers`` are the server's versions of needed extensions that the database lacks, ``refused_extensions`` the errors
    of those that it refused to create when tried; ``standing_large_objects`` the OIDs of large objects that exist at both
    ends and are not ours.
    """

    server: Server
    catalog: Catalog
    ordinary: Mapping[str, str] = field(default_factory=dict, repr=False)
    extensions: tuple[Extension, ...] = ()
    account: str = ""
    synchronous_standbys: int = 0
    offers: Mapping[str, Offer] = field(default_factory=dict)
    refused_extensions: Mapping[str, EngineError] = field(default_factory=dict)
    stale_collations: tuple[str, ...] = ()
    sessions: Sessions | None = None
    replica_role: EngineError | None = None
    may_create_schemas: bool = True
    may_use_temp: bool = True
    closed_schemas: tuple[str, ...] = ()
    unwritable: tuple[DestinationName, ...] = ()
    filled: frozenset[DestinationName] = frozenset()
    clock: float = 0.0
    state: MigrationState | None = None
    state_failure: EngineError | None = None
    copied: frozenset[DestinationName] = frozenset()
    worker: Holder | None = None
    cutting_over: bool = False
    worker_host: str = ""
    standing_large_objects: tuple[int, ...] = ()

    def owns(self, name: DestinationName) -> bool:
        """Return whether an existing table is this migration's: created by its schema phase, or found by its copy."""
        if self.state is None:
            return False
        made = self.state.before_image.get("made") or ()
        return self.state.reached("schema") or name in self.copied or qualified(name) in made


@dataclass(frozen=True, slots=True)
class HostView:
    """The worker host. ``tools`` maps a client program to its version, empty where it is missing.

    ``drivers`` maps a library to its version, empty where it cannot be imported (then ``missing`` says why);
    ``free`` is the free space for the worker's home in bytes, None if unknown; ``unsupervised`` says why systemd cannot
    supervise a worker here, empty where it can.
    """

    name: str
    tools: Mapping[str, str] = field(default_factory=dict)
    drivers: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    home: str = ""
    free: int | None = None
    unsupervised: str = ""
    container: tuple[str, ...] = ()
    job: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Observation:
    """All that one call observed. A part that could not be observed is None or empty, and ``failures`` says why.
    ``giving`` is what giving objects to their owners needs; ``privileges`` says that they are given."""

    spec: MigrationSpec
    host: HostView
    source: SourceView | None = None
    destination: DestinationView | None = None
    failures: Mapping[str, EngineError] = field(default_factory=dict)
    large_objects: bool = True
    identity: str = "auto"
    revoke_writer: bool = True
    mapping: ObjectMapping = IDENTITY
    giving: Giving | None = None
    privileges: bool = True

    def mapped(self, table: Table) -> TableMapping:
        """What a table of the source is called at the destination."""
        return self.mapping.table(table.qualified_name)

    @property
    def selected(self) -> tuple[Table, ...]:
        """Return the selected tables; none where the source could not be read."""
        return self.source.selection.tables if self.source else ()

    @property
    def copies_large_objects(self) -> bool:
        """Return whether the copy includes large objects."""
        return self.large_objects and "full" in self.spec.types

    def owns(self, name: DestinationName) -> bool:
        """Return whether the destination's table of this name is this migration's own."""
        return self.destination is not None and self.destination.owns(name)
