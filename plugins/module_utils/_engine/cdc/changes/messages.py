# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The messages of logical replication, protocol version 1 (PostgreSQL manual, "Logical Replication Message Formats").

Streaming of unfinished transactions and two-phase decoding are off, so their messages do not occur here.
Times are microseconds since 2000-01-01 UTC, positions are WAL positions (``lsn.Lsn``).

Rows, their changes, and begin and end of a transaction come by the million: they are plain slotted classes, because
the constructor of a frozen dataclass costs three times as much, compiled or not. They are never changed once they are
made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from ...postgres.lsn import Lsn

NULL: Final = 0x6E  # 'n'
UNCHANGED: Final = 0x75  # 'u': a TOAST value that the source did not send, because the change left it alone
TEXT: Final = 0x74  # 't'
BINARY: Final = 0x62  # 'b'

_MARKER_SIZE: Final = 32
_HEXADECIMAL: Final = "0123456789abcdef"


class Row:
    """One tuple: ``kinds`` has one byte a column (``n`` null, ``u`` unchanged TOAST, ``t`` text, ``b`` binary).

    ``values`` has as many entries; it is None exactly where the kind is ``n`` or ``u``. A row that was decoded has its
    columns in ``data`` from ``at`` on, as TupleData that has been checked, and decodes ``values`` from them on demand:
    of an old row mostly only the key is needed. Otherwise ``data`` is empty.
    """

    __slots__ = ("_values", "at", "data", "kinds")

    def __init__(
        self, kinds: bytes, values: Sequence[bytes | None] | None = None, data: bytes = b"", at: int = 0
    ) -> None:
        self.kinds: bytes = kinds
        self._values: Sequence[bytes | None] | None = values
        self.data: bytes = data
        self.at: int = at

    @property
    def values(self) -> Sequence[bytes | None]:
        """The value of every column."""
        values = self._values
        if values is None:
            values = self._values = self._read()
        return values

    def value(self, position: int) -> bytes | None:
        """Return the value of one column."""
        values = self._values
        if values is not None:
            return values[position]
        data = self.data
        at = self.at
        for dummy in range(position):
            if data[at] == NULL or data[at] == UNCHANGED:
                at += 1
            else:
                at += 5 + ((data[at + 1] << 24) | (data[at + 2] << 16) | (data[at + 3] << 8) | data[at + 4])
        if data[at] == NULL or data[at] == UNCHANGED:
            return None
        start = at + 5
        return data[start : start + ((data[at + 1] << 24) | (data[at + 2] << 16) | (data[at + 3] << 8) | data[at + 4])]

    def _read(self) -> list[bytes | None]:
        data = self.data
        at = self.at
        values: list[bytes | None] = []
        for dummy in range(len(self.kinds)):
            kind = data[at]
            if kind == NULL or kind == UNCHANGED:
                values.append(None)
                at += 1
            else:
                start = at + 5
                at = start + ((data[at + 1] << 24) | (data[at + 2] << 16) | (data[at + 3] << 8) | data[at + 4])
                values.append(data[start:at])
        return values

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Row) and self.kinds == other.kinds and list(self.values) == list(other.values)

    def __hash__(self) -> int:
        return hash((self.kinds, tuple(self.values)))

    def __repr__(self) -> str:
        """Return the shape only: row values must not reach a log."""
        return f"Row({self.kinds!r})"


class Insert:
    """A new row; ``new`` has no unchanged column."""

    __slots__ = ("new", "relation_oid")

    def __init__(self, relation_oid: int, new: Row) -> None:
        self.relation_oid: int = relation_oid
        self.new: Row = new

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Insert) and self.relation_oid == other.relation_oid and self.new == other.new

    def __hash__(self) -> int:
        return hash((self.relation_oid, self.new))

    def __repr__(self) -> str:
        return f"Insert({self.relation_oid}, {self.new!r})"


class Update:
    """A changed row. ``old_kind``: ``''`` no old tuple came (the key is the same), ``'K'`` the old key (every other
    column reads as null there), ``'O'`` the whole old row (identity FULL); ``old`` is None exactly for ``''``.
    """

    __slots__ = ("new", "old", "old_kind", "relation_oid")

    def __init__(self, relation_oid: int, old_kind: str, old: Row | None, new: Row) -> None:
        self.relation_oid: int = relation_oid
        self.old_kind: str = old_kind
        self.old: Row | None = old
        self.new: Row = new

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Update)
            and (self.relation_oid, self.old_kind) == (other.relation_oid, other.old_kind)
            and self.old == other.old
            and self.new == other.new
        )

    def __hash__(self) -> int:
        return hash((self.relation_oid, self.old_kind, self.old, self.new))

    def __repr__(self) -> str:
        return f"Update({self.relation_oid}, {self.old_kind!r}, {self.old!r}, {self.new!r})"


