# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""COPY payloads, read back by a parser written from the manual."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes import copy_format
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import ProtocolError

value = st.one_of(st.none(), st.binary(max_size=8), st.text("\\\t\n\rN.b,x", max_size=5).map(str.encode))


@st.composite
def tables(draw: st.DrawFn, narrowest: int = 0) -> list[list[bytes | None]]:
    width = draw(st.integers(narrowest, 4))
    return draw(st.lists(st.lists(value, min_size=width, max_size=width), max_size=6))


def parse_text(data: bytes) -> list[list[bytes | None]]:
    rows: list[list[bytes | None]] = []
    for line in data.split(b"\n")[:-1]:
        fields = line.split(b"\t")
        rows.append([None if field == b"\\N" else unescape(field) for field in fields])
    return rows


def unescape(field: bytes) -> bytes:
    out = bytearray()
    at = 0
    while at < len(field):
        byte = field[at : at + 1]
        if byte == b"\\":
            at += 1
            byte = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"\\": b"\\"}[field[at : at + 1]]
        out += byte
        at += 1
    return bytes(out)


def parse_binary(data: bytes) -> list[list[bytes | None]]:
    assert data[:19] == b"PGCOPY\n\xff\r\n\0" + bytes(8)
    at = 19
    rows: list[list[bytes | None]] = []
    while True:
        (count,) = struct.unpack_from("!h", data, at)
        at += 2
        if count == -1:
            assert at == len(data)
            return rows
        row: list[bytes | None] = []
        for dummy in range(count):
            (length,) = struct.unpack_from("!i", data, at)
            at += 4
            row.append(None if length == -1 else data[at : at + length])
            at += max(length, 0)
        rows.append(row)


@pytest.mark.fuzz
@given(tables(narrowest=1), st.integers(1, 20))
def test_text_reads_back(table: list[list[bytes | None]], chunk: int) -> None:
    data = b"".join(copy_format.copy_text(table, chunk=chunk))
    assert b"\r" not in data
    assert parse_text(data) == table


@pytest.mark.fuzz
@given(tables(), st.integers(1, 20))
def test_binary_reads_back(table: list[list[bytes | None]], chunk: int) -> None:
    assert parse_binary(b"".join(copy_format.copy_binary(table, chunk=chunk))) == table


def test_columns_select_and_order() -> None:
    table: list[Sequence[bytes | None]] = [(b"1", b"a", None), (b"2", b"b", b"\\")]
    assert b"".join(copy_format.copy_text(table, [2, 0])) == b"\\N\t1\n\\\\\t2\n"
    assert parse_binary(b"".join(copy_format.copy_binary(table, [2, 0]))) == [[None, b"1"], [b"\\", b"2"]]


def test_rows_without_columns_are_still_rows() -> None:
    assert b"".join(copy_format.copy_text([(), ()])) == b"\n\n"
    assert parse_binary(b"".join(copy_format.copy_binary([(), ()]))) == [[], []]


def test_pieces_are_bounded() -> None:
    rows = [(b"x" * 99,)] * 4000
    for pieces in (list(copy_format.copy_text(rows)), list(copy_format.copy_binary(rows))):
        assert len(pieces) > 1
        assert max(map(len, pieces)) < copy_format.CHUNK + 200


@pytest.mark.parametrize("huge", [b"\\x" + b"0f" * 200_000, b"\t\n\r\\" * 100_000, b"x" * (copy_format.CHUNK + 1)])
def test_a_huge_value_goes_in_pieces(huge: bytes) -> None:
    table: list[list[bytes | None]] = [[b"a", b"b"], [huge, None], [None, huge], [huge, huge], [b"c", None]]
    text, binary = list(copy_format.copy_text(table)), list(copy_format.copy_binary(table))
    assert parse_text(b"".join(text)) == parse_binary(b"".join(binary)) == table
    for pieces in (text, binary):
        assert b"" not in pieces
        assert max(map(len, pieces)) <= 2 * copy_format.CHUNK + 200


def test_numbers_that_staging_adds() -> None:
    assert copy_format.binary_int8(-2) == b"\xff" * 7 + b"\xfe"
    assert copy_format.text_int(-2) == b"-2"


def test_a_text_value_has_no_place_in_a_binary_copy() -> None:
    copy_format.require_binary(b"bnt", [0, 1])
    with pytest.raises(ProtocolError, match="column 3"):
        copy_format.require_binary(b"bnt", [0, 2])
