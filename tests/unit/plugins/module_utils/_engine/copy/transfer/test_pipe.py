# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Both COPYs are played by functions here: what matters is what the pump does when one of them stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.copy.transfer.pipe import (
    PIECES,
    Copied,
    Sink,
    pump,
    rows_of,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import MismatchError


async def take_all(pieces: AsyncIterator[bytes]) -> str:
    return f"COPY {len([piece async for piece in pieces])}"


def sending(count: int, size: int = 10) -> Callable[[Sink], Awaitable[str]]:
    async def read(sink: Sink) -> str:
        for dummy in range(count):
            await sink(b"x" * size)
        return f"COPY {count}"

    return read


def test_rows_and_bytes_are_counted() -> None:
    assert asyncio.run(pump("t", sending(100), take_all)) == Copied(100, 1000)
    assert asyncio.run(pump("t", sending(0), take_all)) == Copied(0, 0)


def test_the_reader_waits_for_a_slow_writer() -> None:
    sent = 0

    async def read(sink: Sink) -> str:
        nonlocal sent
        for dummy in range(50):
            await sink(b"x")
            sent += 1
        return "COPY 50"

    async def write(pieces: AsyncIterator[bytes]) -> str:
        await asyncio.sleep(0.05)
        assert sent == PIECES
        return await take_all(pieces)

    assert asyncio.run(pump("t", read, write)).rows == 50


def test_a_refusal_at_the_destination_ends_the_reading() -> None:
    cancelled = []

    async def read(sink: Sink) -> str:
        try:
            while True:
                await sink(b"x")
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def write(pieces: AsyncIterator[bytes]) -> str:
        await anext(pieces)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        asyncio.run(asyncio.wait_for(pump("t", read, write), 5))
    assert cancelled


def test_an_error_at_the_source_ends_the_writing() -> None:
    async def read(sink: Sink) -> str:
        await sink(b"x")
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        asyncio.run(asyncio.wait_for(pump("t", read, take_all), 5))


def test_counts_that_differ_are_an_error() -> None:
    async def write(pieces: AsyncIterator[bytes]) -> str:
        await take_all(pieces)
        return "COPY 2"

    with pytest.raises(MismatchError, match="sent 3 rows, the destination got 2"):
        asyncio.run(pump("t", sending(3), write))


def test_command_tags() -> None:
    assert (rows_of("COPY 42"), rows_of("COPY"), rows_of("")) == (42, -1, -1)
