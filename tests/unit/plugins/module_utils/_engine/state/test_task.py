# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The statements that a plan shows of the control row."""

from __future__ import annotations

from typing import Any

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.state.store import StateStore
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.state.task import (
    control_statement,
    delete_control,
)

NO_CONNECTION: Any = None
STORE = StateStore(NO_CONNECTION, "state", "or'ders")


def test_the_control_row_is_inserted_or_updated_with_everything_quoted() -> None:
    made = control_statement(STORE, "started", {"b": 1, "a": "x"}, exists=False).as_string(None)
    assert made == (
        """INSERT INTO "state"."cdc_task" (migration, wanted, settings)"""
        """ VALUES ('or''ders', 'started', '{"a": "x", "b": 1}')"""
    )
    changed = control_statement(STORE, "paused", {}, exists=True).as_string(None)
    assert changed == (
        """UPDATE "state"."cdc_task" SET wanted = 'paused', settings = '{}' WHERE migration = 'or''ders'"""
    )
    assert delete_control(STORE).as_string(None) == """DELETE FROM "state"."cdc_task" WHERE migration = 'or''ders'"""
