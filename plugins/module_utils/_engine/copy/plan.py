# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans a full copy, which tables by which statements, and applies the plan."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import EngineError, StateError
from ..large_objects.objects import as_result, plan_objects
from ..plan import Change, Plan
from ..postgres._asyncpg import require_asyncpg
from ..postgres._psycopg import sql
from ..postgres.catalog import Table, holding_rows, qualified
from ..postgres.key_ranges import WHOLE, Part
from ..schema.post_load import analyze_statement
from ..schema.table_builds import behind_copy
from ..state.copies import observed_copies, partly_copied
from ..state.copy_pace import read_pace, set_pace
from ..state.task import read_control
from .enqueue import resume_parts
from .job import Job
from .layout import lay_out, missing_tables, unfinished
from .leader import finished, run_copy, wait_for_leader
from .limits import Limits
from .resync import tables_again
from .runs import HostShare
from .transfer.columns import (
    STAGE,
    Format,
    copy_in_statement,
    copy_out_statement,
    format_of,
    stage_statements,
    stored,
    truncate_statement,
)
from .transfer.pace import Pace, pace_of

if TYPE_CHECKING:
    from ..migration import Migration
    from ..objects.mapping import ObjectMapping, TableMapping
    from ..postgres.catalog import Name
    from ..runner import Runner
    from ..schema.table_builds import TableBuilds


def plan(
    migration: Migration,
    limits: Limits,
    assist: float | None = None,
    programs: tuple[Runner, str] | None = None,
    resync: Sequence[str] = (),
) -> Plan:
    """Return the plan that copies every selected table that is not complete, or is named by ``resync``.

    With ``programs``, a Runner and the folder of pg_dump, keys and indexes are built as soon as their table is complete.
    ``assist``: only help with a copy that another host leads, and wait for one while a host works on the migration, and
    so many seconds more.

    Raises SpecError, MismatchError, StateError.
    """
    if "full" not in migration.spec.types:
        return Plan(result=_result(migration, limits), notes=("The types hold no full: no rows are copied.",))
    if assist is not None:
        return _plan_help(migration, limits, assist, programs)
    again = tables_again(migration, resync)
    anew = {table.oid for table in again}
    waiting = [*(table for table in unfinished(migration) if table.oid not in anew), *again]
    state = migration.state()
    reached = state is not None and state.reached("copied")
    objects, notes = plan_objects(migration, limits.objects)
    if not waiting and not objects and reached:
        return Plan(result=_result(migration, limits))
    there = migration.destination_catalog()
    jobs = lay_out(migration, waiting, limits.layout, there)
    going_on = [job for oid, job in jobs.items() if job is not None and oid not in anew]
    jobs.update({job.source.oid: job for job in resume_parts(migration, going_on)})
    without = [table.qualified_name for table in waiting if jobs[table.oid] is None]
    schema_made = "schema" not in migration.spec.types or (state is not None and state.reached("schema"))
    if without and schema_made:
        raise missing_tables(without)
    if without:
        notes.append(f"{len(without)} of {len(waiting)} tables are missing: the schema phase creates them first.")
    if migration.spec.incremental and (state is None or state.slot is None):
        notes.append("The slot does not exist yet; this plan assumes that it will: the copy itself needs it.")
    control = read_control(migration.store) if state is not None else None
    if waiting and control is not None and control.wanted in ("started", "paused"):
        notes.append("The CDC worker is stopped at a commit first; pg_cdc_task starts it again.")
    begun = anew | (partly_copied(migration.store) if state is not None else set())
    behind = _behind(migration, programs, notes)
    merged = _merged(migration, [job for oid, job in jobs.items() if job is not None and oid not in begun])
    changes: list[Change] = []
    for table in waiting:
        changes += _table_changes(migration, table, jobs[table.oid], table.oid in begun, merged)
    changes += [*objects, *_behind_changes(behind or {}, waiting, migration.mapping)]
    if not reached:
        phase = state.phase if state is not None else None
        changes.append(Change("destination", f"migration {migration.name}", phase, "copied"))
    if waiting:
        require_asyncpg()
    return Plan(
        changes=tuple(changes),
        result=_result(migration, limits),
        apply=lambda: _apply(migration, limits, behind, again, notes),
        notes=tuple(notes),
    )


def plan_pace(migration: Migration, pace: Pace) -> Plan:
    """Return the plan that changes the limits of the running copy, or of the next one."""
    settings = read_pace(migration.store) if migration.state() is not None else None
    known = None if settings is None else pace_of(settings)
    if known == pace:
        return Plan()

    def apply() -> Mapping[str, object]:
        set_pace(migration.store, pace.stored())
        return {}

    before = None if known is None else known.stored()
    return Plan((Change("destination", f"pace of the copy of {migration.name}", before, pace.stored()),), apply=apply)


def _behind(
    migration: Migration, programs: tuple[Runner, str] | None, notes: list[str]
) -> dict[Name, TableBuilds] | None:
    """Return what is built on each table when its rows are complete; None if the schema is not ours to create."""
    if programs is None or "schema" not in migration.spec.types:
        return None
    try:
        return behind_copy(migration, *programs)
    except EngineError as exc:  # a table may be locked at this moment: others can be copied now
        notes.append(
            f"Keys and indexes are left to pg_schema_sync, because the schema could not be read now: {exc.why}."
        )
        return None


