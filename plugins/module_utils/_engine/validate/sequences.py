# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sequences: the stream does not carry them, so their values are read at the source and set at the destination.

The values themselves are read (last_value, is_called), never guessed from the tables: MAX(column) misses gaps,
standalone and descending ones. What a session at the source has cached is included in last_value already.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..errors import MismatchError, ServerError, TimeoutExpired
from ..objects.mapping import DestinationName
from ..plan import Plan, SqlChange, as_change
from ..postgres._psycopg import sql
from ..postgres.catalog import Name, qualified
from ..postgres.connect import explain_errors
from ..postgres.locks import BESIDE_A_READER, REMEDY, in_lock_timeout, lock_holders, named

if TYPE_CHECKING:
    from psycopg.sql import Composed

    from ..migration import Migration
    from ..objects.mapping import ObjectMapping
    from ..objects.selection import Selection
    from ..postgres.connect import Connection, End

_AT_ONCE = 400  # sequences in one statement; a SELECT list holds 1664 columns
LOCK_WAIT = 2.0
LOCK_ATTEMPTS = 15

_PROPERTIES = """
SELECT n.nspname, c.relname, c.oid::bigint, pg_catalog.format_type(s.seqtypid, NULL), s.seqincrement, s.seqmin, s.seqmax, s.seqcycle
  FROM pg_catalog.pg_sequence s
  JOIN pg_catalog.pg_class c ON c.oid = s.seqrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE (n.nspname::text, c.relname::text) IN
       (SELECT * FROM unnest(%s::text[], %s::text[]))
"""


@dataclass(frozen=True, slots=True)
class Position:
    """The position of a sequence, as its own relation shows it."""

    last_value: int
    is_called: bool

    def following(self, increment: int) -> int:
        """Return what the next nextval() returns, regardless of bounds."""
        return self.last_value + increment if self.is_called else self.last_value


@dataclass(frozen=True, slots=True)
class SequenceState:
    """A sequence of one end: its properties (pg_sequence) and its position."""

    name: Name
    type_name: str
    increment: int
    minimum: int
    maximum: int
    cycle: bool
    position: Position


def observe(conn: Connection, wanted: Iterable[Name], end: End) -> dict[Name, SequenceState]:
    """Return the existing sequences of these names, read in two kinds of queries for any number. Raises ServerError."""
    names = sorted(wanted)
    found: dict[Name, SequenceState] = {}
    with explain_errors("reading the sequences of the", end):
        rows = conn.execute(_PROPERTIES, ([n[0] for n in names], [n[1] for n in names])).fetchall()
    oids = {(row[0], row[1]): row[2] for row in rows}
    properties = {(row[0], row[1]): row[3:] for row in rows}
    positions: dict[Name, Position] = {}
    for first in range(0, len(oids), _AT_ONCE):
        positions.update(_read_positions(conn, dict(sorted(oids.items())[first : first + _AT_ONCE]), end))
    for name, values in properties.items():
        type_name, increment, minimum, maximum, cycle = values
        found[name] = SequenceState(name, type_name, increment, minimum, maximum, cycle, positions[name])
    return found


def observe_there(migration: Migration, names: Iterable[Name]) -> dict[DestinationName, SequenceState]:
    """Return the destination's sequences that these of the source are mapped to. Raises ServerError, TimeoutExpired."""
    wanted = [migration.mapping.there(name) for name in names]
    found = observe(migration.destination, wanted, "destination")
    return {DestinationName(name): state for name, state in found.items()}


