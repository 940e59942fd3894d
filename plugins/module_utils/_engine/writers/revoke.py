# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Revokes a role's right to write to the selected objects of one end, and restores it.

A REVOKE removes what a role holds itself. What it holds as a superuser, as a member of another role, or through PUBLIC
cannot be revoked without harm to other roles: there the role is made read-only by default in this database, which is a
brake and no lock, and reported as such. So is a role that the catalogs call harmless and that could write when it was
tried.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import EngineError, ServerError, StateError
from ..plan import Plan, SqlChange, as_change
from ..postgres._psycopg import sql
from ..postgres.catalog import observe_catalog, qualified, quoted
from ..postgres.connect import explain_errors
from ..state.tombstone import read_tombstone
from .attempts import BUSY, READ_ONLY, REFUSED, try_new_session, try_to_write
from .grants import grant_of, grant_statements, observe_grants, revoke_statements
from .situation import (
    DOING,
    SETTING,
    Situation,
    kept_path,
    observe_situation,
    remaining_paths,
    unknown_path,
    warnings_of,
)

if TYPE_CHECKING:
    from psycopg.sql import Composed

    from ..migration import Migration
    from ..postgres.connect import Connection, End

BEFORE = "writers"
"""Key of the originals: {"end:role": {"grants": […], "braked": bool, "setting": the earlier value, or null}}."""


def _brake(situation: Situation, value: str | None) -> Composed:
    """Return ALTER ROLE … IN DATABASE … SET or RESET default_transaction_read_only; ``value`` None resets."""
    role, database = sql.Identifier(situation.role), sql.Identifier(situation.database)
    form = sql.SQL(
        "ALTER ROLE {} IN DATABASE {} RESET {}" if value is None else "ALTER ROLE {} IN DATABASE {} SET {} = {}"
    )
    setting = sql.SQL(SETTING)
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


def _brake_change(situation: Situation) -> SqlChange:
    name = f"{SETTING} of role {quoted(situation.role)}"
    return SqlChange(situation.end, name, situation.setting, "on", (_brake(situation, "on"),))


def _plan_revoked(migration: Migration, situation: Situation) -> Plan:
    revokes, brakes = [], []
    what = f"role {quoted(situation.role)} on the selected objects"
    if situation.grants:
        before = [str(grant) for grant in situation.grants]
        statements = revoke_statements(situation.grants, situation.ourselves)
        revokes.append(SqlChange(situation.end, what, before, None, statements))
    braked = situation.setting == "on"
    remaining = remaining_paths(situation)
    tried = {} if revokes else _tried(migration, situation)
    if tried.get("writable") and not remaining:
        remaining = [unknown_path(situation, tried)]
    braking = not braked and bool(situation.needs_brake or tried.get("writable"))
    if braking:
        brakes.append(_brake_change(situation))
    changes = [*revokes, *brakes]
    conn = _conn(migration, situation)
    _refuse_after_release(migration, situation, changes)

    def apply() -> Mapping[str, object]:
        _remember(migration, situation, braking)
        # All REVOKEs or none; the brake by itself, since only the role itself or a more privileged one may set it
        with explain_errors(DOING, situation.key), conn.transaction():
            for change in revokes:
                change.execute(conn, DOING)
        for change in brakes:
            change.execute(conn, DOING)
        return _settled(migration, situation, remaining, braked=braked or braking)

    result: dict[str, object] = {"role": situation.role, "end": situation.end, "tables": len(situation.tables)}
    result["remaining"] = remaining
    if not changes:
        result.update(_reported(situation, tried))
    return Plan(as_change(changes, conn), result, apply, (), warnings_of(situation, remaining))


def _settled(
    migration: Migration, situation: Situation, remaining: Sequence[dict[str, object]], *, braked: bool
) -> dict[str, object]:
    """Try to write, and return the outcome; where the role still can and no brake is set, set it and try again. What the
    role still holds is named, whether it is braked or not."""
    tried = _tried(migration, situation)
    if not tried.get("writable"):
        return _reported(situation, tried)
    conn = _conn(migration, situation)
    kept = [g for g in observe_grants(conn, situation.tables) if g.grantee == situation.role]
    ways = [*remaining, *([kept_path(situation, kept)] if kept else [])] or [unknown_path(situation, tried)]
    if not braked:
        _remember(migration, situation, True)
        _brake_change(situation).execute(conn, DOING)
        tried = _tried(migration, situation)
    after = _reported(situation, tried)
    told = warnings_of(situation, ways) if len(ways) > len(remaining) else ()
    return {**after, "remaining": ways, "warnings": [*told, *_listed(after["warnings"])]}


def _conn(migration: Migration, situation: Situation) -> Connection:
    return migration.source if situation.end == "source" else migration.destination


def _listed(value: object) -> list[object]:
    return list(value) if isinstance(value, list) else []