class Delete:
    """A removed row: ``old_kind`` ``'K'`` (key only) or ``'O'`` (whole row)."""

    __slots__ = ("old", "old_kind", "relation_oid")

    def __init__(self, relation_oid: int, old_kind: str, old: Row) -> None:
        self.relation_oid: int = relation_oid
        self.old_kind: str = old_kind
        self.old: Row = old

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Delete)
            and (self.relation_oid, self.old_kind) == (other.relation_oid, other.old_kind)
            and self.old == other.old
        )

    def __hash__(self) -> int:
        return hash((self.relation_oid, self.old_kind, self.old))

    def __repr__(self) -> str:
        return f"Delete({self.relation_oid}, {self.old_kind!r}, {self.old!r})"


class Begin:
    """The start of a transaction. ``final_lsn``, the position of its commit record, is compared with a table's mark."""

    __slots__ = ("commit_time_us", "final_lsn", "xid")

    def __init__(self, final_lsn: Lsn, commit_time_us: int, xid: int) -> None:
        self.final_lsn: Lsn = final_lsn
        self.commit_time_us: int = commit_time_us
        self.xid: int = xid

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Begin) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def __repr__(self) -> str:
        return f"Begin{self._values()}"

    def _values(self) -> tuple[int, int, int]:
        return self.final_lsn, self.commit_time_us, self.xid


class Commit:
    """The commit of a transaction. ``commit_lsn`` repeats ``Begin.final_lsn``; ``end_lsn``, after the commit record, is
    the applied position.
    """

    __slots__ = ("commit_lsn", "commit_time_us", "end_lsn", "flags")

    def __init__(self, flags: int, commit_lsn: Lsn, end_lsn: Lsn, commit_time_us: int) -> None:
        self.flags: int = flags
        self.commit_lsn: Lsn = commit_lsn
        self.end_lsn: Lsn = end_lsn
        self.commit_time_us: int = commit_time_us

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Commit) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def __repr__(self) -> str:
        return f"Commit{self._values()}"

    def _values(self) -> tuple[int, int, int, int]:
        return self.flags, self.commit_lsn, self.end_lsn, self.commit_time_us


@dataclass(frozen=True, slots=True)
class Origin:
    """The origin from which the source itself had replicated this transaction."""

    commit_lsn: Lsn
    name: str


@dataclass(frozen=True, slots=True)
class RelationColumn:
    """One published column; ``typmod`` is -1 when the type has none."""

    name: str
    type_oid: int
    typmod: int
    part_of_key: bool


@dataclass(frozen=True, slots=True)
class Relation:
    """A table as the changes after this message have it; only published columns, in the order of their tuples.

    ``identity``: ``d`` default, ``n`` nothing, ``f`` full, ``i`` index.
    """

    oid: int
    schema: str
    name: str
    identity: str
    columns: tuple[RelationColumn, ...]


@dataclass(frozen=True, slots=True)
class Type:
    """The name of a type that is not built in."""

    oid: int
    schema: str
    name: str


@dataclass(frozen=True, slots=True)
class Truncate:
    """TRUNCATE of all these tables in one statement."""

    relation_oids: tuple[int, ...]
    cascade: bool
    restart_identity: bool


@dataclass(frozen=True, slots=True)
class LogicalMessage:
    """``pg_logical_emit_message`` at the source."""

    transactional: bool
    lsn: Lsn
    prefix: str
    content: bytes


def marker_in(message: LogicalMessage, prefix: str) -> str:
    """Return the content of a message in the shape of a marker, 128 bits as hexadecimal digits; else an empty text.

    Any role may send any message, of any size: only what is transactional and has this prefix may be ours.
    """
    if not message.transactional or message.prefix != prefix or len(message.content) != _MARKER_SIZE:
        return ""
    content = message.content.decode("ascii", "replace")
    return content if all(digit in _HEXADECIMAL for digit in content) else ""


Change: TypeAlias = "Insert | Update | Delete"
"""A change of one row."""

Message: TypeAlias = "Insert | Update | Delete | Begin | Commit | Origin | Relation | Type | Truncate | LogicalMessage"


@dataclass(frozen=True, slots=True)
class XLogData:
    """A part of the stream: one message of the output plugin."""

    wal_start: Lsn
    wal_end: Lsn
    sent_at_us: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Keepalive:
    """A sign of life of the source; ``reply_requested``: it disconnects unless feedback comes soon."""

    wal_end: Lsn
    sent_at_us: int
    reply_requested: bool
