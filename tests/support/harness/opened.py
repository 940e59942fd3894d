# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A migration as the engine sees it, in the test's own process: for what no module option can bring about."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.migration import Migration
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.spec import spec_of


@contextlib.contextmanager
def open_migration(
    pair: Any,
    *,
    types: tuple[str, ...] = ("full", "incremental"),
    tables: tuple[str, ...] = (),
    conflicting_tables: str = "report",
    register: bool = True,
) -> Iterator[Migration]:
    """Schema public of a pair, or only some of its tables, with its row in the state tables."""
    options = {
        "name": "copy",
        "source": pair.source.endpoint,
        "destination": pair.destination.endpoint,
        "objects": [{"schema": "public", "tables": [{"name": name} for name in tables]}],
        "types": types,
        "state_schema": "causeway",
        "allow_keyless": True,
        "conflicting_tables": conflicting_tables,
        "restart": False,
    }
    with Migration(spec_of(options)) as migration:
        if register:
            migration.ensure_registered()
        yield migration
