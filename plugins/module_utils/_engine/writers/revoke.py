# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Revokes a role's right to write to the selected objects of one end, and restores it.

A REVOKE removes what a role holds itself. What it holds as a superuser, as a member of another role, or through PUBLIC
cannot be revoked without harm to other roles: there the role is made read-only by default in this database, which is a
brake and no lock, and reported as such.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import EngineError, SpecError, StateError
from ..objects.mapping import DestinationName, tables_there
from ..plan import Plan, SqlChange, as_change
from ..postgres._psycopg import psycopg, sql
from ..postgres.catalog import Table, observe_catalog, qualified, quoted
from ..postgres.connect import connect, explain_errors
from ..state.tombstone import read_tombstone
from .grants import (
    REFUSED,
    Grant,
    Relation,
    Writer,
    grant_of,
    grant_statements,
    observe_grants,
    observe_writers,
    revoke_statements,
    try_to_write,
    with_dependents,
)

if TYPE_CHECKING:
    from psycopg.sql import Composed

    from ..migration import Migration
    from ..postgres.connect import End, Endpoint

BEFORE = "writers"
"""Key of the originals: {"end:role": {"grants": […], "braked": bool, "setting": the earlier value, or null}}."""

_SETTING = "default_transaction_read_only"
_DOING = "revoking the right to write"
READ_ONLY = "25006"

_ROLE_SETTING = """
SELECT r.rolname,
       (SELECT pg_catalog.split_part(entry, '=', 2) FROM pg_catalog.unnest(s.setconfig) entry
         WHERE pg_catalog.split_part(entry, '=', 1) = %s)
  FROM pg_catalog.pg_roles r
  LEFT JOIN pg_catalog.pg_db_role_setting s ON s.setrole = r.oid AND s.setdatabase =
       (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
 WHERE r.rolname = %s
"""


@dataclass(frozen=True, slots=True)
class Situation:
    """One role at one end. ``grants`` are its ACL entries and those that depend on them; ``setting`` is its
    default_transaction_read_only in this database, None where it has none; ``ourselves`` is current_user."""

    end: End
    role: str
    database: str
    ourselves: str
    login: str
    tables: tuple[Table, ...]
    relations: tuple[Relation, ...]
    writer: Writer | None
    grants: tuple[Grant, ...]
    public: tuple[Grant, ...]
    setting: str | None

    @property
    def key(self) -> str:
        return f"{self.end}:{self.role}"

    @property
    def needs_brake(self) -> bool:
        """Return whether the role can still write after a REVOKE from it."""
        writer = self.writer
        return writer is not None and (writer.superuser or bool(writer.through) or writer.public)


def observe_situation(migration: Migration, end: End, role: str) -> Situation:
    """Observe one role at one end; ``role`` empty means our own login account. Raises SpecError, ServerError."""
    conn = migration.source if end == "source" else migration.destination
    with explain_errors("reading the roles of the", end):
        row = conn.execute("SELECT session_user::text, current_user::text, pg_catalog.current_database()").fetchone()
        login, ourselves, database = row or ("", "", "")
        role = role or login
        found = conn.execute(_ROLE_SETTING, (_SETTING, role)).fetchone()
    if found is None:
        raise SpecError(_DOING, quoted(role), f"the {end} has no role of that name", "Correct role.")
    tables, relations = _selected(migration, end)
    writers = {writer.role: writer for writer in observe_writers(conn, tables)}
    grants = observe_grants(conn, relations)
    return Situation(
        end=end,
        role=role,
        database=database,
        ourselves=ourselves,
        login=login,
        tables=tables,
        relations=relations,
        writer=writers.get(role),
        grants=with_dependents(grants, role),
        public=tuple(grant for grant in grants if not grant.grantee and grant.kind == "table"),
        setting=found[1],
    )


def _selected(migration: Migration, end: End) -> tuple[tuple[Table, ...], tuple[Relation, ...]]:
    """Return the selected tables, and these with the sequences, as ``end`` has them. The state schema is never one."""
    selection, mapping = migration.selected(), migration.mapping
    if end == "source":
        return selection.tables, (*selection.tables, *selection.sequences)
    catalog = migration.destination_catalog()
    by_name = tables_there(catalog)
    tables = tuple(by_name[name] for t in selection.tables if (name := mapping.there(t.qualified_name)) in by_name)
    sequences = {DestinationName(sequence.qualified_name): sequence for sequence in catalog.sequences.values()}
    wanted = [mapping.there(sequence.qualified_name) for sequence in selection.sequences]
    return tables, (*tables, *(sequences[name] for name in wanted if name in sequences))


