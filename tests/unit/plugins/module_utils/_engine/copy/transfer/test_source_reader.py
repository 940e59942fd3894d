# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock of a table, what counts as changed since the snapshot, and blocking work beside an event loop."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from unit.plugins.module_utils._engine.catalog_values import table

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.copy.transfer import source_reader
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.copy.transfer.table_fingerprint import (
    Fingerprint,
)

SEEN = Fingerprint((("0", "t", "s", "", "false", "(1,2,3,r)"), ("1", "id", "integer", "", "false", "(23,-1,4)")))


@pytest.mark.parametrize(
    ("schema", "name", "quoted"),
    [
        ("public", "orders", '"public"."orders"'),
        ("S", 'a"b', '"S"."a""b"'),
        ("a.b", "größe", '"a.b"."größe"'),
        ("s", "ä" * 31 + "x", '"s"."' + "ä" * 31 + 'x"'),
    ],
)
def test_one_table_is_locked_in_the_mode_of_readers(schema: str, name: str, quoted: str) -> None:
    statement = source_reader.lock_statement(table(name=name, schema=schema))
    assert statement == f"LOCK TABLE ONLY {quoted} IN ACCESS SHARE MODE"


def test_a_changed_table_is_named() -> None:
    error = source_reader.changed(table(name="Orders"))
    assert (error.code, error.what) == ("table_changed", 's."Orders"')


def test_a_table_that_both_sessions_see_alike_is_unchanged() -> None:
    now = Fingerprint(tuple(SEEN.lines))
    assert source_reader.compared(SEEN, now, table()) is SEEN


RENAMED = Fingerprint((("0", "t2", "s", "", "false", "(1,2,3,r)"),))
REWRITTEN = Fingerprint((("0", "t", "s", "", "false", "(1,9,3,r)"), SEEN.lines[1]))
GONE = Fingerprint(())


@pytest.mark.parametrize(
    ("seen", "now"),
    [
        (GONE, GONE),
        (SEEN, GONE),
        (GONE, SEEN),
        (SEEN, REWRITTEN),
        (SEEN, Fingerprint(SEEN.lines[:1])),
        (RENAMED, RENAMED),
    ],
)
def test_a_table_that_one_session_sees_otherwise_has_changed(seen: Fingerprint, now: Fingerprint) -> None:
    with pytest.raises(source_reader.TableChanged):
        source_reader.compared(seen, now, table())


def test_another_table_under_the_name_of_another_schema_has_changed() -> None:
    with pytest.raises(source_reader.TableChanged):
        source_reader.compared(SEEN, SEEN, table(schema="other"))


def session(*holders: str | None) -> Any:
    """Return a session that is answered with the holders of a lock."""
    rows = [(holder,) for holder in holders]
    return SimpleNamespace(execute=lambda query, values: SimpleNamespace(fetchall=lambda: rows))


@pytest.mark.parametrize(
    ("holders", "named"),
    [
        ((), "a session that has already ended"),
        ((None,), "a session that has already ended"),
        (("pid 7 (app, psql)", None, "pid 8 (app, no name)"), "pid 7 (app, psql); pid 8 (app, no name)"),
    ],
)
def test_the_holders_of_a_lock_are_named(holders: tuple[str | None, ...], named: str) -> None:
    error = source_reader.not_locked(session(*holders), table(), 2.50)
    assert error.why == (
        f"no ACCESS SHARE lock was granted within 2.5 s; an exclusive lock is held or requested by {named}"
    )
    assert (error.code, error.what, error.sqlstate) == ("timeout", "s.t", "55P03")


def test_what_runs_in_a_thread_is_interrupted_and_waited_for_when_we_are_cancelled() -> None:
    begun, go, steps = threading.Event(), threading.Event(), list[str]()

    def work() -> None:
        begun.set()
        go.wait(10)
        steps.append("ended")

    def interrupt() -> None:
        steps.append("interrupted")
        go.set()

    async def cancel() -> None:
        running = asyncio.ensure_future(source_reader.in_thread(work, interrupt=interrupt))
        await asyncio.to_thread(begun.wait, 10)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert running.cancelled()
        assert steps == ["interrupted", "ended"], "whoever closes the session now closes it under the thread"

    asyncio.run(cancel())


def test_what_runs_in_a_thread_returns_and_raises_as_if_it_did_not() -> None:
    assert asyncio.run(source_reader.in_thread(max, 2, 3)) == 3
    with pytest.raises(ZeroDivisionError):
        asyncio.run(source_reader.in_thread(divmod, 1, 0))
