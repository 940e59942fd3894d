# -*- coding: utf-8 -*-
# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The CDC task after a change, as pg_cdc_task returns it."""

from __future__ import annotations

from ...module_utils._engine.units import count, size
from .._table import facts
from .ends import Result


def task(result: Result, width: int) -> list[str]:
    """Return state, retained WAL and rate limits of a task that was changed; nothing where it was not."""
    found: Result = result.get("task") or {}
    if not result.get("changed") or not found.get("wanted"):
        return []
    retained = found.get("slot_keeps_bytes")
    idle = found["wanted"] in ("paused", "stopped")
    return [
        f"CDC task: {found.get('state') or 'not started yet'} (wanted: {found['wanted']})",
        *facts(
            [
                ("slot", f"retains {size(retained)} of WAL at the source" if idle and retained is not None else ""),
                ("limits", limits(found.get("settings") or {})),
            ],
            width,
        ),
    ]


def limits(settings: Result) -> str:
    """Return the rate limits among a task's settings; empty where there is none."""
    said = []
    if settings.get("rows_per_second"):
        said.append(f"{count(settings['rows_per_second'])} rows/s")
    if settings.get("mb_per_second"):
        said.append(f"{settings['mb_per_second']:g} MB/s")
    return ", ".join(said)
