# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Family "objects": can the selected objects be moved, and their rows be kept up to date."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from ..objects.mapping import tables_there
from ..objects.owners import membership
from ..postgres.catalog import qualified
from . import schema_phase
from .finding import Check, Found, at_source

if TYPE_CHECKING:
    from ..postgres.catalog import Table
    from .observed import Observation, SourceView


def _problems(check: str) -> Callable[[Observation, SourceView], Iterable[Found]]:
    """Return a look for the problems that `selection` itself found, by the id under which precheck reports them."""

    def look(dummy: Observation, source: SourceView) -> Iterator[Found]:
        for problem in source.selection.problems:
            if problem.check == check:
                yield Found(problem.what, problem.why, "the objects of the migration and pg_class", problem.remedy)

    return look


def _indexes_of(table: Table) -> str:
    """Return, for the operator, why none of a table's unique indexes is a key."""
    reasons = []
    for index in table.unique_indexes:
        flaws = [
            word
            for word, flawed in (
                ("deferrable", not index.immediate),
                ("partial", index.partial),
                ("invalid", not index.valid),
                ("an expression", "" in index.columns),
                ("nullable", not index.all_not_null),
                ("over a generated column", any(c.generated and c.name in index.columns for c in table.columns)),
            )
            if flawed
        ]
        reasons.append(f"{index.name} is {', '.join(flaws)}")
    return "; ".join(reasons) or "no unique index"


def _inheritance(dummy: Observation, source: SourceView) -> Iterator[Found]:
    """Find tables whose inheritance parent or child is not selected; partitions are another check's."""
    selected = {table.oid for table in source.selection.tables}
    for table in source.catalog.tables.values():
        for oid in () if table.is_partition else table.parents:
            parent = source.catalog.tables.get(oid)
            if (table.oid in selected) != (oid in selected):
                inside, outside = (table, parent) if table.oid in selected else (parent, table)
                relation = "child" if inside is table else "parent"
                yield Found(
                    str(inside),
                    f"it is the inheritance {relation} of {outside or 'a table of another kind'}, which is not selected",
                    "SELECT inhrelid::regclass, inhparent::regclass FROM pg_inherits",
                    f"Select {outside or 'that table'} too, or leave {inside} out;"
                    f" or, at the source, ALTER TABLE {table} NO INHERIT {parent or '…'};",
                )


def _no_key(seen: Observation, source: SourceView) -> Iterator[Found]:
    for table in source.selection.leaves:
        if not table.keys:
            allowed = seen.spec.allow_keyless
            yield Found(
                str(table),
                _indexes_of(table),
                "SELECT indexrelid::regclass, indisunique, indimmediate, indisvalid, indpred FROM pg_index",
                f"Nothing, or ALTER TABLE {table} ADD PRIMARY KEY (…);"
                if allowed
                else f"ALTER TABLE {table} ADD PRIMARY KEY (…); or set causeway_allow_keyless: true.",
                severity="ignorable" if allowed else None,
            )


def _keyless_with_ignore(seen: Observation, source: SourceView) -> Iterator[Found]:
    if seen.spec.conflicting_tables != "ignore":
        return
    there = tables_there(seen.destination.catalog) if seen.destination else {}
    for table in source.selection.leaves:
        mapped = seen.mapped(table)
        if not table.keys and mapped.destination in there and not seen.owns(mapped.destination):
            yield Found(str(mapped), _indexes_of(table), "SELECT * FROM pg_index")


def _deferred_unique(dummy: Observation, source: SourceView) -> Iterator[Found]:
    for table in source.selection.leaves:
        deferred = [index.name for index in table.unique_indexes if not index.immediate]
        if deferred and not table.keys:
            yield Found(
                str(table), ", ".join(deferred), "SELECT conname FROM pg_constraint WHERE condeferrable", severity=None
            )


def _replica_identity(dummy: Observation, source: SourceView) -> Iterator[Found]:
    for table in source.selection.leaves:
        if table.replica_identity == "n":
            answer = "REPLICA IDENTITY NOTHING"
        elif table.replica_identity == "i" and not table.identity_index:
            answer = "REPLICA IDENTITY USING INDEX, and the index was dropped"
        else:
            continue
        yield Found(
            str(table),
            answer,
            "SELECT relreplident FROM pg_class",
            f"ALTER TABLE {table} REPLICA IDENTITY {'DEFAULT' if any(i.primary for i in table.keys) else 'FULL'};",
        )


