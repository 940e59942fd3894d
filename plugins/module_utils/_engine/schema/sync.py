# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The schema of the selection at the destination, section by section (design: Lifecycle).

A section is compared, then made in one destination transaction: nothing half-made is left, and no error is ignored.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, cast

from ..capture.snapshot import open_snapshot
from ..errors import StateError, TimeoutExpired
from ..plan import Change, Plan
from ..postgres._psycopg import sql
from ..postgres.catalog import qualified
from ..postgres.connect import connect, explain_errors
from ..postgres.locks import BESIDE_A_READER, REMEDY, lock_holders, named
from . import post_load
from .adjust import adjust
from .build_limits import BuildLimits
from .compare import Comparison, MissingObject, Section, compare, refuse_conflicts
from .deferred_indexes import held_back
from .execute import DeferredStatement, carry_out, retry_deadlocks
from .inventory import Inventory, observe_standing, standing_extensions, used_extensions
from .partitioned_foreign_keys import PartitionedKey, by_partitions
from .pg_dump import DumpRequest, Programs, TablesLocked, dump, find_programs
from .schema_fingerprint import fingerprint
from .triggers import disabled_triggers, name_of, remember_asleep

if TYPE_CHECKING:
    from ..migration import Migration
    from ..postgres.connect import Connection
    from ..postgres.lsn import Lsn
    from ..runner import Runner
    from .toc import Script

DUMPS = 5
"""How often the schema is dumped again when it changes meanwhile."""

LOCK_ATTEMPTS = 20
"""How often pg_dump asks for its locks, 2 s each time: no session may have to wait behind it for longer."""

_PHASES: Mapping[str, str] = {"pre_data": "schema", "foreign_keys": "finalized"}


@dataclass(frozen=True, slots=True)
class SchemaStep:
    """One missing object and the SQL that creates it, in the order of execution."""

    missing: MissingObject | None
    what: str
    statements: tuple[str, ...]

    def as_change(self) -> Change:
        """Return it as a change of the plan."""
        return Change("destination", self.what, None, "present", self.statements)


@dataclass(frozen=True, slots=True)
class Steps:
    """All steps of a section, and the warnings about what was left out."""

    steps: tuple[SchemaStep, ...]
    warnings: tuple[str, ...]


