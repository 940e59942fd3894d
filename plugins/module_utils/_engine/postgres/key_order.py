# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values of key columns as integers, in the order in which PostgreSQL sorts them. Pure.

The order by which a table is cut and the order that decides about a change of the stream must be the same, in either
format: so both formats of a value are decoded to the integer that PostgreSQL itself stores. Integers are themselves, a
uuid is its 128 bits, a date its days and a timestamp its microseconds since 2000-01-01 (UTC); the infinities are the
ends of the type, as they are on disk.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Final

from ..errors import ProtocolError

INT2: Final = 21
INT4: Final = 23
INT8: Final = 20
UUID: Final = 2950
DATE: Final = 1082
TIMESTAMP: Final = 1114
TIMESTAMPTZ: Final = 1184

TYPE_NAMES: Final[Mapping[int, str]] = {
    INT2: "smallint",
    INT4: "integer",
    INT8: "bigint",
    UUID: "uuid",
    DATE: "date",
    TIMESTAMP: "timestamp",
    TIMESTAMPTZ: "timestamptz",
}
"""The types whose values have such an order, by OID."""

_WIDTHS: Final[Mapping[int, int]] = {INT2: 2, INT4: 4, INT8: 8, UUID: 16, DATE: 4, TIMESTAMP: 8, TIMESTAMPTZ: 8}

_EPOCH_DAYS: Final = 730_425  # from 0000-03-01 to 2000-01-01 in the proleptic Gregorian calendar
_DAY: Final = 86_400_000_000

_DATE: Final = re.compile(rb"(\d{4,7})-(\d\d)-(\d\d)( BC)?")
_TIME: Final = re.compile(
    rb"(\d{4,7})-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?([+-]\d\d(?::\d\d(?::\d\d)?)?)?( BC)?"
)


def from_binary(type_oid: int, data: bytes) -> int:
    """Decode a value in the binary format. Raises ProtocolError for a malformed one."""
    if len(data) != _WIDTHS.get(type_oid):
        raise _malformed(type_oid)
    return int.from_bytes(data, "big", signed=type_oid != UUID)


def from_text(type_oid: int, data: bytes) -> int:
    """Decode a value in the text format, with DateStyle ISO. Raises ProtocolError for a malformed one."""
    try:
        if type_oid in (INT2, INT4, INT8):
            return int(data)
        if type_oid == UUID:
            return int(data.replace(b"-", b""), 16)
        if type_oid in (DATE, TIMESTAMP, TIMESTAMPTZ):
            return _moment(type_oid, data)
    except ValueError as exc:
        raise _malformed(type_oid) from exc
    raise _malformed(type_oid)


def literal(type_oid: int, value: int) -> str | None:
    """Return the value as the text of an SQL literal; None for a moment outside the years 1 to 9999."""
    if type_oid == UUID:
        return str(uuid.UUID(int=value))
    try:
        if type_oid == DATE:
            return (date(2000, 1, 1) + timedelta(days=value)).isoformat()
        if type_oid in (TIMESTAMP, TIMESTAMPTZ):
            moment = (datetime(2000, 1, 1) + timedelta(microseconds=value)).isoformat(" ")
            return moment if type_oid == TIMESTAMP else f"{moment}+00"
    except OverflowError:
        return None
    return str(value)


def _moment(type_oid: int, data: bytes) -> int:
    largest = (1 << (8 * _WIDTHS[type_oid] - 1)) - 1
    if data == b"infinity":
        return largest
    if data == b"-infinity":
        return -largest - 1
    found = (_DATE if type_oid == DATE else _TIME).fullmatch(data)
    if found is None:
        raise _malformed(type_oid)
    year, month, day = int(found[1]), int(found[2]), int(found[3])
    if not (1 <= month <= 12 and 1 <= day <= 31):
        raise _malformed(type_oid)
    days = _days(1 - year if found[found.re.groups] else year, month, day)
    if type_oid == DATE:
        return days
    clock = (int(found[4]) * 60 + int(found[5])) * 60 + int(found[6]) - _offset(found[8])
    return days * _DAY + clock * 1_000_000 + int((found[7] or b"").ljust(6, b"0"))


def _offset(text: bytes | None) -> int:
    """Return the seconds east of UTC."""
    if not text:
        return 0
    seconds = 0
    for number, unit in zip(text[1:].split(b":"), (3600, 60, 1), strict=False):
        seconds += int(number) * unit
    return -seconds if text.startswith(b"-") else seconds


def _days(year: int, month: int, day: int) -> int:
    """Return the days since 2000-01-01, for any year: counted from a first of March, so that a leap day comes last."""
    if month <= 2:
        year, month = year - 1, month + 12
    return 365 * year + year // 4 - year // 100 + year // 400 + (153 * (month - 3) + 2) // 5 + day - 1 - _EPOCH_DAYS


def _malformed(type_oid: int) -> ProtocolError:
    return ProtocolError(
        "reading the key of a changed row",
        "",
        f"a value is no valid {TYPE_NAMES.get(type_oid, 'key of an ordered type')}",
        "Check that no proxy between the worker host and the source alters the stream; otherwise report this as a bug.",
    )