def _table_changes(
    migration: Migration, table: Table, job: Job | None, begun: bool, merged: Collection[Name]
) -> list[Change]:
    """Return what is read at the source and written at the destination for one table. ``merged`` are the destination's
    tables that retain their rows."""
    form = format_of(table, migration.source_server.version, migration.destination_server.version)
    columns, there = [column.name for column in stored(table)], migration.mapping.table(table.qualified_name)
    parts: tuple[Part, ...] = job.parts if job else WHOLE
    merge = job is not None and job.destination.qualified_name in merged
    if merge:
        parts = WHOLE
    out = tuple(_sql(copy_out_statement(table.schema, table.name, columns, part, form)) for part in parts)
    freeze = job is not None and not merge and job.may_freeze
    anew = begun and not (job is not None and job.resumes)
    filled = [there.column(name) for name in columns]
    into = _merge(there, filled, form) if merge else _fill(there, filled, form, len(parts), anew, freeze)
    before = "partly copied" if begun else "not copied"
    return [
        Change("source", f"table {table}", None, f"read in {len(parts)} part{'s' if len(parts) > 1 else ''}", out),
        Change("destination", f"table {qualified(there.destination)}", before, "merged" if merge else "copied", into),
    ]


def _behind_changes(
    behind: Mapping[Name, TableBuilds], waiting: Sequence[Table], mapping: ObjectMapping
) -> list[Change]:
    """Return what is built on the tables, and the statistics of those that are copied."""
    changes = [step.as_change() for one in behind.values() for step in one.steps]
    for table in waiting:
        if (one := behind.get(table.qualified_name)) is not None and one.analyze:
            there = mapping.there(table.qualified_name)
            what, statement = f"statistics of {qualified(there)}", _sql(analyze_statement(there))
            changes.append(Change("destination", what, None, "gathered", (statement,)))
    return changes


def _fill(
    there: TableMapping, columns: list[str], form: Format, parts: int, begun: bool, freeze: bool
) -> tuple[str, ...]:
    copy = _sql(copy_in_statement(*there.destination, columns, form, freeze=freeze))
    first = (_sql(truncate_statement(*there.destination)),) if begun or freeze else ()
    return (*first, *([copy] * parts))


def _merge(there: TableMapping, columns: list[str], form: Format) -> tuple[str, ...]:
    make, add = stage_statements(*there.destination, columns)
    return (_sql(make), _sql(copy_in_statement("pg_temp", STAGE, columns, form)), _sql(add))


def _sql(statement: sql.Composable) -> str:
    return statement.as_string(None)


def _merged(migration: Migration, jobs: Sequence[Job]) -> Collection[Name]:
    """Return the destination's tables that retain their existing rows."""
    if migration.spec.conflicting_tables != "ignore":
        return ()
    return holding_rows(migration.destination, [job.destination.qualified_name for job in jobs])


def _plan_help(migration: Migration, limits: Limits, patience: float, programs: tuple[Runner, str] | None) -> Plan:
    """Return the plan of a host that helps: what the leader plans is not planned again here."""
    if finished(migration):
        return Plan(result=_result(migration, limits))
    require_asyncpg()
    notes = ["Another host leads the copy: its plan names the tables."]

    def apply() -> Mapping[str, object]:
        if not wait_for_leader(migration, patience):
            return {**_result(migration, limits), "changed": False}
        return _apply(migration, limits, _behind(migration, programs, []), notes=notes)

    return Plan(
        changes=(Change("destination", f"copy of migration {migration.name}", None, "helped with"),),
        result=_result(migration, limits),
        apply=apply,
        notes=tuple(notes),
    )


def _result(migration: Migration, limits: Limits, share: HostShare | None = None) -> Mapping[str, object]:
    """Return the module's result, with the state of every selected table: those that no run has begun are waiting."""
    known = (
        {entry["table"]: entry for entry in observed_copies(migration.store)} if migration.state() is not None else {}
    )
    tables: list[Mapping[str, Any]] = []
    for table in migration.selected().leaves:
        empty = {"table": str(table), "state": "waiting", "rows": 0, "bytes": 0, "mark": "", "run": 0, "seconds": 0.0}
        tables.append(known.get(qualified(table.qualified_name), empty))
    return {
        "tables": tables,
        "rows": sum(entry["rows"] for entry in tables),
        "bytes": sum(entry["bytes"] for entry in tables),
        "large_objects": as_result(migration, limits.objects, share.objects if share else 0),
        "runs": share.runs if share else 0,
        "parts": share.parts if share else 0,
    }


def _apply(
    migration: Migration,
    limits: Limits,
    behind: dict[Name, TableBuilds] | None,
    again: Sequence[Table] = (),
    notes: Sequence[str] = (),
) -> Mapping[str, object]:
    """Copy, beside other hosts that do the same, record the phase, and return what this host did. ``notes`` are the
    plan's."""
    migration.lock(shared=True)
    opened = migration.opened_at()
    if opened and not migration.spec.restart:  # checked again now: nothing is written into a destination in production
        return {**_result(migration, limits), "changed": False, "opened_at": opened}
    state = migration.state()
    if migration.spec.incremental and (state is None or state.slot is None):
        raise StateError(
            "copying into migration",
            migration.name,
            "changes are to follow the copy, and the slot that retains them does not exist",
            "Run the migrate playbook, whose prepare phase creates it first.",
        )
    reached = state is not None and state.reached("copied")
    share = run_copy(migration, limits, again, behind)
    did = bool(share.parts or share.objects) or (share.led and not reached)
    more = {"notes": [*notes, _APART]} if share.apart else {}
    return {**_result(migration, limits, share), "changed": did, **more}


_APART = (
    "Tables were copied as of more than one moment: sessions cannot share a snapshot at the source, or an earlier run had"
    " copied some of them. Where the source was written to meanwhile, rows of different tables may not belong together; run"
    " migrate once more while it is not, with causeway_resync naming the tables, or migrate with types that include"
    " incremental."
)
