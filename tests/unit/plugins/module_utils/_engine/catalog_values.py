# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables, columns and indexes as the catalog has them; a test names only what it is about."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres.catalog import (
    Column,
    Table,
    UniqueIndex,
)

_TABLE = Table(
    oid=1,
    schema="s",
    name="t",
    kind="r",
    persistence="p",
    owner="o",
    replica_identity="d",
    identity_index="",
    parents=(),
    is_partition=False,
    pages=0,
    rows=0.0,
    bytes=0,
    columns=(),
    unique_indexes=(),
)


def table(oid: int = 1, name: str = "t", schema: str = "s", **changed: Any) -> Table:
    """Return an ordinary table without columns, apart from what is given."""
    return replace(_TABLE, oid=oid, name=name, schema=schema, **changed)


def column(name: str, type_oid: int = 23, type_name: str = "integer", generated: str = "") -> Column:
    """Return a column of its own type."""
    return Column(1, name, type_oid, -1, type_name, type_oid, type_name, True, generated, "", True)


def unique_index(name: str, *columns: str, primary: bool = False) -> UniqueIndex:
    """Return an index that identifies a row."""
    return UniqueIndex(name, columns, primary, True, False, True, True)