class SchemaSync:
    """One section of one migration, for the length of one module call."""

    def __init__(
        self, migration: Migration, runner: Runner, section: Section, *, client_bin: str, privileges: bool
    ) -> None:
        self.migration = migration
        self.runner = runner
        self.section = section
        self.privileges = privileges
        self.client_bin = client_bin
        self.schemas = tuple(sorted({rule.schema for rule in migration.spec.rules}))
        self.selection = migration.selected()

    def wanted(self, source: Inventory, snapshot: str = "") -> DumpRequest:
        """Return what pg_dump is asked for: tables that are not selected are left out, since it would lock them."""
        tables = {table.qualified_name for table in self.selection.tables}
        rules = self.migration.spec.rules
        without = set()
        for relation in source.relations.values():
            schema, name = relation.name
            if relation.name in tables or relation.kind not in ("r", "p", "v", "m", "S", "f"):
                continue
            if relation.kind in ("r", "p") or any(rule.schema == schema and rule.leaves_out(name) for rule in rules):
                without.add(relation.name)
        return DumpRequest(self.schemas, tuple(sorted(without)), self.privileges, snapshot)

    @cached_property
    def programs(self) -> Programs:
        """Return the client programs. Raises DriverError."""
        return find_programs(self.runner, self.client_bin, self.migration.source_server.major)

    def dump(self, source: Inventory, snapshot: str = "", attempts: int | None = None) -> Script:
        """Dump the selection, under a snapshot of ours or under pg_dump's own; ``attempts`` defaults to LOCK_ATTEMPTS.

        Raises TimeoutExpired, ServerError.
        """
        attempts = attempts or LOCK_ATTEMPTS
        conn = self.migration.source
        tables = [table.oid for table in self.selection.tables]
        for attempt in range(attempts):
            try:
                return dump(self.runner, self.programs, conn, self.migration.spec.source, self.wanted(source, snapshot))
            except TablesLocked as exc:
                holders = lock_holders(conn, tables, BESIDE_A_READER)
                if not holders and "timeout" not in exc.why:
                    raise
                if attempt == attempts - 1:
                    why = f"a table stayed locked against reading through {attempts} attempts: {named(holders)}"
                    raise TimeoutExpired(exc.doing, exc.what, why, REMEDY) from exc
            time.sleep(random.uniform(0.5, 1.5))  # nosec: spreads attempts, guards nothing
        raise RuntimeError("unreachable")

    def marked_dump(self) -> tuple[Script, Inventory, Lsn]:
        """Dump under a slot's snapshot, again if the schema changed; return its LSN too. Raises StateError."""
        for dummy in range(DUMPS):
            with open_snapshot(self.migration, plain_instead=True) as snapshot:
                with connect(self.migration.spec.source, f"schema {self.migration.name}") as reader:
                    seen = fingerprint(reader, self.schemas, snapshot.name)
                standing = observe_standing(self.migration.source, "source", self.schemas)
                script = self.dump(standing, snapshot.name)
                if fingerprint(self.migration.source, self.schemas) == seen:
                    return script, standing, snapshot.mark
            time.sleep(1)
        raise StateError(
            "dumping the schema of the",
            "source",
            f"it changed during each of {DUMPS} dumps",
            "Run this again when fewer ALTER, CREATE and DROP statements are executed there.",
        )

    def compared(self, script: Script, source: Inventory, destination: Inventory) -> Comparison:
        """Return what is missing, given the tables of the destination that this migration created."""
        state = self.migration.state()
        made = state.before_image.get("made", {}) if state else {}
        return compare(
            script.entries,
            source,
            destination,
            self.selection,
            {name_of(text) for text in made},
            first=state is None or not state.reached("schema"),
            held=held_back(self.migration),
        )

    def split(self, comparison: Comparison, source: Inventory, destination: Inventory) -> Mapping[int, PartitionedKey]:
        """Return the missing foreign keys that are created by way of the partitions, by OID."""
        section = comparison.missing["foreign_keys"]
        # the comment on a key has to come after it
        needed = {need for missing in section for need in missing.entry.needs}
        things = [
            missing.thing
            for missing in section
            if missing.thing and missing.entry.kind == "FK CONSTRAINT" and missing.entry.dump_id not in needed
        ]
        found = by_partitions(self.migration.source, things, destination)
        known = {oid for dummy, oid in source.things}
        return {
            oid: key
            for oid, key in found.items()
            if known.issuperset(leaf.oid for leaf in key.leaves)
            # a partition that has come since stands at the source alone
            and (not destination.relation(key.whole.table) or all(destination.relation(k.table) for k in key.leaves))
        }

    def steps(
        self, comparison: Comparison, destination: Inventory, partitions: Mapping[int, tuple[str, ...]] | None = None
    ) -> Steps:
        """Return the missing objects of the section as SQL, extensions before what needs them. ``partitions``: for some
        foreign keys, by OID, the statements that create what is missing of them on partitions.
        """
        steps = []
        without: dict[str, int] = {}
        for missing in comparison.missing[self.section]:
            key = missing.thing.oid if missing.thing and missing.entry.kind == "FK CONSTRAINT" else 0
            if partitions and key in partitions:
                steps.append(SchemaStep(missing, missing.what, partitions[key]))
                continue
            adjusted = adjust(
                missing,
                roles=destination.roles,
                user=destination.user,
                privileges=self.privileges,
                not_valid=post_load.may_be_not_valid(missing.thing, destination),
            )
            for role in adjusted.missing_roles:
                without[role] = without.get(role, 0) + 1
            if adjusted.statements:
                steps.append(SchemaStep(missing, missing.what, adjusted.statements))
        if self.section == "pre_data":
            position = next((n for n, s in enumerate(steps) if s.missing and s.missing.entry.kind != "SCHEMA"), 0)
            steps[position:position] = self._extensions(destination)
        warnings = [
            f"Role {role} does not exist at the destination: {count} owner or grant statements that name it are left"
            f" out, and what it owns belongs to {destination.user}."
            for role, count in sorted(without.items())
        ]
        if self.section == "foreign_keys":
            warnings += [
                f"Foreign key {thing.identity} is left out: {qualified(thing.target)} is neither selected nor at the"
                " destination."
                for thing in comparison.dangling
            ]
        return Steps(tuple(steps), tuple(warnings))

    def _extensions(self, destination: Inventory) -> list[SchemaStep]:
        """An extension is not part of the selection, but what is selected may not do without it."""
        used = used_extensions(self.migration.source, self.schemas)
        there = standing_extensions(self.migration.destination)
        conn = self.migration.destination
        steps = []
        for name, schema in used.items():
            if name in there:
                continue
            statements = [sql.SQL("CREATE EXTENSION {} WITH SCHEMA {}")]
            if schema not in destination.schemas and schema not in self.schemas:
                statements.insert(0, sql.SQL("CREATE SCHEMA IF NOT EXISTS {1}"))
            texts = tuple(s.format(sql.Identifier(name), sql.Identifier(schema)).as_string(conn) for s in statements)
            steps.append(SchemaStep(None, f"extension {name}", texts))
        return steps


