# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the demo shows to a person: its steps as they go, and the summary at the end."""

from __future__ import annotations

import os
import sys
from typing import Any

WIDTH = 78


def thousands(number: float | None) -> str:
    return "–" if number is None else f"{number:,.0f}"


def size(number: float | None) -> str:
    """Bytes as 1.2 GB."""
    if number is None:
        return "–"
    for unit in ("bytes", "kB", "MB", "GB"):
        if abs(number) < 1000 or unit == "GB":
            return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"
        number /= 1000
    return ""


def duration(seconds: float) -> str:
    """Seconds as 3 min 20 s."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60} s"


class Console:
    """Lines for a person; colours only where they are shown."""

    def __init__(self) -> None:
        self.coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ

    def paint(self, text: str, code: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self.coloured else text

    def line(self, text: str = "") -> None:
        print(text, flush=True)

    def begin(self, text: str) -> None:
        self.line(f"{self.paint('▸', '36')} {text} …")

    def detail(self, text: str) -> None:
        self.line(self.paint(f"    {text}", "2"))

    def done(self, text: str, seconds: float) -> None:
        self.line(f"{self.paint('✓', '32')} {text}  {self.paint(f'({duration(seconds)})', '2')}")

    def note(self, text: str) -> None:
        self.line(f"  {text}")

    def failed(self, text: str) -> None:
        self.line(f"{self.paint('✗', '31')} {text}")


def summary(console: Console, result: dict[str, Any]) -> None:
    """The last thing that a person reads."""
    line = "─" * WIDTH
    console.line()
    console.line(line)
    longest = max(result["phases"].values(), default=1.0) or 1.0
    for name, seconds in result["phases"].items():
        length = "█" * max(1, round(30 * seconds / longest)) if seconds >= 0.05 else ""
        console.line(f"  {name:<16}{duration(seconds):>12}  {console.paint(length, '36')}")
    console.line(line)
    rows = [
        ("copied", f"{thousands(result['copied_rows'])} rows, {size(result['copied_bytes'])} in {duration(result['copy_seconds'])}"
                   + (f", {result['copy_mb_per_s']} MB/s" if result["copy_mb_per_s"] else "")),
        ("applied", f"{thousands(result['changes_applied'])} changes of a live application"),
        ("lag", _lag(result)),
        ("load", ", ".join(f"{thousands(n)} transactions at the {end}" for end, n in result["transactions"].items()) or "–"),
        ("write pause", _pause(result)),
        ("compared", f"{thousands(result['rows'])} rows in {result['tables']} tables, both ends as of the fence"),
        ("refused", f"{result['writes_refused']} writes of fenced and revoked roles"),
        ("passwords", f"looked for {thousands(result['looks_for_passwords'])} times in every argv and environment"),
    ]  # fmt: skip
    for name, text in rows:
        console.line(f"  {name:<16}{text}")
    console.line(line)
    for problem in result["problems"]:
        console.line(f"  {console.paint('✗', '31')} {problem}")
    good = result["verdict"] == "identical"
    mark = console.paint("verdict", "1;32" if good else "1;31")
    same = result["verdict_line"].startswith("identical")
    said = "the rows are identical, but see above" if same and not good else result["verdict_line"]
    console.line(f"  {mark}         {said}")
    console.line(line)


def _pause(result: dict[str, Any]) -> str:
    if result["write_pause_ms"] is None:
        return "–"
    roles = ", ".join(f"{role} {pause:.0f}" for role, pause in sorted(result["write_pause_by_role_ms"].items()))
    return f"{result['write_pause_ms']:.0f} ms, as the application saw it ({roles})"


def _lag(result: dict[str, Any]) -> str:
    if result["lag_bytes"] is None and result["lag_seconds"] is None:
        return "–"
    seconds = "" if result["lag_seconds"] is None else f", {float(result['lag_seconds']) * 1000:.0f} ms"
    return f"{size(result['lag_bytes'])}{seconds} behind, before the cutover"
