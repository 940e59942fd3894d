# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The only import of prometheus-client. Importing this file never fails; `require_prometheus` says what is missing."""

from __future__ import annotations

from ...errors import DriverError

__all__ = ["PROMETHEUS_MISSING", "families", "prometheus_client", "require_prometheus"]

PROMETHEUS_MISSING = ""

try:
    import prometheus_client
    from prometheus_client import core as families
except ImportError as exc:
    PROMETHEUS_MISSING = str(exc)
    prometheus_client = None  # type: ignore[assignment]
    families = None  # type: ignore[assignment]


def require_prometheus() -> None:
    """Raise DriverError where prometheus-client cannot be imported."""
    if prometheus_client is None:
        raise DriverError(
            "serving the metrics of the CDC worker",
            "prometheus-client",
            f"it cannot be imported by the worker's interpreter ({PROMETHEUS_MISSING})",
            "Leave causeway_worker_python empty and run the worker role, which installs it where"
            " causeway_worker_metrics_port is set; or install prometheus-client there; or set the port to 0.",
        )
