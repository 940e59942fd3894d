# -*- coding: utf-8 -*-
# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verdict on each table, as pg_data_validate returns it."""

from __future__ import annotations

from collections.abc import Sequence

from ...module_utils._engine.units import count
from .._table import TABLES_SHOWN, cut_table, facts
from .ends import Result


def verdicts(result: Result, width: int) -> list[str]:
    """Return the verdict on each table, the differing ones first, and the query that finds each first difference."""
    tables: Sequence[Result] = result.get("tables") or ()
    if not tables:
        return []
    ordered = sorted(tables, key=lambda one: one.get("verdict") == "identical")
    rows = [
        (
            one.get("table", ""),
            one.get("verdict", ""),
            number(one.get("source_rows")),
            number(one.get("destination_rows")),
            number(one.get("differing")),
        )
        for one in ordered
    ]
    same = sum(1 for one in tables if one.get("verdict") == "identical")
    read = sum(one.get("source_rows") or 0 for one in tables)
    lines = [f"{count(same)} of {count(len(tables))} tables identical, {count(read)} rows read at the source"]
    lines += _object_verdict(result.get("large_objects") or {})
    headers = ("table", "verdict", "source rows", "destination rows", "differing")
    lines += cut_table(headers, rows, width, right=(2, 3, 4))
    find = [(str(one.get("table")), str(one["find"])) for one in ordered[:TABLES_SHOWN] if one.get("find")]
    return lines + (["", "The first difference of each:", *facts(find, width)] if find else [])


def _object_verdict(found: Result) -> list[str]:
    """Return the verdict on the large objects; nothing where there are none."""
    if not found.get("objects") and not found.get("gone"):
        return []
    said = f"{count(found['objects'])} large objects {found.get('verdict')}"
    wrong = [f"{count(found[key])} {key}" for key in ("differing", "missing", "gone") if found.get(key)]
    return [f"{said}: {', '.join(wrong)} (changes made after their copy are not captured)" if wrong else said]


def number(value: object) -> str:
    """Return a count; empty where the result has none."""
    return count(value) if isinstance(value, int) else ""