def _read_positions(conn: Connection, oids: Mapping[Name, int], end: End) -> dict[Name, Position]:
    """Read some at once, never waiting for long: TRUNCATE … RESTART IDENTITY locks a sequence until its transaction
    ends, and later sessions wait behind us for the others. Raises TimeoutExpired, naming lock holders; ServerError.
    """
    one = sql.SQL("SELECT {}::int, last_value, is_called FROM {}")
    names = list(oids)
    query = sql.SQL(" UNION ALL ").join(
        one.format(sql.Literal(number), sql.Identifier(*name)) for number, name in enumerate(names)
    )
    for attempt in range(LOCK_ATTEMPTS):
        try:
            with explain_errors("reading the sequences of the", end), conn.transaction():
                in_lock_timeout(conn, LOCK_WAIT)
                rows = conn.execute(query).fetchall()
            return {names[number]: Position(last_value, called) for number, last_value, called in rows}
        except ServerError as exc:
            if exc.sqlstate != "55P03":
                raise
            if attempt == LOCK_ATTEMPTS - 1:
                who = named(lock_holders(conn, list(oids.values()), BESIDE_A_READER))
                why = f"one stayed locked through {LOCK_ATTEMPTS} attempts of {LOCK_WAIT:g} s: {who}"
                raise TimeoutExpired(exc.doing, exc.what, why, REMEDY, sqlstate=exc.sqlstate) from exc
        time.sleep(random.uniform(0.2, 0.8))  # nosec: spreads attempts, guards nothing
    raise RuntimeError("unreachable")


