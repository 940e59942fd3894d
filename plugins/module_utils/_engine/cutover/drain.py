# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The CDC worker in a cutover: it drains behind the fence, reports what it has applied, and is stopped for good."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ..errors import EngineError, StateError, TimeoutExpired
from ..flow.rates import forecast
from ..postgres.connect import explain_errors
from ..state.advisory import holder, wait_gone
from ..state.markers import wait_applied, write_marker
from ..state.progress import read_progress
from ..state.task import set_wanted
from ..units import size

if TYPE_CHECKING:
    from ..migration import Migration
    from ..state.markers import Marker
    from ..state.store import StateStore

_LOOK = 1.0
"""Seconds after which the session of a worker that has not answered is looked for."""
_LAST_WAIT = 10.0


def drain(migration: Migration, marker: Marker, timeout: float) -> float:
    """Wait until the worker has applied ``marker``. Return the seconds it took.

    Raises TimeoutExpired, and StateError as soon as the worker has failed or died: the application waits for us.
    """
    began = time.monotonic()
    missed = 0
    while True:
        left = began + timeout - time.monotonic()
        try:
            wait_applied(migration.store, marker, max(0.0, min(_LOOK, left)))
        except TimeoutExpired:
            if left <= _LOOK:
                raise
            missed = 0 if _lives(migration) else missed + 1
            if missed > 1:
                raise StateError(
                    "draining migration",
                    migration.name,
                    "its CDC worker is gone",
                    "See the worker's log; run the migrate playbook, which starts it again, then the cutover.",
                ) from None
        else:
            return time.monotonic() - began


def _lives(migration: Migration) -> bool:
    """Return whether a worker is connected, or has reported that it starts or retries."""
    if holder(migration.destination, migration.name) is not None:
        return True
    row = read_progress(migration.store)
    return row is not None and row.state in ("retrying", "starting")


def require_catching_up(migration: Migration, timeout: float) -> None:
    """Raise StateError if the worker cannot catch up, or not within ``timeout`` seconds: better now than fenced."""
    store = migration.store
    row = read_progress(store)
    if row is None:
        return
    found = forecast(row.state, row.lag_bytes, row.lag_seconds, row.rates)
    late = found.verdict == "catching_up" and found.seconds is not None and found.seconds > timeout
    if found.verdict == "never" or late:
        raise StateError(
            "cutting over migration",
            store.name,
            f"it is {size(row.lag_bytes or 0)} behind; {found.sentence(row.rates)}",
            "Choose a quieter hour, raise causeway_cdc_rows_per_second or causeway_cdc_mb_per_second where they limit"
            " it, and see with the status playbook that it has caught up.",
        )


def changes_applied(store: StateStore) -> int:
    """Return how many changes of selected tables the worker has applied; markers do not count. Raises ServerError."""
    row = read_progress(store)
    return row.changes if row else 0


def drain_what_closing_wrote(migration: Migration, timeout: float) -> str:
    """Have the worker apply what the source's event triggers wrote when the fence was closed; return why it could not, or
    an empty text.

    An audit trigger of a superuser writes behind every fence, at our own statements too. The source is closed by now, and
    is not needed any more: where it cannot be asked, the cutover goes on.
    """
    if holder(migration.destination, migration.name) is None:
        return ""
    try:
        drain(migration, write_marker(migration.store, migration.source), timeout)
    except EngineError as exc:
        return (
            f"What event triggers of the source wrote when it was closed may be missing at the destination: {exc.why}"
        )
    return ""


def see_worker_gone(migration: Migration, timeout: float) -> None:
    """Disarm the task for good and wait until no worker applies any more. Raises TimeoutExpired, ServerError.

    A worker that does not stop has nothing left to apply, and the application can write nowhere: its session is ended.
    """
    conn, name = migration.destination, migration.name
    set_wanted(migration.store, "disarmed")
    try:
        wait_gone(conn, name, timeout)
    except TimeoutExpired:
        found = holder(conn, name)
        if found is not None:
            with explain_errors("ending the session of the CDC worker of migration", name):
                conn.execute("SELECT pg_catalog.pg_terminate_backend(%s)", (found.pid,))
        wait_gone(conn, name, _LAST_WAIT)
