# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decode a change of a row with huge values, each of which is copied once: straight out of the driver's buffer. Pure.

Under identity FULL an update names the old row too, and an application that writes every column sends what it did not
change. What the old row and the new one have in common is one object then. The rest of the message is small, and goes
through `pgoutput.decode`, which alone decides what is a valid message.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from .messages import BINARY, NULL, TEXT, UNCHANGED, Delete, Insert, Message, Row, Update
from .pgoutput import decode

LARGE: Final = 1024 * 1024
"""Bytes from which a message is decoded here."""

HUGE: Final = 64 * 1024
"""Bytes from which a value is copied by itself."""

_NO_LENGTH: Final = b"\0\0\0\0"
_NEW: Final = 0x4E
_OLD: Final = (0x4B, 0x4F)


class _CutValues:
    """The huge values of one tuple: the columns, and for each the part of the message that it is."""

    __slots__ = ("columns", "parts")

    def __init__(self) -> None:
        self.columns: list[int] = []
        self.parts: list[memoryview] = []


def decode_large(data: memoryview, offset: int, huge: int = HUGE) -> Message:
    """Return the message that starts at ``offset`` and fills the rest of ``data``, whose values from ``huge`` bytes on are
    copied by themselves. Raises ProtocolError.
    """
    rest: list[bytes] = []
    tuples: list[_CutValues] = []
    try:
        cut = _cut_message(data, offset, huge, rest, tuples)
    except IndexError:
        cut = False  # it is cut off
    if not cut:
        return decode(bytes(data), offset)
    message = decode(b"".join(rest))
    if isinstance(message, Insert):
        return Insert(message.relation_oid, _restored(message.new, tuples[0], []))
    if isinstance(message, Delete):
        return Delete(message.relation_oid, message.old_kind, _restored(message.old, tuples[0], []))
    if isinstance(message, Update):
        new = _restored(message.new, tuples[-1], [])
        old = None if message.old is None else _restored(message.old, tuples[0], new.values)
        return Update(message.relation_oid, message.old_kind, old, new)
    return message


def _cut_message(data: memoryview, at: int, huge: int, rest: list[bytes], tuples: list[_CutValues]) -> bool:
    """Take a change of a row apart, its huge values to ``tuples`` and all else to ``rest``, where they are empty; return
    False where it is none, or malformed. Raises IndexError where it is cut off.
    """
    if data[at] not in (0x55, 0x49, 0x44):  # U, I, D
        return False
    head = at + 6  # tag, OID, and which tuple follows
    rest.append(bytes(data[at:head]))
    at = _cut_tuple(data, head, huge, rest, tuples)
    if at > 0 and data[head - 1] in _OLD and at < len(data) and data[at] == _NEW:
        rest.append(b"N")
        at = _cut_tuple(data, at + 1, huge, rest, tuples)
    if at < 0:
        return False
    rest.append(bytes(data[at:]))  # of a valid message nothing
    return True


def _cut_tuple(data: memoryview, at: int, huge: int, rest: list[bytes], tuples: list[_CutValues]) -> int:
    """Take the TupleData at ``at`` apart; return where it ends, -1 where it is malformed."""
    cut = _CutValues()
    tuples.append(cut)
    start = at
    count = (data[at] << 8) | data[at + 1]
    at += 2
    for column in range(count):
        kind = data[at]
        if kind == NULL or kind == UNCHANGED:
            at += 1
            continue
        if kind != BINARY and kind != TEXT:
            return -1
        size = (data[at + 1] << 24) | (data[at + 2] << 16) | (data[at + 3] << 8) | data[at + 4]
        end = at + 5 + size
        if end > len(data):
            return -1
        if size >= huge:
            rest.append(bytes(data[start : at + 1]))
            rest.append(_NO_LENGTH)
            cut.columns.append(column)
            cut.parts.append(data[at + 5 : end])
            start = end
        at = end
    rest.append(bytes(data[start:at]))
    return at


def _restored(row: Row, cut: _CutValues, like: Sequence[bytes | None]) -> Row:
    """Return a row with its huge values; one that is the same in ``like``, the values of the other row, is not copied."""
    values = list(row.values)
    for number, column in enumerate(cut.columns):
        part = cut.parts[number]
        known = like[column] if column < len(like) else None
        if known is not None and len(known) == len(part) and known.startswith(part):
            values[column] = known
        else:
            values[column] = bytes(part)
    return Row(row.kinds, values)
