# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replica identities at the source: what UPDATE and DELETE put into the stream to find a row by.

They are set before the publication exists, since a published table without an identity refuses UPDATE and DELETE. The
originals are recorded first, and restored at the end if the present one is still ours.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..errors import MismatchError, ServerError, StateError
from ..names import publication_name
from ..plan import Leftover, Plan, SqlChange, as_change
from ..postgres._psycopg import sql
from ..postgres.catalog import Table, observe_catalog, quoted
from ..postgres.locks import observe_holders
from .published import KEY_REMEDY, Published, against_full, require_writes
from .under_lock import Locked, Patience, each_under_lock
from .waits import Waits

if TYPE_CHECKING:
    from psycopg.sql import Composed

    from ..migration import Migration

WORDS = {"d": "DEFAULT", "n": "NOTHING", "f": "FULL", "i": "USING INDEX"}
BEFORE = "identities"
"""Key in the originals: {OID: {"table": name then, "identity": letter, "index": name, "set": letter, "set_index": name}},
the last two what the migration has set; a table's name may pass to another."""


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


def wanted_identity(table: Table, mode: str) -> Identity | None:
    """Return the identity that ``table`` gets; None if it keeps the one that it has.

    ``mode`` is auto, the least that identifies a row: what it has if that does, its primary key, another key, and FULL
    only without one; or full, FULL for every table. Only a table that holds rows has an identity that counts: a
    partitioned one's is never read, nor inherited.
    """
    if not table.holds_rows or table.replica_identity == "f" or (mode == "auto" and identifies_rows(table)):
        return None
    if mode == "full" or not table.keys:
        return Identity("f")
    best = table.keys[0]
    return Identity("d") if best.primary else Identity("i", best.name)


def identity_statement(table: Table, identity: Identity) -> Composed:
    """Return ALTER TABLE ONLY … REPLICA IDENTITY …"""
    form = sql.SQL("ALTER TABLE ONLY {} REPLICA IDENTITY {}")
    words = sql.SQL(WORDS[identity.letter])
    wanted = sql.SQL("{} {}").format(words, sql.Identifier(identity.index)) if identity.letter == "i" else words
    return form.format(sql.Identifier(table.schema, table.name), wanted)


_HELD = 2.0
"""Seconds for which a transaction may have been open before it is named beforehand: most end sooner."""


def held_tables(migration: Migration, mode: str) -> tuple[tuple[str, str], ...]:
    """Return the tables whose identity has to change, each with a transaction that holds a lock on it. Raises ServerError."""
    source = migration.source
    todo = [table for table in migration.selection.leaves if wanted_identity(table, mode)]
    if not todo or not observe_holders(source, [table.oid for table in todo]):
        return ()
    return tuple(
        (str(table), one.described)
        for table in todo
        for one in observe_holders(source, [table.oid])
        if one.age is None or one.age >= _HELD
    )


def _still_published(table: Table, wanted: Identity, publications: Collection[str]) -> str:
    """Return why ``wanted`` may not be restored while these publish the table; empty if it may."""
    if not publications or identifies_rows(replace(table, replica_identity=wanted.letter, identity_index=wanted.index)):
        return ""
    by = ", ".join(quoted(name) for name in sorted(publications))
    return (
        f"publication {by} needs it: without it the source would refuse UPDATE and DELETE on the table. Only once it no longer"
        " sends the table may the original be set"
    )


def _locked(table: Table, wanted: Identity) -> Locked:
    statement = identity_statement(table, wanted)
    change = SqlChange("source", f"replica identity of {table}", str(identity_of(table)), str(wanted), (statement,))
    return Locked(
        (table.oid,), change, after=lambda conn: require_writes(conn, [table], "setting the replica identity of")
    )


def plan(migration: Migration, options: Mapping[str, Any]) -> Plan:
    """Return the Plan. ``options``: identity (full, auto), lock_timeout (s), lock_retries, state (present, absent),
    progress_file."""
    patience = Patience(options["lock_timeout"], options["lock_retries"])
    waits = Waits(migration.store, "prepared", str(options.get("progress_file") or ""))
    if options["state"] == "absent":
        return _plan_absent(migration, patience, waits)
    if not migration.spec.incremental:
        return Plan(notes=("no replica identity is needed: the migration is not incremental",))
    return _plan_present(migration, options["identity"], patience, waits)


