# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decode the bytes of the replication stream to messages, and encode feedback. Pure: no socket, no state.

Formats: PostgreSQL manual, "Streaming Replication Protocol" (the envelope) and "Logical Replication Message Formats"
(what pgoutput puts into it, protocol version 1). For any input a function here returns a message or raises
ProtocolError; sizes are checked before memory of that size is allocated.
"""

from __future__ import annotations

import struct
from typing import Final

from ...errors import ProtocolError
from ...postgres.lsn import Lsn
from .messages import (
    BINARY,
    NULL,
    TEXT,
    UNCHANGED,
    Begin,
    Commit,
    Delete,
    Insert,
    Keepalive,
    LogicalMessage,
    Message,
    Origin,
    Relation,
    RelationColumn,
    Row,
    Truncate,
    Type,
    Update,
    XLogData,
)

PG_EPOCH_UNIX_US: Final = 946_684_800_000_000
"""2000-01-01 UTC, the start of PostgreSQL's clock, in microseconds of the Unix clock."""

XLOG_HEADER: Final = 25
"""Bytes of the envelope before the payload: ``decode(data, XLOG_HEADER)`` saves the copy."""

_OLD_KEY: Final = 0x4B
_OLD_ROW: Final = 0x4F
_NEW: Final = 0x4E

_SHAPED: Final = 24
_SHAPES: Final = 256
_known_kinds: Final[list[dict[int, bytes]]] = [{} for dummy in range(_SHAPED + 1)]
"""By the number of columns: kinds by shape (`_kinds`), for rows of up to ``_SHAPED`` columns, ``_SHAPES`` each."""

_BEGIN: Final = struct.Struct("!QqI")
_COMMIT: Final = struct.Struct("!BQQq")
_COLUMN: Final = struct.Struct("!Ii")
_XLOG: Final = struct.Struct("!QQq")
_KEEPALIVE: Final = struct.Struct("!QqB")
_STATUS: Final = struct.Struct("!cQQQqB")
_UINT64_MAX: Final = 0xFFFF_FFFF_FFFF_FFFF


def decode(payload: bytes, offset: int = 0) -> Message:
    """Return the message that starts at ``offset`` and fills the rest of ``payload``. Raises ProtocolError."""
    if offset >= len(payload):
        raise _malformed("a message", "it is empty")
    tag = payload[offset]
    at = offset + 1
    if tag == 0x55:  # U
        return _update(payload, at)
    if tag == 0x49:  # I
        return _insert(payload, at)
    if tag == 0x44:  # D
        return _delete(payload, at)
    if tag == 0x42:  # B
        return _begin(payload, at)
    if tag == 0x43:  # C
        return _commit(payload, at)
    if tag == 0x52:  # R
        return _relation(payload, at)
    return _seldom(payload, tag, at)


def _seldom(data: bytes, tag: int, at: int) -> Message:
    if tag == 0x59:  # Y
        return _type(data, at)
    if tag == 0x54:  # T
        return _truncate(data, at)
    if tag == 0x4F:  # O
        return _origin(data, at)
    if tag == 0x4D:  # M
        return _logical_message(data, at)
    raise _malformed("a message", f"its tag is the byte {tag}, which protocol version 1 does not know")


def parse_envelope(data: bytes) -> XLogData | Keepalive:
    """Return what one CopyData of the replication stream holds. Raises ProtocolError."""
    if not data:
        raise _malformed("the stream", "a CopyData is empty")
    tag = data[0]
    if tag == 0x77:  # w
        _need(data, 1, 24, "XLogData")
        start, end, sent = _XLOG.unpack_from(data, 1)
        return XLogData(start, end, sent, data[XLOG_HEADER:])
    if tag == 0x6B:  # k
        _need(data, 1, 17, "a keepalive")
        _end(data, 18, "a keepalive")
        end, sent, reply = _KEEPALIVE.unpack_from(data, 1)
        if reply > 1:
            raise _malformed("a keepalive", "its flag is neither 0 nor 1")
        return Keepalive(end, sent, reply == 1)
    raise _malformed("the stream", f"a CopyData starts with the byte {tag}")