def is_ahead(source: SequenceState, destination: SequenceState) -> bool:
    """Return whether the destination is further on already, in the sequence's own direction.

    A cycling sequence has no order: it is never ahead.
    """
    if source.cycle or destination.cycle:
        return False
    step = source.increment
    distance = destination.position.following(step) - source.position.following(step)
    return distance * step > 0


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done, under the destination's names: ``to_set`` gets the source's position, ``ahead`` is left as it
    is; ``missing`` are those to set that the destination lacks."""

    to_set: tuple[SequenceState, ...]
    ahead: tuple[SequenceState, ...]
    missing: tuple[SequenceState, ...]
    warnings: tuple[str, ...]


def decide(
    source: Mapping[Name, SequenceState],
    destination: Mapping[DestinationName, SequenceState],
    mapping: ObjectMapping,
    *,
    exact: bool,
) -> Decision:
    """Compare each sequence of the source with the one that it is mapped to; pure.

    Without ``exact`` nothing is moved backward. Raises MismatchError where a value does not fit the destination's bounds.
    """
    to_set, ahead, missing, warnings = [], [], [], []
    for name, here in sorted(source.items()):
        mapped = mapping.there(name)
        wanted, there = replace(here, name=mapped), destination.get(mapped)
        if there is None:
            missing.append(wanted)
            continue
        differing = [
            f"{word} is {before} at the source and {after} at the destination"
            for word, before, after in (
                ("INCREMENT", here.increment, there.increment),
                ("MINVALUE", here.minimum, there.minimum),
                ("MAXVALUE", here.maximum, there.maximum),
                ("CYCLE", here.cycle, there.cycle),
            )
            if before != after
        ]
        if differing:
            warnings.append(f"sequence {qualified(name)}: {'; '.join(differing)}")
        if here.position == there.position:
            continue
        if not exact and is_ahead(here, there):
            ahead.append(there)
            continue
        if not there.minimum <= here.position.last_value <= there.maximum:
            raise MismatchError(
                "setting the sequence",
                qualified(name),
                f"the source's value is outside the destination's bounds {there.minimum} to {there.maximum}",
                "ALTER SEQUENCE at the destination so that both have the same MINVALUE and MAXVALUE.",
            )
        to_set.append(wanted)
    return Decision(tuple(to_set), tuple(ahead), tuple(missing), tuple(warnings))


def set_statement(states: Sequence[SequenceState], conn: Connection | None) -> Composed:
    """Return one SELECT that sets them all."""
    calls = (
        sql.SQL("pg_catalog.setval({}::pg_catalog.regclass, {}, {})").format(
            sql.Literal(sql.Identifier(*state.name).as_string(conn)),
            sql.Literal(state.position.last_value),
            sql.Literal(state.position.is_called),
        )
        for state in states
    )
    return sql.SQL("SELECT {}").format(sql.SQL(", ").join(calls))


def apply_positions(conn: Connection, states: Sequence[SequenceState]) -> None:
    """Set the sequences at the destination, and read them back. Raises MismatchError, ServerError."""
    with explain_errors("setting the sequences of the destination"):
        for first in range(0, len(states), _AT_ONCE):
            conn.execute(set_statement(states[first : first + _AT_ONCE], conn))
    now = observe(conn, (state.name for state in states), "destination")
    for state in states:
        if state.name not in now or now[state.name].position != state.position:
            raise MismatchError(
                "setting the sequence",
                qualified(state.name),
                "read back, it does not have the value that was set",
                "Another session uses it at the destination already: find out which, and run the playbook again.",
            )


def refuse_missing(missing: Sequence[SequenceState]) -> None:
    """Raise MismatchError where sequences are missing at the destination."""
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise MismatchError(
            "setting the sequence",
            qualified(missing[0].name) + more,
            "it does not exist at the destination",
            "Run pg_schema_sync (section pre_data), or create it, with the source's properties.",
        )


def synchronise(migration: Migration, selection: Selection, *, exact: bool = False) -> int:
    """Set every selected sequence that is behind, and read it back. Return how many sequences were compared.

    For the cutover, behind the fence. Raises MismatchError, ServerError.
    """
    names = [sequence.qualified_name for sequence in selection.sequences]
    source = observe(migration.source, names, "source")
    decision = decide(source, observe_there(migration, names), migration.mapping, exact=exact)
    refuse_missing(decision.missing)
    if decision.to_set:
        apply_positions(migration.destination, decision.to_set)
    return len(names)


def plan(migration: Migration, options: Mapping[str, Any]) -> Plan:
    """Return the Plan. ``options``: exact, state (present, absent)."""
    if options["state"] == "absent":
        return Plan(notes=("the values of sequences are data of the destination: there is nothing to undo",))
    names = [sequence.qualified_name for sequence in migration.selected().sequences]
    source = observe(migration.source, names, "source")
    destination = observe_there(migration, names)
    decision = decide(source, destination, migration.mapping, exact=bool(options["exact"]))
    notes = [_ahead_note(decision.ahead)] if decision.ahead else []
    if decision.missing:
        state = migration.state()
        if "schema" not in migration.spec.types or (state and state.reached("schema")):
            refuse_missing(decision.missing)
        notes.append(
            f"{len(decision.missing)} sequences do not exist yet; the schema phase creates them before this runs"
        )
    to_set = sorted((*decision.to_set, *decision.missing), key=lambda state: state.name)
    changes = [_change(s, destination.get(DestinationName(s.name)), migration.destination) for s in to_set]

    def apply() -> Mapping[str, object]:
        refuse_missing(decision.missing)
        apply_positions(migration.destination, to_set)
        return {}

    return Plan(
        changes=as_change(changes, migration.destination),
        result={
            "sequences": len(names),
            "to_set": len(to_set),
            "ahead": [qualified(state.name) for state in decision.ahead],
        },
        apply=apply,
        notes=tuple(notes),
        warnings=decision.warnings,
    )


def _ahead_note(ahead: Sequence[SequenceState]) -> str:
    shown_names = ", ".join(qualified(state.name) for state in ahead[:5])
    more = f" and {len(ahead) - 5} more" if len(ahead) > 5 else ""
    return f"the destination is ahead of the source and stays so: {shown_names}{more}; exact: true would move it back"


def _change(wanted: SequenceState, present: SequenceState | None, conn: Connection) -> SqlChange:
    return SqlChange(
        "destination",
        f"sequence {qualified(wanted.name)}",
        _shown(present.position) if present else None,
        _shown(wanted.position),
        (set_statement([wanted], conn),),
    )


def _shown(position: Position) -> Mapping[str, object]:
    return {"last_value": position.last_value, "is_called": position.is_called}
