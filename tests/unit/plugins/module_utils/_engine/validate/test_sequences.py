# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done about a sequence, over where both ends may stand."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import MismatchError
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.objects.mapping import (
    IDENTITY,
    DestinationName,
    ObjectMapping,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.validate.sequences import (
    Position,
    SequenceState,
    decide,
    is_ahead,
    set_statement,
)

NAME = ("s", "q")
THERE = DestinationName(NAME)
UP = SequenceState(NAME, "bigint", 1, 1, 2**63 - 1, False, Position(1, False))
DOWN = dataclasses.replace(UP, increment=-1, minimum=-(2**63), maximum=-1, position=Position(-1, False))


def at(state: SequenceState, value: int, called: bool = True) -> SequenceState:
    return dataclasses.replace(state, position=Position(value, called))


@pytest.mark.parametrize(
    ("source", "destination", "ahead"),
    [
        (at(UP, 10), at(UP, 9), False),
        (at(UP, 10), at(UP, 11), True),
        (at(UP, 10), at(UP, 11, False), False),  # both give 11 next
        (at(UP, 10, False), at(UP, 10), True),
        (at(DOWN, -10), at(DOWN, -11), True),
        (at(DOWN, -10), at(DOWN, -9), False),
        (at(dataclasses.replace(UP, cycle=True), 2), at(dataclasses.replace(UP, cycle=True), 9), False),
    ],
)
def test_ahead_is_meant_in_the_sequences_own_direction(
    source: SequenceState, destination: SequenceState, ahead: bool
) -> None:
    assert is_ahead(source, destination) is ahead


positions = st.builds(Position, st.integers(-1000, 1000), st.booleans())


@given(positions, positions, st.sampled_from([1, -1, 3, -7]), st.booleans())
def test_the_destination_never_gives_what_the_source_gave(
    here: Position, there: Position, increment: int, exact: bool
) -> None:
    wide = dataclasses.replace(UP, increment=increment, minimum=-(2**63))
    source = dataclasses.replace(wide, position=here)
    destination = dataclasses.replace(wide, position=there)
    decision = decide({NAME: source}, {THERE: destination}, IDENTITY, exact=exact)
    after = here if decision.to_set else there
    direction = 1 if increment > 0 else -1
    assert (after.following(increment) - here.following(increment)) * direction >= 0
    if exact:
        assert after == here


def test_what_is_missing_and_what_differs_is_told() -> None:
    there = {THERE: dataclasses.replace(UP, increment=2)}
    decision = decide({NAME: UP, ("s", "r"): UP}, there, IDENTITY, exact=False)
    assert [state.name for state in decision.missing] == [("s", "r")]
    assert decision.warnings == ("sequence s.q: INCREMENT is 1 at the source and 2 at the destination",)


def test_a_value_outside_the_bounds_is_refused() -> None:
    with pytest.raises(MismatchError, match="bounds"):
        decide({NAME: at(UP, 500)}, {THERE: dataclasses.replace(UP, maximum=100)}, IDENTITY, exact=False)


def test_a_mapped_sequence_is_looked_for_and_set_under_its_destination_s_name() -> None:
    mapping = ObjectMapping(schemas={"s": "d"}, relations={NAME: ("d", "p")})
    there = {DestinationName(("d", "p")): dataclasses.replace(UP, name=("d", "p"))}
    decision = decide({NAME: at(UP, 7), ("s", "r"): UP}, there, mapping, exact=False)
    assert decision.to_set == (dataclasses.replace(at(UP, 7), name=("d", "p")),)
    assert [state.name for state in decision.missing] == [("d", "r")]


def test_names_are_quoted_within_the_literal() -> None:
    odd = dataclasses.replace(at(UP, 5), name=("a'b", 'c"d'))
    made = set_statement([odd, UP], None).as_string(None)
    first = """SELECT pg_catalog.setval('"a''b"."c""d"'::pg_catalog.regclass, 5, true), """
    assert made == first + """pg_catalog.setval('"s"."q"'::pg_catalog.regclass, 1, false)"""
