# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The only file that imports psycopg 3. Importing this file never fails; `require_psycopg` says what is missing."""

from __future__ import annotations

from ..errors import DriverError

__all__ = ["PSYCOPG_MISSING", "pq", "psycopg", "require_psycopg", "sql"]

PSYCOPG_MISSING = ""

try:
    import psycopg
    from psycopg import pq, sql
except ImportError as exc:
    PSYCOPG_MISSING = str(exc)
    psycopg = None  # type: ignore[assignment]
    pq = None  # type: ignore[assignment]
    sql = None  # type: ignore[assignment]


def require_psycopg() -> None:
    """Raise DriverError where psycopg 3 cannot be imported."""
    if psycopg is None:
        raise DriverError(
            "loading the PostgreSQL driver",
            "psycopg",
            f"psycopg 3 cannot be imported by this interpreter ({PSYCOPG_MISSING})",
            "Run the worker role (ansible-playbook … causeway.postgresql.precheck --tags worker), which creates a "
            "virtualenv with the drivers, or point causeway_worker_python at an interpreter that has psycopg[binary].",
        )
