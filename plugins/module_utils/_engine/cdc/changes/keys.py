# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The key by which the stream identifies a row of a table. Pure.

The replica identity decides what the source sends of an old row, and the Relation message names it: identities
``default`` and ``index`` flag the key columns. Under ``full`` every column is flagged, so a key is chosen here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .messages import Relation


@dataclass(frozen=True, slots=True)
class UniqueIndex:
    """A unique index, by its key columns (``INCLUDE`` columns are not among them).

    At the destination ``columns`` are named as at the source: a mapped column by the name that it is mapped from.
    ``collations_as_columns``: a plain ``=`` of its columns can be looked up in it.
    """

    name: str
    columns: tuple[str, ...]
    immediate: bool
    partial: bool
    expressions: bool
    valid: bool
    primary: bool
    all_not_null: bool
    collations_as_columns: bool = True


def table_key(
    relation: Relation, source: Sequence[UniqueIndex], destination: Sequence[UniqueIndex]
) -> tuple[int, ...] | None:
    """Return the positions of the key columns within the relation's columns; None: the whole row, as in a multiset.

    ``default`` and ``index``: what the source flags, regardless of indexes (a changed primary key sends no old tuple
    under ``index``). ``full``: an immediate, complete, non-null unique index of published columns that exists at both
    ends. A deferrable key is no key: within one statement two rows may hold it. Where nothing is flagged, and under
    ``nothing``, only inserts can come; such an index identifies them too when there is one.
    """
    if relation.identity in ("d", "i"):
        flagged = tuple([at for at, column in enumerate(relation.columns) if column.part_of_key])
        if flagged:
            return flagged
    positions = _positions(relation)
    standing = {frozenset(index.columns) for index in destination if _identifies(index)}
    candidates = [
        index
        for index in source
        if _identifies(index) and frozenset(index.columns) in standing and _published(index, positions)
    ]
    if not candidates:
        return None
    best = min(candidates, key=_preference)
    return tuple(sorted({positions[name] for name in best.columns}))


def enforced_at(relation: Relation, key: Sequence[int], destination: Sequence[UniqueIndex]) -> bool:
    """Return whether an index of the destination refuses, at once, a second row with the same key."""
    names = {relation.columns[at].name for at in key}
    return any(
        index.valid
        and index.immediate
        and not index.partial
        and not index.expressions
        and len(index.columns) > 0
        and names.issuperset(index.columns)
        for index in destination
    )


def other_uniques(
    relation: Relation, key: Sequence[int] | None, destination: Sequence[UniqueIndex]
) -> tuple[tuple[int, ...], ...]:
    """Return the column sets, besides the key, in which two rows of the destination may not agree at any moment.

    Deferrable indexes are left out (checked only at the end), partial and expression indexes too: which rows they
    compare is unknown here, so their violations are handled when they happen.
    """
    positions = _positions(relation)
    found: set[tuple[int, ...]] = set()
    for index in destination:
        plain = index.valid and index.immediate and not index.partial and not index.expressions
        if plain and _published(index, positions):
            found.add(tuple(sorted({positions[name] for name in index.columns})))
    found.discard(tuple(sorted(key or ())))
    return tuple(sorted(found))


def _identifies(index: UniqueIndex) -> bool:
    return (
        index.valid
        and index.immediate
        and index.all_not_null
        and not index.partial
        and not index.expressions
        and len(index.columns) > 0
    )


def _preference(index: UniqueIndex) -> tuple[bool, int, str]:
    return not index.primary, len(index.columns), index.name


def _positions(relation: Relation) -> dict[str, int]:
    return {column.name: at for at, column in enumerate(relation.columns)}


def _published(index: UniqueIndex, positions: dict[str, int]) -> bool:
    return all(name in positions for name in index.columns)
