# -*- coding: utf-8 -*-
# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables and facts as lines of text. Pure: values in, lines out, no longer than the width that is given."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Collection, Iterable, Sequence

from ..module_utils._engine.units import count

INDENT = "  "
TABLES_SHOWN = 40
_GAP = "  "
_NARROWEST = 20


def shown_width(text: str) -> int:
    """Return the columns that a text takes on a terminal: wide characters take two, combining ones none."""
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def _padded(text: str, width: int, *, right: bool) -> str:
    blanks = " " * max(0, width - shown_width(text))
    return blanks + text if right else text + blanks


def wrapped(text: str, width: int) -> list[str]:
    """Return a text in lines of at most ``width``; its own line ends stay, a word that is too long is broken."""
    lines: list[str] = []
    for line in text.splitlines() or [""]:
        lines += textwrap.wrap(line, max(width, _NARROWEST), break_on_hyphens=False) or [""]
    return lines


def table(
    headers: Sequence[str], rows: Iterable[Sequence[object]], width: int, *, right: Collection[int] = ()
) -> list[str]:
    """Return a table whose last column wraps; nothing for no rows. ``right`` are the columns that are right-aligned."""
    cells = [[str(cell) for cell in row] for row in rows]
    if not cells:
        return []
    fixed = len(headers) - 1
    widths = [max(shown_width(row[column]) for row in [list(headers), *cells]) for column in range(fixed)]
    room = width - len(INDENT) - sum(widths) - len(_GAP) * fixed
    lines = []
    for row in [list(headers), *cells]:
        last = wrapped(row[fixed], room) if fixed not in right else [row[fixed]]
        head = _GAP.join(_padded(row[column], widths[column], right=column in right) for column in range(fixed))
        if fixed in right:
            widest = max(shown_width(other[fixed]) for other in [list(headers), *cells])
            last = [_padded(row[fixed], widest, right=True)]
        for number, piece in enumerate(last):
            start = head if number == 0 else " " * shown_width(head)
            lines.append(f"{INDENT}{start}{_GAP if fixed else ''}{piece}".rstrip())
    return lines


def cut_table(
    headers: Sequence[str], rows: Sequence[Sequence[object]], width: int, *, right: Collection[int] = ()
) -> list[str]:
    """Return a blank line and a table with a row for each database table, the first 40 and the number of the rest."""
    lines = table(headers, rows[:TABLES_SHOWN], width, right=right)
    if not lines:
        return []
    more = len(rows) - TABLES_SHOWN
    return ["", *lines, *([f"{INDENT}and {count(more)} more tables"] if more > 0 else [])]


def facts(pairs: Iterable[tuple[str, str]], width: int) -> list[str]:
    """Return labels and their values, the labels in one column; a pair without a value is left out."""
    said = [(label, value) for label, value in pairs if value]
    if not said:
        return []
    wide = max(shown_width(label) for label, dummy in said)
    lines = []
    for label, value in said:
        for number, piece in enumerate(wrapped(value, width - len(INDENT) - wide - len(_GAP))):
            start = _padded(label if number == 0 else "", wide, right=False)
            lines.append(f"{INDENT}{start}{_GAP}{piece}".rstrip())
    return lines
