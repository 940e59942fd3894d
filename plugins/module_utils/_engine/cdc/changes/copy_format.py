# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Encode rows as the bytes of COPY (PostgreSQL manual, COPY, "Text Format" and "Binary Format"). Pure.

A row is any sequence of ``bytes | None``, None being NULL; text values are what the output function wrote, in UTF-8.
The functions yield pieces of about ``CHUNK`` bytes, so that neither a large batch nor a huge value is copied as a whole.
``columns`` selects and orders positions of the row; None takes the row as it is.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from ...errors import ProtocolError
from .messages import BINARY, NULL, TEXT, UNCHANGED, Row

CHUNK: Final = 128 * 1024
"""Bytes that a piece holds before it is yielded."""

BINARY_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
BINARY_TRAILER: Final = b"\xff\xff"

_NULL_LENGTH: Final = b"\xff\xff\xff\xff"
_MAX_FIELD: Final = 0x7FFF_FFFF

# Searched as numbers: compiled, `bytes in bytes` raises and drops an exception before it searches.
_BACKSLASH: Final = 0x5C
_NEWLINE: Final = 0x0A
_RETURN: Final = 0x0D
_TAB: Final = 0x09


def copy_text(
    rows: Iterable[Sequence[bytes | None]], columns: Sequence[int] | None = None, chunk: int = CHUNK
) -> Iterator[bytes]:
    """Yield the payload of ``COPY … FROM STDIN`` in text format: tab between columns, ``\\N`` for NULL."""
    lines: list[bytes] = []
    size = 0
    for row in rows:
        values = row if columns is None else [row[index] for index in columns]
        if max([len(value) for value in values if value is not None], default=0) > CHUNK:
            if lines:
                yield b"".join(lines)
            yield from _line_in_pieces(values)
            lines = []
            size = 0
            continue
        line = text_line(values)
        lines.append(line)
        size += len(line)
        if size >= chunk:
            yield b"".join(lines)
            lines = []
            size = 0
    if lines:
        yield b"".join(lines)


def _line_in_pieces(values: Sequence[bytes | None]) -> Iterator[bytes]:
    """Yield what `text_line` returns. What is escaped is one byte each, so a value may be cut anywhere."""
    end = b""
    for value in values:
        yield end + (b"\\N" if value is None else escape_text(value[:CHUNK]))
        if value is not None:
            for start in range(CHUNK, len(value), CHUNK):
                yield escape_text(value[start : start + CHUNK])
        end = b"\t"
    yield b"\n"


def text_line(values: Sequence[bytes | None]) -> bytes:
    """Return one row in text format, its newline included. A row without columns is an empty line."""
    if None not in values:
        line = b"\t".join(values)  # type: ignore[arg-type]
        # Searching the whole line once is cheaper than four searches in each value.
        if (
            _BACKSLASH not in line
            and _NEWLINE not in line
            and _RETURN not in line
            and line.count(b"\t") < max(len(values), 1)
        ):
            return line + b"\n"
    return b"\t".join([b"\\N" if value is None else escape_text(value) for value in values]) + b"\n"


def escape_text(value: bytes) -> bytes:
    """Return the value escaped for COPY: backslash first, then what ends a field or a line."""
    if _BACKSLASH in value:
        value = value.replace(b"\\", b"\\\\")
    if _NEWLINE in value:
        value = value.replace(b"\n", b"\\n")
    if _RETURN in value:
        value = value.replace(b"\r", b"\\r")
    if _TAB in value:
        value = value.replace(b"\t", b"\\t")
    return value


def copy_binary(
    rows: Iterable[Sequence[bytes | None]], columns: Sequence[int] | None = None, chunk: int = CHUNK
) -> Iterator[bytes]:
    """Yield the payload of ``COPY … FROM STDIN (FORMAT binary)``, header and trailer included.

    Every value must be what the type's send function wrote: see ``require_binary``. Raises ProtocolError for a value
    that is too large for the format.
    """
    parts: list[bytes] = [BINARY_HEADER]
    size = 0
    for row in rows:
        values = row if columns is None else [row[index] for index in columns]
        parts.append(struct.pack("!h", len(values)))
        for value in values:
            if value is None:
                parts.append(_NULL_LENGTH)
                continue
            length = len(value)
            if length > _MAX_FIELD:
                raise _too_large()
            parts.append(length.to_bytes(4, "big"))
            parts.append(value)
            size += length
        size += 4 * len(values) + 2
        if size >= chunk:
            yield from _joined(parts, size)
            parts = []
            size = 0
    parts.append(BINARY_TRAILER)
    yield b"".join(parts)


