# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The only file that imports asyncpg, which the copy uses. Importing this file never fails."""

from __future__ import annotations

from ..errors import DriverError

__all__ = ["ASYNCPG_MISSING", "asyncpg", "require_asyncpg"]

ASYNCPG_MISSING = ""

try:
    import asyncpg
except ImportError as exc:
    ASYNCPG_MISSING = str(exc)
    asyncpg = None


def require_asyncpg() -> None:
    """Raise DriverError where asyncpg cannot be imported."""
    if asyncpg is None:
        raise DriverError(
            "loading the copy driver",
            "asyncpg",
            f"asyncpg cannot be imported by this interpreter ({ASYNCPG_MISSING})",
            "Run the worker role (ansible-playbook … causeway.postgresql.precheck --tags worker), which creates a "
            "virtualenv with the drivers, or point causeway_worker_python at an interpreter that has asyncpg.",
        )
