# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cancels statements that still run when the time for the fence is over: one that waits for a lock might never end.

The guard lifts the fence at that time in any case; this lets the cutover report it soon after.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..errors import EngineError
from ..postgres._psycopg import psycopg
from ..postgres.connect import connect

if TYPE_CHECKING:
    from ..migration import Migration
    from ..postgres.connect import Endpoint

_AGAIN = 0.5

_CANCEL = """
SELECT pg_catalog.pg_cancel_backend(pid) FROM pg_catalog.pg_stat_activity
 WHERE datname = pg_catalog.current_database() AND usename = session_user AND application_name = %s
"""


@contextmanager
def bounded(migration: Migration, deadline: float) -> Iterator[None]:
    """Run the body; from ``deadline`` (monotonic) on its statements are cancelled: those of the comparing sessions at
    both ends, and of the module's at the destination. The module's own at the source are short, and not cancelled."""
    over = threading.Event()
    thread = threading.Thread(target=_watch, args=(migration, deadline, over), name="deadline", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _watch(migration: Migration, deadline: float, over: threading.Event) -> None:
    if over.wait(max(0.0, deadline - time.monotonic())):
        return
    # Repeatedly: a request may arrive between two statements and cancel nothing.
    while True:
        _cancel(migration.spec.destination, ("validate", "module"), migration.name)
        _cancel(migration.spec.source, ("validate",), migration.name)
        if over.wait(_AGAIN):
            return


def _cancel(endpoint: Endpoint, purposes: tuple[str, ...], name: str) -> None:
    try:
        with connect(endpoint, f"deadline {name}") as conn:
            for purpose in purposes:
                conn.execute(_CANCEL, (f"causeway {purpose} {name}"[:63],))
    except (EngineError, psycopg.Error):
        pass  # an end that cannot be reached fails the step by itself