def insert_pieces(rows: Iterable[Row], columns: Sequence[int], binary: bool) -> Iterator[bytes]:
    """Yield the payload of a COPY of these columns, in ascending order, of whole rows. Raises ProtocolError for a text
    value in a binary COPY.
    """
    if not binary:
        yield from copy_text([row.values for row in rows], columns)
        return
    head = struct.pack("!h", len(columns))
    parts: list[bytes] = [BINARY_HEADER]
    size = 0
    for row in rows:
        parts.append(head)
        size += _append_fields(row, columns, parts)
        if size >= CHUNK:
            yield from _joined(parts, size)
            parts = []
            size = 0
    parts.append(BINARY_TRAILER)
    yield b"".join(parts)


def update_pieces(
    keys: Sequence[Sequence[bytes | None]], rows: Sequence[Row], columns: Sequence[int], binary: bool
) -> Iterator[bytes]:
    """Yield the payload of a COPY of a key and these columns, in ascending order, of the row that belongs to it. Raises
    ProtocolError for a text value in a binary COPY.
    """
    if not binary:
        staged = [[*key, *[row.value(at) for at in columns]] for key, row in zip(keys, rows, strict=True)]
        yield from copy_text(staged)
        return
    head = struct.pack("!h", len(keys[0]) + len(columns)) if keys else b""
    parts: list[bytes] = [BINARY_HEADER]
    size = 0
    for number in range(len(keys)):
        parts.append(head)
        for value in keys[number]:
            size += _append_value(value, parts)
        size += _append_fields(rows[number], columns, parts)
        if size >= CHUNK:
            yield from _joined(parts, size)
            parts = []
            size = 0
    parts.append(BINARY_TRAILER)
    yield b"".join(parts)


def _joined(parts: list[bytes], size: int) -> Iterator[bytes]:
    """Yield the parts as one piece; a huge one among them in pieces."""
    if size < 2 * CHUNK:
        yield b"".join(parts)
        return
    small: list[bytes] = []
    for part in parts:
        if len(part) <= CHUNK:
            small.append(part)
            continue
        if small:
            yield b"".join(small)
            small = []
        for start in range(0, len(part), CHUNK):
            yield part[start : start + CHUNK]
    if small:
        yield b"".join(small)


def _append_fields(row: Row, columns: Sequence[int], parts: list[bytes]) -> int:
    """Add these columns of a row to a binary COPY; return about how many bytes they are. Decoded data is copied as it
    is: its length and value are already in the format.
    """
    data = row.data
    if not data:
        require_binary(row.kinds, columns)
        size = 0
        values = row.values
        for column in columns:
            size += _append_value(values[column], parts)
        return size
    at = row.at
    begin = at
    position = 0
    for column in columns:
        while True:
            start = at
            kind = data[at]
            if kind == NULL or kind == UNCHANGED:
                at += 1
            else:
                at += 5 + ((data[at + 1] << 24) | (data[at + 2] << 16) | (data[at + 3] << 8) | data[at + 4])
            position += 1
            if position > column:
                break
        if kind == BINARY:
            parts.append(data[start + 1 : at])
        elif kind == TEXT:
            raise _came_as_text(column)
        else:
            parts.append(_NULL_LENGTH)
    return at - begin + 2


def _append_value(value: bytes | None, parts: list[bytes]) -> int:
    if value is None:
        parts.append(_NULL_LENGTH)
        return 4
    length = len(value)
    if length > _MAX_FIELD:
        raise _too_large()
    parts.append(length.to_bytes(4, "big"))
    parts.append(value)
    return length + 4


def binary_int8(value: int) -> bytes:
    """Return a bigint as its send function writes it: for columns that staging adds, such as a row count."""
    return struct.pack("!q", value)


def text_int(value: int) -> bytes:
    """Return an integer as its output function writes it."""
    return b"%d" % value


def require_binary(kinds: bytes, columns: Sequence[int]) -> None:
    """Raise ProtocolError when a selected column came as text: its type has no send function.

    Such a table must be staged in text format throughout.
    """
    if TEXT not in kinds:
        return
    for index in columns:
        if kinds[index] == TEXT:
            raise _came_as_text(index)


def _came_as_text(index: int) -> ProtocolError:
    return ProtocolError(
        "building a binary COPY",
        f"column {index + 1}",
        "the source sent its value as text although binary was requested",
        "Start the task again: it chooses the format of the values again.",
    )


def _too_large() -> ProtocolError:
    return ProtocolError(
        "building a binary COPY", "", "a value is larger than a field of COPY can be", "Report this as a bug."
    )
