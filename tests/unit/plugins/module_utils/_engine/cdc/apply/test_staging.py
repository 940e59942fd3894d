# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values as parameters: each in the format that it came in, and a NULL in none."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.apply.staging import (
    BinaryValue,
    TextValue,
    Value,
    key_values,
    row_values,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes.messages import Row

ROW = Row(b"tbnutb", [b"1", b"\x00\x01", None, None, b"", b""])


def shown(values: Sequence[Value]) -> list[tuple[str, bytes] | None]:
    return [None if value is None else (type(value).__name__, value.data) for value in values]


@pytest.mark.parametrize(
    ("positions", "expected"),
    [
        ((), []),
        ((0, 1), [("TextValue", b"1"), ("BinaryValue", b"\x00\x01")]),
        ((1, 0), [("BinaryValue", b"\x00\x01"), ("TextValue", b"1")]),
        ((2, 3), [None, None]),
        ((4, 5), [("TextValue", b""), ("BinaryValue", b"")]),
        ((0, 0), [("TextValue", b"1"), ("TextValue", b"1")]),
    ],
)
def test_values_of_a_row(positions: tuple[int, ...], expected: list[tuple[str, bytes] | None]) -> None:
    assert shown(row_values(ROW, positions)) == expected


@pytest.mark.parametrize(("binary", "kind"), [(True, BinaryValue), (False, TextValue)])
def test_values_of_a_key_have_one_format(binary: bool, kind: type) -> None:
    assert key_values((), binary) == []
    assert shown(key_values((b"1", None, b"", "größe".encode()), binary)) == [
        (kind.__name__, b"1"),
        None,
        (kind.__name__, b""),
        (kind.__name__, b"gr\xc3\xb6\xc3\x9fe"),
    ]
