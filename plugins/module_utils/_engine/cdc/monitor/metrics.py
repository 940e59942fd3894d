# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The worker's metrics: a reading that its threads keep current, and Prometheus families made from it on request.

Served on a loopback port, off by default; names, counts and positions only.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...errors import StateError
from ...flow.rates import Rates
from ._prometheus import families, prometheus_client, require_prometheus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...postgres.lsn import Lsn

STATES = ("starting", "running", "paused", "stopped", "retrying", "failed", "disarmed")
_LOOPBACK = "127.0.0.1"


@dataclass(slots=True)
class Reading:
    """Current values, each field written by one thread. Positions by name; ``counters`` since the task was created."""

    migration: str = ""
    engine: str = ""
    state: str = "starting"
    positions: Mapping[str, Lsn] = field(default_factory=dict)
    counters: Mapping[str, int] = field(default_factory=dict)
    lag: tuple[int, float] | None = None
    rates: Rates | None = None
    retained: int | None = None
    retries: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)


class Metrics:
    """The port of one worker. ``serve`` may be called again, at every reconnect."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._port = 0
        self._server: Any = None

    def serve(self, port: int) -> None:
        """Serve on this port of the loopback address from now on; 0 stops serving. Raises DriverError, StateError."""
        if port == self._port:
            return
        self.close()
        if not port:
            return
        require_prometheus()
        registry = prometheus_client.CollectorRegistry()
        registry.register(self)
        try:
            self._server = prometheus_client.start_http_server(port, addr=_LOOPBACK, registry=registry)[0]
        except OSError as exc:
            raise StateError(
                "serving the metrics of the CDC worker",
                f"{_LOOPBACK}:{port}",
                exc.strerror or "the port cannot be opened",
                "Give causeway_worker_metrics_port a port that is free: each worker of a host needs its own.",
            ) from exc
        self._port = port

    def close(self) -> None:
        """Stop serving."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        self._server, self._port = None, 0

    def collect(self) -> Iterator[Any]:
        """Return the metric families of one scrape; called by prometheus-client."""
        core = families
        now = self._reading
        name = {"migration": now.migration}
        build = core.InfoMetricFamily("causeway_build", "The worker's engine and interpreter")
        build.add_metric([], {**name, "engine": now.engine, "python": platform.python_version()})
        yield build
        tags = core.InfoMetricFamily("causeway_migration", "The migration and its tags")
        tags.add_metric([], {**name, **{_label(key): value for key, value in now.tags.items()}})
        yield tags
        yield _labelled(
            core,
            "causeway_cdc_state",
            "1 for the state that the task is in",
            name,
            "state",
            {s: float(s == now.state) for s in STATES},
        )
        yield _labelled(
            core, "causeway_cdc_position_bytes", "Positions in the source's WAL", name, "position", now.positions
        )
        for what, help_text, value in self._gauges():
            if value is not None:
                gauge = core.GaugeMetricFamily(what, help_text, labels=["migration"])
                gauge.add_metric([now.migration], value)
                yield gauge
        rows = core.CounterMetricFamily("causeway_cdc_rows", "Rows applied", labels=["migration", "kind"])
        for kind in ("inserts", "updates", "deletes"):
            rows.add_metric([now.migration, kind.removesuffix("s")], now.counters.get(kind, 0))
        yield rows
        for what in ("transactions", "truncates", "conflicts"):
            counter = core.CounterMetricFamily(
                f"causeway_cdc_{what}", f"{what.capitalize()} applied", labels=["migration"]
            )
            counter.add_metric([now.migration], now.counters.get(what, 0))
            yield counter
        retries = core.CounterMetricFamily("causeway_cdc_retries", "Attempts after a failure", labels=["migration"])
        retries.add_metric([now.migration], now.retries)
        yield retries

    def _gauges(self) -> tuple[tuple[str, str, float | None], ...]:
        now = self._reading
        return (
            ("causeway_cdc_lag_bytes", "WAL of the source that is not applied", now.lag[0] if now.lag else None),
            (
                "causeway_cdc_lag_seconds",
                "Seconds for which the source has been ahead",
                now.lag[1] if now.lag else None,
            ),
            (
                "causeway_cdc_source_bytes_per_second",
                "WAL that the source writes",
                now.rates.source if now.rates else None,
            ),
            ("causeway_cdc_apply_bytes_per_second", "WAL that is applied", now.rates.apply if now.rates else None),
            ("causeway_cdc_slot_keeps_bytes", "WAL that the slot retains at the source", now.retained),
        )


def _labelled(
    core: Any, what: str, help_text: str, name: Mapping[str, str], label: str, values: Mapping[str, float]
) -> Any:
    gauge = core.GaugeMetricFamily(what, help_text, labels=[*name, label])
    for key, value in values.items():
        gauge.add_metric([*name.values(), key], value)
    return gauge


def _label(key: str) -> str:
    """Return a tag's key as a label name: only these letters, and none of the worker's own names."""
    return "tag_" + re.sub(r"[^a-zA-Z0-9_]", "_", key)
