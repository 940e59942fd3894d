# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Triggers that sleep until the cutover, and names that come back from the before-image."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres.catalog import qualified
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.schema.triggers import (
    enable_triggers_statements,
    name_of,
)

NAME = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=12)


@given(NAME, NAME)
def test_a_printed_name_is_read_back(schema: str, name: str) -> None:
    assert name_of(qualified((schema, name))) == (schema, name)


def test_every_sleeper_gets_its_state_back() -> None:
    pytest.importorskip("psycopg")
    image = {
        "triggers": {'sales."a.b"': {"t": "A", "u v": "R"}, "sales.x": {"t": "R"}},
        "rules": {"sales.x": {"r": "A"}},
        "made": {"sales.x": True},
    }
    assert [statement.as_string(None) for statement in enable_triggers_statements(image)] == [
        'ALTER TABLE "sales"."a.b" ENABLE ALWAYS TRIGGER "t"',
        'ALTER TABLE "sales"."a.b" ENABLE REPLICA TRIGGER "u v"',
        'ALTER TABLE "sales"."x" ENABLE REPLICA TRIGGER "t"',
        'ALTER TABLE "sales"."x" ENABLE ALWAYS RULE "r"',
    ]
    assert enable_triggers_statements({}) == ()
