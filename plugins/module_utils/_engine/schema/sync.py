# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dumps one section of the schema, compares it with the destination, and returns what is missing as statements."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from ..capture.snapshot import DEFAULT_WAIT, Snapshot, open_snapshot, patiently
from ..errors import StateError, TimeoutExpired
from ..objects.extensions import (
    create_statements,
    needed_extensions,
    not_there,
    observe_offers,
    other_version,
    standing_extensions,
)
from ..objects.owners import RoleInSchema, granting, lacking_create, revoking
from ..plan import Change
from ..postgres.catalog import qualified, quoted
from ..postgres.connect import connect
from ..postgres.locks import BESIDE_A_READER, REMEDY, lock_holders, named
from .adjust import adjust
from .compare import Comparison, MissingObject, Section, compare
from .deferred_indexes import held_back
from .inventory import Inventory, observe_standing
from .normal_form import original_identities
from .partitioned_foreign_keys import PartitionedKey, by_partitions
from .pg_dump import DumpRequest, Programs, TablesLocked, dump, find_programs
from .post_load import may_be_not_valid
from .schema_fingerprint import fingerprint
from .triggers import name_of

if TYPE_CHECKING:
    from ..migration import Migration
    from ..postgres.connect import Connection, Endpoint
    from ..postgres.lsn import Lsn
    from ..runner import Runner
    from .toc import Script

DUMPS = 5
"""How often the schema is dumped again when it changes meanwhile."""

LOCK_ATTEMPTS = 20
"""How often pg_dump asks for its locks, 2 s each time: no session may have to wait behind it for longer."""


@dataclass(frozen=True, slots=True)
class SchemaStep:
    """One missing object and the SQL that creates it, in the order of execution. ``owner`` is the role that the last
    statement gives it to, empty for none. ``right`` is what a step that creates nothing does: granted, revoked."""

    missing: MissingObject | None
    what: str
    statements: tuple[str, ...]
    owner: str = ""
    right: Literal["", "granted", "revoked"] = ""

    def as_change(self) -> Change:
        """Return it as a change of the plan."""
        before = "granted" if self.right == "revoked" else None
        return Change("destination", self.what, before, self.right or "present", self.statements)


@dataclass(frozen=True, slots=True)
class Steps:
    """All steps of a section, and the warnings about what was left out."""

    steps: tuple[SchemaStep, ...]
    warnings: tuple[str, ...]

    @property
    def objects(self) -> list[str]:
        """Return what is created, without the rights that are granted for its sake and revoked again."""
        return [step.what for step in self.steps if not step.right]


