# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A gate at the destination, at which a copy waits in the middle of a table, and who of ours is there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def held_up(end: Any, table: str, condition: str) -> Iterator[Callable[[], None]]:
    """Rows of a destination table that meet the condition wait until C(release()) is called, in replica mode too."""
    end.run(
        "CREATE FUNCTION wait_here() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_catalog.pg_advisory_xact_lock(4711); RETURN NEW; END $$;"
        f"CREATE TRIGGER wait_here BEFORE INSERT ON {table} FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION wait_here();"
        f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER wait_here"
    )
    with end.connect() as gate:
        gate.execute("SELECT pg_advisory_lock(4711)")

        def release() -> None:
            gate.execute("SELECT pg_advisory_unlock_all()")

        yield release


def waits_at_the_gate(end: Any) -> bool:
    return bool(
        end.value("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory' AND datname = %s", [end.dbname])
    )


def ours(end: Any) -> list[Any]:
    """Sessions of ours that are still there."""
    return end.query(
        "SELECT application_name FROM pg_stat_activity WHERE application_name LIKE 'causeway%%' AND datname = %s",
        [end.dbname],
    )
