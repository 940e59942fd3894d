# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the destination has and the source has not: partitions, tables that have gone, and triggers that fire for the worker.

A comparison of the source's tables, one by one, finds none of these: the application would, on its first query of a root.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import MismatchError
from ..objects.mapping import DestinationName, ObjectMapping, tables_there
from ..postgres.catalog import holding_rows, qualified, quoted
from ..postgres.connect import explain_errors

if TYPE_CHECKING:
    from ..migration import Migration
    from ..objects.selection import Selection
    from ..postgres.catalog import Catalog, Table

_SHOWN = 10

_FIRING = """
SELECT n.nspname, c.relname, f.kind, f.name
  FROM (SELECT tgrelid AS relation, 'TRIGGER' AS kind, tgname AS name FROM pg_catalog.pg_trigger
         WHERE NOT tgisinternal AND tgenabled IN ('A', 'R')
        UNION ALL
        SELECT ev_class, 'RULE', rulename FROM pg_catalog.pg_rewrite WHERE ev_type <> '1' AND ev_enabled IN ('A', 'R')) f
  JOIN pg_catalog.pg_class c ON c.oid = f.relation
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') ORDER BY 1, 2, 3, 4
"""


def require_no_surplus(migration: Migration, there: Catalog, doing: str) -> None:
    """Raise MismatchError, with a statement for each, if the destination's catalog ``there`` holds rows below a selected
    root, or of a table that was copied, which the source no longer has at that place; or lacks them at that place."""
    below = there.children()
    copied = {migration.mapping.there(copy.name) for copy in migration.copies().values() if copy.mark}
    found = surplus(migration.selected(), copied, migration.mapping, there)
    leaves = {name: _leaves(tables_there(there).get(name), below) for name in found if not found[name].attach}
    holding = holding_rows(migration.destination, [leaf for some in leaves.values() for leaf in some]) if leaves else ()
    wrong = sorted(name for name in found if found[name].attach or any(leaf in holding for leaf in leaves[name]))
    if not wrong:
        return
    more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    raise MismatchError(
        doing,
        ", ".join(map(qualified, wrong[:_SHOWN])) + more,
        "the source no longer has it, or has it at another place: it was dropped, detached, attached or excluded after it"
        " had been copied",
        "Make the same change at the destination, then run the migrate playbook: "
        + "; ".join(found[name].statement for name in wrong[:_SHOWN]),
    )


@dataclass(frozen=True, slots=True)
class Misplaced:
    """The ``statement`` that makes a table of the destination as it is at the source. ``attach``: the root lacks it."""

    statement: str
    attach: bool = False


def surplus(
    selection: Selection, copied: Collection[DestinationName], mapping: ObjectMapping, there: Catalog
) -> dict[DestinationName, Misplaced]:
    """Return the tables of the destination that are not where the source has them, by name: partitions that only one end
    has below a selected root, and tables of ``copied`` that no selected table corresponds to. Pure."""
    tables, below = tables_there(there), there.children()
    known = {mapping.there(table.qualified_name) for table in selection.tables}
    found: dict[DestinationName, Misplaced] = {}
    for root, here in _partitions(selection):
        remote = tables.get(mapping.there(root.qualified_name))
        if remote is None:
            continue
        expected = {mapping.there(child.qualified_name) for child in here}
        beyond = {DestinationName(child.qualified_name) for child in below.get(remote.oid, ())}
        above = f"ALTER TABLE {qualified(remote.qualified_name)}"
        for name in beyond - expected:
            gone = name not in known and any(leaf in copied for leaf in _leaves(tables[name], below))
            found[name] = Misplaced(_drop(name) if gone else f"{above} DETACH PARTITION {qualified(name)}")
        for name in expected - beyond:
            found[name] = Misplaced(
                f"{above} ATTACH PARTITION {qualified(name)} (with the source's bounds)", attach=True
            )
    covered = {leaf for name in found for leaf in _leaves(tables.get(name), below)}
    for name in copied:
        if name in tables and name not in known and name not in covered:
            found[name] = Misplaced(_drop(name))
    return found


def _drop(name: DestinationName) -> str:
    return f"DROP TABLE {qualified(name)}"


def _partitions(selection: Selection) -> list[tuple[Table, list[Table]]]:
    """Return each selected partitioned table with its direct partitions."""
    below: dict[int, list[Table]] = {}
    for table in selection.tables:
        for parent in table.parents if table.is_partition else ():
            below.setdefault(parent, []).append(table)
    return [(table, below.get(table.oid, [])) for table in selection.tables if table.kind == "p"]


def _leaves(table: Table | None, below: Mapping[int, Sequence[Table]]) -> list[DestinationName]:
    """Return the names of a table, or of the leaves of a partitioned one."""
    if table is None:
        return []
    if table.holds_rows:
        return [DestinationName(table.qualified_name)]
    return [leaf for child in below.get(table.oid, ()) for leaf in _leaves(child, below)]


def require_nothing_fires(migration: Migration, doing: str) -> None:
    """Raise MismatchError if a trigger or rule of a selected table of the destination fires for the worker too: what it
    swallows counts as applied. The migration creates all of them disabled."""
    with explain_errors("reading the triggers of the", "destination"):
        rows = migration.destination.execute(_FIRING).fetchall()
    mapping = migration.mapping
    selected = {mapping.there(table.qualified_name) for table in migration.selected().tables}
    firing = [
        (name, kind, own) for schema, table, kind, own in rows if (name := DestinationName((schema, table))) in selected
    ][:_SHOWN]
    if not firing:
        return
    again = dict.fromkeys(qualified(mapping.back(name)) for name, dummy, own in firing)
    statements = [f"ALTER TABLE {qualified(name)} DISABLE {kind} {quoted(own)}" for name, kind, own in firing]
    raise MismatchError(
        doing,
        ", ".join(f"{kind.lower()} {quoted(own)} of {qualified(name)}" for name, kind, own in firing),
        "at the destination they fire for the worker too, so rows of the stream may have been changed or left out",
        f"At the destination: {'; '.join(statements)}. Then run the migrate playbook with causeway_resync:"
        f" [{', '.join(again)}]. Restore their state after the cutover.",
    )
