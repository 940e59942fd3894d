# -*- coding: utf-8 -*-
# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The differences between the definitions of both ends, as pg_data_validate and pg_cutover return them."""

from __future__ import annotations

from collections.abc import Sequence

from ...module_utils._engine.units import count
from .._table import INDENT, wrapped
from .ends import Result

_SHOWN = 20
_HEADINGS = (
    ("error", "The cutover refuses these"),
    ("warning", "The cutover goes on with these, and its certificate names them"),
    ("note", "For information"),
)


def differences(result: Result, width: int) -> list[str]:
    """Return the differences by severity, each with its cause and the first line of its fix; those that are ignored last."""
    if "differences" not in result:
        return []
    found: Sequence[Result] = result["differences"] or ()
    ignored = [one for one in found if one.get("ignored")]
    lines = [
        f"{count(result.get('definitions') or 0)} facts about definitions compared, {count(len(found))} differences"
    ]
    for severity, heading in _HEADINGS:
        some = [one for one in found if one.get("severity") == severity and one not in ignored]
        lines += _listed(f"{severity.upper()} ({count(len(some))}). {heading}.", some, width)
    return lines + _listed(f"IGNORED ({count(len(ignored))}).", ignored, width)


def _listed(heading: str, some: Sequence[Result], width: int) -> list[str]:
    if not some:
        return []
    lines = ["", heading, ""]
    for one in some[:_SHOWN]:
        lines.append(f"{INDENT}{one.get('id')} {one.get('object')}")
        first, dummy, more = str(one.get("fix") or "").partition("\n")
        said = str(one.get("cause")) + (f"\nfix: {first}{' …' if more else ''}" if first else "")
        lines += [f"{INDENT * 3}{line}" for line in wrapped(said, width - 3 * len(INDENT))]
    left = len(some) - _SHOWN
    return lines + ([f"{INDENT}and {count(left)} more in the module's result"] if left > 0 else [])
