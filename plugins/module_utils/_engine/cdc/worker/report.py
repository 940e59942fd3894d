# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports what the worker does, and how it fails, to the log, the supervisor, the metrics and the destination."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import EngineError
from ...postgres._psycopg import psycopg
from ...postgres.connect import connect
from ...state.progress import UNREPLICATED, record_state
from ...state.store import StateStore

if TYPE_CHECKING:
    import logging

    from ..control.config import WorkerConfig
    from ..control.signals import Supervisor
    from ..monitor.metrics import Reading


class Reporter:
    """The reports of one worker; ``token`` is the worker's own, ``reading`` what its metrics show."""

    def __init__(self, token: str, log: logging.Logger, supervision: Supervisor, reading: Reading) -> None:
        self.reading = reading
        self._token = token
        self._log = log
        self._supervision = supervision

    def announce(self, store: StateStore, what: str, fields: dict[str, object]) -> None:
        """Log what the worker does now, and write it to the timeline. Only between destination transactions."""
        self._supervision.told(what)
        self._log.info("%s", what, extra={"event": what, "fields": fields})
        store.event("replicating", f"CDC worker {what}", fields)

    def failed(self, config: WorkerConfig | None, error: EngineError, *, again: bool, event: bool) -> None:
        """Report a failure, after which the worker retries (``again``) or gives up; ``config`` None: unreadable."""
        state = "retrying" if again else "failed"
        self.reading.retries += again
        self.reading.state = state
        self._log.error("%s: %s", state, error, extra={"event": state, "fields": dict(error.as_result())})
        if config is not None:
            self._record(config, state, error, event=event)
        self._supervision.told(f"{state}: {error.doing} {error.what}")

    def _record(self, config: WorkerConfig, state: str, error: EngineError, *, event: bool) -> None:
        """Write state and error to the destination if reachable. Consecutive failures write a single event."""
        try:
            with connect(config.destination, f"report {config.name}", settings=UNREPLICATED) as conn:
                store = StateStore(conn, config.state_schema, config.name)
                if store.load() is not None:
                    record_state(store, self._token, state, error.as_result())
                    if event:
                        store.event("replicating", f"CDC worker {state}", error.as_result())
        except (EngineError, psycopg.Error) as exc:
            self._log.warning("the failure could not be recorded at the destination: %s", type(exc).__name__)
