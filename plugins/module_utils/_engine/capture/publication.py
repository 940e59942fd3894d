# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The publication at the source: exactly the selection, created between the identities and the slot.

Changes that are written while a table is outside the publication are not in the stream. So once there is a slot, a
publication that is missing, was recreated, or has lost a table means lost rows, and nothing is repaired silently. Before
PostgreSQL 14 it also publishes our heartbeat table; from there on the stream carries messages instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .. import names
from ..errors import LossError, MismatchError, ServerError, SpecError, StateError
from ..plan import Change, Leftover, Plan, SqlChange, as_change
from ..postgres._psycopg import sql
from ..postgres.catalog import Name, Table, observe_catalog, qualified
from ..postgres.connect import explain_errors
from ..postgres.locks import wait_for_running
from ..postgres.versions import has
from ..state.source_schema import HEARTBEAT_NAME, changes_to_drop, changes_to_make, drop, make, sends_messages
from ..writers.fence import restoring_statements
from ..writers.left_fence import lift_fence
from .observed_publication import Publication, observe_publication
from .publication_ddl import (
    HARMLESS_TO_ALTER,
    addition,
    create_statement,
    generated_columns,
    removal,
    with_descendants,
)
from .publication_members import BEFORE, BEGIN_AGAIN, MEMBERS, PARTITIONS, partitions_below
from .published import GENERATED_CHECKED, refused_writes, require_writes
from .reentry import observe_reentry
from .replica_identity import identifies_rows
from .under_lock import Locked, Patience, each_under_lock
from .waits import Waits

if TYPE_CHECKING:
    from ..migration import Migration
    from ..postgres.connect import Connection
    from ..postgres.server import Server
    from ..state.store import MigrationState

_DOING = "creating the publication"
_ADDING = "adding to the publication"


def plan(migration: Migration, options: Mapping[str, Any]) -> Plan:
    """Return the Plan. ``options``: lock_timeout (s), lock_retries, wait_timeout (s), state (present, absent),
    progress_file."""
    name = names.publication_name(migration.name)
    if options["state"] == "absent":
        return _plan_absent(migration, name, options["lock_timeout"])
    if not migration.spec.incremental:
        return Plan(notes=("no publication is needed: the migration is not incremental",))
    state = migration.state()
    found = observe_publication(migration.source, name)
    recorded = dict(state.before_image).get(BEFORE) if state else None
    _check_ownership(name, recorded, found, state)
    by_roots = publishes_roots(migration.source_server)
    wanted = migration.selected().published(found.members if found else (), by_roots=by_roots)
    if found is None:
        return _plan_create(migration, name, wanted, options)
    return _plan_alter(migration, name, found, recorded or {}, wanted, options)


def _has_slot(state: MigrationState | None) -> bool:
    return bool(state and state.slot and state.slot.get("consistent_point"))


def _check_ownership(
    name: str, recorded: Mapping[str, Any] | None, found: Publication | None, state: MigrationState | None
) -> None:
    if found is None:
        if recorded and _has_slot(state):
            raise LossError(
                "looking at the publication",
                name,
                "it was dropped while the slot was in use: changes written since then cannot be decoded",
                BEGIN_AGAIN,
            )
        return
    if not recorded or recorded.get("oid") not in (None, found.oid):
        since = "was recreated by another session" if recorded else "exists and was not created by this migration"
        raise MismatchError(
            "looking at the publication",
            name,
            f"a publication of that name {since}",
            BEGIN_AGAIN
            if recorded
            else "Give the migration another causeway_name. Drop the publication only when you know whose it is, and that no"
            " slot is read with it.",
        )
    if not found.as_we_make_them:
        raise MismatchError(
            "looking at the publication",
            name,
            "it was altered: it must publish whole rows, all four operations, and partitions as themselves",
            BEGIN_AGAIN,
        )


def publishes_roots(server: Server) -> bool:
    """Return whether a publication may name a partitioned table, and its partitions are streamed as themselves.

    PolarDB 11 has this too, which PostgreSQL got later.
    """
    return server.product == "PolarDB" or has(server.version, "partitioned tables in a publication")


