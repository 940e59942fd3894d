# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The definitions of both ends, as pg_dump prints them: of the source what is selected, of the destination its image."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..postgres.connect import explain_errors
from ..schema.compare import chosen
from ..schema.inventory import observe_standing
from ..schema.normal_form import Definition, Key, facts, normal_form, original_identities, with_identities
from ..schema.pg_dump import DumpRequest, find_programs
from ..schema.sync import SchemaSync, patient_dump

if TYPE_CHECKING:
    from ..migration import Migration
    from ..runner import Runner
    from ..schema.pg_dump import Programs
    from ..schema.toc import Entry
    from ..state.store import MigrationState

_RELATIONS = """
SELECT n.nspname, c.relname, c.relkind::text, c.oid::bigint, pg_catalog.has_table_privilege(c.oid, 'SELECT')
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = ANY (%s) AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
"""
_PARENTS = ("TABLE", "VIEW", "MATERIALIZED VIEW", "FOREIGN TABLE")


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts of one end, by key. ``unreachable`` are foreign keys to tables that are not selected; ``unread`` tables of
    the destination that its account may not read, and so cannot dump."""

    found: Mapping[Key, Definition]
    unreachable: frozenset[Key] = frozenset()
    unread: frozenset[Key] = frozenset()


class Definitions:
    """Reads the definitions of both ends of one migration, for the length of one module call."""

    def __init__(self, migration: Migration, runner: Runner, client_bin: str, *, privileges: bool) -> None:
        self._migration = migration
        self._runner = runner
        self._client_bin = client_bin
        self._work = SchemaSync(migration, runner, "pre_data", client_bin=client_bin, privileges=privileges)

    def programs(self) -> Programs:
        """Return the client programs, which must read both ends. Raises DriverError."""
        here, there = self._migration.source_server, self._migration.destination_server
        newer = here if here.major >= there.major else there
        return find_programs(self._runner, self._client_bin, newer.major, f"the {newer.end}")

    def source(self) -> Facts:
        """Dump the selection; replica identities are those that the source had before this migration set others. Raises
        EngineError."""
        work, migration = self._work, self._migration
        inventory = observe_standing(migration.source, "source", work.schemas)
        entries = chosen(work.dump(inventory).entries, inventory, work.selection)
        tables = {table.qualified_name for table in work.selection.tables}
        unreachable: set[Key] = set()
        for entry in entries:
            thing = inventory.things.get((entry.class_oid, entry.oid))
            if entry.kind == "FK CONSTRAINT" and thing is not None and thing.target not in tables:
                unreachable.update(key for key, dummy in facts(entry))
        found = with_identities(normal_form(entries), original_identities(migration))
        return Facts(found, frozenset(unreachable))

    def destination(self, known: Collection[Key]) -> Facts:
        """Dump what corresponds to the selection. ``known`` are the keys of the source's facts, or those recorded. Raises
        EngineError."""
        migration, work = self._migration, self._work
        conn = migration.destination
        with explain_errors("reading the relations of the", "destination"):
            relations = conn.execute(_RELATIONS, (list(work.schemas_there),)).fetchall()
        closed = {(row[0], row[1]) for row in relations if row[2] in ("r", "p") and not row[4]}
        without = self._without(relations) | closed
        wanted = DumpRequest(work.schemas_there, tuple(sorted(without)), work.privileges)
        oids = [row[3] for row in relations if (row[0], row[1]) not in without]
        end = (conn, migration.spec.destination)
        script = patient_dump(self._runner, self.programs(), end, wanted, oids)
        whole = {migration.mapping.schema(schema) for schema in work.selection.schemas}
        unread = frozenset(Key("TABLE", *name) for name in closed - self._without(relations))
        return Facts(normal_form(of_interest(script.entries, whole, known)), unread=unread)

    def _without(self, relations: Sequence[tuple[Any, ...]]) -> set[tuple[str, str]]:
        """Return the relations of the destination that the dump leaves out: excluded ones, and tables that are not
        selected in a schema that is not selected whole."""
        migration, selection = self._migration, self._work.selection
        mapping = migration.mapping
        tables = {mapping.there(table.qualified_name) for table in selection.tables}
        whole = {mapping.schema(schema) for schema in selection.schemas}
        left = {(mapping.schema(rule.schema), rule) for rule in migration.spec.rules}
        return {
            (schema, name)
            for schema, name, kind, *dummy in relations
            if (schema, name) not in tables
            and (
                (kind in ("r", "p") and schema not in whole)
                or any(schema == one and rule.leaves_out(name) for one, rule in left)
            )
        }


def of_interest(entries: Sequence[Entry], whole: Collection[str], known: Collection[Key]) -> list[Entry]:
    """Return the destination's entries that correspond to the selection. Pure.

    That is everything in a schema that is selected ``whole``, whatever states a ``known`` fact, and what belongs to a
    table among these: an index that only the destination has.
    """
    keep = {entry.dump_id for entry in entries if _within(entry, whole) or any(k in known for k, dummy in facts(entry))}
    parents = {entry.dump_id for entry in entries if entry.dump_id in keep and entry.kind in _PARENTS}
    for entry in entries:
        if entry.dump_id not in keep and entry.kind not in _PARENTS and not parents.isdisjoint(entry.needs):
            keep.add(entry.dump_id)
    return [entry for entry in entries if entry.dump_id in keep]


def _within(entry: Entry, whole: Collection[str]) -> bool:
    return (entry.tag if entry.kind == "SCHEMA" else entry.schema) in whole


def keeps_privileges(state: MigrationState | None) -> bool:
    """Return whether the schema phase gave owners and grants (``privileges: keep``)."""
    return bool(state.before_image.get("privileges", {}).get("kept", True)) if state else True


def keys_of(names: Iterable[tuple[str, str, str]]) -> set[Key]:
    """Return recorded names as keys."""
    return {Key(*name) for name in names}