def _plan_present(migration: Migration, mode: str, patience: Patience, waits: Waits) -> Plan:
    tables = migration.selected().leaves
    wanted = {table.oid: identity for table in tables if (identity := wanted_identity(table, mode))}
    todo = [table for table in tables if table.oid in wanted]
    _require_possible(migration, [table for table in todo if wanted[table.oid].letter == "f"])
    work = [_locked(table, wanted[table.oid]) for table in todo]
    originals = _originals(migration)

    def apply() -> Mapping[str, object]:
        migration.store.record_original(
            BEFORE,
            {
                str(table.oid): {
                    "table": str(table),
                    "identity": table.replica_identity,
                    "index": identity_of(table).index,
                    "set": wanted[table.oid].letter,
                    "set_index": wanted[table.oid].index,
                }
                for table in todo
            },
        )
        # of one that we have set before the original stays, and what a release has to know is what is set now
        setting = {str(oid): {"set": now.letter, "set_index": now.index} for oid, now in wanted.items()}
        migration.store.change_originals(BEFORE, {oid: now for oid, now in setting.items() if oid in originals})
        each_under_lock(migration.source, work, patience, "setting the", tell=waits)
        _verify(migration, wanted)
        return {"warnings": waits.warnings}

    notes = []
    kept = sum(1 for table in tables if table.oid not in wanted and table.replica_identity != "f")
    if kept:
        notes.append(f"{kept} of {len(tables)} tables keep their replica identity: their key finds every row")
    return Plan(
        changes=as_change([piece.change for piece in work], migration.source),
        result={"tables": len(tables), "to_change": len(todo)},
        apply=apply,
        notes=tuple(notes),
    )


def _require_possible(migration: Migration, tables: Sequence[Table]) -> None:
    """Raise StateError, naming every table that FULL would make refuse UPDATE and DELETE, before anything is changed."""
    if not tables:
        return
    published = Published(migration.source, migration.source_catalog)
    version = migration.source.info.server_version
    found = [(table, why) for table in tables if (why := against_full(table, published.of(table), version))]
    if found:
        raise StateError(
            "setting the replica identity of",
            ", ".join(str(table) for table, dummy in found),
            "with REPLICA IDENTITY FULL the source would refuse the application's UPDATE and DELETE: "
            + "; ".join(f"{table}: {why}" for table, why in found),
            KEY_REMEDY,
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


def _originals(migration: Migration) -> Mapping[str, Mapping[str, Any]]:
    state = migration.state()
    return dict(state.before_image).get(BEFORE, {}) if state else {}


def _is_as_set(table: Table, original: Mapping[str, Any]) -> bool:
    """Return whether a table still has the identity that we gave it; also where its index was dropped or renamed since."""
    now, ours = identity_of(table), Identity(str(original.get("set", "f")), str(original.get("set_index", "")))
    gone = ours.index not in {index.name for index in table.unique_indexes}
    return now == ours or (now.letter == ours.letter == "i" and gone)


def _plan_absent(migration: Migration, patience: Patience, waits: Waits) -> Plan:
    originals = _originals(migration)
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
        elif not _is_as_set(table, original):
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
        failed = _put_back(migration, work, patience, waits)
        left = [leftover.as_result() for leftover in [*leftovers, *failed]]
        return {"left_behind": left, "warnings": waits.warnings}

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


def _put_back(
    migration: Migration, work: Mapping[str, tuple[Table, Identity]], patience: Patience, waits: Waits
) -> list[Leftover]:
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
    each_under_lock(migration.source, pieces, patience, "restoring the", refused, waits)
    done = {oid: entry for oid, entry in work.items() if entry[0].oid not in failed}
    _verify(migration, {table.oid: wanted for table, wanted in done.values()})
    migration.store.drop_original(BEFORE, list(done))
    return list(failed.values())