def _plan_create(migration: Migration, name: str, wanted: Sequence[Table], options: Mapping[str, Any]) -> Plan:
    _refuse_unpublishable(migration)
    bookkeeping = changes_to_make(migration.source, migration.name)
    members = [table.qualified_name for table in wanted] + _ours(migration)
    create = SqlChange(
        "source",
        f"publication {name}",
        None,
        {"tables": [qualified(member) for member in members], "publish_via_partition_root": False},
        (create_statement(name, members, migration.source_server.version, generated=_needs_generated(migration)),),
    )
    unready = [table for table in migration.selected().leaves if not identifies_rows(table)]

    def apply() -> Mapping[str, object]:
        _require_identities(migration)
        migration.store.drop_original(BEFORE, ["name", "oid", MEMBERS, PARTITIONS])
        # The intent first: a publication of our name that exists after a crash is then known to be ours.
        migration.store.record_original(BEFORE, {"name": name})
        make(migration.source, migration.name, options["lock_timeout"])
        waited = wait_for_running(migration.source, options["wait_timeout"], "waiting to create the publication", name)
        patience = Patience(options["lock_timeout"], options["lock_retries"])
        oids = tuple(table.oid for table in wanted)
        leaves = migration.selected().leaves
        piece = Locked(oids, create, HARMLESS_TO_ALTER, after=_still_writable(migration.source, leaves, _DOING))
        waits = _waits(migration, options)
        each_under_lock(migration.source, [piece], patience, _DOING, tell=waits)
        _record(migration, name, {table.oid for table in wanted})
        return {"waited": round(waited, 3), "warnings": waits.warnings}

    notes = []
    if unready:
        notes.append(
            f"{len(unready)} tables have no replica identity yet; pg_replica_identity sets it before this runs"
        )
    return Plan(
        changes=as_change([*bookkeeping, create], migration.source),
        result={"publication": name, "tables": len(wanted)},
        apply=apply,
        notes=tuple(notes),
        warnings=_unstreamed(migration.source_server.version),
    )


def _waits(migration: Migration, options: Mapping[str, Any]) -> Waits:
    return Waits(migration.store, "prepared", str(options.get("progress_file") or ""))


def _unstreamed(server_version: int) -> tuple[str, ...]:
    """Return a warning about what such a source does not stream at all."""
    if has(server_version, "publish = truncate"):
        return ()
    return (
        "PostgreSQL 10 streams no TRUNCATE: a table that is truncated at the source keeps its rows at the destination until"
        " causeway_resync copies it again",
    )


def _needs_generated(migration: Migration) -> bool:
    """Return whether stored generated columns have to be sent: with identity FULL PostgreSQL 18 refuses UPDATE and
    DELETE on a table whose generated columns are not."""
    if not has(migration.source_server.version, GENERATED_CHECKED):
        return False
    whole = [t for t in migration.selected().leaves if t.replica_identity == "f" or not identifies_rows(t)]
    return any(column.generated == "s" for table in whole for column in table.columns)


def _still_writable(source: Connection, leaves: Sequence[Table], doing: str) -> Callable[[Connection], None]:
    """Return what checks, in the transaction that changes the publication, that the application may still write to
    ``leaves``. What the source refuses already, for the sake of another publication, is not our doing."""
    with explain_errors("looking at the selected tables before", doing):
        known = frozenset(table.oid for table, dummy in refused_writes(source, leaves))
    return lambda conn: require_writes(conn, leaves, doing, known)


def _additions(migration: Migration, name: str, added: Sequence[Table]) -> list[Locked]:
    """Return the additions of tables, each tried for its own leaves: writers wait behind its lock."""
    catalog = migration.source_catalog
    children = catalog.children() if added else {}
    work = []
    for table in added:
        below = [catalog.tables[oid] for oid in with_descendants(table, children)]
        after = _still_writable(migration.source, [t for t in below if t.holds_rows], _ADDING)
        work.append(replace(addition(catalog, name, table, children), after=after))
    return work


def _ours(migration: Migration) -> list[Name]:
    """Return our own table that the publication has to send, as a list: none where the stream carries messages."""
    return [] if sends_messages(migration.source) else [HEARTBEAT_NAME]


def _refuse_unpublishable(migration: Migration) -> None:
    for table in migration.selected().tables:
        if table.persistence != "p":
            raise SpecError(
                _DOING,
                str(table),
                "it is unlogged: PostgreSQL writes no WAL for it, so its changes cannot be streamed",
                "ALTER TABLE … SET LOGGED, or exclude it from causeway_objects.",
            )


def _require_identities(migration: Migration) -> None:
    """Raise StateError for a table without an identity: published, it refuses the application's UPDATE and DELETE."""
    catalog = observe_catalog(migration.source, "source")
    for table in migration.selected().leaves:
        now = catalog.tables.get(table.oid)
        if now is not None and not identifies_rows(now):
            raise StateError(
                _DOING,
                str(now),
                "it has no replica identity: once published, the application's UPDATE and DELETE on it would fail",
                "Run pg_replica_identity first.",
            )