def _unlogged_tables(dummy: Observation, source: SourceView) -> Iterator[Found]:
    for table in source.selection.leaves:
        if table.persistence == "u":
            yield Found(
                str(table), "UNLOGGED", "SELECT relpersistence FROM pg_class", f"ALTER TABLE {table} SET LOGGED;"
            )


def _large_objects(seen: Observation, source: SourceView) -> Iterator[Found]:
    if source.large_objects:
        left_out = Found("", "") if seen.copies_large_objects else _LEFT_OUT
        yield replace(
            left_out,
            object="pg_largeobject",
            answer=f"{source.large_objects} large objects",
            query="SELECT count(*) FROM pg_largeobject_metadata",
        )


_LEFT_OUT = Found(
    "",
    "",
    fix="Set causeway_large_objects: true; or copy those that are needed after the application has stopped writing, with"
    " lo_export and lo_import under the same OIDs.",
    why="They are not copied, and writes to them are not captured, but reported as an event while the task runs.",
    severity="warning",
)


def _large_objects_closed(seen: Observation, source: SourceView) -> Iterator[Found]:
    number, first = source.closed_large_objects
    if number and seen.copies_large_objects:
        yield Found(
            f"large object {first[0]}",
            f"{number} large objects cannot be read by the account",
            "SELECT oid, lomowner::regrole, lomacl FROM pg_largeobject_metadata",
            f"GRANT SELECT ON LARGE OBJECT {', '.join(map(str, first))} TO the account;"
            + (" and so on for the others." if number > len(first) else ""),
        )


def _source_select(dummy: Observation, source: SourceView) -> Iterator[Found]:
    for name in source.unreadable:
        yield Found(
            qualified(name),
            "false",
            "SELECT has_table_privilege(oid, 'SELECT') FROM pg_class",
            f'GRANT SELECT ON {qualified(name)} TO "{source.server.user}";',
        )


def _source_schema_usage(dummy: Observation, source: SourceView) -> Iterator[Found]:
    for schema in source.closed_schemas:
        yield Found(
            schema,
            "false",
            "SELECT has_schema_privilege(oid, 'USAGE') FROM pg_namespace",
            f'GRANT USAGE ON SCHEMA "{schema}" TO "{source.server.user}";',
        )


def _source_identity_owner(dummy: Observation, source: SourceView) -> Iterator[Found]:
    for owner, tables in source.foreign_owners:
        yield Found(
            owner,
            f"owns {tables} of the selected tables and sequences, and the account is not a member",
            "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class",
            membership(owner, source.server.user, source.server.version),
        )


def _source_create_publication(dummy: Observation, source: SourceView) -> Iterator[Found]:
    if not source.may_create:
        yield Found(
            source.server.database,
            "CREATE false",
            "SELECT has_database_privilege(current_database(), 'CREATE')",
            f'GRANT CREATE ON DATABASE "{source.server.database}" TO "{source.server.user}";',
        )


def _source_replication_role(seen: Observation, source: SourceView) -> Iterator[Found]:
    if not source.may_replicate and "replication" not in seen.failures:
        yield Found(
            source.server.user,
            "rolreplication false, rolsuper false",
            "SELECT rolreplication, rolsuper FROM pg_roles",
            f'ALTER ROLE "{source.server.user}" REPLICATION;',
        )


