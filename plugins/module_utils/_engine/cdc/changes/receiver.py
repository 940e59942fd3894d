# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The path of every message: read from the driver, decoded, added to a batch. Pure, but for the function it calls.

It is one loop, so that compiled code calls only compiled code from one message to the next.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ...errors import ProtocolError
from ...postgres.lsn import NO_LSN, Lsn
from .batcher import Batcher
from .batches import Batch
from .large_changes import LARGE, decode_large
from .messages import Commit, Keepalive, Message
from .pgoutput import XLOG_HEADER, decode, parse_envelope

DRY: Final = 0
"""No further message has come so far."""

ENDED: Final = -1
"""The source has ended the stream."""

_NOTHING: Final = memoryview(b"")
_BEHIND_US: Final = 500_000
_XLOG_DATA: Final = 0x77  # 'w'
_SENT_AT: Final = 17


class Receiver:
    """What has come and has not been taken yet: ``batches`` that are complete, and what ``batcher`` still gathers.

    ``received`` is the highest position that the source has named, ``keepalive`` the highest of a keepalive: everything
    before it has come. ``behind``: the last transaction had been committed for a while when the source sent it, both
    by the source's clock, so that more will follow. ``reply_requested`` and ``asked`` say that the source wants
    feedback; their readers reset them, the stream's thread the first and the apply loop the second.
    """

    def __init__(self, batcher: Batcher, start: Lsn) -> None:
        self.batcher: Batcher = batcher
        self.batches: list[Batch] = []
        self.weight: int = 0
        self.received: Lsn = start
        self.keepalive: Lsn = NO_LSN
        self.reply_requested: bool = False
        self.asked: bool = False
        self.behind: bool = False

    def read(self, next_message: Callable[[int], tuple[int, memoryview]], at_most: int) -> int:
        """Take messages until about ``at_most`` bytes have come. Returns how many bytes, or DRY, or ENDED.

        ``next_message`` is get_copy_data of the driver's connection, called without waiting. Raises ProtocolError and
        MismatchError, and what ``next_message`` raises.
        """
        taken = 0
        while taken < at_most:
            length, data = next_message(1)
            if length <= 0:
                return ENDED if length < 0 else DRY
            if length < LARGE:
                self.accept(bytes(data))
            else:
                self._accept_large(data)
                data = _NOTHING  # or the driver's copy would live until the next message has come
            taken += length
        return taken

    def accept(self, data: bytes) -> None:
        """Take one CopyData of the stream. Raises ProtocolError, MismatchError."""
        if len(data) <= XLOG_HEADER or data[0] != _XLOG_DATA:
            self._envelope(data)
            return
        message = decode(data, XLOG_HEADER)
        if isinstance(message, Commit):
            self.received = max(self.received, int.from_bytes(data[1:9], "big"))
            sent_at = int.from_bytes(data[_SENT_AT:XLOG_HEADER], "big")
            self.behind = sent_at - message.commit_time_us > _BEHIND_US
        self._add(message, len(data))

    def _accept_large(self, data: memoryview) -> None:
        if data[0] == _XLOG_DATA:
            self._add(decode_large(data, XLOG_HEADER), len(data))
        else:
            self._envelope(bytes(data))

    def _add(self, message: Message, size: int) -> None:
        for batch in self.batcher.add(message, size):
            self.batches.append(batch)
            self.weight += batch.weight

    def _envelope(self, data: bytes) -> None:
        envelope = parse_envelope(data)
        if not isinstance(envelope, Keepalive):
            raise ProtocolError("decoding", "a message", "it is empty", "Report this as a bug.")
        self.received = max(self.received, envelope.wal_end)
        self.keepalive = max(self.keepalive, envelope.wal_end)
        if envelope.reply_requested:
            self.reply_requested = self.asked = True

    def take(self) -> Batch | None:
        """Return the next complete batch; None when there is none."""
        if not self.batches:
            return None
        batch = self.batches.pop(0)
        self.weight -= batch.weight
        return batch

    def ready(self, enough: int, dry: bool) -> bool:
        """Return whether the apply loop should take a batch: of whatever has come, or, while the source sends what was
        committed a while ago, of ``enough`` by weight, of what has become old, or when no more comes (``dry``).
        """
        if self.batches:
            return True
        waiting = self.batcher.waiting
        if waiting.transactions == 0:
            return False
        return not self.behind or dry or waiting.weight >= enough or self.batcher.due()

    @property
    def idle(self) -> bool:
        """Whether everything that has come has been taken."""
        return not self.batches and not self.batcher.pending
