# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The invariant behind every fault: the source was never told more than the destination has recorded as durable.

The source is read first and the destination after it. Neither position ever goes back, so a position that was confirmed
at the first look and is not recorded at the second was told too soon: a sample never cries wolf. It may come too late
for a breach that heals within a millisecond; with the worker frozen nothing moves any more and the comparison is exact,
which is why the tests at the break points look once more there (`held_to`).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any, Protocol

import psycopg

CONFIRMED = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = %s"
RECORDED = "SELECT confirmable >= %s::pg_lsn FROM causeway.cdc_progress WHERE migration = %s"


class Followed(Protocol):
    """What is followed: a Streaming or a Journey."""

    pair: Any

    @property
    def name(self) -> str: ...

    @property
    def slot(self) -> str: ...


def look(followed: Followed, source: psycopg.Connection[Any], destination: psycopg.Connection[Any]) -> bool | None:
    """Whether what was confirmed is recorded; None where slot or progress cannot be seen."""
    told = source.execute(CONFIRMED, [followed.slot]).fetchone()
    if told is None or told[0] is None:
        return None
    held = destination.execute(RECORDED, [told[0], followed.name]).fetchone()
    return None if held is None else bool(held[0])


def held_to(followed: Followed) -> None:
    """Look once; there has to be something to see."""
    assert look(followed, followed.pair.source.sql, followed.pair.destination.sql) is True


@contextlib.contextmanager
def sampled(followed: Followed, least: int = 50) -> Iterator[None]:
    """Samples all the time, through crashes of either server; fails when it was ever breached."""
    stop = threading.Event()
    seen: list[bool] = []

    def sample() -> None:
        while not stop.is_set():
            try:
                with followed.pair.source.connect() as source, followed.pair.destination.connect() as destination:
                    while not stop.is_set():
                        held = look(followed, source, destination)
                        if held is not None:
                            seen.append(held)
                        time.sleep(0.003)
            except psycopg.OperationalError:
                time.sleep(0.05)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)
    assert len(seen) >= least
    assert all(seen), f"{seen.count(False)} of {len(seen)} samples"