def standby_status_update(
    written: Lsn, flushed: Lsn, applied: Lsn, now_us: int, *, reply_requested: bool = False
) -> bytes:
    """Return the feedback message. ``flushed`` is confirmed to the source; ``now_us`` counts from ``PG_EPOCH_UNIX_US``.

    Raises ProtocolError for a position that is no position, or out of order (flushed beyond written).
    """
    if not (0 <= flushed <= written <= _UINT64_MAX and 0 <= applied <= written):
        raise ProtocolError(
            "writing feedback to the source",
            "",
            "the positions are not in order",
            "Report this as a bug.",
        )
    return _STATUS.pack(b"r", written, flushed, applied, now_us, 1 if reply_requested else 0)


def _insert(data: bytes, at: int) -> Insert:
    oid, part = _oid_and_part(data, at, "Insert")
    if part != _NEW:
        raise _malformed("Insert", "its tuple is not a new one")
    new, end = _tuple(data, at + 5)
    _end(data, end, "Insert")
    if UNCHANGED in new.kinds:
        raise _malformed("Insert", "a column of it is marked as unchanged")
    return Insert(oid, new)


def _update(data: bytes, at: int) -> Update:
    oid, part = _oid_and_part(data, at, "Update")
    at += 5
    old: Row | None = None
    old_kind = ""
    if part in (_OLD_ROW, _OLD_KEY):
        old_kind = "O" if part == _OLD_ROW else "K"
        old, at = _tuple(data, at)
        _need(data, at, 1, "Update")
        part = data[at]
        at += 1
    if part != _NEW:
        raise _malformed("Update", "its new tuple is missing")
    new, end = _tuple(data, at)
    _end(data, end, "Update")
    if old is not None and len(old.kinds) != len(new.kinds):
        raise _malformed("Update", "old and new tuple differ in their number of columns")
    return Update(oid, old_kind, old, new)


def _delete(data: bytes, at: int) -> Delete:
    oid, part = _oid_and_part(data, at, "Delete")
    if part not in (_OLD_ROW, _OLD_KEY):
        raise _malformed("Delete", "its old tuple is missing")
    old, end = _tuple(data, at + 5)
    _end(data, end, "Delete")
    return Delete(oid, "O" if part == _OLD_ROW else "K", old)


def _oid_and_part(data: bytes, at: int, what: str) -> tuple[int, int]:
    _need(data, at, 5, what)
    return _uint32(data, at), data[at + 4]


def _tuple(data: bytes, at: int) -> tuple[Row, int]:
    """Return the row of the TupleData at ``at``, which reads its values from there, and where the TupleData ends."""
    size = len(data)
    if at + 2 > size:
        raise _malformed("a tuple", "it is cut off")
    count = (data[at] << 8) | data[at + 1]
    at += 2
    if count > size - at:  # every column takes at least its kind
        raise _malformed("a tuple", "it claims more columns than it has bytes")
    first = at
    shape = 0
    for dummy in range(count):
        if at >= size:
            raise _malformed("a tuple", "it is cut off")
        kind = data[at]
        if kind == BINARY or kind == TEXT:
            if at + 5 > size:
                raise _malformed("a tuple", "it is cut off")
            shape = (shape << 2) + (1 if kind == TEXT else 0)
            # by hand: int.from_bytes costs a slice and a call for every value
            at += 5 + ((data[at + 1] << 24) | (data[at + 2] << 16) | (data[at + 3] << 8) | data[at + 4])
            if at > size:
                raise _malformed("a tuple", "a value is longer than the message")
        elif kind == NULL or kind == UNCHANGED:
            shape = (shape << 2) + (2 if kind == NULL else 3)
            at += 1
        else:
            raise _malformed("a tuple", f"a column is of the kind {kind}")
    return Row(_kinds(data, first, count, shape), None, data, first), at


def _kinds(data: bytes, at: int, count: int, shape: int) -> bytes:
    """Return the kinds of a tuple. ``shape`` has two bits for each: most rows are of a few shapes, which are cached."""
    if count <= _SHAPED:
        known = _known_kinds[count].get(shape)
        if known is not None:
            return known
    kinds = bytearray(count)
    for index in range(count):
        kind = data[at]
        kinds[index] = kind
        if kind == NULL or kind == UNCHANGED:
            at += 1
        else:
            at += 5 + ((data[at + 1] << 24) | (data[at + 2] << 16) | (data[at + 3] << 8) | data[at + 4])
    made = bytes(kinds)
    if count <= _SHAPED and len(_known_kinds[count]) < _SHAPES:
        _known_kinds[count][shape] = made
    return made


