# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows to the bytes of COPY (PostgreSQL manual, COPY, "Text Format" and "Binary Format"). Pure.

A row is any sequence of ``bytes | None``, None being NULL; text values are what the output function wrote, in UTF-8.
The functions yield pieces of about ``CHUNK`` bytes, so that a large batch is never one string; one huge value is one
piece. ``columns`` selects and orders positions of the row; None takes the row as it is.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from ..errors import ProtocolError
from .messages import TEXT

CHUNK: Final = 65536
"""Bytes that a piece holds before it is handed out."""

BINARY_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
BINARY_TRAILER: Final = b"\xff\xff"

_NULL_LENGTH: Final = b"\xff\xff\xff\xff"
_MAX_FIELD: Final = 0x7FFF_FFFF


def copy_text(
    rows: Iterable[Sequence[bytes | None]], columns: Sequence[int] | None = None, chunk: int = CHUNK
) -> Iterator[bytes]:
    """The payload of ``COPY … FROM STDIN`` in text format: tab between columns, ``\\N`` for NULL."""
    lines: list[bytes] = []
    size = 0
    for row in rows:
        line = text_line(row if columns is None else [row[index] for index in columns])
        lines.append(line)
        size += len(line)
        if size >= chunk:
            yield b"".join(lines)
            lines = []
            size = 0
    if lines:
        yield b"".join(lines)


def text_line(values: Sequence[bytes | None]) -> bytes:
    """One row in text format, its newline included. A row without columns is an empty line."""
    if None not in values:
        line = b"\t".join(values)  # type: ignore[arg-type]
        # One look at the whole line is cheaper than four at each value.
        if b"\\" not in line and b"\n" not in line and b"\r" not in line and line.count(b"\t") < max(len(values), 1):
            return line + b"\n"
    return b"\t".join([b"\\N" if value is None else escape_text(value) for value in values]) + b"\n"


def escape_text(value: bytes) -> bytes:
    """The value so that COPY reads it back as it was: backslash first, then what ends a field or a line."""
    if b"\\" in value:
        value = value.replace(b"\\", b"\\\\")
    if b"\n" in value:
        value = value.replace(b"\n", b"\\n")
    if b"\r" in value:
        value = value.replace(b"\r", b"\\r")
    if b"\t" in value:
        value = value.replace(b"\t", b"\\t")
    return value


def copy_binary(
    rows: Iterable[Sequence[bytes | None]], columns: Sequence[int] | None = None, chunk: int = CHUNK
) -> Iterator[bytes]:
    """The payload of ``COPY … FROM STDIN (FORMAT binary)``, header and trailer included.

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
            yield b"".join(parts)
            parts = []
            size = 0
    parts.append(BINARY_TRAILER)
    yield b"".join(parts)


def binary_int8(value: int) -> bytes:
    """A bigint as its send function writes it: for columns that staging adds, such as a row count."""
    return struct.pack("!q", value)


def text_int(value: int) -> bytes:
    """An integer as its output function writes it."""
    return b"%d" % value


def require_binary(kinds: bytes, columns: Sequence[int]) -> None:
    """Raises ProtocolError when a selected column came as text: its type has no send function.

    Such a table must be staged in text format throughout.
    """
    if b"t" not in kinds:
        return
    for index in columns:
        if kinds[index] == TEXT:
            raise ProtocolError(
                "building a binary COPY",
                f"column {index + 1}",
                "the source sent its value as text although binary was asked for",
                "Run the task with binary transfer switched off.",
            )


def _too_large() -> ProtocolError:
    return ProtocolError(
        "building a binary COPY", "", "a value is larger than a field of COPY can be", "Report this as a bug."
    )