def patient_dump(
    runner: Runner,
    programs: Programs,
    end: tuple[Connection, Endpoint],
    wanted: DumpRequest,
    tables: Sequence[int],
    attempts: int = LOCK_ATTEMPTS,
) -> Script:
    """Dump one end, again while one of ``tables`` (OIDs) is locked against reading. Raises TimeoutExpired, ServerError."""
    for attempt in range(attempts):
        try:
            return dump(runner, programs, *end, wanted)
        except TablesLocked as exc:
            holders = lock_holders(end[0], tables, BESIDE_A_READER)
            if not holders and "timeout" not in exc.why:
                raise
            if attempt == attempts - 1:
                why = f"a table stayed locked against reading through {attempts} attempts: {named(holders)}"
                raise TimeoutExpired(exc.doing, exc.what, why, REMEDY) from exc
        time.sleep(random.uniform(0.5, 1.5))  # nosec: spreads attempts, guards nothing
    raise RuntimeError("unreachable")


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
        self.schemas_there = tuple(sorted(map(migration.mapping.schema, self.schemas)))
        self.selection = migration.selected()

    def wanted(self, source: Inventory, snapshot: str = "") -> DumpRequest:
        """Return the arguments of the dump: tables that are not selected are left out, since pg_dump would lock them."""
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
        tables = [table.oid for table in self.selection.tables]
        return patient_dump(
            self.runner,
            self.programs,
            (self.migration.source, self.migration.spec.source),
            self.wanted(source, snapshot),
            tables,
            attempts or LOCK_ATTEMPTS,
        )

    def marked_dump(self) -> tuple[Script, Inventory, Lsn]:
        """Dump under a slot's snapshot, again if the schema changed; return its LSN too.

        Where no session can read under another's snapshot, pg_dump takes its own, and the schema is the same before and
        after. Raises StateError, TimeoutExpired, ServerError.
        """
        for dummy in range(DUMPS):
            with ExitStack() as stack:
                snapshot = self._snapshot(stack)
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

    def _snapshot(self, stack: ExitStack) -> Snapshot:
        """Return a snapshot that is open until ``stack`` is closed."""
        store = self.migration.store

        def begin(wait: float) -> Snapshot:
            return stack.enter_context(open_snapshot(self.migration, wait=wait, plain_instead=True))

        def tell(why: str) -> None:
            if why:
                store.event("pre_data", "the schema waits for open transactions at the source", {"why": why})

        return patiently(begin, DEFAULT_WAIT, tell)

    def compared(self, script: Script, source: Inventory, destination: Inventory) -> Comparison:
        """Return what is missing, given the tables of the destination that this migration created."""
        state = self.migration.state()
        made = state.before_image.get("made", {}) if state else {}
        return compare(
            script.entries,
            source,
            destination,
            self.selection,
            self.migration.mapping,
            {name_of(text) for text in made},
            first=state is None or not state.reached("schema"),
            held=held_back(self.migration),
        )

    def split(self, comparison: Comparison, source: Inventory, destination: Inventory) -> Mapping[int, PartitionedKey]:
        """Return the missing foreign keys that are created by way of the partitions, by OID."""
        section = comparison.missing["foreign_keys"]
        # the comment on a key has to be created after the key
        needed = {need for missing in section for need in missing.entry.needs}
        things = [
            missing.thing
            for missing in section
            if missing.thing and missing.entry.kind == "FK CONSTRAINT" and missing.entry.dump_id not in needed
        ]
        found = by_partitions(self.migration.source, things, destination)
        known, there = {oid for dummy, oid in source.things}, self.migration.mapping.there
        return {
            oid: key
            for oid, key in found.items()
            if known.issuperset(leaf.oid for leaf in key.leaves)
            # a partition that was created meanwhile exists only at the source
            and (
                not destination.relation(there(key.whole.table))
                or all(destination.relation(there(leaf.table)) for leaf in key.leaves)
            )
        }

    def steps(
        self, comparison: Comparison, destination: Inventory, partitions: Mapping[int, tuple[str, ...]] | None = None
    ) -> Steps:
        """Return the missing objects of the section as SQL, extensions before what needs them. ``partitions``: for some
        foreign keys, by OID, the statements that create what is missing of them on partitions.
        """
        steps = []
        without: dict[str, int] = {}
        identities = original_identities(self.migration)
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
                not_valid=may_be_not_valid(missing.thing, destination),
                identities=identities,
            )
            for role in adjusted.missing_roles:
                without[role] = without.get(role, 0) + 1
            if adjusted.statements:
                steps.append(SchemaStep(missing, missing.what, adjusted.statements, adjusted.owner))
        warnings = [
            f"Role {role} does not exist at the destination: {count} owner or grant statements that name it are left"
            f" out, and what it owns belongs to {destination.user}."
            for role, count in sorted(without.items())
        ]
        if self.section == "pre_data":
            made = self._extensions(destination)
            position = _behind_schemas(steps)
            steps[position:position] = made.steps
            warnings += made.warnings
        steps = self._with_right_to_create(steps, destination)
        if self.section == "foreign_keys":
            warnings += [
                f"Foreign key {thing.identity} is left out: {qualified(thing.target)} is neither selected nor at the"
                " destination."
                for thing in comparison.dangling
            ]
        return Steps(tuple(steps), tuple(warnings))

    def grants_left_out(self, source: Inventory, destination: Inventory) -> tuple[str, ...]:
        """Return the warnings about grants on schemas that exist and on which our account may grant nothing."""
        found = []
        for schema in self.schemas if self.privileges else ():
            there = destination.schemas.get(name := self.migration.mapping.schema(schema))
            granted = source.schemas[schema].grants if schema in source.schemas else frozenset()
            missing = sorted(granted - there.grants) if there and not there.ours else []
            if missing:
                found.append(
                    f"Schema {quoted(name)} exists at the destination, and the account may grant nothing on it. Grant there,"
                    f" as its owner, what is granted at the source: {', '.join(missing)}."
                )
        return tuple(found)

    def _with_right_to_create(self, steps: list[SchemaStep], destination: Inventory) -> list[SchemaStep]:
        """Return the steps with those that let each new owner create in its schema while objects are given to it.

        PostgreSQL asks that of `ALTER … OWNER TO`. A section is one transaction: no other session ever sees the right, and
        nothing is left of it when this run dies. The source's grants come last, as in its dump, so that what is revoked
        here is never one of them.
        """
        conn, there = self.migration.destination, self.migration.mapping.schema
        made, wanted = {}, set()
        for step in steps:
            if step.missing and step.missing.entry.kind == "SCHEMA":
                made[there(step.missing.entry.tag)] = step.owner or destination.user
            elif step.missing and step.owner:
                wanted.add(RoleInSchema(step.owner, there(step.missing.entry.schema)))
        lacking = {one for one in wanted if made.get(one.schema, one.role) != one.role}
        lacking |= set(lacking_create(conn, wanted - lacking))
        if not lacking:
            return steps
        roles, schemas = ({getattr(one, part) for one in lacking} for part in ("role", "schema"))
        what = f"right of {', '.join(sorted(roles))} to create in {', '.join(sorted(schemas))}"
        granted, revoked = ([s.as_string(conn) for s in of(lacking)] for of in (granting, revoking))
        first = _behind_schemas(steps)
        acls = [step for step in steps[first:] if step.missing and step.missing.entry.kind == "ACL"]
        return [
            *steps[:first],
            SchemaStep(None, what, tuple(granted), right="granted"),
            *(step for step in steps[first:] if not (step.missing and step.missing.entry.kind == "ACL")),
            SchemaStep(None, what, tuple(revoked), right="revoked"),
            *acls,
        ]

    def _extensions(self, destination: Inventory) -> Steps:
        """Return the steps that create the extensions that the destination lacks, after all schemas of the selection."""
        conn = self.migration.destination
        missing = not_there(needed_extensions(self.migration.source, self.selection), standing_extensions(conn))
        offers = observe_offers(conn, [extension.name for extension in missing]) if missing else {}
        steps, warnings = [], []
        for extension in missing:
            one = replace(extension, schema=self.migration.mapping.schema(extension.schema))
            offer = offers.get(one.name)
            statements = create_statements(one, offer, {*destination.schemas, *self.schemas_there})
            steps.append(SchemaStep(None, f"extension {one.name}", tuple(s.as_string(conn) for s in statements)))
            if other := other_version(one, offer):
                warnings.append(
                    f"Extension {one.name} is created in version {other}: the destination's server does not offer"
                    f" {one.version}, which the source has."
                )
        return Steps(tuple(steps), tuple(warnings))


def _behind_schemas(steps: Sequence[SchemaStep]) -> int:
    """Return the place behind the last schema and extension: the comment on a schema stands before the next schema."""
    return max((n for n, s in enumerate(steps, 1) if s.missing is None or s.missing.entry.kind == "SCHEMA"), default=0)
