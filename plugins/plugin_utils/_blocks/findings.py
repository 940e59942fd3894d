# -*- coding: utf-8 -*-
# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The findings of a precheck, as pg_migration_precheck returns them."""

from __future__ import annotations

from collections.abc import Sequence

from .._table import INDENT, facts, shown_width, table, wrapped
from .ends import Result, ends
from .outcome import settled

_SEVERITIES = {
    "error": ("errors", "These block the migration"),
    "warning": ("warnings", "These should be fixed before the migration"),
    "ignorable": ("ignorable", "These may be accepted: list their ids in ignore_checks"),
    "note": ("notes", "For information"),
}
_OBJECTS_SHOWN = 8
_ROOM_FOR_A_FIX = 60


def findings(result: Result, width: int) -> list[str]:
    """Return the findings grouped by severity. Of many objects of one check the first are shown, with the number."""
    if result.get("opened_at"):
        return settled(result, width)
    if "findings" not in result:
        return []
    found: Sequence[Result] = result["findings"] or ()
    counts = result.get("counts") or {}
    lines = []
    for severity, (dummy, heading) in _SEVERITIES.items():
        rows = _rows_of([one for one in found if one.get("severity") == severity])
        if rows:
            number = counts.get(severity, len(rows))
            lines += ["", f"{severity.upper()} ({number}). {heading}.", "", *_listed(rows, width)]
    said = [
        f"{number} {severity if number == 1 else plural}"
        for severity, (plural, dummy) in _SEVERITIES.items()
        if (number := counts.get(severity, 0))
    ]
    verdict = "passed" if result.get("passed") else "not passed"
    return [f"Precheck {verdict}: {', '.join(said) or 'nothing found'}", *facts(ends(result), width), *lines]


def _listed(rows: Sequence[tuple[str, str, str]], width: int) -> list[str]:
    """Return a table, or a paragraph for each finding where long names leave the last column too little room."""
    names = max(shown_width(name) for name, dummy, dummy_text in rows)
    objects = max(shown_width(what) for dummy, what, dummy_text in rows)
    if width - names - objects >= _ROOM_FOR_A_FIX:
        return table(("id", "object", "observed, and the fix"), rows, width)
    lines = []
    for name, what, text in rows:
        lines.append(f"{INDENT}{name}: {what}")
        lines += [f"{INDENT * 3}{line}" for line in wrapped(text, width - 3 * len(INDENT))]
    return lines


def _rows_of(found: Sequence[Result]) -> list[tuple[str, str, str]]:
    rows: list[tuple[str, str, str]] = []
    shown: dict[str, int] = {}
    for one in found:
        name = str(one.get("id"))
        shown[name] = shown.get(name, 0) + 1
        if shown[name] <= _OBJECTS_SHOWN:
            seen = (one.get("evidence") or {}).get("answer", "")
            rows.append((name, str(one.get("object")), f"{seen}\nfix: {one.get('fix')}"))
    rows += [
        (name, f"and {number - _OBJECTS_SHOWN} more", "all of them are in the module's result")
        for name, number in shown.items()
        if number > _OBJECTS_SHOWN
    ]
    return rows
