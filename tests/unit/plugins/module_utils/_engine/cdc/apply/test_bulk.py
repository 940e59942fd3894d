# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A few rows go as parameters, and no huge value does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

import pytest
from unit.plugins.module_utils._engine.cdc.apply.test_prepare import table

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.apply.bulk import (
    BYTES_AS_PARAMETERS,
    write_compacted,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes.compaction import compact
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes.copy_format import CHUNK
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes.messages import (
    Change,
    Insert,
    Row,
    Update,
)


class Loader:
    """What is sent: how many bytes as parameters, and the pieces of COPY."""

    def __init__(self) -> None:
        self.parameters = 0
        self.pieces: list[int] = []
        self.rowcount = 1

    def run(self, dummy: str, values: Sequence[Any] = ()) -> Loader:
        self.parameters += sum(len(value.data) for value in values if value is not None)
        return self

    def join(self, dummy: str, *, indexed: bool) -> Loader:
        return self

    def send(self, dummy: str, pieces: Iterable[bytes]) -> None:
        self.pieces += map(len, pieces)

    def stage_pieces(self, dummy: str, dummy2: Any, pieces: Iterable[bytes], dummy3: bool) -> str:
        self.send("", pieces)
        return "stage"


def row(value: bytes) -> Row:
    return Row(b"tt", [b"1", value])


@pytest.mark.parametrize("huge", [False, True])
@pytest.mark.parametrize("kind", ["insert", "update"])
def test_a_huge_value_is_copied_in_pieces(kind: str, huge: bool) -> None:
    value = b"x" * (BYTES_AS_PARAMETERS + 1 if huge else 1000)
    change: Change = Insert(1, row(value)) if kind == "insert" else Update(1, "", None, row(value))
    loader, written = Loader(), table(1, "ab", "a")
    write_compacted(cast("Any", loader), written, compact([change], written.table.shape))
    if huge:
        assert loader.parameters == 0 and sum(loader.pieces) > len(value)
        assert max(loader.pieces) <= CHUNK + 10
    else:
        assert loader.parameters > len(value) and not loader.pieces