def _refuse_after_release(migration: Migration, situation: Situation, changes: Sequence[SqlChange]) -> None:
    """Raise StateError after a release: there is no state to record in, and none may be created again."""
    if not changes or migration.store.load() is not None or not read_tombstone(migration.destination, migration.name):
        return
    texts = [text for change in as_change(changes, migration.destination) for text in change.statements]
    raise StateError(
        DOING,
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


def _tried(migration: Migration, situation: Situation) -> dict[str, Any]:
    """Try to write, and return the outcome. ``verified``: every table refuses, or the role's new sessions do.
    ``unverified``: why a table could not be tried."""
    try:
        answers = try_to_write(_conn(migration, situation), situation.role, situation.tables)
    except EngineError as exc:
        return {"verified": False, "refused": 0, "writable": [], "unverified": exc.why}
    busy = [table for table, state in answers.items() if state == BUSY]
    writable = [table for table, state in answers.items() if state not in (REFUSED, BUSY)]
    result: dict[str, Any] = {
        "refused": len(answers) - len(writable) - len(busy),
        "writable": writable,
        "verified": not writable and not busy,
        "read_only_sessions": None,
    }
    if writable and situation.role == situation.login:
        endpoint = migration.spec.source if situation.end == "source" else migration.spec.destination
        known = set(writable)
        state = try_new_session(endpoint, next(table for table in situation.tables if str(table) in known))
        busy += [writable[0]] if state == BUSY else []
        result["read_only_sessions"] = None if state == BUSY else state == READ_ONLY
        result["verified"] = state == READ_ONLY
    if busy and not result["verified"]:
        result["unverified"] = f"{', '.join(busy[:5])} is locked by another session"
    return result


def _reported(situation: Situation, tried: Mapping[str, Any]) -> dict[str, object]:
    """Return the outcome with its warnings: a table that could not be tried, and a brake that was set and that a new
    session of the account ignores."""
    role, warnings = quoted(situation.role), []
    if "unverified" in tried:
        warnings.append(
            f"whether role {role} can still write at the {situation.end} was not tried everywhere: {tried['unverified']}. Run"
            " pg_revoke_writer to try again."
        )
    if tried.get("read_only_sessions") is False:
        warnings.append(
            f"role {role} can write at the {situation.end} in new sessions too, although {SETTING} is on for it in"
            f" {quoted(situation.database)}: what it connects with sets it off. End its sessions, and let nothing but the"
            " migration log in with it."
        )
    return {**tried, "warnings": warnings}


def _plan_granted(migration: Migration, situation: Situation) -> Plan:
    conn = _conn(migration, situation)
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
        name, before = f"{SETTING} of role {quoted(situation.role)}", recorded.get("setting")
        changes.append(SqlChange(situation.end, name, situation.setting, before, (_brake(situation, before),)))

    def apply() -> Mapping[str, object]:
        with explain_errors("restoring the right to write", situation.key), conn.transaction():
            for change in changes:
                change.execute(conn, "restoring the right to write")
        migration.store.drop_original(BEFORE, [situation.key])
        return {}

    notes = (f"{', '.join(gone[:5])}: dropped since, no right is restored there",) if gone else ()
    return Plan(as_change(changes, conn), result, apply, notes)


def _braked_at_least(migration: Migration, situation: Situation, refusal: ServerError) -> dict[str, object]:
    """Set the brake where the server has refused what was to be revoked; return the outcome, with a warning of what it has
    refused."""
    refused = [refusal]
    try:
        outcome = _settled(migration, situation, remaining_paths(situation), braked=situation.setting == "on")
    except ServerError as exc:
        refused += [exc] if exc.why != refusal.why else []
        outcome = _tried(migration, situation)
    told = [
        f"the right to write could not be revoked from role {quoted(situation.role)}: {exc.why}. {exc.remedy}"
        for exc in refused
    ]
    return {**outcome, "warnings": [*told, *_listed(outcome.get("warnings"))]}


def revoke_own(migration: Migration) -> Mapping[str, object]:
    """Revoke the right to write at the destination from the migration's own account: the cutover's last step before it
    opens. Returns what pg_revoke_writer returns; ``warnings`` are about what only the attempt to write has shown, by an
    earlier run too.

    The source is closed by now: where the server refuses a REVOKE or the brake, that is a warning, and the destination
    still opens. Raises ConnectError, and ServerError where the roles cannot be read."""
    situation = observe_situation(migration, "destination", "")
    made = _plan_revoked(migration, situation)
    try:
        result = dict(made.carry_out())
    except ServerError as exc:
        result = {**made.result, **_braked_at_least(migration, situation, exc)}
    unknown = any(way["path"] == "unknown" for way in _ways(made.result))
    result["warnings"] = list(dict.fromkeys([*(made.warnings if unknown else ()), *_listed(result.get("warnings"))]))
    return result


def _ways(result: Mapping[str, Any]) -> Sequence[Mapping[str, object]]:
    return tuple(result.get("remaining") or ())
