# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans a section of pg_schema_sync, and applies the plan.

A section is compared, then created in one destination transaction: nothing incomplete is left, and no error is ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from ..failpoints import failpoint
from ..plan import Change, Plan
from ..postgres._psycopg import sql
from ..postgres.catalog import qualified
from ..postgres.connect import explain_errors
from . import post_load
from .build_limits import BuildLimits
from .compare import SECTIONS, Comparison, MissingObject, Section, refuse_conflicts
from .execute import DeferredStatement, carry_out, retry_deadlocks
from .inventory import Inventory, observe_standing
from .normal_form import remember_definitions
from .partitioned_foreign_keys import PartitionedKey
from .sync import SchemaStep, SchemaSync, Steps
from .triggers import disabled_triggers, remember_asleep

if TYPE_CHECKING:
    from ..migration import Migration
    from ..postgres.lsn import Lsn
    from ..runner import Runner

_PHASES: Mapping[str, str] = {"pre_data": "schema", "foreign_keys": "finalized"}


def plan(migration: Migration, options: Mapping[str, Any], runner: Runner) -> Plan:
    """Return the plan of one section. ``options``: section, client_bin, privileges, jobs, memory (MB). Raises EngineError."""
    section = cast("Section", options["section"])
    limits = BuildLimits(int(options.get("jobs", 2)), int(options.get("memory", 512)) << 20)
    work = SchemaSync(
        migration,
        runner,
        section,
        client_bin=str(options.get("client_bin") or ""),
        privileges=options.get("privileges", "keep") == "keep",
    )
    source = observe_standing(migration.source, "source", work.schemas)
    destination = observe_standing(migration.destination, "destination", work.schemas_there)
    script = work.dump(source)
    comparison = work.compared(script, source, destination)
    if section == "pre_data" and migration.spec.conflicting_tables == "report":
        refuse_conflicts(comparison.kept)
    split = work.split(comparison, source, destination) if section == "foreign_keys" else {}
    todo = work.steps(comparison, destination, _on_partitions(split, source, destination, migration))
    later: tuple[DeferredStatement, ...] = ()
    if section == "foreign_keys":
        later = post_load.later_changes(migration, comparison, source, destination, split)
    state = migration.state()
    phase = _PHASES.get(section, "")
    changes = [step.as_change() for step in todo.steps] + [one.change.as_change(migration.destination) for one in later]
    if phase and (state is None or not state.reached(phase)):
        changes.append(Change("destination", f"phase of migration {migration.name}", state and state.phase, phase))

    # The first section is dumped again, under a slot's snapshot. With ten thousand tables a dump is large: not held until then.
    make = (
        partial(_dump_and_make, work, [step.statements for step in todo.steps], phase)
        if section == "pre_data"
        else partial(_make, work, todo, script.standard_strings, partial(carry_out, migration, later, limits), phase)
    )
    return Plan(
        changes=tuple(changes),
        result={
            "section": section,
            "objects": todo.objects,
            "kept_tables": [qualified(name) for name in comparison.kept],
        },
        apply=make,
        notes=_notes(section, comparison),
        warnings=todo.warnings + (work.grants_left_out(source, destination) if section == "pre_data" else ()),
    )


def _on_partitions(
    split: Mapping[int, PartitionedKey], source: Inventory, destination: Inventory, migration: Migration
) -> dict[int, tuple[str, ...]]:
    """Return the statements for partitions that lack their key, by the OID of the whole key."""
    mapping, conn = migration.mapping, migration.destination
    keys = [thing for thing in source.things.values() if thing.detail[:1] == "f"]
    there = {key.oid: key.key_there(mapping) in destination.details for key in keys}
    return {
        oid: tuple([leaf.adding(mapping, not_valid=True).as_string(conn) for leaf in key.leaves if not there[leaf.oid]])
        for oid, key in split.items()
    }


def _notes(section: Section, comparison: Comparison) -> tuple[str, ...]:
    if section == "pre_data" or not comparison.missing["pre_data"]:
        return ()
    return (
        f"{len(comparison.missing['pre_data'])} objects of section pre_data do not exist at the destination yet; this"
        " plan assumes that they will.",
    )


