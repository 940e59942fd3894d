# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which differences there are in what belongs to no schema. Pure but for the quoting of names."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING

from .database_level import OWN_RIGHT
from .difference import Difference, Severity

if TYPE_CHECKING:
    from ..postgres.connect import Connection
    from .database_level import Item

_NOTES = (OWN_RIGHT, "logical slot", "extension", "language", "access method", "transform")
"""Kinds that a migration of some schemas may do without."""

_BY_HAND: Mapping[str, str] = {
    "extension": "CREATE EXTENSION or ALTER EXTENSION … UPDATE at the destination, if the application uses it.",
    "foreign data wrapper": "CREATE FOREIGN DATA WRAPPER at the destination.",
    "foreign server": "CREATE SERVER at the destination, with the options that the source has.",
    "user mapping": "CREATE USER MAPPING at the destination, with the options that the source has.",
    "publication": "CREATE PUBLICATION at the destination after the opening, and let its subscribers follow it.",
    "subscription": "Let its upstream publish to the destination, and drop it at the source before the cutover.",
    "logical slot": "Let its consumer begin anew at the destination.",
    "property of the database": "Create the destination database anew; precheck prints the statement.",
}


def judge_items(
    source: Mapping[tuple[str, str], Item],
    destination: Mapping[tuple[str, str], Item],
    conn: Connection,
    asleep: Collection[str] = (),
) -> Iterator[Difference]:
    """Yield the differences. ``asleep`` are event triggers that this migration created at the destination, and that are
    enabled at the opening."""
    for key in sorted(source.keys() | destination.keys()):
        here, there = source.get(key), destination.get(key)
        kind, name = key
        if here is not None and kind == "subscription":
            yield _subscription(name)
        elif here is None and there is not None:
            fix = there.take.as_string(conn) + ";" if there.take else ""
            yield Difference("database_level", _severity(kind), f"{kind} {name}", "only the destination has it", fix)
        elif here is not None and not _same(here, there, asleep):
            cause = "the destination lacks it" if there is None else "the destination has another"
            shown = here.make.as_string(conn) + ";" if here.make and here.shown else ""
            fix = shown or (
                _BY_HAND.get(kind, "") if not here.make else "Set it as at the source: its value is not shown."
            )
            yield Difference("database_level", _severity(kind, name), f"{kind} {name}", cause, fix)


def _same(here: Item, there: Item | None, asleep: Collection[str]) -> bool:
    if there is None:
        return False
    if here.kind == "event trigger" and here.name in asleep:
        return here.text.rpartition(" ")[0] == there.text.rpartition(" ")[0]
    return here.text == there.text


def _severity(kind: str, name: str = "") -> Severity:
    return "note" if kind in _NOTES or name == "collation version" else "warning"


def _subscription(name: str) -> Difference:
    cause = "the source receives rows by it"
    return Difference("subscription_at_source", "error", f"subscription {name}", cause, _BY_HAND["subscription"])
