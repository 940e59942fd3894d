# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replica identities at the source: what UPDATE and DELETE put into the stream to find a row by.

They are set before the publication exists, since a published table without an identity refuses UPDATE and DELETE. The
originals are recorded first, and restored at the end if the present one is still ours.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..errors import MismatchError, ServerError
from ..names import publication_name
from ..plan import Leftover, Plan, SqlChange, as_change
from ..postgres._psycopg import sql
from ..postgres.catalog import Catalog, Table, observe_catalog, quoted
from ..postgres.connect import explain_errors
from ..postgres.versions import has
from .under_lock import Locked, Patience, each_under_lock

if TYPE_CHECKING:
    from psycopg.sql import Composed

    from ..migration import Migration
    from ..postgres.connect import Connection

WORDS = {"d": "DEFAULT", "n": "NOTHING", "f": "FULL", "i": "USING INDEX"}
BEFORE = "identities"
"""Key in the originals: {OID: {"table": name then, "identity": letter, "index": name}}; a name may pass to another."""

# pg_publication_tables returns the same, but opens the tables and waits behind a session that alters one.
_PUBLISHING = """
SELECT p.pubname, p.puballtables, coalesce(r.prrelid, 0)::bigint, {schema} FROM pg_catalog.pg_publication p
  LEFT JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid {schemas} WHERE p.pubupdate OR p.pubdelete
"""
_SCHEMAS = """LEFT JOIN pg_catalog.pg_publication_namespace m ON m.pnpubid = p.oid
  LEFT JOIN pg_catalog.pg_namespace n ON n.oid = m.pnnspid"""


@dataclass(frozen=True, slots=True)
class Identity:
    """pg_class.relreplident, and the index's name where it is 'i'."""

    letter: str
    index: str = ""

    def __str__(self) -> str:
        return f"{WORDS[self.letter]} {self.index}".strip()


def identity_of(table: Table) -> Identity:
    """Return a table's present identity."""
    return Identity(table.replica_identity, table.identity_index if table.replica_identity == "i" else "")


def identifies_rows(table: Table) -> bool:
    """Return whether the stream identifies the row that an UPDATE or DELETE touched, by a key that we accept."""
    if table.replica_identity == "f":
        return True
    if table.replica_identity == "d":
        return any(key.primary for key in table.keys)
    return table.replica_identity == "i" and any(key.name == table.identity_index for key in table.keys)


def needs_full(table: Table, mode: str) -> bool:
    """Return whether ``table`` must be set to FULL. ``mode`` is full, or auto: only if a missing key requires it.

    Only a table that holds rows has an identity that counts: a partitioned one's is never read, nor inherited.
    """
    if not table.holds_rows or table.replica_identity == "f":
        return False
    return mode == "full" or not identifies_rows(table)


def identity_statement(table: Table, identity: Identity) -> Composed:
    """Return ALTER TABLE ONLY … REPLICA IDENTITY …"""
    form = sql.SQL("ALTER TABLE ONLY {} REPLICA IDENTITY {}")
    words = sql.SQL(WORDS[identity.letter])
    wanted = sql.SQL("{} {}").format(words, sql.Identifier(identity.index)) if identity.letter == "i" else words
    return form.format(sql.Identifier(table.schema, table.name), wanted)


class Published:
    """The publications of one database that send the UPDATE and DELETE of a table: without an identity these are
    refused to every session. Reads them in one query. Raises ServerError."""

    def __init__(self, conn: Connection, catalog: Catalog) -> None:
        self._tables = catalog.tables
        whole = has(conn.info.server_version, "pg_publication_namespace")
        query = sql.SQL(_PUBLISHING).format(
            schema=sql.SQL("coalesce(n.nspname, '')" if whole else "''"), schemas=sql.SQL(_SCHEMAS if whole else "")
        )
        with explain_errors("reading the publications of the", "source"):
            rows = conn.execute(query).fetchall()
        self._all = {name for name, everything, dummy_relation, dummy_schema in rows if everything}
        self._schemas: dict[str, set[str]] = {}
        self._relations: dict[int, set[str]] = {}
        for name, dummy_everything, relation, schema in rows:
            self._schemas.setdefault(schema, set()).add(name)
            self._relations.setdefault(relation, set()).add(name)

    def by(self, table: Table) -> frozenset[str]:
        """Return the names of those that publish ``table``: itself, through one of its roots, or with all tables."""
        lineage, todo = {table.oid}, [table]
        while todo:
            found = todo.pop()
            above = [self._tables[oid] for oid in found.parents if found.is_partition and oid in self._tables]
            lineage |= {parent.oid for parent in above}
            todo += above
        found_by = (self._relations.get(oid, set()) for oid in lineage)
        return frozenset(self._all.union(self._schemas.get(table.schema, set()), *found_by))


def _still_published(table: Table, wanted: Identity, publications: Collection[str]) -> str:
    """Return why ``wanted`` may not be restored while these publish the table; empty if it may."""
    if not publications or identifies_rows(replace(table, replica_identity=wanted.letter, identity_index=wanted.index)):
        return ""
    by = ", ".join(quoted(name) for name in sorted(publications))
    return f"publication {by} needs it: without it the source would refuse UPDATE and DELETE on the table"


def _locked(table: Table, wanted: Identity) -> Locked:
    statement = identity_statement(table, wanted)
    return Locked(
        (table.oid,),
        SqlChange("source", f"replica identity of {table}", str(identity_of(table)), str(wanted), (statement,)),
    )


