# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock of a table, what counts as changed since the snapshot, and the pieces of a walsender's COPY."""

from __future__ import annotations

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


def rows(*sizes: int) -> Any:
    """Return a get_copy_data with rows of these sizes, and -1 at the end."""
    came = iter([*[(size, memoryview(bytes(size))) for size in sizes], (-1, memoryview(b""))])
    return lambda wait: next(came)


def test_rows_are_gathered_until_a_piece_is_full() -> None:
    get = rows(239_999, 1, 5)
    piece, ended = source_reader._gather(get)
    assert (len(piece), ended) == (240_000, False)
    assert source_reader._gather(get) == (bytes(5), True)


def test_a_copy_without_rows_ends_at_once() -> None:
    assert source_reader._gather(rows()) == (b"", True)
