# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What makes the state tables and what drops them speak of the same tables."""

from __future__ import annotations

import re

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.state import tables


def test_every_table_that_is_made_is_dropped() -> None:
    made = [statement.as_string(None) for statement in tables.create_statements("st")]
    names = re.findall(r'CREATE TABLE "st"\.(\w+)', " ".join(made))
    assert tuple(names) == tables.TABLE_NAMES
    dropped = tables.drop_statements("st", shared=False)[0].as_string(None)
    assert re.findall(r'"st"\."(\w+)"', dropped) == names


def test_a_shared_schema_stays() -> None:
    shared = [s.as_string(None) for s in tables.drop_statements("st", shared=True)]
    alone = [s.as_string(None) for s in tables.drop_statements("st", shared=False)]
    assert not [statement for statement in shared if "SCHEMA" in statement]
    assert alone[-1] == 'DROP SCHEMA "st"'
