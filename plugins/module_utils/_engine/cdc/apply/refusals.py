# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The destination's refusals of changes as errors: with table and constraint, and without a value."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from ...errors import EngineError, ServerError
from ...postgres._psycopg import psycopg
from ...postgres.connect import server_error

if TYPE_CHECKING:
    from .target_table import TargetTable

_COMPARE: Final = (
    "Compare that table at both ends: its constraints, and rows that another session has written to the destination. "
    "Then start the task again; it resumes where it stopped."
)


def apply_error(exc: psycopg.Error, doing: str, what: str) -> EngineError:
    """Return the destination's refusal as an error; for a value or a row it says what to compare, without the value."""
    error = server_error(exc, doing, what, _COMPARE if (exc.sqlstate or "").startswith("22") else "")
    if error.sqlstate[:2] == "23" and isinstance(error, ServerError):
        return ServerError(
            doing,
            what,
            f"{type(exc).__name__} by constraint {exc.diag.constraint_name or 'of the table'}",
            _COMPARE,
            sqlstate=error.sqlstate,
            detail=error.detail,
        )
    return error


@contextmanager
def refusals_of(written: TargetTable) -> Iterator[None]:
    """Raise the destination's refusals for a table as EngineError; IntegrityError passes, since the caller handles
    constraints that refuse a row for the moment.
    """
    try:
        yield
    except psycopg.IntegrityError:
        raise
    except psycopg.Error as exc:
        raise apply_error(exc, "applying changes to", str(written.table)) from exc
