# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The CDC worker killed with -9 before and after every step of a batch: what stands then, and that the next one goes on.

One stream for all of them, each with a batch of its own that goes through staging, and writers beside it.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator

import pytest
from support.clusters.pairs import Pair
from support.faults.durability import held_to, sampled
from support.harness.streaming import Streaming
from support.loads.accounts import LOADED, AccountLoad, identical
from support.waiting import until

STEPS = (
    "batch sent",
    "staging filled",
    "DML done",
    "progress written",
    "commit sent",
    "commit answered",
    "position recorded",
    "feedback sent",
)
PLACES = [f"{when} {step}" for step in STEPS for when in ("before", "after")]
STANDS_FROM = PLACES.index("after commit sent")
"""From here on the destination has the COMMIT, whether it is ever answered or not."""
TOLD_FROM = PLACES.index("after feedback sent")


@pytest.fixture(scope="module")
def streaming(make_lasting_pair: Callable[..., Pair], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Streaming]:
    """A stream that all cases share; each leaves it drained and stopped."""
    pair = make_lasting_pair()
    pair.run(LOADED + "CREATE TABLE told (place text PRIMARY KEY)")
    home: pathlib.Path = tmp_path_factory.mktemp("breakpoints")
    streaming = Streaming(pair, home)
    streaming.begin(batch_size=150, batch_age=0.05)
    yield streaming
    streaming.close()


def a_batch(streaming: Streaming, place: str) -> str:
    """One transaction that no pipeline of single rows takes; the source's position before it."""
    source = streaming.pair.source
    position: str = source.value("SELECT pg_current_wal_insert_lsn()::text")
    with source.connect() as connection, connection.transaction():
        connection.execute("INSERT INTO told VALUES (%s)", [place])
        connection.execute("UPDATE account SET balance = balance + 1 WHERE id <= 40")
        connection.execute("INSERT INTO entry (account, delta) SELECT n, n FROM generate_series(1, 40) n")
        connection.execute("DELETE FROM entry WHERE id IN (SELECT id FROM entry ORDER BY id LIMIT 15)")
        connection.execute("INSERT INTO log SELECT 'line ' || n % 5 FROM generate_series(1, 30) n")
        connection.execute("DELETE FROM log WHERE ctid IN (SELECT ctid FROM log LIMIT 15)")
    return position


def stands(streaming: Streaming, place: str) -> bool:
    return bool(streaming.pair.destination.value("SELECT true FROM told WHERE place = %s", [place]))


def told_beyond(streaming: Streaming, position: str) -> bool:
    """Whether the source was told a position past this one."""
    return bool(
        streaming.pair.source.value(
            "SELECT confirmed_flush_lsn > %s::pg_lsn FROM pg_replication_slots WHERE slot_name = %s",
            [position, streaming.slot],
        )
    )


@pytest.mark.faults
@pytest.mark.parametrize("place", PLACES)
def test_killed_at(streaming: Streaming, place: str) -> None:
    began = a_batch(streaming, place)
    with AccountLoad(streaming.pair, writers=2) as load, sampled(streaming):
        streaming.start(break_at=place)
        if PLACES.index(place) >= STANDS_FROM:
            until(lambda: stands(streaming, place), f"{place}: what was committed does not stand")
        else:
            assert not stands(streaming, place)
        if PLACES.index(place) >= TOLD_FROM:
            until(lambda: told_beyond(streaming, began), "the source has not heard")
        else:
            assert not told_beyond(streaming, began)
        held_to(streaming)
        streaming.kill()
        streaming.start()
        until(lambda: stands(streaming, place), "the next worker does not go on")
        written = load.transactions
        until(lambda: load.transactions > written, "the writers have stopped")
    identical(streaming)
    assert streaming.progress("conflicts") == 0
    assert streaming.stop() == 0


@pytest.mark.faults
@pytest.mark.parametrize("place", ["before position recorded", "after position recorded", "before feedback sent"])
def test_killed_while_nothing_of_ours_is_written(streaming: Streaming, place: str) -> None:
    """Then a keepalive's position is recorded, and confirmed: what is applied stays where it was."""
    source = streaming.pair.source
    applied = streaming.progress("applied")
    source.run("CREATE SCHEMA IF NOT EXISTS aside; CREATE TABLE IF NOT EXISTS aside.t (v text)")
    source.run("INSERT INTO aside.t SELECT repeat('x', 100) FROM generate_series(1, 1000)")
    with sampled(streaming, least=10):
        streaming.start(break_at=place)
        held_to(streaming)
        streaming.kill()
    assert streaming.progress("applied") == applied
    streaming.start()
    identical(streaming)
    assert streaming.stop() == 0