def remaining_paths(situation: Situation) -> list[dict[str, object]]:
    """Return the paths by which the role can write after a REVOKE from it, each with the remedy that closes it."""
    writer, role = situation.writer, quoted(situation.role)
    if writer is None:
        return []
    count = len(situation.tables)
    found: list[dict[str, object]] = []
    if writer.superuser:
        remedy = f"ALTER ROLE {role} NOSUPERUSER, or stop using it."
        found.append({"path": "superuser", "via": situation.role, "tables": count, "remedy": remedy})
    for group in writer.through:
        remedy = f"REVOKE {quoted(group)} FROM {role} (directly, or from the role through which it is a member)."
        found.append({"path": "membership", "via": group, "tables": count, "remedy": remedy})
    if writer.public:
        tables = sorted({qualified((grant.schema, grant.name)) for grant in situation.public})
        remedy = f"REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON {', '.join(tables[:3])} … FROM PUBLIC."
        found.append({"path": "public", "via": "PUBLIC", "tables": len(tables), "remedy": remedy})
    return found


def _brake(situation: Situation, value: str | None) -> Composed:
    """Return ALTER ROLE … IN DATABASE … SET or RESET default_transaction_read_only; ``value`` None resets."""
    role, database = sql.Identifier(situation.role), sql.Identifier(situation.database)
    form = sql.SQL(
        "ALTER ROLE {} IN DATABASE {} RESET {}" if value is None else "ALTER ROLE {} IN DATABASE {} SET {} = {}"
    )
    setting = sql.SQL(_SETTING)
    return form.format(role, database, setting, *([] if value is None else [sql.Literal(value)]))


def plan(migration: Migration, options: Mapping[str, Any]) -> Plan:
    """Plan to revoke or restore. ``options``: role (empty: the end's own account), end (source, destination), state
    (revoked, granted)."""
    end: End = "source" if options["end"] == "source" else "destination"
    situation = observe_situation(migration, end, str(options.get("role") or ""))
    if options["state"] == "granted":
        return _plan_granted(migration, situation)
    return _plan_revoked(migration, situation)


def _recorded(migration: Migration, situation: Situation) -> dict[str, Any]:
    state = migration.store.load()
    return dict(dict(state.before_image).get(BEFORE, {}).get(situation.key, {})) if state else {}


def _plan_revoked(migration: Migration, situation: Situation) -> Plan:
    revokes, brakes = [], []
    what = f"role {quoted(situation.role)} on the selected objects"
    if situation.grants:
        before = [str(grant) for grant in situation.grants]
        statements = revoke_statements(situation.grants, situation.ourselves)
        revokes.append(SqlChange(situation.end, what, before, None, statements))
    braking = situation.needs_brake and situation.setting != "on"
    if braking:
        brake = _brake(situation, "on")
        name = f"{_SETTING} of role {quoted(situation.role)}"
        brakes.append(SqlChange(situation.end, name, situation.setting, "on", (brake,)))
    changes = [*revokes, *brakes]
    conn = migration.source if situation.end == "source" else migration.destination
    _refuse_after_release(migration, situation, changes)
    remaining = remaining_paths(situation)

    def apply() -> Mapping[str, object]:
        _remember(migration, situation, braking)
        # All REVOKEs or none; the brake by itself, since only the role itself or a more privileged one may set it
        with explain_errors(_DOING, situation.key), conn.transaction():
            for change in revokes:
                change.execute(conn, _DOING)
        for change in brakes:
            change.execute(conn, _DOING)
        return _verified(migration, situation)

    result: dict[str, object] = {"role": situation.role, "end": situation.end, "tables": len(situation.tables)}
    result["remaining"] = remaining
    if not changes:
        result.update(_verified(migration, situation))
    return Plan(as_change(changes, conn), result, apply, (), _warnings(situation, remaining))


def _warnings(situation: Situation, remaining: Sequence[Mapping[str, object]]) -> tuple[str, ...]:
    if not remaining:
        return ()
    ways = "; ".join(f"{way['path']} ({way['via']}): {way['remedy']}" for way in remaining)
    return (
        f"role {quoted(situation.role)} can still write at the {situation.end} in a way that REVOKE on tables does not"
        f" stop: {ways} Until then {_SETTING} = on makes its new sessions in {quoted(situation.database)} read-only,"
        " unless they set it off themselves.",
    )


def _refuse_after_release(migration: Migration, situation: Situation, changes: Sequence[SqlChange]) -> None:
    """Raise StateError after a release: there is no state to record in, and none may be created again."""
    if not changes or migration.store.load() is not None or not read_tombstone(migration.destination, migration.name):
        return
    texts = [text for change in as_change(changes, migration.destination) for text in change.statements]
    raise StateError(
        _DOING,
        quoted(situation.role),
        "the migration was released, and revoked rights can no longer be recorded",
        "By hand: " + "; ".join(texts),
    )


