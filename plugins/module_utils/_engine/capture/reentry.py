# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables that were outside the publication for a while after their copy: they alone are copied again.

A table leaves it when another session removes it, and a leaf when it is detached from the root that is published.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import LossError
from ..plan import Change
from ..postgres.catalog import qualified
from ..state.copies import reset_copies
from .publication_ddl import with_descendants
from .publication_members import BEGIN_AGAIN, left_since

if TYPE_CHECKING:
    from ..migration import Migration
    from ..postgres.catalog import Table


@dataclass(frozen=True, slots=True)
class Reentry:
    """The copied ``tables``, by their leaves, whose changes may be missing from the stream."""

    tables: tuple[Table, ...] = ()

    def changes(self) -> tuple[Change, ...]:
        """Return the changes to show."""
        return tuple(
            Change("destination", f"copy of {table}", "complete", "to be copied again") for table in self.tables
        )

    def warnings(self) -> tuple[str, ...]:
        """Return what the operator should know."""
        if not self.tables:
            return ()
        shown = ", ".join(str(table) for table in self.tables[:10])
        more = f" and {len(self.tables) - 10} more" if len(self.tables) > 10 else ""
        return (
            f"{shown}{more} was not published for a while (detached from its root, or removed by another session): changes"
            " written meanwhile are not in the stream, so it is copied again",
        )

    def forget_copies(self, migration: Migration) -> None:
        """Record that the tables have to be copied again. This comes before they are published: killed in between, the
        next run still knows. Raises ServerError."""
        if self.tables:
            reset_copies(migration.store, [table.oid for table in self.tables])
            names = [str(table) for table in self.tables][:50]
            migration.store.event("publication", "tables were not published for a while", {"tables": names})


def observe_reentry(migration: Migration, name: str, recorded: Mapping[str, Any], added: Sequence[Table]) -> Reentry:
    """Return what has to be copied again once the tables ``added`` are published in ``name``.

    Raises LossError for a table whose rows cannot be told from those that the destination held before us.
    """
    left = left_since(migration.source, name, recorded)
    if left and "full" not in migration.spec.types:
        raise LossError(
            "looking at the publication",
            name,
            f"{', '.join(qualified(table) for table, *dummy in left[:5])} was removed from it, and this migration does not"
            " copy rows: changes written meanwhile are missing",
            BEGIN_AGAIN,
        )
    copies, children = migration.copies(), migration.source_catalog.children()
    leaves = {table.oid: table for table in migration.selected().leaves}
    back = [migration.source_catalog.tables.get(oid) for dummy, again, oid in left if again]
    below = [oid for table in (*added, *back) if table is not None for oid in with_descendants(table, children)]
    found = {oid: leaves[oid] for oid in below if oid in leaves and oid in copies and copies[oid].mark}
    foreign = [str(table) for oid, table in found.items() if copies[oid].found_empty is False]
    if foreign:
        raise LossError(
            "looking at the publication",
            name,
            f"{', '.join(foreign)} was removed from it after it had been copied: changes of its rows are missing, and the"
            " destination's table held rows before this migration",
            BEGIN_AGAIN,
        )
    return Reentry(tuple(sorted(found.values(), key=lambda table: table.qualified_name)))
