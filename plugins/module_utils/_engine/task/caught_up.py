# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waits until the destination has caught up: writes a marker at the source, and waits until the worker has applied it.

This needs no lock of the migration: modules that write a marker at the same time each wait for their own.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ..errors import StateError, TimeoutExpired
from ..state.advisory import holder
from ..state.markers import wait_applied, write_marker
from ..state.progress import starting_or_retrying
from ..state.task import read_control

if TYPE_CHECKING:
    from ..migration import Migration

_DOING = "waiting for the CDC worker to catch up in migration"
_LOOK = 1.0
"""Seconds between two checks of the task and its worker."""
_GONE = 30.0
"""Seconds without a worker after which it counts as down: systemd restarts it after ten."""
_RETRIES = 120.0
"""Seconds since its last report for which a retrying worker counts as alive: between attempts it has no session."""
_REMEDY = {
    "paused": "Run the resume playbook.",
    "disarmed": "The destination is in production. To migrate into it again, set causeway_restart: true.",
}


def wait_caught_up(migration: Migration, timeout: float) -> float:
    """Write a marker at the source, wait until the worker has applied it, and return the seconds that this took.

    Raises StateError if there is no started task, or it fails, is paused or loses its worker meanwhile, and
    TimeoutExpired after ``timeout`` seconds.
    """
    _require_started(migration)
    marker = write_marker(migration.store, migration.source)
    began = seen = time.monotonic()
    while True:
        left = began + timeout - time.monotonic()
        try:
            wait_applied(migration.store, marker, max(0.0, min(_LOOK, left)))
        except TimeoutExpired as exc:
            now = time.monotonic()
            if left <= _LOOK:
                why = f"the marker was not applied within {timeout:g} s"
                raise TimeoutExpired(exc.doing, exc.what, why, exc.remedy) from None
            _require_started(migration)
            seen = now if _lives(migration) else seen
            if now - seen > _GONE:
                raise StateError(
                    _DOING,
                    migration.name,
                    f"no worker has applied changes for {_GONE:g} s",
                    "See the worker's log, then run the migrate playbook: it starts the worker again.",
                ) from None
        else:
            return time.monotonic() - began


def _require_started(migration: Migration) -> None:
    """Raise StateError unless the task is started, and MismatchError for the source of another migration."""
    control = read_control(migration.store) if migration.state() is not None else None
    if control is None or control.wanted != "started":
        raise StateError(
            _DOING,
            migration.name,
            f"the CDC task is {control.wanted}" if control else "it has no CDC task yet",
            _REMEDY.get(control.wanted if control else "", "Run the migrate playbook: it starts the task."),
        )


def _lives(migration: Migration) -> bool:
    """Return whether a worker applies, or has reported lately that it starts or retries."""
    store = migration.store
    if holder(store.conn, store.name) is not None:
        return True
    return starting_or_retrying(store, _RETRIES)
