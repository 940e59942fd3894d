# -*- coding: utf-8 -*-
# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The full copy: its tables, its progress while it runs, and what it has copied, as pg_full_copy returns it."""

from __future__ import annotations

from collections.abc import Sequence

from ...module_utils._engine.units import count, duration, size
from .._table import cut_table
from .ends import Result

_ORDER = {"copying": 0, "waiting": 1, "complete": 2}


def copied(result: Result, width: int) -> list[str]:
    """Return what a copy has copied; nothing where there was nothing to do."""
    tables: Sequence[Result] = result.get("tables") or ()
    if not tables or not result.get("changed"):
        return []
    complete = sum(1 for one in tables if one.get("state") == "complete")
    if not result.get("runs", 1) and not (result.get("large_objects") or {}).get("moved"):  # a dry run
        return [f"{count(len(tables) - complete)} of {count(len(tables))} tables are to be copied"]
    rows = sum(one.get("rows") or 0 for one in tables)
    moved = sum(one.get("bytes") or 0 for one in tables)
    said = f"{count(complete)} of {count(len(tables))} tables copied, {count(rows)} rows, {size(moved)}"
    return [f"{said}{large_objects(result)}", *copied_tables(result, width)]


def copied_tables(result: Result, width: int) -> list[str]:
    """Return the copy of each table; of many tables those that are not complete come first."""
    tables: Sequence[Result] = result.get("tables") or ()
    rows = [
        (
            one.get("table", ""),
            one.get("state", ""),
            count(one.get("rows") or 0),
            size(one.get("bytes") or 0),
            duration(one["seconds"]) if one.get("seconds") is not None else "",
        )
        for one in sorted(tables, key=lambda one: _ORDER.get(str(one.get("state")), 0))
    ]
    return cut_table(("table", "copy", "rows", "size", "time"), rows, width, right=(2, 3, 4))


def large_objects(result: Result) -> str:
    """Return how many large objects were copied, to follow the tables; empty where there is none."""
    found = result.get("large_objects") or {}
    number = found.get("objects") or 0
    return f", {count(number)} large objects ({size(found.get('bytes') or 0)})" if number else ""


def progress(line: Result) -> list[str]:
    """Return one line about a running copy: all of it, or a large table that is complete."""
    if line.get("table"):
        took = duration(line.get("seconds") or 0)
        rows = count(line.get("rows") or 0)
        return [f"table {line['table']} is complete: {rows} rows, {size(line['bytes'])} in {took}"]
    if line.get("percent") is None:
        return []
    left = line.get("eta")
    said = [
        f"{line['percent']:.1f} %",
        f"{count(line.get('complete') or 0)} of {count(line.get('tables') or 0)} tables",
        f"{count(line.get('rows') or 0)} rows",
        f"{count(line['large_objects_left'])} large objects left" if line.get("large_objects_left") else "",
        f"{size(line.get('bytes_per_second') or 0)}/s",
        f"{duration(left)} left" if left else "",
        f"waiting: {line['held']}" if line.get("held") else "",
    ]
    return [", ".join(one for one in said if one)]