def plan(migration: Migration, options: Mapping[str, Any], runner: Runner) -> Plan:
    """The Plan of pg_schema_sync: ``section``, ``client_bin``, ``privileges``, ``jobs``, ``memory``. Raises EngineError."""
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
    destination = observe_standing(migration.destination, "destination", work.schemas)
    script = work.dump(source)
    comparison = work.compared(script, source, destination)
    if section == "pre_data" and migration.spec.conflicting_tables == "report":
        refuse_conflicts(comparison.kept)
    split = work.split(comparison, source, destination) if section == "foreign_keys" else {}
    todo = work.steps(comparison, destination, _on_partitions(split, source, destination, migration.destination))
    later: tuple[DeferredStatement, ...] = ()
    if section == "foreign_keys":
        later = post_load.later_changes(migration, comparison, source, destination, split)
    state = migration.state()
    phase = _PHASES.get(section, "")
    changes = [step.as_change() for step in todo.steps] + [one.change.as_change(migration.destination) for one in later]
    if phase and (state is None or not state.reached(phase)):
        changes.append(Change("destination", f"phase of migration {migration.name}", state and state.phase, phase))

    # The first section is dumped again, under a mark. Of ten thousand tables a dump is large, so this one is let go.
    make = (
        partial(_dump_and_make, work, [step.statements for step in todo.steps], phase)
        if section == "pre_data"
        else partial(_make, work, todo, script.standard_strings, partial(carry_out, migration, later, limits), phase)
    )
    return Plan(
        changes=tuple(changes),
        result={
            "section": section,
            "objects": [step.what for step in todo.steps],
            "kept_tables": [qualified(name) for name in comparison.kept],
        },
        apply=make,
        notes=_notes(section, comparison),
        warnings=todo.warnings,
    )


def _on_partitions(
    split: Mapping[int, PartitionedKey], source: Inventory, destination: Inventory, conn: Connection
) -> dict[int, tuple[str, ...]]:
    """The statements for partitions that lack their key."""
    there = {thing.oid: thing.key in destination.details for thing in source.things.values() if thing.detail[:1] == "f"}
    return {
        oid: tuple([leaf.adding(not_valid=True).as_string(conn) for leaf in key.leaves if not there[leaf.oid]])
        for oid, key in split.items()
    }


