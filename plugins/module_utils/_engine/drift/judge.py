# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which differences there are between the definitions of both ends, and who made them. Pure.

Both ends' prints are equal, or each is what it was when this migration created the object: else there is a difference.
The second matters where the versions print otherwise.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ..schema.adjust import lacking_roles, unquoted
from ..schema.normal_form import OWNER, Definition, Key, grants, owner_in, without_roles
from .difference import Difference
from .fixes import fix

if TYPE_CHECKING:
    from ..state.validation import FactName, RecordedDefinition

_ALONG = (OWNER, "ACL", "COMMENT", "SECURITY LABEL")
_STATE = {"A": "ENABLE ALWAYS", "R": "ENABLE REPLICA"}


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What the judgement depends on besides the definitions.

    ``alike``: both ends print by the same major version. ``made``: this migration creates the schema. ``roles`` are the
    destination's. ``asleep`` holds triggers and rules that are disabled until the opening, by the name of their fact, with
    their state. ``unreachable`` are foreign keys to tables that are not moved.
    """

    alike: bool
    made: bool
    roles: Collection[str]
    asleep: Mapping[tuple[str, str], str] = field(default_factory=dict)
    unreachable: Collection[Key] = ()


def judge(
    source: Mapping[Key, Definition],
    destination: Mapping[Key, Definition],
    recorded: Mapping[FactName, RecordedDefinition],
    known: Circumstances,
) -> tuple[Difference, ...]:
    """Return all differences, by key."""
    names = {Key(*name) for name in recorded}
    both = source.keys() & destination.keys()
    stood = {key for key in both if key.kind in ("SCHEMA", "TABLE") and key not in names}
    found = [_without_role(role, keys) for role, keys in sorted(_lacking(source.values(), known).items())]
    along = _going_along(source, destination)
    for key in sorted((source.keys() | destination.keys() | names) - along):
        record = recorded.get((key.kind, key.schema, key.name))
        own = replace(known, made=False) if record is None and _of_standing(key, stood) else known
        found += _differences(key, source.get(key), destination.get(key), record, own)
    return tuple(found)


def _going_along(source: Mapping[Key, Definition], destination: Mapping[Key, Definition]) -> set[Key]:
    """Return the owner, grants and comment of what only one end has: the object alone is named. They are compared once
    both ends have it."""
    one_end = source.keys() ^ destination.keys()
    # a grant names every relation as TABLE, and quotes the name
    objects = {(one.schema, f"{kind} {one.name}") for one in one_end for kind in (one.kind, "TABLE")}
    return {one for one in one_end if one.kind in _ALONG and (one.schema, one.name.replace('"', "")) in objects}


def _of_standing(key: Key, stood: Collection[Key]) -> bool:
    """Return whether a fact is about a schema or table that existed before this migration, which leaves it as it is."""
    if not stood:
        return False
    if key.name.startswith("SCHEMA "):
        return Key("SCHEMA", "", unquoted(key.name.removeprefix("SCHEMA "))) in stood
    parts = key.name.split(" ")
    names = (" ".join(parts[:number]) for number in range(1, len(parts) + 1))
    return any(Key("TABLE", key.schema, name) in stood for name in names)


def _differences(
    key: Key,
    here: Definition | None,
    there: Definition | None,
    record: RecordedDefinition | None,
    known: Circumstances,
) -> Iterator[Difference]:
    """Yield the difference in one fact, if there is one."""
    if here is not None and key.kind == OWNER and owner_in(here.text) not in known.roles:
        return
    wanted = _expected(here, known)
    standing = _awake(there, known)
    if (wanted.text if wanted else None) == (standing.text if standing else None):
        return
    if here is not None and there is None and key in known.unreachable:
        yield Difference("definition_not_moved", "warning", str(key), "it references a table that is not moved", "")
        return
    moved_on = record is not None and (here is None or here.digest != record.source)
    damaged = record is not None and bool(record.destination) and (there is None or there.digest != record.destination)
    if not known.alike and record is not None and record.destination and not moved_on and not damaged:
        return
    yield _named(key, wanted, standing, record, known, moved_on=moved_on)


def _named(
    key: Key,
    here: Definition | None,
    there: Definition | None,
    record: RecordedDefinition | None,
    known: Circumstances,
    *,
    moved_on: bool,
) -> Difference:
    """Return the difference, under the id that says who made it."""
    remedy = fix(key, here.text if here else "", there.text if there else "")
    if here is None and record is None:
        cause = "the destination has it, and the source does not"
        return Difference("definition_only_at_destination", "warning", str(key), cause, remedy)
    if moved_on:
        cause = "it was dropped at the source" if here is None else "it was changed at the source"
        cause += " since the schema phase"
        return Difference("definition_changed_at_source", "error", str(key), cause, remedy)
    if record is not None:
        cause = "the destination lacks it" if there is None else "the destination's is not what the source has"
        return Difference("definition_changed_at_destination", "error", str(key), cause, remedy)
    if there is None and known.made:
        cause = "the destination lacks it: it was created at the source since the schema phase, or never arrived"
        return Difference("definition_changed_at_source", "error", str(key), cause, remedy)
    cause = "the destination lacks it" if there is None else "both ends have it, and not the same"
    if there is not None and not known.alike:
        return Difference(
            "definition_differs", "note", str(key), f"{cause}, or their versions print it otherwise", remedy
        )
    return Difference("definition_differs", "warning", str(key), cause, remedy)


def _lacking(facts: Iterable[Definition], known: Circumstances) -> dict[str, list[Key]]:
    """Return the roles that the destination lacks, with the facts that name them as owner or in a grant."""
    found: dict[str, list[Key]] = {}
    for one in facts:
        named: set[str] = set()
        if one.key.kind == OWNER:
            named = {owner_in(one.text)} - set(known.roles)
        elif one.key.kind in ("ACL", "DEFAULT ACL"):
            named = {role for statement in grants(one.text) for role in lacking_roles(statement, known.roles)}
        for role in named:
            found.setdefault(role, []).append(one.key)
    return found


def _without_role(role: str, keys: Sequence[Key]) -> Difference:
    """Return one difference for a role that the destination lacks, however many objects name it."""
    more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
    cause = f"it does not exist at the destination, and what names it is left out: {min(keys)}{more}"
    name = '"' + role.replace('"', '""') + '"'
    return Difference("definition_not_moved", "warning", f"role {role}", cause, f"CREATE ROLE {name};")


def _expected(here: Definition | None, known: Circumstances) -> Definition | None:
    """Return what the destination should have of a fact of the source: grants without those to roles it lacks."""
    if here is None or here.key.kind not in ("ACL", "DEFAULT ACL"):
        return here
    text = without_roles(here.text, known.roles)
    if text == here.text:
        return here
    return Definition(here.key, text) if text else None


def _awake(there: Definition | None, known: Circumstances) -> Definition | None:
    """Return a fact of the destination with the state that a trigger or rule gets back at the opening."""
    if there is None:
        return None
    state = known.asleep.get((there.key.schema, there.key.name))
    if state is None or there.key.kind not in ("TRIGGER", "RULE"):
        return there
    return Definition(
        there.key, there.text.replace(f" DISABLE {there.key.kind} ", f" {_STATE[state]} {there.key.kind} ")
    )