def _begin(data: bytes, at: int) -> Begin:
    _need(data, at, 20, "Begin")
    _end(data, at + 20, "Begin")
    final_lsn, time_us, xid = _BEGIN.unpack_from(data, at)
    return Begin(final_lsn, time_us, xid)


def _commit(data: bytes, at: int) -> Commit:
    _need(data, at, 25, "Commit")
    _end(data, at + 25, "Commit")
    flags, commit_lsn, end_lsn, time_us = _COMMIT.unpack_from(data, at)
    return Commit(flags, commit_lsn, end_lsn, time_us)


def _origin(data: bytes, at: int) -> Origin:
    _need(data, at, 8, "Origin")
    name, end = _string(data, at + 8, "Origin")
    _end(data, end, "Origin")
    return Origin(_uint64(data, at), name)


def _relation(data: bytes, at: int) -> Relation:
    _need(data, at, 4, "Relation")
    oid = _uint32(data, at)
    schema, at = _string(data, at + 4, "Relation")
    name, at = _string(data, at, "Relation")
    _need(data, at, 3, "Relation")
    identity = chr(data[at])
    if identity not in "dnfi":
        raise _malformed("Relation", "its replica identity is unknown")
    count = (data[at + 1] << 8) | data[at + 2]
    at += 3
    columns: list[RelationColumn] = []
    for dummy in range(count):
        _need(data, at, 1, "Relation")
        flags = data[at]
        column, at = _string(data, at + 1, "Relation")
        _need(data, at, 8, "Relation")
        type_oid, typmod = _COLUMN.unpack_from(data, at)
        at += 8
        columns.append(RelationColumn(column, type_oid, typmod, flags & 1 == 1))
    _end(data, at, "Relation")
    # The protocol writes pg_catalog as an empty name.
    return Relation(oid, schema or "pg_catalog", name, identity, tuple(columns))


def _type(data: bytes, at: int) -> Type:
    _need(data, at, 4, "Type")
    oid = _uint32(data, at)
    schema, at = _string(data, at + 4, "Type")
    name, at = _string(data, at, "Type")
    _end(data, at, "Type")
    return Type(oid, schema or "pg_catalog", name)


def _truncate(data: bytes, at: int) -> Truncate:
    _need(data, at, 5, "Truncate")
    count = _uint32(data, at)
    flags = data[at + 4]
    at += 5
    if count * 4 != len(data) - at:
        raise _malformed("Truncate", "its length does not fit the number of its tables")
    if flags > 3:
        raise _malformed("Truncate", "it has options that we do not know")
    oids = tuple([_uint32(data, at + 4 * index) for index in range(count)])
    return Truncate(oids, flags & 1 == 1, flags & 2 == 2)


def _logical_message(data: bytes, at: int) -> LogicalMessage:
    _need(data, at, 9, "Message")
    flags = data[at]
    lsn = _uint64(data, at + 1)
    prefix, at = _string(data, at + 9, "Message")
    _need(data, at, 4, "Message")
    size = _uint32(data, at)
    at += 4
    if size != len(data) - at:
        raise _malformed("Message", "its content has another length than it says")
    return LogicalMessage(flags & 1 == 1, lsn, prefix, data[at:])


def _uint32(data: bytes, at: int) -> int:
    return (data[at] << 24) | (data[at + 1] << 16) | (data[at + 2] << 8) | data[at + 3]


def _uint64(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 8], "big")


def _string(data: bytes, at: int, what: str) -> tuple[str, int]:
    """Return a zero-terminated UTF-8 string (every session sets client_encoding), and where the next field starts."""
    end = data.find(b"\0", at)
    if end < 0:
        raise _malformed(what, "a name in it has no end")
    try:
        return data[at:end].decode("utf-8"), end + 1
    except UnicodeDecodeError:
        raise _malformed(what, "a name in it is not UTF-8") from None


def _need(data: bytes, at: int, size: int, what: str) -> None:
    if at + size > len(data):
        raise _malformed(what, "it is cut off")


def _end(data: bytes, at: int, what: str) -> None:
    if at != len(data):
        raise _malformed(what, "bytes follow its end")


def _malformed(what: str, why: str) -> ProtocolError:
    return ProtocolError(
        "decoding",
        what,
        why,
        "Check that source and proxy speak the replication protocol unchanged; otherwise report this as a bug.",
    )
