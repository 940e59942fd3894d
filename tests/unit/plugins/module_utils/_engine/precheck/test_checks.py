# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every check, judged over observations that differ from a healthy one in one thing."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.capture.published import Publishing
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import (
    ConnectError,
    EngineError,
    MismatchError,
    ServerError,
    SpecError,
    StateError,
    VersionError,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.objects.extensions import Extension, Offer
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.objects.mapping import (
    IDENTITY,
    ColumnMapping,
    ObjectMapping,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.objects.owners import (
    Giving,
    Known,
    Owners,
    RoleInSchema,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.objects.rules import compile_rules
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.objects.selection import select
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres.catalog import (
    Catalog,
    Column,
    Table,
    UniqueIndex,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres.connect import Endpoint
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres.server import (
    Locale,
    Server,
    create_database_statement,
    lacking_locale,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.precheck import catalogue
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.precheck.observed import (
    DestinationView,
    Fellow,
    HostView,
    Observation,
    Publication,
    Sessions,
    Slot,
    SourceView,
    Transaction,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.precheck.source_harm import standby_names
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.precheck.versions import WAS_RUN
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.spec import MigrationSpec
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.state.advisory import Holder
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.state.store import MigrationState

ROOT = Path(__file__).resolve().parents[6]
PAGE = ROOT / "docs" / "prechecks.md"
SETTINGS = {
    "wal_level": "logical",
    "max_replication_slots": "10",
    "max_wal_senders": "10",
    "wal_sender_timeout": "60000",
    "max_slot_wal_keep_size": "-1",
    "idle_replication_slot_timeout": "0",
    "logical_decoding_work_mem": "65536",
    "max_locks_per_transaction": "64",
    "max_connections": "100",
}
SURVIVES = {"polar_enable_shared_storage_mode": "on", "polar_enable_persisted_logical_slot": "on"}
ORDINARY = {"TimeZone": "UTC", "lc_monetary": "C", "session_replication_role": "origin"}


def column(name: str = "id", type_name: str = "bigint", **other: Any) -> Column:
    values: dict[str, Any] = {
        "number": 1,
        "type_oid": 20,
        "typmod": -1,
        "base_type_oid": 20,
        "base_type_name": type_name,
        "not_null": True,
        "generated": "",
        "identity": "",
        "binary_safe": True,
    }
    return Column(name=name, type_name=type_name, **{**values, **other})


def index(**other: Any) -> UniqueIndex:
    values: dict[str, Any] = {
        "name": "t_pkey",
        "columns": ("id",),
        "primary": True,
        "immediate": True,
        "partial": False,
        "valid": True,
        "all_not_null": True,
    }
    return UniqueIndex(**{**values, **other})


def table(name: str = "t", oid: int = 1, **other: Any) -> Table:
    values: dict[str, Any] = {
        "schema": "shop",
        "kind": "r",
        "persistence": "p",
        "owner": "app",
        "replica_identity": "d",
        "identity_index": "",
        "parents": (),
        "is_partition": False,
        "pages": 1,
        "rows": 1.0,
        "bytes": 8192,
        "columns": (column(),),
        "unique_indexes": (index(),),
    }
    return Table(oid=oid, name=name, **{**values, **other})


def catalog(end: Any, *tables: Table) -> Catalog:
    return Catalog(end, {one.oid: one for one in tables}, {}, {"shop": "app"})


def server(end: Any, **other: Any) -> Server:
    values: dict[str, Any] = {
        "product": "PostgreSQL",
        "product_version": "17.5",
        "version": 170005,
        "version_text": "PostgreSQL 17.5",
        "database": "orders",
        "database_oid": 5,
        "user": "mover",
        "system_identifier": "1" if end == "source" else "2",
        "in_recovery": False,
        "started_at": "",
        "encoding": "UTF8",
        "collate": "C",
        "ctype": "C",
        "settings": SETTINGS,
    }
    return Server(end=end, **{**values, **other})


def state(phase: str = "registered", **other: Any) -> MigrationState:
    values: dict[str, Any] = {
        "name": "orders",
        "spec": {},
        "source_system": "1",
        "source_database": "orders",
        "before_image": {},
        "slot": None,
        "fence": None,
        "certificate": None,
        "opened_at": "",
    }
    return MigrationState(phase=phase, **{**values, **other})


class Sends:
    """Publications, each of which sends every table in the same way."""

    def __init__(self, *publishing: Publishing) -> None:
        self.publishing = frozenset(publishing)

    def of(self, dummy: Table) -> frozenset[Publishing]:
        return self.publishing


OURS, THEIRS = Known(superuser=False, ours=True), Known(superuser=False, ours=False)
IN_SHOP = RoleInSchema("app", "shop")


def giving(
    roles: Mapping[str, Known] | None = None,
    lacking: Mapping[RoleInSchema, bool] | None = None,
    inside: tuple[RoleInSchema, ...] = (IN_SHOP,),
    schemas: tuple[RoleInSchema, ...] = (IN_SHOP,),
    open_schemas: frozenset[str] = frozenset(),
) -> Giving:
    """What giving the tables of shop to app needs; a schema exists at the destination, unless a case says otherwise."""
    return Giving(Owners(inside, schemas, open_schemas), {"app": OURS, **(roles or {})}, lacking or {})


OFFERED = Offer("1.8", frozenset({"1.7", "1.8"}), trusted=True)


class Seen:
    """A healthy observation, one part of which a case replaces."""

    def __init__(self) -> None:
        self.tables: tuple[Table, ...] = (table(),)
        self.objects: list[dict[str, Any]] = [{"schema": "shop"}]
        self.spec: dict[str, Any] = {}
        self.source: dict[str, Any] = {}
        self.source_server: dict[str, Any] = {}
        self.source_settings: dict[str, str] = {}
        self.destination: dict[str, Any] = {}
        self.destination_server: dict[str, Any] = {}
        self.destination_settings: dict[str, str] = {}
        self.there: tuple[Table, ...] = ()
        self.host: dict[str, Any] = {}
        self.failures: dict[str, EngineError] = {}
        self.unreachable: set[str] = set()
        self.large_objects = True
        self.identity = "auto"
        self.revoke_writer = True
        self.mapping = IDENTITY
        self.giving = giving()
        self.privileges = True

    def observation(self) -> Observation:
        spec: dict[str, Any] = {
            "name": "orders",
            "source": Endpoint("source", host="old", dbname="orders", user="mover"),
            "destination": Endpoint("destination", host="new", dbname="orders", user="mover"),
            "rules": compile_rules(self.objects),
            "types": frozenset({"schema", "full", "incremental"}),
            "state_schema": "causeway",
            "allow_keyless": False,
            "conflicting_tables": "report",
            "restart": False,
        }
        here = catalog("source", *self.tables)
        source = SourceView(
            **{
                "server": server("source", settings={**SETTINGS, **self.source_settings}, **self.source_server),
                "catalog": here,
                "selection": select(compile_rules(self.objects), here),
                "ordinary": ORDINARY,
                "sessions": Sessions(97, 3),
                **self.source,
            }
        )
        there = {**SETTINGS, **self.destination_settings}
        destination = DestinationView(
            **{
                "server": server("destination", settings=there, **self.destination_server),
                "catalog": catalog("destination", *self.there),
                "ordinary": ORDINARY,
                "sessions": Sessions(97, 3),
                **self.destination,
            }
        )
        host: dict[str, Any] = {
            "name": "mover1",
            "tools": {"pg_dump": "pg_dump (PostgreSQL) 17.5", "pg_restore": "pg_restore (PostgreSQL) 17.5"},
            "drivers": {"psycopg": "3.3.0", "asyncpg": "0.32.0"},
            "free": 10**12,
            **self.host,
        }
        return Observation(
            spec=MigrationSpec(**{**spec, **self.spec}),
            host=HostView(**host),
            source=None if "source" in self.unreachable else source,
            destination=None if "destination" in self.unreachable else destination,
            failures=self.failures,
            large_objects=self.large_objects,
            identity=self.identity,
            revoke_writer=self.revoke_writer,
            mapping=self.mapping,
            giving=self.giving,
            privileges=self.privileges,
        )

    def findings(self) -> dict[str, Any]:
        """The findings by id."""
        return {one.id: one for one in catalogue.judge(self.observation())}


Case = Callable[[Seen], None]
CASES: list[tuple[str, str, Case]] = []


def case(check: str, severity: str) -> Callable[[Case], Case]:
    """A change of the healthy observation that must give exactly this finding."""

    def add(change: Case) -> Case:
        CASES.append((check, severity, change))
        return change

    return add


def refused(why: str, sqlstate: str = "") -> ConnectError:
    return ConnectError("connecting to the", "end", why, "Cure it.", sqlstate=sqlstate)


@case("source_connect", "error")
def _source_down(seen: Seen) -> None:
    seen.unreachable, seen.failures = {"source"}, {"source": refused("Connection refused")}


@case("destination_connect", "error")
def _destination_down(seen: Seen) -> None:
    seen.unreachable, seen.failures = {"destination"}, {"destination": refused("Connection refused")}


@case("destination_database_missing", "error")
def _no_database(seen: Seen) -> None:
    seen.unreachable = {"destination"}
    seen.failures = {"destination": refused('FATAL:  database "orders" does not exist')}


@case("replication_connect", "error")
def _no_walsender(seen: Seen) -> None:
    seen.failures = {
        "replication": refused("Only roles with the REPLICATION attribute may start a WAL sender process.")
    }


@case("not_observed", "error")
def _blind(seen: Seen) -> None:
    seen.failures = {"source: publications": ServerError("looking", "", "denied", "Grant it.", sqlstate="42501")}


@case("state_unusable", "error")
def _foreign_schema(seen: Seen) -> None:
    seen.destination = {"state_failure": StateError("reading", "schema causeway", "not ours", "Rename.")}


@case("migration_name_taken", "error")
def _other_source(seen: Seen) -> None:
    seen.destination = {"state_failure": MismatchError("opening", "orders", "another source", "Rename.")}


@case("same_database", "error")
def _one_database(seen: Seen) -> None:
    seen.destination_server = {"system_identifier": "1"}


def too_old(end: str) -> VersionError:
    return VersionError("connecting to the", end, "the server's version is 9.6.24", "Use a server of PostgreSQL 10.")


@case("source_version", "error")
def _too_old(seen: Seen) -> None:
    seen.unreachable, seen.failures = {"source"}, {"source": too_old("source")}


@case("destination_version", "error")
def _destination_too_old(seen: Seen) -> None:
    seen.unreachable, seen.failures = {"destination"}, {"destination": too_old("destination")}


@case("version_not_run", "note")
def _newer_than_any(seen: Seen) -> None:
    seen.destination_server = {"version": 190000, "product_version": "19.0"}
    seen.host = {"tools": {"pg_dump": "19.0", "pg_restore": "19.0"}}


@case("version_not_run", "note")
def _newer_polardb(seen: Seen) -> None:
    seen.destination_server = {"version": 180001, "product": "PolarDB"}
    seen.host = {"tools": {"pg_dump": "18.1", "pg_restore": "18.1"}}


@case("source_minor_decoding_fix", "note")
def _polardb_has_no_such_minor(seen: Seen) -> None:
    seen.source_server = {"product": "PolarDB", "version": 150008, "product_version": "15.8.5.0"}
    seen.source_settings = SURVIVES


@case("version_downgrade", "ignorable")
def _downgrade(seen: Seen) -> None:
    seen.destination_server = {"version": 140018}


@case("source_minor_decoding_fix", "warning")
def _old_minor(seen: Seen) -> None:
    seen.source_server = {"version": 170004}


@case("source_in_recovery", "error")
def _standby(seen: Seen) -> None:
    seen.source_server = {"in_recovery": True}


@case("destination_read_only", "error")
def _read_only(seen: Seen) -> None:
    seen.destination = {"ordinary": {**ORDINARY, "default_transaction_read_only": "on"}}


@case("destination_read_only", "error")
def _destination_standby(seen: Seen) -> None:
    seen.destination_server = {"in_recovery": True}


@case("database_encoding", "warning")
def _encoding(seen: Seen) -> None:
    seen.destination_server = {"encoding": "LATIN1"}


@case("database_collation", "ignorable")
def _collation(seen: Seen) -> None:
    seen.destination_server = {"ctype": "de_DE.utf8"}


@case("database_collation", "ignorable")
def _provider(seen: Seen) -> None:
    seen.source_server = {"locale": Locale("builtin", "C.UTF-8")}


@case("database_collation", "ignorable")
def _rules(seen: Seen) -> None:
    seen.source_server = {"locale": Locale("icu", "de", "&a < b")}
    seen.destination_server = {"locale": Locale("icu", "de")}


@case("collation_version", "ignorable")
def _stale(seen: Seen) -> None:
    seen.destination = {"stale_collations": ("de_DE (2.31, now 2.36)",)}


@case("lc_monetary", "ignorable")
def _money(seen: Seen) -> None:
    seen.tables = (table(columns=(column(), column("price", "money"))),)
    seen.destination = {"ordinary": {**ORDINARY, "lc_monetary": "de_DE"}}


@case("timezone_settings", "note")
def _zone(seen: Seen) -> None:
    seen.source = {"ordinary": {**ORDINARY, "TimeZone": "Europe/Berlin"}}


@case("wal_level", "error")
def _replica(seen: Seen) -> None:
    seen.source_settings = {"wal_level": "replica"}


@case("max_replication_slots", "error")
def _slots(seen: Seen) -> None:
    seen.source_settings = {"max_replication_slots": "2"}
    seen.source = {"slots": (Slot("other", "pgoutput", "orders", True, False),)}


@case("max_wal_senders", "error")
def _walsenders(seen: Seen) -> None:
    seen.source = {"walsenders": 9}


@case("max_wal_senders", "error")
def _walsenders_of_the_cloud(seen: Seen) -> None:
    seen.source_settings = {"polar_max_non_super_wal_snd": "5"}
    seen.source = {"walsenders": 4, "limited_walsenders": 4}


@case("wal_sender_timeout", "warning")
def _sender_timeout(seen: Seen) -> None:
    seen.source_settings = {"wal_sender_timeout": "9999"}


@case("max_slot_wal_keep_size", "ignorable")
def _keep_size(seen: Seen) -> None:
    seen.source_settings = {"max_slot_wal_keep_size": "1024"}


@case("idle_replication_slot_timeout", "warning")
def _idle_slot(seen: Seen) -> None:
    seen.source_settings = {"idle_replication_slot_timeout": "3600"}


@case("logical_decoding_work_mem", "note")
def _work_mem(seen: Seen) -> None:
    seen.source_settings = {"logical_decoding_work_mem": "1024"}


@case("wal_disk_headroom", "ignorable")
def _headroom(seen: Seen) -> None:
    seen.tables = (table(bytes=10**12),)
    seen.source = {"wal_rate": 1_000_000.0}


@case("slot_failover", "ignorable")
def _standbys(seen: Seen) -> None:
    seen.source = {"standbys": ("replica1",)}


@case("slot_failover", "ignorable")
def _cloud_failover(seen: Seen) -> None:
    seen.source_server = {"product": "PolarDB", "version": 150013}


@case("slot_name_taken", "error")
def _taken(seen: Seen) -> None:
    seen.source = {"slots": (Slot("dts_sync_orders", "pgoutput", "orders", True, False),)}


@case("prepared_transactions", "warning")
def _prepared(seen: Seen) -> None:
    seen.source = {"prepared": (Transaction(0, "half", "app", "orders", "", "", 90.0),)}


@case("long_transactions", "ignorable")
def _long(seen: Seen) -> None:
    seen.source = {"long_transactions": (Transaction(77, "", "app", "orders", "psql", "", 601.0),)}


@case("publication_for_all_tables", "ignorable")
def _all_tables(seen: Seen) -> None:
    seen.source = {"publications": (Publication("everything", True), Publication("some", False))}


@case("identity_stops_writes", "error")
def _full_for_all(seen: Seen) -> None:
    seen.identity = "full"
    seen.source = {"published": Sends(Publishing("other", True, False))}


@case("source_fenced", "error")
def _source_fenced(seen: Seen) -> None:
    seen.source = {"fenced": (("app", "TABLE", ("shop.t",)),)}


@case("synchronous_standby_names", "error")
def _waits_for_us(seen: Seen) -> None:
    seen.source_settings = {"synchronous_standby_names": "ANY 1 (*)"}


@case("destination_commits_wait", "error")
def _waits_for_nobody(seen: Seen) -> None:
    seen.destination_settings = {"synchronous_standby_names": "FIRST 2 (a, b)"}
    seen.destination = {"synchronous_standbys": 1}


@case("account_of_application", "error")
def _one_account(seen: Seen) -> None:
    seen.tables = (table(owner="mover"),)
    seen.source = {"fellows": (Fellow("mover", 3, ("shop",)),)}
    seen.destination = {"account": "mover"}


@case("table_held", "ignorable")
def _held(seen: Seen) -> None:
    seen.source = {"held": (("shop.log", "pid 7 (report, user app, idle in transaction) in a transaction since noon"),)}


@case("fence_left", "warning")
def _fenced(seen: Seen) -> None:
    seen.source = {"fence": "fenced"}


@case("fence_left", "warning")
def _closed_by_a_cutover(seen: Seen) -> None:
    seen.source = {"fence": "closed"}


@case("publication_name_taken", "error")
def _taken_publication(seen: Seen) -> None:
    seen.source = {"leftovers": (("publication", "causeway_orders"),)}


@case("leftovers", "note")
def _left(seen: Seen) -> None:
    seen.source = {"leftovers": (("event trigger", "dts_capture"),)}


@case("leftovers", "note")
def _left_slot(seen: Seen) -> None:
    seen.source = {"slots": (Slot("dts_sync_old", "pgoutput", "orders", False, False, 1e6),)}


@case("idle_in_transaction_session_timeout", "note")
def _idle(seen: Seen) -> None:
    seen.source = {"ordinary": {**ORDINARY, "idle_in_transaction_session_timeout": "60000"}}


@case("pattern_matches_nothing", "error")
def _pattern(seen: Seen) -> None:
    seen.objects = [{"schema": "shop"}, {"schema": "shop", "tables": [{"name": "x*"}]}]


@case("partition_incomplete", "error")
def _partition(seen: Seen) -> None:
    part = table("t_1", 2, parents=(1,), is_partition=True)
    seen.tables, seen.objects = (table(kind="p"), part), [{"schema": "shop", "exclude": ["t_1"]}]


@case("inheritance_across_selection", "error")
def _child_outside(seen: Seen) -> None:
    seen.tables = (table(), table("c", 2, schema="archive", parents=(1,)))


@case("inheritance_across_selection", "error")
def _parent_outside(seen: Seen) -> None:
    seen.tables = (table(parents=(2,)), table("p", 2, schema="archive"))


@case("no_key", "error")
def _keyless(seen: Seen) -> None:
    seen.tables = (table(unique_indexes=(index(all_not_null=False),)),)


@case("no_key", "ignorable")
def _keyless_allowed(seen: Seen) -> None:
    seen.tables, seen.spec = (table(unique_indexes=()),), {"allow_keyless": True}


@case("replica_identity", "warning")
def _nothing(seen: Seen) -> None:
    seen.tables = (table(replica_identity="n"),)


@case("replica_identity", "warning")
def _index_gone(seen: Seen) -> None:
    seen.tables = (table(replica_identity="i"),)


@case("unlogged_tables", "warning")
def _unlogged(seen: Seen) -> None:
    seen.tables = (table(persistence="u"),)


@case("large_objects", "ignorable")
def _large_objects(seen: Seen) -> None:
    seen.source = {"large_objects": 3}


@case("large_objects", "warning")
def _large_objects_left_out(seen: Seen) -> None:
    # what the account may not read, and what is in the way, does not matter then
    seen.source = {"large_objects": 3, "closed_large_objects": (1, (1000,))}
    seen.destination = {"standing_large_objects": (1000,)}
    seen.large_objects = False


@case("large_objects", "warning")
def _large_objects_without_a_copy(seen: Seen) -> None:
    seen.source, seen.spec = {"large_objects": 3}, {"types": frozenset({"schema"})}


@case("large_objects_closed", "error")
def _large_objects_closed(seen: Seen) -> None:
    seen.source = {"closed_large_objects": (7, (1000, 1001, 1002, 1003, 1004))}


@case("conflicting_large_objects", "error")
def _large_objects_standing(seen: Seen) -> None:
    seen.destination = {"standing_large_objects": (1000, 1001)}


@case("extension_missing", "error")
def _extension(seen: Seen) -> None:
    seen.source = {"extensions": (Extension("hstore", "1.8", "ext"),)}


@case("extension_missing", "error")
def _extension_refused(seen: Seen) -> None:
    seen.source = {"extensions": (Extension("hstore", "1.8", "ext"),)}
    seen.destination = {"offers": {"hstore": OFFERED}, "refused_extensions": {"hstore": refused("no right", "42501")}}


@case("extension_version", "ignorable")
def _extension_version_not_offered(seen: Seen) -> None:
    seen.source = {"extensions": (Extension("hstore", "1.9", "ext"),)}
    seen.destination = {"offers": {"hstore": OFFERED}}


@case("extension_version", "ignorable")
def _extension_version(seen: Seen) -> None:
    seen.source = {"extensions": (Extension("hstore", "1.8", "ext"),)}
    seen.destination = {"extensions": (Extension("hstore", "1.7", "ext"),)}


@case("source_select", "error")
def _unreadable(seen: Seen) -> None:
    seen.source = {"unreadable": (("shop", "t"),)}


@case("source_schema_usage", "error")
def _closed(seen: Seen) -> None:
    seen.source = {"closed_schemas": ("shop",)}


@case("source_identity_owner", "error")
def _not_the_owner(seen: Seen) -> None:
    seen.source = {"foreign_owners": (("shop_owner", 3),)}


@case("source_create_publication", "error")
def _may_not_create(seen: Seen) -> None:
    seen.source = {"may_create": False}


@case("source_replication_role", "error")
def _no_replication(seen: Seen) -> None:
    seen.source = {"may_replicate": False}


@case("conflicting_tables", "error")
def _conflict(seen: Seen) -> None:
    seen.there = (table(oid=9),)


@case("conflicting_tables", "ignorable")
def _conflict_accepted(seen: Seen) -> None:
    seen.there, seen.spec = (table(oid=9),), {"conflicting_tables": "ignore"}


@case("conflicting_tables", "error")
def _rows_in_a_table_that_must_stand(seen: Seen) -> None:
    seen.there, seen.spec = (table(oid=9),), {"types": frozenset({"full"})}
    seen.destination = {"filled": frozenset({("shop", "t")})}


@case("table_missing", "error")
def _table_missing(seen: Seen) -> None:
    seen.spec = {"types": frozenset({"full", "incremental"})}


@case("column_mismatch", "error")
def _columns(seen: Seen) -> None:
    seen.spec = {"types": frozenset({"full", "incremental"})}
    seen.there = (table(oid=9, columns=(column(), column("more"))),)


@case("column_mismatch", "error")
def _column_gone(seen: Seen) -> None:
    seen.spec = {"types": frozenset({"full", "incremental"})}
    seen.tables, seen.there = (table(columns=(column(), column("more"))),), (table(oid=9),)


@case("type_mismatch", "error")
def _types(seen: Seen) -> None:
    seen.spec = {"types": frozenset({"full", "incremental"})}
    seen.there = (table(oid=9, columns=(column(type_name="integer"),)),)


@case("destination_replica_role", "error")
def _replica_role(seen: Seen) -> None:
    seen.destination = {"replica_role": ServerError("trying", "", "permission denied", "Grant.", sqlstate="42501")}


@case("destination_create", "error")
def _create(seen: Seen) -> None:
    seen.destination = {"may_create_schemas": False}


@case("destination_write", "error")
def _write(seen: Seen) -> None:
    seen.destination = {"unwritable": (("shop", "t"),)}


@case("owner_role_missing", "warning")
def _owner_missing(seen: Seen) -> None:
    seen.giving = giving(inside=(IN_SHOP, RoleInSchema("clerk", "shop")))


@case("owner_not_ours", "error")
def _owner_not_ours(seen: Seen) -> None:
    seen.giving = giving({"app": THEIRS})


@case("owner_may_not_create", "error")
def _owner_may_not_create(seen: Seen) -> None:
    seen.giving = giving(lacking={IN_SHOP: False}, open_schemas=frozenset({"shop"}))


@case("owner_loses_create", "ignorable")
def _owner_loses_create(seen: Seen) -> None:
    seen.giving = giving(lacking={IN_SHOP: True}, open_schemas=frozenset({"shop"}))


@case("destination_temp_privilege", "error")
def _temp(seen: Seen) -> None:
    seen.destination = {"may_use_temp": False}


@case("connections_free", "error")
def _sessions(seen: Seen) -> None:
    seen.source = {"sessions": Sessions(97, 90)}


@case("max_locks_per_transaction", "warning")
def _locks(seen: Seen) -> None:
    seen.destination_settings = {"max_locks_per_transaction": "1", "max_connections": "2"}


@case("max_locks_per_transaction", "warning")
def _locks_at_the_source(seen: Seen) -> None:
    seen.source_settings = {"max_locks_per_transaction": "1", "max_connections": "1"}


@case("session_replication_role_default", "note")
def _role_default(seen: Seen) -> None:
    seen.destination = {"ordinary": {**ORDINARY, "session_replication_role": "replica"}}


@case("client_tools", "error")
def _tools(seen: Seen) -> None:
    seen.host = {"tools": {"pg_dump": "pg_dump (PostgreSQL) 16.9", "pg_restore": "17.5"}}


@case("client_tools", "error")
def _tools_older_than_the_destination(seen: Seen) -> None:
    seen.source_server = {"version": 140018, "product_version": "14.18"}
    seen.host = {"tools": {"pg_dump": "16.9", "pg_restore": "17.5"}}


@case("client_tools", "error")
def _no_tools(seen: Seen) -> None:
    seen.host = {"tools": {"pg_dump": ""}}


@case("drivers", "error")
def _drivers(seen: Seen) -> None:
    seen.host = {"drivers": {"psycopg": "3.3", "asyncpg": ""}, "missing": {"asyncpg": "No module named 'asyncpg'"}}


@case("drivers", "error")
def _old_driver(seen: Seen) -> None:
    seen.host = {"drivers": {"psycopg": "3.1.18"}}


@case("worker_disk", "warning")
def _disk(seen: Seen) -> None:
    seen.host = {"home": "/srv/causeway", "free": 1000}


@case("worker_clock", "note")
def _clock(seen: Seen) -> None:
    seen.source = {"clock": -61.0}


@case("worker_already_running", "error")
def _running(seen: Seen) -> None:
    worker = Holder(7, "causeway worker orders", "10.0.0.9", "2026-11-01")
    seen.destination = {"worker": worker, "worker_host": "mover2"}


@case("worker_host_ephemeral", "error")
def _ephemeral(seen: Seen) -> None:
    seen.host = {"container": ("/run/.containerenv",), "job": ("AWX_ISOLATED_DATA_DIR=/runner/artifacts/1",)}


def test_a_healthy_observation_has_no_finding() -> None:
    assert Seen().findings() == {}


@pytest.mark.parametrize(("check", "severity", "change"), CASES, ids=[f"{c[0]}-{c[2].__name__}" for c in CASES])
def test_each_check_finds_its_own_and_nothing_else(check: str, severity: str, change: Case) -> None:
    seen = Seen()
    change(seen)
    found = seen.findings()
    assert list(found) == [check]
    one = found[check]
    assert one.severity == severity
    assert one.object and one.why and one.fix and one.lock and one.answer


def test_every_check_has_a_case() -> None:
    elsewhere = {
        "worker_supervisor": test_nobody_restarts_the_worker,
        "nothing_selected": test_nothing_selected,
        "deferred_unique": test_a_deferrable_key_is_no_key,
        "keyless_with_ignore": test_keyless_and_ignore,
        "conflicting_rows": test_rows_that_are_kept,
    }
    assert {check for check, *dummy in CASES} | set(elsewhere) == set(catalogue.CATALOGUE)


def test_nobody_restarts_the_worker() -> None:
    seen = Seen()
    assert seen.findings() == {}
    seen.host = {"unsupervised": "systemd does not run here"}
    one = seen.findings()["worker_supervisor"]
    assert (one.severity, one.answer) == ("ignorable", "systemd does not run here")


def test_which_locks_are_counted_at_which_end() -> None:
    seen = Seen()
    seen.tables = tuple(table(name=f"t{number}", oid=10 + number) for number in range(1400))
    one = seen.findings()["max_locks_per_transaction"]
    assert (one.object, one.answer) == (
        "destination orders",
        "room for 6400 locks of all sessions, about 5600 in one transaction for 1400 tables",
    )
    assert one.fix == "ALTER SYSTEM SET max_locks_per_transaction = 120; then restart the destination."
    seen.destination = {"state": state("schema")}  # it has been made
    assert "max_locks_per_transaction" not in seen.findings()
    seen.tables = tuple(table(name=f"t{number}", oid=10 + number) for number in range(5200))
    assert seen.findings()["max_locks_per_transaction"].object == "source orders"
    seen.source_settings = {"max_prepared_transactions": "10"}
    assert "max_locks_per_transaction" not in seen.findings()
    seen.source_settings, seen.spec = {}, {"types": frozenset({"full"})}
    seen.there, seen.destination = seen.tables, {}
    assert "max_locks_per_transaction" not in seen.findings()


def test_nothing_selected() -> None:
    seen = Seen()
    seen.objects = [{"schema": "nope"}]
    assert set(seen.findings()) == {"nothing_selected", "pattern_matches_nothing"}


def test_a_deferrable_key_is_no_key() -> None:
    seen = Seen()
    seen.tables = (table(unique_indexes=(index(immediate=False),)),)
    assert {one.id: one.answer for one in seen.findings().values()} == {
        "no_key": "t_pkey is deferrable",
        "deferred_unique": "t_pkey",
    }


def test_keyless_and_ignore() -> None:
    seen = Seen()
    seen.tables, seen.there = (table(unique_indexes=()),), (table(oid=9),)
    seen.spec = {"conflicting_tables": "ignore", "allow_keyless": True}
    assert seen.findings()["keyless_with_ignore"].severity == "error"
    seen.there = ()
    assert "keyless_with_ignore" not in seen.findings()


def test_rows_that_are_kept() -> None:
    seen = Seen()
    seen.there, seen.spec = (table(oid=9),), {"conflicting_tables": "ignore"}
    seen.destination = {"filled": frozenset({("shop", "t")})}
    assert {one.id: one.severity for one in seen.findings().values()} == {
        "conflicting_tables": "ignorable",
        "conflicting_rows": "note",
    }


@pytest.mark.parametrize(
    ("destination", "owned"),
    [
        ({"state": state("prepared")}, False),
        ({"state": state("prepared", before_image={"made": {"shop.t": True}})}, True),
        ({"state": state("schema")}, True),
        ({"state": state("validated")}, True),
        ({"state": state("prepared"), "copied": frozenset({("shop", "t")})}, True),
        ({"state": None, "copied": frozenset({("shop", "t")})}, False),
    ],
)
def test_what_the_migration_made_is_no_conflict(destination: dict[str, Any], owned: bool) -> None:
    seen = Seen()
    seen.there, seen.destination = (table(oid=9),), destination
    assert ("conflicting_tables" not in seen.findings()) is owned


def test_its_own_slot_and_publication_are_no_findings() -> None:
    seen = Seen()
    known = {"name": "dts_sync_orders", "plugin": "pgoutput", "database": "orders"}
    seen.destination = {"state": state("prepared", slot=known)}
    seen.source = {
        "slots": (Slot("dts_sync_orders", "pgoutput", "orders", True, False),),
        "leftovers": (("publication", "causeway_orders"),),
        "walsenders": 9,
    }
    # one more of each is enough for a copy run
    seen.source_settings = {"max_replication_slots": "2"}
    assert seen.findings() == {}
    # the same name with another plugin is not the one that we made
    seen.source["slots"] = (Slot("dts_sync_orders", "test_decoding", "orders", True, False),)
    assert "slot_name_taken" in seen.findings()


def test_a_migration_that_has_copied_needs_fewer_sessions() -> None:
    seen = Seen()
    seen.source = {"sessions": Sessions(97, 93)}
    assert "connections_free" in seen.findings()
    seen.destination = {"state": state("copied")}
    assert "connections_free" not in seen.findings()


def test_a_worker_on_this_host_is_ours() -> None:
    seen = Seen()
    worker = Holder(7, "causeway worker orders", "10.0.0.9", "2026-11-01")
    seen.destination = {"worker": worker, "worker_host": "mover1", "state": state("replicating")}
    assert seen.findings() == {}


def test_checks_on_capture_are_silent_without_it() -> None:
    seen = Seen()
    seen.spec = {"types": frozenset({"schema", "full"})}
    seen.source_settings = {"wal_level": "replica"}
    assert seen.findings() == {}


def test_both_ends_down_leaves_two_findings() -> None:
    seen = Seen()
    seen.unreachable = {"source", "destination"}
    seen.failures = {"source": refused("timeout expired"), "destination": refused('database "x" does not exist')}
    assert list(seen.findings()) == ["source_connect", "destination_connect"]


@pytest.mark.parametrize(
    ("why", "sqlstate", "kind"),
    [
        ('connection to server at "1.2.3.4", port 1 failed: Connection refused', "", "host"),
        ('could not translate host name "x" to address', "", "host"),
        ("server does not support SSL, but SSL was required", "", "TLS"),
        ("certificate verify failed", "", "TLS"),
        ('FATAL:  password authentication failed for user "mover"', "", "authentication"),
        ('FATAL:  no pg_hba.conf entry for host "1.2.3.4", user "u", no encryption', "", "authentication"),
        ('FATAL:  database "x" does not exist', "", "database"),
        ("FATAL:  must be superuser or replication role to start walsender", "", "replication"),
        ("FATAL:  permission denied to start WAL sender", "", "replication"),
        ("FATAL:  number of requested standby connections exceeds max_wal_senders (currently 10)", "", "walsenders"),
        (
            "FATAL:  number of requested standby connections exceeds polar_max_non_super_wal_snd (currently 5)",
            "",
            "walsenders",
        ),
        ("FATAL:  number of available wal senders is less than what is reserved for superuser", "", "walsenders"),
        ("FATAL:  sorry, too many clients already", "53300", "server"),
    ],
)
def test_refusals_are_told_apart(why: str, sqlstate: str, kind: str) -> None:
    seen = Seen()
    seen.unreachable, seen.failures = {"source"}, {"source": refused(why, sqlstate)}
    assert seen.findings()["source_connect"].answer.startswith(f"{kind}: ")


def test_walsenders_that_are_all_in_use_are_no_missing_attribute() -> None:
    seen = Seen()
    seen.failures = {"replication": refused("number of available wal senders reached the limit of non-superusers")}
    found = seen.findings()["replication_connect"]
    assert found.answer.startswith("walsenders: ") and found.fix == "Cure it."
    seen.failures = {"replication": refused("FATAL:  permission denied to start WAL sender")}
    assert seen.findings()["replication_connect"].fix == 'ALTER ROLE "mover" REPLICATION;'


def walsenders(settings: dict[str, str], **source: Any) -> Any:
    """The finding on walsenders, None if there is none, with ten of them and these settings."""
    seen = Seen()
    seen.source_settings, seen.source = settings, source
    return seen.findings().get("max_wal_senders")


@pytest.mark.parametrize(
    ("settings", "source"),
    [
        ({"polar_max_non_super_wal_snd": "-1"}, {}),
        ({"polar_max_non_super_wal_snd": "-1"}, {"walsenders": 8, "limited_walsenders": 8}),
        ({"polar_max_non_super_wal_snd": "2"}, {}),
        ({"polar_max_non_super_wal_snd": "2"}, {"walsenders": 7, "limited_walsenders": 0}),
        ({"polar_max_non_super_wal_snd": "0"}, {"superuser": True}),
        ({"polar_wal_snd_reserved_for_superuser": "-1"}, {"walsenders": 8}),
        ({"polar_wal_snd_reserved_for_superuser": "8"}, {}),
        ({"polar_wal_snd_reserved_for_superuser": "32"}, {"superuser": True}),
    ],
)
def test_walsenders_that_are_free(settings: dict[str, str], source: dict[str, Any]) -> None:
    assert walsenders(settings, **source) is None


@pytest.mark.parametrize(
    ("settings", "source", "answer"),
    [
        ({"polar_max_non_super_wal_snd": "-1"}, {"walsenders": 9}, "max_wal_senders: 1 free (9 of 10 used), 2 needed"),
        ({"polar_max_non_super_wal_snd": "50"}, {"walsenders": 9}, "max_wal_senders: 1 free (9 of 10 used), 2 needed"),
        (
            {"polar_max_non_super_wal_snd": "3"},
            {"walsenders": 4, "limited_walsenders": 2},
            "polar_max_non_super_wal_snd: 1 free (2 of 3 used), 2 needed",
        ),
        (
            {"polar_wal_snd_reserved_for_superuser": "32"},
            {"walsenders": 1},
            "max_wal_senders: 0 free (1 of 10 used, 32 reserved for superusers), 2 needed",
        ),
        (
            {"polar_max_non_super_wal_snd": "0"},
            {"superuser": True, "walsenders": 10},
            "max_wal_senders: 0 free (10 of 10 used), 2 needed",
        ),
    ],
)
def test_the_limit_on_walsenders_that_binds_is_named(
    settings: dict[str, str], source: dict[str, Any], answer: str
) -> None:
    found = walsenders(settings, **source)
    setting = answer.split(":")[0]
    assert found.answer == answer and setting in found.query and setting in found.fix
    reserve = "polar_wal_snd_reserved_for_superuser"
    assert (reserve in found.fix) is (reserve in found.query) is (reserve in settings)


def test_the_quota_counts_the_next_walsenders_too() -> None:
    fix = walsenders({"polar_max_non_super_wal_snd": "3"}, limited_walsenders=2).fix
    assert fix.startswith("Set polar_max_non_super_wal_snd to 6 or more, or to -1 for no limit")
    fix = walsenders({"polar_wal_snd_reserved_for_superuser": "32"}, walsenders=1).fix
    assert fix.startswith("ALTER SYSTEM SET max_wal_senders = 37; then restart the source; or lower polar_wal_snd")


def test_slots_that_are_reserved_are_not_free() -> None:
    seen = Seen()
    seen.source_settings = {"polar_repl_slots_reserved_for_superuser": "32"}
    found = seen.findings()["max_replication_slots"]
    assert found.answer == "max_replication_slots: 0 free (0 of 10 used, 32 reserved for superusers), 2 needed"
    assert "polar_repl_slots_reserved_for_superuser" in found.query
    assert found.fix.startswith("ALTER SYSTEM SET max_replication_slots = 36;")
    seen.source = {"superuser": True}
    assert seen.findings() == {}
    seen.source, seen.source_settings = {}, {"polar_repl_slots_reserved_for_superuser": "8"}
    assert seen.findings() == {}
    seen.source_settings = {"polar_repl_slots_reserved_for_superuser": "9"}
    assert "1 free" in seen.findings()["max_replication_slots"].answer


POLAR = {"product": "PolarDB", "version": 150013}


@pytest.mark.parametrize(
    ("server", "settings", "standbys", "answer"),
    [
        (POLAR, {}, (), "polar_enable_shared_storage_mode unknown, "),
        (POLAR, SURVIVES, ("ro1",), ""),
        (
            POLAR,
            {**SURVIVES, "polar_enable_persisted_logical_slot": "off"},
            (),
            "polar_enable_shared_storage_mode on, ",
        ),
        (POLAR, {"polar_enable_shared_storage_mode": "off"}, (), ""),
        (POLAR, {"polar_enable_shared_storage_mode": "off"}, ("standby",), "1 standbys follow"),
        (POLAR, {"polar_failover_slot_mode": "sync"}, ("standby",), ""),
        (POLAR, {"polar_failover_slot_mode": "async"}, (), "polar_failover_slot_mode async"),
        (POLAR, {"polar_failover_slot_mode": "off"}, (), "polar_failover_slot_mode off"),
        (POLAR, {**SURVIVES, "polar_failover_slot_mode": "off"}, (), "polar_failover_slot_mode off"),
        ({}, {"rds_failover_slot_mode": "sync"}, ("standby",), ""),
        ({}, {"rds_failover_slot_mode": "async"}, (), "rds_failover_slot_mode async"),
        ({}, {"rds_failover_slot_mode": "off"}, ("standby",), "rds_failover_slot_mode off"),
        ({}, {}, (), ""),
        ({}, {}, ("standby", "other"), "2 standbys follow, and synchronized_standby_slots is not set"),
        ({}, {"synchronized_standby_slots": "standby"}, ("standby",), ""),
        ({}, {"pg_failover_slots.version": "1.0.1"}, ("standby",), ""),
        ({"version": 140018}, {}, ("standby",), "1 standbys follow, and the extension pg_failover_slots is not set"),
        ({"version": 140018}, {"pg_failover_slots.version": "1.0.1"}, ("standby",), ""),
        ({"version": 140018}, {"shared_preload_libraries": "x,pg_failover_slots"}, ("standby",), ""),
    ],
)
def test_whether_slots_survive_a_failover(
    server: dict[str, Any], settings: dict[str, str], standbys: tuple[str, ...], answer: str
) -> None:
    seen = Seen()
    seen.source_server, seen.source_settings, seen.source = server, settings, {"standbys": standbys}
    found = seen.findings()
    assert set(found) <= {"slot_failover"}
    assert found["slot_failover"].answer.startswith(answer) if answer else not found
    if answer and "mode" in answer:
        assert answer.split()[0] in found["slot_failover"].query


def test_a_worker_may_be_ahead_of_a_standby_that_follows_asynchronously() -> None:
    seen = Seen()
    seen.source_settings = {"rds_failover_slot_mode": "async"}
    assert "ahead of the standby" in seen.findings()["slot_failover"].why
    seen.source_settings = {"rds_failover_slot_mode": "off"}
    assert "the slot is missing" in seen.findings()["slot_failover"].why


@pytest.mark.parametrize(
    ("product", "version", "noted"),
    [
        ("PostgreSQL", 100023, True),
        ("PostgreSQL", 110022, True),
        ("PostgreSQL", 120022, True),
        ("PostgreSQL", 130021, True),
        ("PostgreSQL", 140018, False),
        ("PostgreSQL", 170005, False),
        ("PostgreSQL", 180001, False),
        ("PostgreSQL", 190000, True),
        ("PolarDB", 110009, False),
        ("PolarDB", 140018, True),
        ("PolarDB", 150008, False),
        ("PolarDB", 160009, True),
        ("PolarDB", 170005, True),
        ("PolarDB", 180001, True),
        ("PolarDB", 190000, True),
    ],
)
def test_a_version_that_was_not_run_is_accepted_with_a_note(product: str, version: int, noted: bool) -> None:
    for end in ("source", "destination"):
        seen = Seen()
        setattr(seen, f"{end}_server", {"product": product, "version": version})
        seen.source_settings = SURVIVES
        found = seen.findings()
        assert not [one for one in found.values() if one.severity == "error" and one.id != "client_tools"]
        assert ("version_not_run" in found) is noted
        if noted:
            assert found["version_not_run"].object.startswith(f"{end} {product}")


def test_the_versions_that_are_called_run_are_those_of_the_functional_tests() -> None:
    one_end_only = ("test_old_servers.py", "test_version_pairs.py")
    files = [file for file in (ROOT / "tests" / "functional").glob("test_*.py") if file.name not in one_end_only]
    texts = [file.read_text(encoding="utf-8") for file in files]
    texts.append((ROOT / "tests" / "support" / "clusters" / "local.py").read_text(encoding="utf-8"))
    named = {int(found) for text in texts for found in re.findall(r'"(1[4-9])"', text)}
    assert named == WAS_RUN["PostgreSQL"]


@pytest.mark.parametrize(("version", "wanted"), [(150008, "15.13"), (110009, "a version that is still maintained")])
def test_no_release_of_postgresql_is_asked_of_polardb(version: int, wanted: str) -> None:
    seen = Seen()
    seen.source_server, seen.source_settings = {"product": "PolarDB", "version": version}, SURVIVES
    found = seen.findings()["source_minor_decoding_fix"]
    assert (found.severity, wanted in found.answer, "Update" in found.fix) == ("note", True, False)
    seen.source_server = {"version": version}
    found = seen.findings()["source_minor_decoding_fix"]
    assert (found.severity, wanted in found.answer) == ("warning", True)


@pytest.mark.parametrize(
    ("product", "version", "granted"),
    [
        ("PostgreSQL", 140018, False),
        ("PostgreSQL", 150013, True),
        ("PolarDB", 140018, False),
        ("PolarDB", 150008, True),
        ("PolarDB", 170005, True),
    ],
)
def test_the_parameter_can_be_granted_from_15_on(product: str, version: int, granted: bool) -> None:
    seen = Seen()
    seen.destination_server = {"product": product, "version": version}
    seen.destination = {"replica_role": refused("permission denied to set parameter", "42501")}
    fix = seen.findings()["destination_replica_role"].fix
    assert fix.startswith("GRANT SET ON PARAMETER session_replication_role TO") is granted


def test_the_statement_for_the_missing_database_takes_the_sources_locale() -> None:
    seen = Seen()
    _no_database(seen)
    fix = seen.findings()["destination_database_missing"].fix
    assert fix == (
        "CREATE DATABASE \"orders\" TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER libc LC_COLLATE 'C' LC_CTYPE 'C';"
        " -- before PostgreSQL 15 without LOCALE_PROVIDER libc"
    )


@pytest.mark.parametrize(
    ("version", "locale", "expected"),
    [
        (140000, Locale(), "LC_COLLATE 'C' LC_CTYPE 'C'; -- from PostgreSQL 15 on with LOCALE_PROVIDER libc"),
        (
            170000,
            Locale("builtin", "C.UTF-8", "", "1"),
            "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LC_COLLATE 'C' LC_CTYPE 'C';"
            " -- collation version 1 at the source -- PostgreSQL 17 or newer has this locale",
        ),
        (
            180000,
            Locale("icu", "de-u-kn", "&a < 'b'"),
            "LOCALE_PROVIDER icu ICU_LOCALE 'de-u-kn' ICU_RULES '&a < ''b''' LC_COLLATE 'C' LC_CTYPE 'C';"
            " -- PostgreSQL 16 or newer has this locale",
        ),
    ],
)
def test_the_statement_has_provider_locale_and_rules(version: int, locale: Locale, expected: str) -> None:
    statement = create_database_statement(server("source", version=version, locale=locale), 'a"b')
    assert statement == f'CREATE DATABASE "a""b" TEMPLATE template0 ENCODING \'UTF8\' {expected}'


@pytest.mark.parametrize(
    ("here", "there", "locale", "expected"),
    [
        (170000, 140000, Locale(), " LC_COLLATE 'C' LC_CTYPE 'C';"),
        (140000, 170000, Locale(), " LOCALE_PROVIDER libc LC_COLLATE 'C' LC_CTYPE 'C';"),
        (
            180000,
            170000,
            Locale("builtin", "C"),
            " LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C' LC_COLLATE 'C' LC_CTYPE 'C';",
        ),
    ],
)
def test_the_statement_is_one_that_the_destination_can_run(
    here: int, there: int, locale: Locale, expected: str
) -> None:
    source = server("source", version=here, locale=locale)
    create = "CREATE DATABASE \"a\" TEMPLATE template0 ENCODING 'UTF8'"
    assert create_database_statement(source, "a", there) == create + expected
    assert lacking_locale(source, there) == ""


@pytest.mark.parametrize(
    ("there", "locale", "expected"),
    [
        (160000, Locale("builtin", "C.UTF-8"), "17 or newer, which has the locale C.UTF-8 of the provider builtin"),
        (
            170000,
            Locale("builtin", "PG_UNICODE_FAST"),
            "18 or newer, which has the locale PG_UNICODE_FAST of the provider builtin",
        ),
        (140000, Locale("icu", "de"), "15 or newer, which has the locale de of the provider icu"),
        (150000, Locale("icu", "de", "&a < b"), "16 or newer, which has the locale de of the provider icu, with rules"),
    ],
)
def test_a_destination_without_the_locale_is_told_which_version_has_it(
    there: int, locale: Locale, expected: str
) -> None:
    assert lacking_locale(server("source", version=180000, locale=locale), there) == f"PostgreSQL {expected}"


def test_only_ignorable_findings_can_be_ignored() -> None:
    catalogue.require_ignorable(["database_collation", "no_key"])
    for name, why in (("wal_level", "an error"), ("wal_sender_timeout", "a warning"), ("nonsense", "no check")):
        with pytest.raises(SpecError, match=why):
            catalogue.require_ignorable([name])


def test_an_ignored_id_never_hides_an_error() -> None:
    seen = Seen()
    _keyless(seen)
    found = catalogue.without_ignored(catalogue.judge(seen.observation()), ["no_key"])
    assert [one.id for one in found] == ["no_key"]
    _keyless_allowed(seen)
    assert catalogue.without_ignored(catalogue.judge(seen.observation()), ["no_key"]) == ()


@pytest.mark.parametrize(
    ("fail_on", "stopping"),
    [("error", ["no_key"]), ("warning", ["no_key", "wal_sender_timeout", "worker_supervisor"]), ("never", [])],
)
def test_what_stops(fail_on: str, stopping: list[str]) -> None:
    seen = Seen()
    _keyless(seen)
    seen.source_settings = {"wal_sender_timeout": "1000", "logical_decoding_work_mem": "64"}
    seen.host = {"unsupervised": "systemd does not run here"}
    found = catalogue.judge(seen.observation())
    assert [one.severity for one in found] == ["error", "warning", "ignorable", "note"]
    assert [one.id for one in catalogue.stopping(found, fail_on)] == stopping
    assert catalogue.counts(found) == {"error": 1, "warning": 1, "ignorable": 1, "note": 1}


def test_the_error_names_count_and_ids_once() -> None:
    seen = Seen()
    seen.tables = tuple(table(f"t{number}", number, unique_indexes=()) for number in (1, 2, 3))
    error = catalogue.failure(catalogue.stopping(catalogue.judge(seen.observation()), "error"), "orders", {"a": 1})
    assert "3 findings must be fixed first: no_key." in str(error)
    assert error.result == {"a": 1}


def _rows_of_the_page() -> Iterator[tuple[str, tuple[str, ...]]]:
    family = ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            family = line.removeprefix("## ")
        if re.match(r"\| `\w+` \|", line):
            yield family, tuple(cell.strip() for cell in line.strip("|").split("|"))


def test_the_page_says_what_the_catalogue_says() -> None:
    wanted = [
        (
            family,
            (
                f"`{check.id}`",
                check.severity + (", incremental" if check.incremental else ""),
                check.why,
                check.fix,
                check.lock,
            ),
        )
        for family, checks in catalogue.FAMILIES.items()
        for check in checks
    ]
    assert list(_rows_of_the_page()) == wanted


def test_ids_are_not_used_twice() -> None:
    assert sum(len(checks) for checks in catalogue.FAMILIES.values()) == len(catalogue.CATALOGUE)


def test_a_finding_as_data_has_every_field() -> None:
    seen = Seen()
    _keyless(seen)
    found = seen.findings()["no_key"]
    data = found.as_result()
    assert data["evidence"] == {"query": found.query, "answer": found.answer}
    assert set(data) == {one.name for one in dataclasses.fields(found)} - {"query", "answer"} | {"evidence"}


def test_an_extension_that_the_schema_phase_can_make_is_no_finding() -> None:
    seen = Seen()
    seen.source = {"extensions": (Extension("hstore", "1.8", "ext"),)}
    seen.destination = {"offers": {"hstore": OFFERED}}
    assert seen.findings() == {}


def test_without_a_schema_phase_a_missing_extension_is_one() -> None:
    seen = Seen()
    seen.source = {"extensions": (Extension("hstore", "1.8", "shop"),)}
    seen.destination = {"offers": {"hstore": OFFERED}}
    seen.spec, seen.there = {"types": frozenset({"full"})}, seen.tables
    assert seen.findings()["extension_missing"].fix == """CREATE EXTENSION "hstore" SCHEMA "shop" VERSION '1.8';"""


@pytest.mark.parametrize(
    ("trusted", "may_create", "fix"),
    [
        (True, False, "GRANT CREATE ON DATABASE orders TO mover;"),
        (True, True, """CREATE EXTENSION "hstore" SCHEMA "shop" VERSION '1.8';"""),
        (False, False, """CREATE EXTENSION "hstore" SCHEMA "shop" VERSION '1.8';"""),
    ],
)
def test_a_refused_extension_prints_the_statement_that_helps(trusted: bool, may_create: bool, fix: str) -> None:
    seen = Seen()
    seen.source = {"extensions": (Extension("hstore", "1.8", "shop"),)}
    seen.destination = {
        "offers": {"hstore": dataclasses.replace(OFFERED, trusted=trusted)},
        "refused_extensions": {"hstore": refused("permission denied", "42501")},
        "may_create_schemas": may_create,
    }
    found = seen.findings()["extension_missing"]
    assert found.fix == fix
    assert "permission denied (SQLSTATE 42501)" in found.answer


MAPPED = ObjectMapping(
    schemas={"shop": "store"},
    relations={("shop", "t"): ("store", "u")},
    columns={("shop", "t"): {"id": ColumnMapping("key", "integer")}},
)
SHOWN = "shop.t (store.u at the destination)"


def test_a_mapped_table_is_judged_by_what_exists_under_its_destination_s_name() -> None:
    seen = Seen()
    seen.mapping = MAPPED
    seen.there = (table(),)  # the source's own name is another table's there
    assert "conflicting_tables" not in seen.findings()
    seen.there = (table("u", schema="store"),)
    found = seen.findings()["conflicting_tables"]
    assert (found.object, found.fix.split(";")[0]) == (SHOWN, "DROP TABLE store.u")
    seen.destination = {"state": state("schema")}
    assert "conflicting_tables" not in seen.findings()


def test_a_mapped_table_s_columns_are_compared_under_their_destination_s_names() -> None:
    seen = Seen()
    seen.mapping, seen.spec = MAPPED, {"types": frozenset({"full"})}
    assert seen.findings()["table_missing"].object == SHOWN
    seen.there = (table("u", schema="store", columns=(column("key", "integer"),)),)
    assert not {"table_missing", "column_mismatch", "type_mismatch"} & seen.findings().keys()
    seen.there = (table("u", schema="store", columns=(column("id", "integer"),)),)
    assert "missing key" in seen.findings()["column_mismatch"].answer
    seen.there = (table("u", schema="store", columns=(column("key", "bigint"),)),)
    assert seen.findings()["type_mismatch"].answer == "id: source bigint, destination bigint"


def test_what_may_not_be_written_names_the_source_first() -> None:
    seen = Seen()
    seen.mapping = MAPPED
    seen.destination = {"unwritable": (("store", "u"),)}
    found = seen.findings()["destination_write"]
    assert found.object == SHOWN
    assert "ON store.u TO" in found.fix


@pytest.mark.parametrize(
    ("setting", "number", "listed"),
    [
        ("", 0, ()),
        ("*", 1, ("*",)),
        ("a, b", 1, ("a", "b")),
        ('FIRST 2 (a, "B ""x""", c)', 2, ("a", 'B "x"', "c")),
        ("ANY 3(a,b,*)", 3, ("a", "b", "*")),
        ("2 (a)", 2, ("a",)),
        ('"causeway stream shop"', 1, ("causeway stream shop",)),
    ],
)
def test_the_names_of_synchronous_standbys_are_read_as_the_server_does(
    setting: str, number: int, listed: tuple[str, ...]
) -> None:
    assert standby_names(setting) == (number, listed)


@pytest.mark.parametrize("setting", ["", "FIRST 1 (a, b)", "a"])
def test_standbys_that_are_named_one_by_one_are_no_finding(setting: str) -> None:
    seen = Seen()
    seen.source_settings = {"synchronous_standby_names": setting}
    seen.destination_settings, seen.destination = {"synchronous_standby_names": setting}, {"synchronous_standbys": 1}
    assert seen.findings() == {}


def test_the_finding_names_the_standbys_to_write_instead() -> None:
    seen = Seen()
    seen.source = {"standbys": ("b", "Zwei", "causeway stream orders", "b")}
    seen.source_settings = {"synchronous_standby_names": "FIRST 2 (b, *)"}
    assert 'connected now: "Zwei"' in seen.findings()["synchronous_standby_names"].fix


def test_a_standby_with_a_name_like_ours_is_a_standby() -> None:
    seen = Seen()
    seen.source_settings = {"synchronous_standby_names": "FIRST 1 (causeway_dr)"}
    assert seen.findings() == {}
    seen.source_settings = {"synchronous_standby_names": 'FIRST 1 ("Causeway Stream orders")'}
    assert "synchronous_standby_names" in seen.findings()


def test_standbys_that_the_account_may_not_see_are_not_called_missing() -> None:
    seen = Seen()
    seen.destination_settings = {"synchronous_standby_names": "FIRST 2 (a, b)"}
    seen.destination = {"synchronous_standbys": -1, "account": "mover"}
    found = seen.findings()["destination_commits_wait"]
    assert found.severity == "note" and "GRANT pg_monitor TO mover" in found.fix


def test_a_publication_of_all_tables_rules_out_a_source_that_needs_our_table() -> None:
    seen = Seen()
    slots = [Slot(name, "pgoutput", db, False, False, None) for name, db in (("reports", "orders"), ("far", "else"))]
    seen.source = {"publications": (Publication("everything", True),), "slots": tuple(slots)}
    seen.source_server = {"version": 130021}
    found = seen.findings()["publication_for_all_tables"]
    assert found.severity == "error" and "slots of this database: reports'" in str(found.as_result())


def test_full_is_found_wherever_it_comes_from() -> None:
    seen = Seen()
    seen.source_server = {"version": 180001}
    seen.tables = (table(replica_identity="f", columns=(column(), column("g", generated="v"))),)
    seen.source = {"published": Sends()}
    assert "it has REPLICA IDENTITY FULL; column g" in str(seen.findings()["identity_stops_writes"].as_result())
    seen.tables = (table(unique_indexes=()),)
    seen.source = {"published": Sends(Publishing("other", True, False))}
    assert "it needs REPLICA IDENTITY FULL; publication other" in str(
        seen.findings()["identity_stops_writes"].as_result()
    )
    seen.tables = (table(),)
    assert "identity_stops_writes" not in seen.findings()


def test_no_finding_prints_a_statement_that_drops_what_may_be_alive() -> None:
    seen = Seen()
    seen.source = {
        "slots": (
            Slot("dts_sync_paused", "pgoutput", "orders", False, False, 30.0),
            Slot("dts_sync_other_database", "pgoutput", "else", False, False, 1e7),
            Slot("dts_sync_orders", "pgoutput", "orders", False, False, 1e7),
        ),
        "leftovers": (("publication", "causeway_orders"), ("publication", "dts_x"), ("table", "a.dts_ddl_command")),
    }
    found = catalogue.judge(seen.observation())
    assert {"leftovers", "slot_name_taken", "publication_name_taken"} <= {one.id for one in found}
    for one in found:
        assert not re.search(r"(?i)drop_replication_slot|\bDROP (TABLE|PUBLICATION|SCHEMA|EVENT)", one.fix), one


def test_the_account_counts_only_where_it_loses_its_right_to_write() -> None:
    seen = Seen()
    seen.tables = (table(owner="mover"),)
    seen.source, seen.destination = {"fellows": (Fellow("app", 1, ()),)}, {"account": "mover"}
    assert "a member of mover" in seen.findings()["account_of_application"].as_result()["evidence"]["answer"]
    seen.revoke_writer = False
    assert seen.findings() == {}
    seen.revoke_writer, seen.tables = True, (table(owner="app"),)
    assert seen.findings()["account_of_application"].severity == "note", "an operator's session stops nothing"


NEW_SCHEMA = {"catalog": Catalog("destination", {}, {}, {})}


@pytest.mark.parametrize(
    ("role", "known", "there", "fix"),
    [
        ("app", THEIRS, {}, "GRANT app TO mover WITH INHERIT TRUE, SET TRUE;"),
        ("Größe", THEIRS, NEW_SCHEMA, 'GRANT "Größe" TO mover WITH INHERIT TRUE, SET TRUE;'),
        ("pg_database_owner", THEIRS, NEW_SCHEMA, "ALTER DATABASE orders OWNER TO mover;"),
        (
            "postgres",
            Known(superuser=True, ours=False),
            NEW_SCHEMA,
            "CREATE SCHEMA shop AUTHORIZATION postgres; GRANT CREATE, USAGE ON SCHEMA shop TO mover WITH GRANT OPTION;",
        ),
    ],
)
def test_who_is_to_own_a_new_schema_must_be_ours(role: str, known: Known, there: dict[str, Any], fix: str) -> None:
    seen = Seen()
    seen.destination = there
    seen.giving = giving({role: known}, schemas=(RoleInSchema(role, "shop"),))
    found = seen.findings()["owner_not_ours"]
    assert (found.object, found.fix) == (role, fix)


def test_the_owner_of_a_schema_that_exists_stays_as_it_is() -> None:
    seen = Seen()
    seen.giving = giving({"postgres": THEIRS}, schemas=(RoleInSchema("postgres", "shop"),))
    assert seen.findings() == {}


@pytest.mark.parametrize("left_out", [{"privileges": False}, {"spec": {"types": frozenset({"full", "incremental"})}}])
def test_where_nothing_is_given_away_nothing_is_asked(left_out: dict[str, Any]) -> None:
    seen = Seen()
    seen.giving = giving({"app": THEIRS, "gone": THEIRS}, {IN_SHOP: False}, open_schemas=frozenset({"shop"}))
    for name, value in left_out.items():
        setattr(seen, name, value)
    assert not {"owner_role_missing", "owner_not_ours", "owner_may_not_create", "owner_loses_create"} & set(
        seen.findings()
    )


def test_once_the_schema_is_made_no_right_to_create_is_asked_of_the_owner() -> None:
    seen = Seen()
    seen.giving = giving(lacking={IN_SHOP: False})
    assert "owner_may_not_create" in seen.findings()
    seen.destination = {"state": state("schema")}
    assert "owner_may_not_create" not in seen.findings()


FENCED = {"fenced": (("app", "TABLE", ("shop.t", 'shop."U"')), ("app", "SEQUENCE", ("shop.n",)))}


def test_rights_that_nobody_holds_a_record_of_are_granted_by_hand() -> None:
    seen = Seen()
    seen.source = FENCED
    fixes = [one.fix for one in catalogue.judge(seen.observation())]
    assert fixes == [
        'GRANT INSERT, UPDATE, DELETE, TRUNCATE ON TABLE shop.t, shop."U" TO app;',
        "GRANT USAGE, UPDATE ON SEQUENCE shop.n TO app;",
    ]


@pytest.mark.parametrize(("comment", "said"), [("fenced", "either lifts it"), ("closed", "from its record")])
def test_what_another_migration_may_still_need_is_not_granted_behind_its_back(comment: str, said: str) -> None:
    seen = Seen()
    seen.source = {**FENCED, "publications": (Publication("causeway_other", False, f"causeway: {comment}"),)}
    for one in catalogue.judge(seen.observation()):
        assert one.id == "source_fenced"
        assert said in one.fix and "causeway_other" in one.fix and "GRANT" not in one.fix


def test_a_cutover_goes_on_behind_its_own_fence() -> None:
    seen = Seen()
    own = Publication("causeway_orders", False, "causeway: closed")
    seen.source = {**FENCED, "publications": (own,), "leftovers": (("publication", "causeway_orders"),)}
    assert set(seen.findings()) == {"source_fenced", "publication_name_taken"}
    seen.destination = {"state": state("replicating", fence={"grants": []})}
    assert seen.findings() == {}
