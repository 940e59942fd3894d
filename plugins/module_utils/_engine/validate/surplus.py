# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the destination has and the source has not: partitions, tables that have gone, and triggers that fire for the worker.

A comparison of the source's tables, one by one, finds none of these: the application would, on its first query of a root.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from ..errors import MismatchError
from ..objects.mapping import DestinationName, ObjectMapping, tables_there
from ..postgres.catalog import holding_rows, qualified, quoted
from ..postgres.connect import explain_errors
from ..state.copies import copies_of_others

if TYPE_CHECKING:
    from ..migration import Migration
    from ..objects.selection import Selection
    from ..postgres.catalog import Catalog, Table
    from ..state.copies import TableCopy

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
    """Raise MismatchError, with statements for each, if the destination's catalog ``there`` holds rows below a selected
    root, or of a table that was copied, which the source no longer has at that place; or lacks them at that place."""
    known = {migration.mapping.there(name) for name in copies_of_others(migration.store)}
    copies = [copy for copy in migration.copies().values() if copy.mark]
    found = misplaced_partitions(migration.selected(), migration.source_catalog, migration.mapping, there)
    for name, statement in gone_tables(copies, migration.source_catalog, migration.mapping, there).items():
        if name not in found and name not in known:
            found[name] = [statement]
    below, tables = there.children(), tables_there(there)
    leaves = {name: _leaves(tables.get(name), below) for name in found}
    holding = holding_rows(migration.destination, [leaf for some in leaves.values() for leaf in some]) if found else ()
    attached = {name for name, statements in found.items() if " ATTACH " in statements[-1]}
    wrong = sorted(name for name in found if name in attached or any(leaf in holding for leaf in leaves[name]))
    if not wrong:
        return
    more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    raise MismatchError(
        doing,
        ", ".join(map(qualified, wrong[:_SHOWN])) + more,
        "the source no longer has it, or has it at another place: it was dropped, detached, attached or renamed after it had"
        " been copied",
        "Make the same change at the destination, then run the migrate playbook: "
        + "; ".join(statement for name in wrong[:_SHOWN] for statement in found[name]),
    )


def misplaced_partitions(
    selection: Selection, here: Catalog, mapping: ObjectMapping, there: Catalog
) -> dict[DestinationName, list[str]]:
    """Return the partitions that only one end has directly below a selected root, by the destination's name, with the
    statements that make the destination as the source. Pure."""
    tables = tables_there(there)
    standing = {mapping.there(table.qualified_name) for table in here.tables.values()}
    children_here, children_there = here.children(), there.children()
    detaching: dict[DestinationName, list[str]] = {}
    attaching: dict[DestinationName, list[str]] = {}
    for root in selection.tables:
        remote = tables.get(mapping.there(root.qualified_name))
        if root.kind != "p" or remote is None:
            continue
        expected = {mapping.there(child.qualified_name) for child in children_here.get(root.oid, ())}
        beyond = {DestinationName(child.qualified_name) for child in children_there.get(remote.oid, ())}
        above = f"ALTER TABLE {qualified(remote.qualified_name)}"
        for name in beyond - expected:
            gone = name not in standing
            detaching[name] = [_drop(name) if gone else f"{above} DETACH PARTITION {qualified(name)}"]
        for name in expected - beyond:
            attaching[name] = [f"{above} ATTACH PARTITION {qualified(name)} (with the source's bounds)"]
    return {name: detaching.get(name, []) + attaching.get(name, []) for name in (*detaching, *attaching)}


def gone_tables(
    copies: Collection[TableCopy], here: Catalog, mapping: ObjectMapping, there: Catalog
) -> dict[DestinationName, str]:
    """Return the tables that were copied, that the source no longer has under their name, and that the destination still
    has, each with the statement that does there what was done here. Pure.

    What is below a partition that is gone goes with it. A table that is merely not selected any more is not among them.
    """
    tables = tables_there(there)
    parents = {DestinationName(t.qualified_name): t.parents for t in there.tables.values() if t.is_partition}
    names = {mapping.there(table.qualified_name) for table in here.tables.values()}
    found: dict[DestinationName, str] = {}
    for copy in copies:
        name, now = mapping.there(copy.name), here.tables.get(copy.relation)
        above = [there.tables[oid] for oid in parents.get(name, ()) if oid in there.tables]
        covered = any(DestinationName(parent.qualified_name) not in names for parent in above)
        if name not in tables or name in names or covered:
            continue
        found[name] = _drop(name) if now is None else _renamed(name, mapping.there(now.qualified_name))
    return found


def _drop(name: DestinationName) -> str:
    return f"DROP TABLE {qualified(name)}"


def _renamed(name: DestinationName, now: DestinationName) -> str:
    if name[0] == now[0]:
        return f"ALTER TABLE {qualified(name)} RENAME TO {quoted(now[1])}"
    moved = f"ALTER TABLE {qualified(name)} SET SCHEMA {quoted(now[0])}"
    if name[1] == now[1]:
        return moved
    return f"{moved}; ALTER TABLE {qualified((now[0], name[1]))} RENAME TO {quoted(now[1])}"


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