def _dump_and_make(work: SchemaSync, planned: Sequence[tuple[str, ...]], phase: str) -> Mapping[str, object]:
    """Dump under a slot's snapshot and create the first section. ``planned`` are the statements of the plan's own dump.

    Raises EngineError.
    """
    script, source, mark = work.marked_dump()
    destination = observe_standing(work.migration.destination, "destination", work.schemas_there)
    comparison = work.compared(script, source, destination)
    todo = work.steps(comparison, destination)
    answer: dict[str, object] = {}
    if [step.statements for step in todo.steps] != planned:
        answer["objects"] = todo.objects
        answer["notes"] = ["The source's schema changed after the plan was made: the newer one was restored."]
    # what is built while rows are copied is never a step of a section, so all of it is remembered here
    due = [item for section in SECTIONS[1:] for item in comparison.missing[section]]
    _restore(work, todo, script.standard_strings, mark, due)
    work.migration.store.advance(phase)
    return answer


def _make(
    work: SchemaSync, todo: Steps, standard_strings: bool, finishing: Callable[[], None], phase: str
) -> Mapping[str, object]:
    """Create a later section, then execute what must run outside its transaction. Raises EngineError."""
    if work.section == "foreign_keys":
        post_load.require_one_position(work.migration)
    _restore(work, todo, standard_strings)
    finishing()
    if phase:
        work.migration.store.advance(phase)
    return {}


def _restore(
    work: SchemaSync, todo: Steps, standard_strings: bool, mark: Lsn = 0, due: Sequence[MissingObject] = ()
) -> None:
    """Execute all steps in one transaction, again if a deadlock was lost. Raises ServerError, naming the object.

    ``due`` is what later sections create: its definition is remembered with that of what is created now.
    """

    def once() -> None:
        with work.migration.destination.transaction():
            _restore_once(work, todo, "on" if standard_strings else "off")
            _remember(work, todo, mark, due)
            failpoint("before section committed")

    retry_deadlocks(once)


def _restore_once(work: SchemaSync, todo: Steps, strings: str) -> None:
    conn = work.migration.destination
    with explain_errors("preparing the restore at the", "destination"):
        conn.execute("SET LOCAL check_function_bodies = off")
        conn.execute("SET LOCAL client_min_messages = warning")
        conn.execute(sql.SQL("SET LOCAL standard_conforming_strings = {}").format(sql.Literal(strings)))
    for step in todo.steps:
        for number, statement in enumerate(step.statements):
            with explain_errors("creating at the destination", step.what, _remedy(step, number)):
                conn.execute(statement.encode("utf-8", "surrogateescape"))


def _remember(work: SchemaSync, todo: Steps, mark: Lsn, due: Sequence[MissingObject]) -> None:
    """Record what was created, in the transaction that creates it."""
    store, mapping = work.migration.store, work.migration.mapping
    done = [step.missing for step in todo.steps if step.missing]
    tables = [item.thing for item in done if item.entry.kind == "TABLE" and item.thing]
    if tables:
        store.record_original("made", {qualified(mapping.there(thing.relation)): True for thing in tables})
    remember_asleep(store, disabled_triggers(done, mapping))
    remember_definitions(work.migration, due, anew=False)
    remember_definitions(work.migration, done, anew=True)
    if mark:
        store.record_schema_mark(mark)
        store.record_original("privileges", {"kept": work.privileges})
    if todo.steps:
        store.event(work.section, "schema objects created", {"section": work.section, "objects": len(todo.objects)})


_REMEDIES = {
    "": "Create the extension at the destination with an account that is allowed to, then run this again.",
    "VIEW": "Select the tables that it reads as well, or leave it out with exclude.",
    "MATERIALIZED VIEW": "Select the tables that it reads as well, or leave it out with exclude.",
    "POLICY": "Create the roles that it names at the destination.",
    "ACL": "Make the migration's account a member of the owner at the destination, or set privileges: skip.",
}


def _remedy(step: SchemaStep, number: int) -> str:
    """Return what to do about a statement that failed; empty if its SQLSTATE says more."""
    if step.right:
        return "Let the schema's owner, or a superuser, grant it to them at the destination, or set privileges: skip."
    kind = step.missing.entry.kind if step.missing else ""
    if step.missing and number and kind not in ("ACL", "FK CONSTRAINT"):
        owner = step.missing.entry.owner
        return f"Make the migration's account a member of role {owner} at the destination, or set privileges: skip."
    return _REMEDIES.get(kind, "")
