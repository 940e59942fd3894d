# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Exact under load: every table under its own mark, thousands of subtransactions, idle sources, slots that do not fit."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from support.faults.durability import held_to
from support.harness.exactness import MakeJourney
from support.loads.clients import Clients
from support.loads.repeated import Repeated


def test_every_table_under_a_mark_of_its_own(make_journey: MakeJourney) -> None:
    journey = make_journey()
    with Clients(journey.pair.source) as clients:
        journey.prepare()
        journey.copy()
        assert len(set(journey.marks().values())) == 1
        journey.task()
        for table in ("log", "entry", "day_1", "told", "bag", "account", "seat"):
            time.sleep(0.3)
            journey.forget(table)
            copied = journey.copy()
            assert copied["runs"] == 1
            journey.task()
            held_to(journey)
        time.sleep(0.5)
    marks = journey.marks()
    assert len(marks) == 8
    assert len(set(marks.values())) == 8, marks
    assert journey.drained() > 3000
    journey.exactly_once(clients)


@contextmanager
def exception_blocks(end: Any, clients: int = 16, blocks: int = 100) -> Iterator[None]:
    """Clients whose transactions hold so many open subtransactions that a slot's snapshot is too large."""
    block = (
        f"DO $$ BEGIN FOR n IN 1..{blocks} LOOP BEGIN INSERT INTO log VALUES (%s, 'kept ' || n);"
        " IF n %% 3 = 0 THEN RAISE EXCEPTION 'no'; END IF;"
        " EXCEPTION WHEN raise_exception THEN NULL; END; END LOOP; PERFORM pg_sleep(0.05 * random()); END $$"
    )
    with Repeated(end, lambda session, client: session.execute(block % client), sessions=clients) as writers:
        yield
    assert not writers.failures, writers.failures[:2]


def test_sixteen_clients_with_a_hundred_exception_blocks_each(make_journey: MakeJourney) -> None:
    journey = make_journey()
    source = journey.pair.source
    journey.migration.run("pg_replica_identity")
    with Clients(source, 2) as clients, exception_blocks(source):
        journey.migration.run("pg_publication")
        journey.migration.run("pg_repl_slot")
        journey.copy()
        forms = [row[0] for row in journey.pair.destination.query("SELECT form FROM causeway.copy_run")]
        journey.task()
        time.sleep(0.5)
    assert forms == ["share"], forms
    assert len(set(journey.marks().values())) > 1
    assert journey.drained() > 5000
    journey.exactly_once(clients)