CHECKS = (
    Check(
        "nothing_selected",
        "error",
        "There is nothing to move.",
        "Name a schema that exists.",
        at_source(_problems("nothing_selected")),
    ),
    Check(
        "pattern_matches_nothing",
        "error",
        "A name that matches nothing is mostly a mistake: the intended objects would be left behind.",
        "Correct the name, or remove it from causeway_objects.",
        at_source(_problems("pattern_matches_nothing")),
    ),
    Check(
        "partition_incomplete",
        "error",
        "A partitioned table is moved with all its partitions, or rows would be left out.",
        "Select the partitioned table whole, or not at all.",
        at_source(_problems("partition_incomplete")),
    ),
    Check(
        "inheritance_across_selection",
        "error",
        "Reading the parent reads its children: at the destination it would show fewer rows, or a child could not be made.",
        "Select parents and children together, or end the inheritance.",
        at_source(_inheritance),
        lock="NO INHERIT: ACCESS EXCLUSIVE, for an instant",
    ),
    Check(
        "no_key",
        "error",
        "A row without a key can only be matched by its whole content, which is slow for updates and deletes.",
        "ALTER TABLE … ADD PRIMARY KEY, or a unique index on NOT NULL columns; or set causeway_allow_keyless: true.",
        at_source(_no_key),
        lock="ADD PRIMARY KEY: ACCESS EXCLUSIVE, short if CREATE UNIQUE INDEX CONCURRENTLY comes first",
    ),
    Check(
        "keyless_with_ignore",
        "error",
        "With conflicting_tables: ignore only missing rows are inserted, and without a key those cannot be told apart.",
        "Give the table a key, leave it out, or empty it at the destination and use conflicting_tables: report.",
        at_source(_keyless_with_ignore),
        lock="ADD PRIMARY KEY: ACCESS EXCLUSIVE",
    ),
    Check(
        "deferred_unique",
        "warning",
        "A deferrable key is not unique within a transaction, so rows are matched by their whole content.",
        "Make the constraint NOT DEFERRABLE, or add another unique index on NOT NULL columns.",
        at_source(_deferred_unique),
        lock="ACCESS EXCLUSIVE on the table",
        incremental=True,
    ),
    Check(
        "replica_identity",
        "warning",
        "Its updates and deletes carry no old key now; the capture phase sets an identity and records this one.",
        "Nothing: migrate sets it. By hand: ALTER TABLE … REPLICA IDENTITY DEFAULT, or FULL without a primary key.",
        at_source(_replica_identity),
        lock="ACCESS EXCLUSIVE on the table, for an instant",
        incremental=True,
    ),
    Check(
        "unlogged_tables",
        "warning",
        "Its changes are not in the WAL: writes after the copy are not captured.",
        "ALTER TABLE … SET LOGGED, or exclude the table.",
        at_source(_unlogged_tables),
        lock="ACCESS EXCLUSIVE while the table is rewritten",
        incremental=True,
    ),
    Check(
        "large_objects",
        "ignorable",
        "They are copied with the rows; later writes are not captured, but reported as an event while the task runs.",
        "Nothing if they no longer change. Else stop writing to them before the cutover, and copy them again: "
        "causeway_resync: [pg_catalog.pg_largeobject].",
        at_source(_large_objects),
    ),
    Check(
        "large_objects_closed",
        "error",
        "Large objects that the account may not read cannot be copied.",
        "GRANT SELECT ON LARGE OBJECT … TO the account, or membership in the owner; or causeway_large_objects: false.",
        at_source(_large_objects_closed),
    ),
    *schema_phase.EXTENSIONS,
    Check(
        "source_select",
        "error",
        "A table that the account may not read cannot be copied or compared.",
        "GRANT SELECT on the table to the account.",
        at_source(_source_select),
    ),
    Check(
        "source_schema_usage",
        "error",
        "Without USAGE on the schema none of its tables can be read.",
        "GRANT USAGE on the schema to the account.",
        at_source(_source_schema_usage),
    ),
    Check(
        "source_replication_role",
        "error",
        "Only an account with the REPLICATION attribute may read a slot.",
        "ALTER ROLE … REPLICATION; on a cloud, use its privileged account.",
        at_source(_source_replication_role),
        incremental=True,
    ),
    Check(
        "source_identity_owner",
        "error",
        "Only its owner may set a table's replica identity, publish it, or revoke the writers' rights at the cutover.",
        "GRANT the owning role to the account.",
        at_source(_source_identity_owner),
        incremental=True,
    ),
    Check(
        "source_create_publication",
        "error",
        "The publication is created in the source database, before PostgreSQL 14 also the schema of the heartbeat.",
        "GRANT CREATE on the database to the account.",
        at_source(_source_create_publication),
        incremental=True,
    ),
)
