# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a migration's options cannot be meant."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import SpecError
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.spec import spec_of

OPTIONS: dict[str, Any] = {
    "name": "orders",
    "source": {"login_db": "old"},
    "destination": {"login_db": "new"},
    "objects": [{"schema": "sales"}],
    "types": ["schema", "full"],
    "state_schema": "causeway",
    "allow_keyless": False,
    "conflicting_tables": "report",
    "restart": False,
}


@pytest.mark.parametrize(
    ("option", "value", "why"),
    [
        ("types", ["schema", "incremental"], "leaves out the rows"),
        ("state_schema", "50%s", "percent sign"),
        ("source", {"login_host": "db1"}, "login_db is missing"),
        ("objects", [{"tables": []}], "names no schema"),
    ],
)
def test_what_cannot_be_meant_is_refused(option: str, value: Any, why: str) -> None:
    assert spec_of(OPTIONS).state_schema == "causeway"
    with pytest.raises(SpecError, match=why):
        spec_of({**OPTIONS, option: value})