def _record(migration: Migration, name: str, oids: set[int]) -> None:
    """Record the publication that was created, as observed. Raises MismatchError."""
    made = observe_publication(migration.source, name)
    if made is None or not made.as_we_make_them or not oids <= made.members.keys():
        raise MismatchError(_DOING, name, "right after the change it is not as requested", "Run the playbook again.")
    migration.store.drop_original(BEFORE, [MEMBERS, PARTITIONS])
    members = {str(oid): row for oid, row in made.rows.items()}
    below = partitions_below(migration.source, made.rows)
    migration.store.record_original(BEFORE, {"oid": made.oid, MEMBERS: members, PARTITIONS: below})


def _plan_alter(
    migration: Migration,
    name: str,
    found: Publication,
    recorded: Mapping[str, Any],
    wanted: Sequence[Table],
    options: Mapping[str, Any],
) -> Plan:
    published = set(found.members)
    ours = _ours(migration)
    heartbeat = {oid for oid, member in found.members.items() if member in ours}
    bookkeeping = changes_to_make(migration.source, migration.name)
    if ours and not heartbeat:
        raise LossError(
            "looking at the publication", name, f"{qualified(HEARTBEAT_NAME)} was removed from it", BEGIN_AGAIN
        )
    added = [table for table in wanted if table.oid not in published]
    gone = sorted(published - heartbeat - {table.oid for table in wanted})
    reentry = observe_reentry(migration, name, recorded, added)
    if added:
        _refuse_unpublishable(migration)
    work = []
    if _needs_generated(migration) and not found.generated:
        work.append(generated_columns(name, _still_writable(migration.source, migration.selected().leaves, _ADDING)))
    work += _additions(migration, name, added)
    work += [removal(name, oid, found.members[oid]) for oid in gone]
    # an earlier run that was killed between the work and this has left it to us
    noting = [] if recorded.get(MEMBERS) else [Change("destination", f"members of publication {name}", None, "noted")]

    def apply() -> Mapping[str, object]:
        reentry.forget_copies(migration)
        # a worker that checks the members meanwhile must not take our change for a loss
        migration.store.drop_original(BEFORE, [MEMBERS])
        make(migration.source, migration.name, options["lock_timeout"])
        if added:
            _require_identities(migration)
            wait_for_running(migration.source, options["wait_timeout"], "waiting to add to the publication", name)
        patience, waits = Patience(options["lock_timeout"], options["lock_retries"]), _waits(migration, options)
        each_under_lock(migration.source, work, patience, "changing the", tell=waits)
        _record(migration, name, {table.oid for table in wanted})
        return {"warnings": waits.warnings}

    return Plan(
        changes=(
            *reentry.changes(),
            *as_change([*bookkeeping, *(piece.change for piece in work)], migration.source),
            *noting,
        ),
        result={"publication": name, "tables": len(wanted)},
        apply=apply,
        warnings=reentry.warnings(),
    )


def _plan_absent(migration: Migration, name: str, lock_timeout: float) -> Plan:
    state = migration.state()
    recorded = dict(state.before_image).get(BEFORE) if state else None
    if not recorded:
        return Plan(result={"left_behind": [], "source_rights": []})
    found = observe_publication(migration.source, name)
    ours = found is not None and recorded.get("oid") in (None, found.oid)
    statement = sql.SQL("DROP PUBLICATION {}").format(sql.Identifier(name))
    publication = SqlChange("source", f"publication {name}", "there", None, (statement,))
    bookkeeping = changes_to_drop(migration.source, migration.name)
    # The fence is recorded in what this drops: the fence of a dead cutover is lifted first.
    leaving = lift_fence(migration)
    reopening = [leaving.change] if leaving.change else []
    # The record of what a cutover took goes with the migration; it says what would have to be granted again.
    taken = [text.as_string(migration.source) for text in restoring_statements(migration)]

    def apply() -> Mapping[str, object]:
        left: list[Leftover] = []
        leaving.give_back()
        if ours:
            try:
                publication.execute(migration.source, "dropping the")
                migration.store.drop_original(BEFORE, ["name", "oid"])
            except ServerError as exc:
                left.append(_leftover(migration, publication, exc))
        if bookkeeping:
            try:
                drop(migration.source, migration.name, lock_timeout)
            except ServerError as exc:
                left += [_leftover(migration, change, exc) for change in bookkeeping]
        return {"left_behind": [leftover.as_result() for leftover in left]}

    note = f"publication {name} was recreated by another session and is left in place"
    return Plan(
        changes=as_change([*reopening, *([publication] if ours else []), *bookkeeping], migration.source),
        result={"publication": name, "left_behind": [], "source_rights": taken},
        apply=apply,
        notes=(note,) if found is not None and not ours else (),
    )


def _leftover(migration: Migration, change: SqlChange, exc: ServerError) -> Leftover:
    return Leftover(
        "source", change.what, exc.why, tuple(statement.as_string(migration.source) for statement in change.statements)
    )
