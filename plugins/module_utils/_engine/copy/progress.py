# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The progress of a copy, for the operator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..state.copy_pace import read_totals
from .transfer.pace import pace_of

if TYPE_CHECKING:
    from ..state.store import StateStore


def show_copy_progress(store: StateStore) -> Mapping[str, Any]:
    """Return the progress of a copy over all hosts, as plain data; empty before one has begun. Raises ServerError.

    ``percent`` is of the bytes that the tables have at the source; ``eta`` is in seconds, None if it is unknown.
    """
    seen = read_totals(store)
    if seen is None:
        return {}
    told = progress_of(
        *(seen.tables, seen.complete, seen.total, seen.size),
        rows=seen.rows,
        size=seen.bytes,
        rate=seen.rate,
        seconds=seen.seconds,
        left=seen.objects_left,
    )
    return told | {
        "large_objects": seen.objects,
        "large_objects_left": seen.objects_left,
        "hosts": seen.hosts,
        "workers": seen.active,
        "held": seen.held,
        "pace": pace_of(seen.settings).stored(),
    }


def progress_of(
    tables: int,
    complete: int,
    total: int,
    done: int,
    *,
    rows: int,
    size: int,
    rate: float,
    seconds: float,
    left: int = 0,
) -> dict[str, Any]:
    """Return the same from counts. Pure. ``done`` of ``total`` bytes are read, at ``rate`` bytes a second now; ``left``
    large objects are not copied yet."""
    ended = complete >= tables and not left
    share = 1.0 if ended else min(0.999, done / total if total else 0.0)
    unread = max(0, total - done)
    return {
        "percent": round(100 * share, 1),
        "tables": tables,
        "complete": complete,
        "rows": rows,
        "bytes": size,
        "rows_per_second": round(rows / seconds) if seconds > 0 and not ended else 0,
        "bytes_per_second": round(rate),
        "eta": 0.0 if ended else round(unread / rate, 1) if rate > 0 and total else None,
    }
