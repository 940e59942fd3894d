# -*- coding: utf-8 -*-
# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What any module's result may say: the notes of its plan, why nothing was done, and the error that it failed with."""

from __future__ import annotations

from ...module_utils._engine.units import count
from .._table import facts, wrapped
from .ends import Result

_NOTES_SHOWN = 5
_SAFE = {
    "would_lose_rows": "Continuing would lose or duplicate rows, so nothing continues by itself. The source is"
    " unchanged.",
    "spec_error": "Nothing was changed. Correct the variable and run the same playbook again.",
    "driver_missing": "Nothing was changed. Install the driver, then run the same playbook again.",
    "connect_failed": "What was done is kept at the destination. The same playbook continues from there.",
    "precheck_failed": "Nothing was changed at either end.",
    "wrong_state": "This step changed nothing. What earlier steps did is kept.",
    "mismatch": "What Causeway did not create was not changed. Find out what it is, then run the same playbook again.",
}


def settled(result: Result, width: int) -> list[str]:
    """Return why nothing was done: the destination is in production."""
    return wrapped(str(result["msg"]), width) if result.get("opened_at") and result.get("msg") else []


def notes(result: Result, width: int) -> list[str]:
    """Return what the plan assumes or leaves alone: a dry run on a new pair of databases says what it did not see."""
    said = [str(note) for note in result.get("notes") or ()]
    shown = [("note", note) for note in said[:_NOTES_SHOWN]]
    more = len(said) - len(shown)
    return facts([*shown, ("note", f"and {count(more)} more in the module's result" if more else "")], width)


def waits(line: Result) -> list[str]:
    """Return what a running module waits for, from a line of its progress file."""
    return [f"waiting: {line['waits']}"] if line.get("waits") else []


def failure(result: Result, width: int, *, module: str, host: str) -> list[str]:
    """Return what failed, where, why, and what is safe to do next; nothing for a result without an engine error."""
    error: Result = result.get("error") or {}
    if not error.get("why"):
        return []
    state = f" (SQLSTATE {error['sqlstate']})" if error.get("sqlstate") else ""
    return [
        f"{module} failed on {host}",
        *facts(
            [
                ("what", f"{error.get('doing', '')} {error.get('object', '')}".strip()),
                ("why", f"{error['why']}{state}"),
                ("where", str(error.get("detail") or "")),
                ("next", str(error.get("remedy") or "")),
                ("safe", _safe(str(error.get("code") or ""))),
            ],
            width,
        ),
    ]


def _safe(code: str) -> str:
    return _SAFE.get(code, "Run the same playbook again: it continues where this run stopped.")
