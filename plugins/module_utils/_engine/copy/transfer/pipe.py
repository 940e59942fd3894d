# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pipe from one COPY to another: pieces of COPY data through a bounded queue, none of them parsed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from ...errors import MismatchError

PIECES = 8
"""How many pieces, of some 240 kB each, may wait between the two servers."""

Sink = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Copied:
    """Rows, and bytes of COPY data."""

    rows: int
    bytes: int


class _Pipe:
    def __init__(self) -> None:
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue(PIECES)
        self.bytes = 0

    async def put(self, piece: bytes) -> None:
        self.bytes += len(piece)
        await self._queue.put(piece)

    async def end(self) -> None:
        await self._queue.put(None)

    async def pieces(self) -> AsyncIterator[bytes]:
        while (piece := await self._queue.get()) is not None:
            yield piece


def rows_of(status: str) -> int:
    """Return the rows of a command tag: 42 for ``COPY 42``, -1 if it has no number."""
    count = status.rpartition(" ")[2]
    return int(count) if count.isdigit() else -1


async def pump(
    what: str, read: Callable[[Sink], Awaitable[str]], write: Callable[[AsyncIterator[bytes]], Awaitable[str]]
) -> Copied:
    """Run both COPYs concurrently, each returning its command tag; return what was copied.

    When one fails the other is cancelled, and both sessions can only be closed. Raises what they
    raise, and MismatchError when the two count different numbers of rows.
    """
    pipe = _Pipe()

    async def read_all() -> str:
        status = await read(pipe.put)
        await pipe.end()
        return status

    reading = asyncio.ensure_future(read_all())
    writing = asyncio.ensure_future(write(pipe.pieces()))
    try:
        await asyncio.wait({reading, writing}, return_when=asyncio.FIRST_EXCEPTION)
        for task in (writing, reading):  # a refusal at the destination is the cause of the reader's cancellation
            if task.done():
                task.result()
        sent, taken = rows_of(await reading), rows_of(await writing)
    finally:
        for task in (reading, writing):
            task.cancel()
        await asyncio.gather(reading, writing, return_exceptions=True)
    if sent != taken:
        raise MismatchError(
            "copying table", what, f"the source sent {sent} rows, the destination got {taken}", "Report this as a bug."
        )
    return Copied(taken, pipe.bytes)
