# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans keys, indexes and statistics that are built on a table as soon as its rows are copied, while others still are.

They come from the same comparison as the sections C(keys) and C(indexes), which find them done afterwards. Objects of
several tables (the index of a partitioned table and what is attached to it), and failed builds, are left to the sections.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .deferred_indexes import must_wait
from .inventory import observe_standing
from .sync import SchemaStep, SchemaSync

if TYPE_CHECKING:
    from ..migration import Migration
    from ..postgres.catalog import Name
    from ..runner import Runner
    from .compare import Section
    from .deferred_indexes import DeferredIndexes

_BUILT = ("CONSTRAINT", "INDEX")


@dataclass(frozen=True, slots=True)
class TableBuilds:
    """What is built on one table: ``keys`` one after the other, each locks the table; then the ``others`` in parallel;
    then, with ``analyze``, its statistics are gathered."""

    keys: tuple[SchemaStep, ...] = ()
    others: tuple[SchemaStep, ...] = ()
    analyze: bool = True

    def without_held(self, held: DeferredIndexes) -> TableBuilds:
        """Return the same without the indexes that have to wait because the table's parts have different snapshot LSNs."""

        def now(steps: tuple[SchemaStep, ...]) -> tuple[SchemaStep, ...]:
            return tuple(s for s in steps if not (s.missing and must_wait(s.missing.entry, s.missing.thing, held)))

        return replace(self, keys=now(self.keys), others=now(self.others))

    @property
    def steps(self) -> tuple[SchemaStep, ...]:
        """Return all of it, in order."""
        return self.keys + self.others


def behind_copy(migration: Migration, runner: Runner, client_bin: str) -> dict[Name, TableBuilds]:
    """Return what the destination lacks, by table. Raises EngineError if the source's schema cannot be dumped now."""
    sections: tuple[Section, ...] = ("keys", "indexes")
    # an index has no owner and no grants of its own
    works = [SchemaSync(migration, runner, one, client_bin=client_bin, privileges=False) for one in sections]
    source = observe_standing(migration.source, "source", works[0].schemas)
    destination = observe_standing(migration.destination, "destination", works[0].schemas_there)
    comparison = works[0].compared(works[0].dump(source, attempts=1), source, destination)
    steps = [step for work in works for step in work.steps(comparison, destination).steps]
    leaves = migration.selected().leaves
    found = by_table(steps, {table.qualified_name for table in leaves})
    # ANALYZE of a partitioned table covers its partitions
    return {
        t.qualified_name: replace(found.get(t.qualified_name, TableBuilds()), analyze=not t.is_partition)
        for t in leaves
    }


def by_table(steps: Iterable[SchemaStep], tables: Iterable[Name]) -> dict[Name, TableBuilds]:
    """Return the steps that concern one of these tables alone. Pure.

    A comment goes with what it is about. A step that needs one that is not built here is not built either.
    """
    known, names = [(step, step.missing) for step in steps if step.missing], set(tables)
    kinds = {missing.entry.dump_id: missing.entry.kind for dummy, missing in known}
    chosen: dict[int, SchemaStep] = {}
    for step, missing in known:
        entry = missing.entry
        # the index of a partition needs its parent's to be attached, not to be built
        late = [need for need in entry.needs if kinds.get(need, _BUILT[0]) not in _BUILT]
        about = next((need for need in entry.needs if need in chosen), 0)
        if entry.kind == "COMMENT" and about:
            chosen[about] = replace(chosen[about], statements=chosen[about].statements + step.statements)
        elif entry.kind in _BUILT and missing.thing and missing.thing.relation in names and not late:
            chosen[entry.dump_id] = step
    found: dict[Name, tuple[list[SchemaStep], list[SchemaStep]]] = {}
    for step in chosen.values():
        if step.missing is not None and step.missing.thing is not None:
            keys, others = found.setdefault(step.missing.thing.relation, ([], []))
            (others if step.missing.entry.kind == "INDEX" else keys).append(step)
    return {name: TableBuilds(tuple(keys), tuple(others)) for name, (keys, others) in found.items()}