def _remember(migration: Migration, situation: Situation, braking: bool) -> None:
    """Record the rights before they are revoked, in addition to those revoked earlier."""
    earlier = _recorded(migration, situation)
    grants = [*earlier.get("grants", [])]
    grants += [grant.stored() for grant in situation.grants if grant.stored() not in grants]
    values = {
        "grants": grants,
        "braked": braking or bool(earlier.get("braked")),
        "setting": earlier.get("setting") if earlier.get("braked") else situation.setting,
    }
    with migration.destination.transaction():
        migration.store.drop_original(BEFORE, [situation.key])
        migration.store.record_original(BEFORE, {situation.key: values})


def _verified(migration: Migration, situation: Situation) -> dict[str, object]:
    """Try to write, and return the outcome. ``verified``: every table refuses, or the role's new sessions do."""
    conn = migration.source if situation.end == "source" else migration.destination
    try:
        answers = try_to_write(conn, situation.role, situation.tables)
    except EngineError as exc:
        return {"verified": False, "refused": 0, "writable": [], "unverified": exc.why}
    writable = [table for table, state in answers.items() if state != REFUSED]
    result: dict[str, object] = {
        "refused": len(answers) - len(writable),
        "writable": writable,
        "verified": not writable,
        "read_only_sessions": None,
    }
    if writable and situation.role == situation.login:
        endpoint = migration.spec.source if situation.end == "source" else migration.spec.destination
        known = set(writable)
        state = _try_new_session(endpoint, next(table for table in situation.tables if str(table) in known))
        result["read_only_sessions"] = state == READ_ONLY
        result["verified"] = state == READ_ONLY
    return result


def _try_new_session(endpoint: Endpoint, table: Table) -> str:
    """Try to write in a new session that keeps its default settings; return the SQLSTATE, empty if it could write.

    EXPLAIN ignores read-only, so this is a DELETE; of no row, rolled back, and only where the session says that
    it is read-only, since the application's statement triggers must not fire."""
    with connect(endpoint, "writer") as conn:
        try:
            with conn.transaction(force_rollback=True):
                row = conn.execute("SELECT pg_catalog.current_setting('transaction_read_only')").fetchone()
                if row is None or row[0] != "on":
                    return ""
                name = sql.Identifier(table.schema, table.name)
                conn.execute(sql.SQL("DELETE FROM ONLY {} WHERE false").format(name))
        except psycopg.Error as exc:
            return exc.sqlstate or ""
    return ""


def _plan_granted(migration: Migration, situation: Situation) -> Plan:
    conn = migration.source if situation.end == "source" else migration.destination
    recorded = _recorded(migration, situation)
    result: dict[str, object] = {"role": situation.role, "end": situation.end, "tables": len(situation.tables)}
    if not recorded:
        return Plan(
            result=result, notes=("nothing is recorded as revoked from this role: there is nothing to restore",)
        )
    taken = [grant_of(entry) for entry in recorded["grants"]]
    names = {(r.schema, r.name) for r in observe_catalog(conn, situation.end).tables.values()}
    names |= {(r.schema, r.name) for r in situation.relations}
    standing = set(observe_grants(conn, situation.relations))
    back = [grant for grant in taken if grant not in standing and (grant.schema, grant.name) in names]
    gone = sorted({qualified((g.schema, g.name)) for g in taken if (g.schema, g.name) not in names})
    changes = []
    if back:
        what = f"role {quoted(situation.role)} on the selected objects"
        statements = grant_statements(back, situation.ourselves)
        changes.append(SqlChange(situation.end, what, None, [str(grant) for grant in back], statements))
    if recorded.get("braked") and situation.setting != recorded.get("setting"):
        name, before = f"{_SETTING} of role {quoted(situation.role)}", recorded.get("setting")
        changes.append(SqlChange(situation.end, name, situation.setting, before, (_brake(situation, before),)))

    def apply() -> Mapping[str, object]:
        with explain_errors("restoring the right to write", situation.key), conn.transaction():
            for change in changes:
                change.execute(conn, "restoring the right to write")
        migration.store.drop_original(BEFORE, [situation.key])
        return {}

    notes = (f"{', '.join(gone[:5])}: dropped since, no right is restored there",) if gone else ()
    return Plan(as_change(changes, conn), result, apply, notes)


def revoke_own(migration: Migration) -> Mapping[str, object]:
    """Revoke the right to write at the destination from the migration's own account: the cutover's last step before it
    opens. Returns what pg_revoke_writer returns. Raises ServerError."""
    return _plan_revoked(migration, observe_situation(migration, "destination", "")).carry_out()