def _notes(section: Section, comparison: Comparison) -> tuple[str, ...]:
    if section == "pre_data" or not comparison.missing["pre_data"]:
        return ()
    return (
        f"{len(comparison.missing['pre_data'])} objects of section pre_data do not stand at the destination yet; this"
        " plan takes them for made.",
    )


def _dump_and_make(work: SchemaSync, planned: Sequence[tuple[str, ...]], phase: str) -> Mapping[str, object]:
    """Dump under a mark and make the first section of that. ``planned`` are the statements of the plan's own dump.

    Raises EngineError.
    """
    script, source, mark = work.marked_dump()
    destination = observe_standing(work.migration.destination, "destination", work.schemas)
    todo = work.steps(work.compared(script, source, destination), destination)
    answer: dict[str, object] = {}
    if [step.statements for step in todo.steps] != planned:
        answer["objects"] = [step.what for step in todo.steps]
        answer["notes"] = ["The source's schema changed after the plan was made: the newer one was restored."]
    _restore(work, todo, script.standard_strings, mark)
    work.migration.store.advance(phase)
    return answer


def _make(
    work: SchemaSync, todo: Steps, standard_strings: bool, finishing: Callable[[], None], phase: str
) -> Mapping[str, object]:
    """Make a later section, then what is done outside its transaction. Raises EngineError."""
    if work.section == "foreign_keys":
        post_load.require_one_position(work.migration)
    _restore(work, todo, standard_strings)
    finishing()
    if phase:
        work.migration.store.advance(phase)
    return {}


def _restore(work: SchemaSync, todo: Steps, standard_strings: bool, mark: Lsn = 0) -> None:
    """All steps in one transaction, tried again when a deadlock was lost. Raises ServerError, naming the object."""

    def once() -> None:
        with work.migration.destination.transaction():
            _restore_once(work, todo, "on" if standard_strings else "off", mark)

    retry_deadlocks(once)


def _restore_once(work: SchemaSync, todo: Steps, strings: str, mark: Lsn) -> None:
    conn, store = work.migration.destination, work.migration.store
    with explain_errors("preparing the restore at the", "destination"):
        conn.execute("SET LOCAL check_function_bodies = off")
        conn.execute("SET LOCAL client_min_messages = warning")
        conn.execute(sql.SQL("SET LOCAL standard_conforming_strings = {}").format(sql.Literal(strings)))
    for step in todo.steps:
        for number, statement in enumerate(step.statements):
            with explain_errors("creating at the destination", step.what, _remedy(step, number)):
                conn.execute(statement.encode("utf-8", "surrogateescape"))
    done = [step.missing for step in todo.steps if step.missing]
    tables = [item.thing for item in done if item.entry.kind == "TABLE" and item.thing]
    if tables:
        store.record_original("made", {qualified(thing.relation): True for thing in tables})
    remember_asleep(store, disabled_triggers(done))
    if mark:
        store.record_schema_mark(mark)
    if todo.steps:
        store.event(work.section, "schema objects made", {"section": work.section, "objects": len(todo.steps)})


_REMEDIES = {
    "": "Create the extension at the destination with an account that may, then run this again.",
    "VIEW": "Select what it reads as well, or leave it out with exclude.",
    "MATERIALIZED VIEW": "Select what it reads as well, or leave it out with exclude.",
    "POLICY": "Create the roles that it names at the destination.",
    "ACL": "Make the migration's account a member of the owner at the destination, or set privileges: skip.",
}


def _remedy(step: SchemaStep, number: int) -> str:
    """What to do about a statement that failed; empty where its SQLSTATE says more."""
    kind = step.missing.entry.kind if step.missing else ""
    if step.missing and number and kind not in ("ACL", "FK CONSTRAINT"):
        owner = step.missing.entry.owner
        return f"Make the migration's account a member of role {owner} at the destination, or set privileges: skip."
    return _REMEDIES.get(kind, "")
