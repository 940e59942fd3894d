# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stream cut into pieces that one destination transaction can take. Pure; the clock is handed in.

A piece is whole source transactions in commit order, until a size or an age is reached; a transaction larger than a
piece comes as several, of which only the last may be committed after. Within a piece, ``steps`` are to be taken in
order: TRUNCATE and a changed Relation are barriers between segments of changes, over which nothing is compacted.

Which changes belong to us is decided here, by PostgreSQL's own rule: a change of a transaction is kept if and only
if the transaction's commit record lies at or behind the mark of the table.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from ..errors import MismatchError, ProtocolError
from ..lsn import NO_LSN, Lsn, format_lsn
from .messages import (
    Begin,
    Change,
    Commit,
    Delete,
    Insert,
    LogicalMessage,
    Message,
    Origin,
    Relation,
    Row,
    Truncate,
    Type,
    Update,
)


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """When a batch is full: bytes of messages, rows, or seconds since its first transaction began to arrive."""

    max_bytes: int = 16 * 1024 * 1024
    max_changes: int = 100_000
    max_age: float = 1.0


@dataclass(slots=True)
class Segment:
    """Changes between two barriers, in source order, of any tables."""

    changes: list[Change] = field(default_factory=list)

    def by_table(self) -> dict[int, list[Change]]:
        """The changes by relation oid, each list in source order."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class RelationStep:
    """From here on the table looks like this: the first sight of it (``previous`` is None), or a changed one."""

    relation: Relation
    previous: Relation | None


@dataclass(frozen=True, slots=True)
class TruncateStep:
    """TRUNCATE of exactly these tables: those of the message whose mark lets it through."""

    relations: tuple[Relation, ...]
    restart_identity: bool


Step = Segment | RelationStep | TruncateStep


@dataclass(frozen=True, slots=True)
class SystemChange:
    """A change of one of our own tables at the source (heartbeat, markers)."""

    relation: Relation
    change: Change
    final_lsn: Lsn


@dataclass(slots=True)
class Piece:
    """Work for the destination, in ``steps``.

    ``last_of_transaction``: the destination transaction may commit after this piece, and ``end_lsn`` (the commit END
    LSN of the last source transaction in it) becomes the applied position; otherwise ``end_lsn`` is 0 and the next
    piece goes into the same destination transaction. ``steps`` may be empty: transactions of which nothing is ours
    still move the position. ``size`` is in bytes of messages.
    ``inserts`` … ``truncates`` count what is kept, ``filtered`` what the marks left out (the copy has it),
    ``system`` what came of our own tables. ``commit_time_us`` is the last commit's, 0 when there is none.
    """

    steps: list[Step] = field(default_factory=list)
    system: list[SystemChange] = field(default_factory=list)
    last_of_transaction: bool = True
    end_lsn: Lsn = NO_LSN
    commit_time_us: int = 0
    transactions: int = 0
    size: int = 0
    inserts: int = 0
    updates: int = 0
    deletes: int = 0
    truncates: int = 0
    filtered: int = 0

    @property
    def changes(self) -> int:
        """Rows changed."""
        return self.inserts + self.updates + self.deletes


class Batcher:
    """Decoded messages in, pieces out. One for each replication connection: a new connection starts a new one.

    ``marks``: source oid of every table of the migration, and its mark. ``system``: oids of our own tables, whose
    changes go to ``Piece.system``. ``applied``: transactions whose commit record lies before it are skipped (the slot
    may be behind us). ``surfaced``: relations that the receiver of the pieces already knows, so that they are no
    barrier again.
    """

    def __init__(
        self,
        marks: Mapping[int, Lsn],
        system: Collection[int] = (),
        limits: BatchLimits | None = None,
        applied: Lsn = NO_LSN,
        surfaced: Mapping[int, Relation] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        raise NotImplementedError

    def add(self, message: Message, size: int) -> Sequence[Piece]:
        """Take the next message (``size``: bytes of it); the pieces that it completed, mostly none.

        Raises ProtocolError when the messages contradict each other, MismatchError when a change is of a table that
        the migration does not know.
        """
        raise NotImplementedError

    def flush(self) -> Piece | None:
        """Whatever whole transactions have come, as a piece; None when there is nothing. Call it when the receive
        queue is empty, so that an idle stream is applied at once, and when ``due``.
        """
        raise NotImplementedError

    def due(self) -> bool:
        """The whole transactions that wait are older than ``max_age``."""
        raise NotImplementedError

    @property
    def pending(self) -> bool:
        """Something has come that no piece has taken: a keepalive's position may not be recorded."""
        raise NotImplementedError

    @property
    def surfaced(self) -> Mapping[int, Relation]:
        """The relations as of the pieces handed out."""
        raise NotImplementedError

    @property
    def types(self) -> Mapping[int, Type]:
        """Names of the types that are not built in, as the stream told them."""
        raise NotImplementedError
