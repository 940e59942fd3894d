# -*- coding: utf-8 -*-
# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The status of a migration, as pg_migration_info returns it."""

from __future__ import annotations

from ...module_utils._engine.units import count, duration, size
from .._table import facts, table
from .ends import Result, ends
from .full_copy import copied_tables, large_objects, progress
from .task import limits

_EVENTS_SHOWN = 5


def status(result: Result, width: int) -> list[str]:
    """Return phase, copy, slot, CDC, validation and the last events; a line of a wait until it has caught up.

    Nothing for a result without a phase.
    """
    if "phase" not in result:
        return []
    slot, cdc = result.get("slot") or {}, result.get("cdc") or {}
    if result.get("caught_up"):
        waited = f"caught up after {duration(result.get('waited') or 0)}"
        return [", ".join([f"Migration {result.get('name')}: {waited}", *filter(None, [_lag(cdc)])])]
    lines = [f"Migration {result.get('name')}: {result['phase']}"]
    lines += facts(
        [
            *ends(result),
            ("tags", _tags(result)),
            ("opened", str(result.get("opened_at") or "")),
            ("copy", _copy(result)),
            ("copying", _running(result.get("full_copy") or {})),
            ("slot", _slot(slot)),
            *_guard(slot.get("guard") or {}),
            ("CDC", _cdc(cdc)),
            ("", _outdated(cdc)),
            ("lag", _lag(cdc)),
            ("rates", _rates(cdc)),
            ("limits", limits(cdc.get("settings") or {})),
            ("changes", _changes(cdc)),
            ("last error", _error(cdc)),
            ("validation", _validation(result.get("validation") or {})),
        ],
        width,
    )
    lines += copied_tables(result, width)
    events = (result.get("events") or [])[-_EVENTS_SHOWN:]
    rows = [(str(one.get("at", ""))[:19], one.get("phase", ""), one.get("what", "")) for one in events]
    return lines + (["", *table(("when", "phase", "what"), rows, width)] if rows else [])


def _tags(result: Result) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted((result.get("tags") or {}).items()))


def _copy(result: Result) -> str:
    totals = result.get("totals") or {}
    if not totals.get("tables"):
        selected = result.get("selected") or {}
        if not selected:
            return ""
        return f"not started: {count(selected.get('tables', 0))} tables, about {size(selected.get('bytes', 0))}"
    done = f"{count(totals['complete'])} of {count(totals['tables'])} tables"
    return f"{done}, {count(totals['rows'])} rows, {size(totals['bytes'])}{large_objects(result)}"


def _running(copy: Result) -> str:
    """Return the same line that a copy shows while it runs; empty where no host copies."""
    return "".join(progress(copy)) if copy.get("hosts") else ""


def _slot(slot: Result) -> str:
    if not slot:
        return ""
    if not slot.get("exists"):
        return f"{slot.get('name')} does not exist"
    active = "in use" if slot.get("active") else "not in use"
    state = f", {slot['wal_status']}" if slot.get("wal_status") else ""
    retained = f", retains {size(slot['retained_bytes'])} of WAL" if slot.get("retained_bytes") is not None else ""
    guard = slot.get("guard") or {}
    age = f" from the last {duration(guard['retained_seconds'])}" if retained and guard.get("retained_seconds") else ""
    pause = guard.get("slot_lost_in_pause")
    bound = f"; a pause of {duration(pause)} would lose it" if pause is not None else ""
    return f"{slot.get('name')}: {active}{state}{retained}{age}{bound}"


def _guard(guard: Result) -> list[tuple[str, str]]:
    """Return the warnings of the slot guard, one fact each."""
    found = guard.get("findings") or ()
    return [(str(one["level"]).upper(), f"{one['text']}. {one['remedy']}") for one in found]


def _cdc(cdc: Result) -> str:
    if not cdc:
        return ""
    worker = cdc.get("worker") or {}
    said = [f"{cdc.get('state') or 'not started yet'} (wanted: {cdc.get('wanted') or 'nothing'})"]
    if cdc.get("down"):
        said.append("DOWN: no worker applies; run the migrate playbook again")
    elif worker:
        kind = "compiled" if worker.get("compiled") else "pure Python"
        said.append(f"on {worker.get('host')} as pid {worker.get('pid')}, {kind}")
    return ", ".join(said)


def _outdated(cdc: Result) -> str:
    if not cdc.get("engine_outdated"):
        return ""
    return "the worker does not run this collection's engine; causeway_cdc_state: restarted makes it do so"


def _lag(cdc: Result) -> str:
    said = []
    if cdc.get("lag_bytes") is not None:
        said.append(f"{size(cdc['lag_bytes'])} behind")
    elif cdc.get("worker"):
        said.append("unknown")
    if cdc.get("lag_seconds") is not None:
        said.append(f"last change applied {duration(cdc['lag_seconds'])} after its commit")
    return ", ".join(said)


def _rates(cdc: Result) -> str:
    said = []
    if cdc.get("source_rate") is not None and cdc.get("apply_rate") is not None:
        said.append(f"source {size(cdc['source_rate'])}/s of WAL, applied {size(cdc['apply_rate'])}/s")
    sentence = (cdc.get("catch_up") or {}).get("sentence")
    return ": ".join([*said, sentence] if sentence else said)


def _changes(cdc: Result) -> str:
    counters = cdc.get("counters") or {}
    return ", ".join(f"{count(number)} {name}" for name, number in counters.items() if number)


def _error(cdc: Result) -> str:
    error = cdc.get("last_error") or {}
    if not error:
        return ""
    said = f"{error.get('doing', '')} {error.get('object', '')}".strip()
    return f"{said}: {error.get('why', '')}. {error.get('remedy', '')}"


def _validation(validation: Result) -> str:
    verdicts = validation.get("verdicts") or {}
    if not verdicts:
        return ""
    said = ", ".join(f"{count(number)} {verdict}" for verdict, number in verdicts.items())
    return f"{said}, checked at {str(validation.get('checked_at', ''))[:19]}"
