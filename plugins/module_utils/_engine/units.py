# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sizes, durations and counts as text for the operator: 1.2 GB, 3 min 20 s, 1 234 567."""

from __future__ import annotations

_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")


def size(count: float) -> str:
    """Return bytes in steps of 1000: ``1.2 GB``. Three digits at most."""
    value, unit = float(count), 0
    while abs(value) >= 999.5 and unit < len(_UNITS) - 1:
        value /= 1000
        unit += 1
    if unit == 0 or abs(value) >= 99.95:
        return f"{value:.0f} {_UNITS[unit]}"
    return f"{value:.1f} {_UNITS[unit]}"


def duration(seconds: float) -> str:
    """Return seconds as ``42 ms``, ``4.2 s``, ``3 min 20 s``, ``2 h 5 min``, ``3 d 4 h``."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    whole = round(seconds)
    for one, name, next_one, next_name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= one:
            rest = whole % one // next_one
            return f"{whole // one} {name} {rest} {next_name}" if rest else f"{whole // one} {name}"
    return f"{whole} s"


def count(number: int) -> str:
    """Return a whole number with its thousands separated: ``1 234 567``."""
    return f"{number:,}".replace(",", " ")