def plan(migration: Migration, options: Mapping[str, Any]) -> Plan:
    """Return the Plan. ``options``: identity (full, auto), lock_timeout (s), lock_retries, state (present, absent)."""
    patience = Patience(options["lock_timeout"], options["lock_retries"])
    if options["state"] == "absent":
        return _plan_absent(migration, patience)
    if not migration.spec.incremental:
        return Plan(notes=("no replica identity is needed: the migration is not incremental",))
    return _plan_present(migration, options["identity"], patience)


def _plan_present(migration: Migration, mode: str, patience: Patience) -> Plan:
    tables = migration.selected().leaves
    todo = [table for table in tables if needs_full(table, mode)]
    work = [_locked(table, Identity("f")) for table in todo]

    def apply() -> Mapping[str, object]:
        migration.store.record_original(
            BEFORE,
            {
                str(table.oid): {
                    "table": str(table),
                    "identity": table.replica_identity,
                    "index": identity_of(table).index,
                }
                for table in todo
            },
        )
        each_under_lock(migration.source, work, patience, "setting the")
        _verify(migration, {table.oid: Identity("f") for table in todo})
        return {}

    notes = []
    kept = sum(1 for table in tables if not needs_full(table, mode) and table.replica_identity != "f")
    if kept:
        notes.append(f"{kept} of {len(tables)} tables keep their replica identity: their key finds every row")
    return Plan(
        changes=as_change([piece.change for piece in work], migration.source),
        result={"tables": len(tables), "to_change": len(todo)},
        apply=apply,
        notes=tuple(notes),
    )


def _verify(migration: Migration, wanted: Mapping[int, Identity]) -> None:
    """Check the result against a fresh reading of the catalog. Raises MismatchError."""
    catalog = observe_catalog(migration.source, "source")
    for oid, identity in wanted.items():
        table = catalog.tables.get(oid)
        if table is not None and identity_of(table) != identity:
            raise MismatchError(
                "setting the replica identity of",
                str(table),
                f"it is {identity_of(table)} right after it was set to {identity}",
                "Another session changes it at the same time: find out which, and run the playbook again.",
            )


def _plan_absent(migration: Migration, patience: Patience) -> Plan:
    state = migration.state()
    originals: Mapping[str, Mapping[str, Any]] = dict(state.before_image).get(BEFORE, {}) if state else {}
    if not originals:
        return Plan(result={"left_behind": []})
    published = Published(migration.source, migration.source_catalog)
    ours = {publication_name(migration.name)}  # dropped by then, in a release
    work: dict[str, tuple[Table, Identity]] = {}
    leftovers: list[Leftover] = []
    notes: list[str] = []
    for oid, original in sorted(originals.items(), key=lambda entry: str(entry[1]["table"])):
        table = migration.source_catalog.tables.get(int(oid))
        wanted = Identity(str(original["identity"]), str(original.get("index") or ""))
        if table is None:
            notes.append(f"{original['table']} no longer exists at the source: there is no identity to restore")
        elif identity_of(table) == wanted:
            continue
        elif table.replica_identity != "f":
            notes.append(f"{table} was set to {identity_of(table)} by another session since: it is left as it is")
        elif wanted.letter == "i" and wanted.index not in {index.name for index in table.unique_indexes}:
            why = f"its original identity, index {wanted.index}, no longer exists"
            leftovers.append(_leftover(migration, table, Identity("d"), why))
        elif why := _still_published(table, wanted, published.by(table) - ours):
            leftovers.append(_leftover(migration, table, wanted, why))
        else:
            work[oid] = (table, wanted)
    pieces = [_locked(table, wanted) for table, wanted in work.values()]

    def apply() -> Mapping[str, object]:
        failed = _put_back(migration, work, patience)
        return {"left_behind": [leftover.as_result() for leftover in [*leftovers, *failed]]}

    return Plan(
        changes=as_change([piece.change for piece in pieces], migration.source),
        result={"left_behind": [leftover.as_result() for leftover in leftovers]},
        apply=apply,
        notes=tuple(notes),
        warnings=tuple(str(leftover) for leftover in leftovers),
    )


def _leftover(migration: Migration, table: Table, wanted: Identity, why: str) -> Leftover:
    return Leftover(
        "source",
        f"replica identity of {table}",
        why,
        (identity_statement(table, wanted).as_string(migration.source),),
    )


def _put_back(migration: Migration, work: Mapping[str, tuple[Table, Identity]], patience: Patience) -> list[Leftover]:
    """Restore them; return those refused, which do not stop the others. Raises TimeoutExpired for busy ones."""
    published = Published(migration.source, migration.source_catalog)
    failed = {
        table.oid: _leftover(migration, table, wanted, why)
        for table, wanted in work.values()
        if (why := _still_published(table, wanted, published.by(table)))
    }

    def refused(piece: Locked, exc: ServerError) -> None:
        table, wanted = work[str(piece.relations[0])]
        failed[table.oid] = _leftover(migration, table, wanted, exc.why)

    pieces = [_locked(table, wanted) for table, wanted in work.values() if table.oid not in failed]
    each_under_lock(migration.source, pieces, patience, "restoring the", refused)
    done = {oid: entry for oid, entry in work.items() if entry[0].oid not in failed}
    _verify(migration, {table.oid: wanted for table, wanted in done.values()})
    migration.store.drop_original(BEFORE, list(done))
    return list(failed.values())
