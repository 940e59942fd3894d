# -*- coding: utf-8 -*-
# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person reads of a module's result, as lines. Pure: a block is a function of the result and the width.

Every block takes what is there: a result of an older release, of check mode or of a failure may lack any of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..module_utils._engine.units import count, duration, size
from ._table import INDENT, facts, shown_width, table, wrapped

Result = Mapping[str, Any]

_SEVERITIES = {
    "error": ("errors", "These block the migration"),
    "warning": ("warnings", "These should be cured before"),
    "ignorable": ("ignorable", "These may be accepted: ignore_checks takes their ids"),
    "note": ("notes", "Good to know"),
}
_NO_COMMENT = (
    "Only the owner of the destination database can write its comment, so no line there says that this database is in"
    " production: after a release, nothing but the tables that stand keeps a migrate of this name away from it."
)
_OBJECTS_SHOWN = 8
_ROOM_FOR_A_FIX = 60
_TABLES_SHOWN = 40
_EVENTS_SHOWN = 5
_NOTES_SHOWN = 5


def findings(result: Result, width: int) -> list[str]:
    """The findings of a precheck, grouped by severity; many objects of one check are cut, with their number."""
    found: Sequence[Result] = result.get("findings") or ()
    counts = result.get("counts") or {}
    lines = []
    for severity, (dummy, heading) in _SEVERITIES.items():
        rows = _rows_of([one for one in found if one.get("severity") == severity])
        if rows:
            number = counts.get(severity, len(rows))
            lines += ["", f"{severity.upper()} ({number}). {heading}.", "", *_listed(rows, width)]
    if result.get("opened_at"):
        return settled(result, width)
    if "findings" not in result:
        return []
    said = [
        f"{number} {severity if number == 1 else plural}"
        for severity, (plural, dummy) in _SEVERITIES.items()
        if (number := counts.get(severity, 0))
    ]
    verdict = "passed" if result.get("passed") else "not passed"
    return [f"Precheck {verdict}: {', '.join(said) or 'nothing found'}", *facts(_ends(result), width), *lines]


def settled(result: Result, width: int) -> list[str]:
    """Why nothing was done: the destination is in production."""
    return wrapped(str(result["msg"]), width) if result.get("opened_at") and result.get("msg") else []


def notes(result: Result, width: int) -> list[str]:
    """What a plan takes for granted or leaves alone: a dry run on a fresh pair says here what it has not seen."""
    said = [str(note) for note in result.get("notes") or ()]
    shown = [("note", note) for note in said[:_NOTES_SHOWN]]
    more = len(said) - len(shown)
    return facts([*shown, ("note", f"and {count(more)} more in the module's result" if more else "")], width)


def _listed(rows: Sequence[tuple[str, str, str]], width: int) -> list[str]:
    """A table; where names leave its last column too little room for a statement, a paragraph for each finding."""
    names = max(shown_width(name) for name, dummy, dummy_text in rows)
    objects = max(shown_width(what) for dummy, what, dummy_text in rows)
    if width - names - objects >= _ROOM_FOR_A_FIX:
        return table(("id", "object", "seen, and what cures it"), rows, width)
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


def _ends(result: Result) -> list[tuple[str, str]]:
    return [(end, _server(result.get(f"{end}_server") or {})) for end in ("source", "destination")]


def _server(server: Result) -> str:
    if not server or server.get("reachable") is False:
        why = (server.get("error") or {}).get("why")
        return f"not reached: {why}" if why else "not reached"
    return f"{server.get('product')} {server.get('version')}, database {server.get('database')}"


def status(result: Result, width: int) -> list[str]:
    """Where a migration stands, as pg_migration_info returns it."""
    if "phase" not in result:
        return []
    lines = [f"Migration {result.get('name')}: {result['phase']}"]
    lines += facts(
        [
            *_ends(result),
            ("tags", _tags(result)),
            ("opened", str(result.get("opened_at") or "")),
            ("copy", _copy(result)),
            ("copying", _running(result.get("full_copy") or {})),
            ("slot", _slot(result.get("slot") or {})),
            *_guard((result.get("slot") or {}).get("guard") or {}),
            ("CDC", _cdc(result.get("cdc") or {})),
            ("", _outdated(result.get("cdc") or {})),
            ("lag", _lag(result.get("cdc") or {})),
            ("rates", _rates(result.get("cdc") or {})),
            ("limits", _pace((result.get("cdc") or {}).get("settings") or {})),
            ("changes", _changes(result.get("cdc") or {})),
            ("last error", _error(result.get("cdc") or {})),
            ("validation", _validation(result.get("validation") or {})),
        ],
        width,
    )
    lines += _copying(result, width)
    events = (result.get("events") or [])[-_EVENTS_SHOWN:]
    rows = [(str(one.get("at", ""))[:19], one.get("phase", ""), one.get("what", "")) for one in events]
    return lines + (["", *table(("when", "phase", "what"), rows, width)] if rows else [])


def _copy(result: Result) -> str:
    totals = result.get("totals") or {}
    if not totals.get("tables"):
        selected = result.get("selected") or {}
        if not selected:
            return ""
        return f"not begun: {count(selected.get('tables', 0))} tables, about {size(selected.get('bytes', 0))}"
    done = f"{count(totals['complete'])} of {count(totals['tables'])} tables"
    return f"{done}, {count(totals['rows'])} rows, {size(totals['bytes'])}{_objects(result)}"


def _objects(result: Result) -> str:
    """What was copied of the large objects; empty where there is none."""
    found = result.get("large_objects") or {}
    number = found.get("objects") or 0
    return f", {count(number)} large objects ({size(found.get('bytes') or 0)})" if number else ""


def _running(copy: Result) -> str:
    """The same line that a copy shows of itself, while it runs."""
    return "".join(progress(copy)) if copy.get("hosts") else ""


def _slot(slot: Result) -> str:
    if not slot:
        return ""
    if not slot.get("exists"):
        return f"{slot.get('name')} does not stand"
    active = "in use" if slot.get("active") else "nobody reads it"
    state = f", {slot['wal_status']}" if slot.get("wal_status") else ""
    kept = f", keeps {size(slot['retained_bytes'])} of WAL" if slot.get("retained_bytes") is not None else ""
    guard = slot.get("guard") or {}
    age = f" from the last {duration(guard['retained_seconds'])}" if kept and guard.get("retained_seconds") else ""
    pause = guard.get("slot_lost_in_pause")
    bound = f"; a pause of {duration(pause)} would lose it" if pause is not None else ""
    return f"{slot.get('name')}: {active}{state}{kept}{age}{bound}"


def _guard(guard: Result) -> list[tuple[str, str]]:
    """What the slot guard warns of, each on a line of its own."""
    found = guard.get("findings") or ()
    return [(str(one["level"]).upper(), f"{one['text']}. {one['remedy']}") for one in found]


def _cdc(cdc: Result) -> str:
    if not cdc:
        return ""
    worker = cdc.get("worker") or {}
    said = [f"{cdc.get('state') or 'not started yet'} (wanted: {cdc.get('wanted') or 'nothing'})"]
    if cdc.get("down"):
        said.append("DOWN: nobody applies; run the migrate playbook again")
    elif worker:
        kind = "compiled" if worker.get("compiled") else "pure Python"
        said.append(f"on {worker.get('host')} as pid {worker.get('pid')}, {kind}")
    return ", ".join(said)


def _lag(cdc: Result) -> str:
    said = []
    if cdc.get("lag_bytes") is not None:
        said.append(f"{size(cdc['lag_bytes'])} behind")
    if cdc.get("lag_seconds") is not None:
        said.append(f"last change applied {duration(cdc['lag_seconds'])} after its commit")
    return ", ".join(said)


def _tags(result: Result) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted((result.get("tags") or {}).items()))


def _outdated(cdc: Result) -> str:
    if not cdc.get("engine_outdated"):
        return ""
    return "the worker runs another engine than this collection's; causeway_cdc_state: restarted changes that"


def _rates(cdc: Result) -> str:
    said = []
    if cdc.get("source_rate") is not None and cdc.get("apply_rate") is not None:
        said.append(f"source {size(cdc['source_rate'])}/s of WAL, applied {size(cdc['apply_rate'])}/s")
    sentence = (cdc.get("catch_up") or {}).get("sentence")
    return ": ".join([*said, sentence] if sentence else said)


def _pace(settings: Result) -> str:
    said = []
    if settings.get("rows_per_second"):
        said.append(f"{count(settings['rows_per_second'])} rows/s")
    if settings.get("mb_per_second"):
        said.append(f"{settings['mb_per_second']:g} MB/s")
    return ", ".join(said)


def task(result: Result, width: int) -> list[str]:
    """The CDC task after it was changed, as pg_cdc_task returns it."""
    found: Result = result.get("task") or {}
    if not result.get("changed") or not found.get("wanted"):
        return []
    kept = found.get("slot_keeps_bytes")
    rests = found["wanted"] in ("paused", "stopped")
    return [
        f"CDC task: {found.get('state') or 'not started yet'} (wanted: {found['wanted']})",
        *facts(
            [
                ("slot", f"keeps {size(kept)} of WAL at the source" if rests and kept is not None else ""),
                ("limits", _pace(found.get("settings") or {})),
            ],
            width,
        ),
    ]


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


def _copying(result: Result, width: int) -> list[str]:
    """Each table's copy; of many, those that are not complete first."""
    tables: Sequence[Result] = result.get("tables") or ()
    order = {"copying": 0, "waiting": 1, "complete": 2}
    shown = sorted(tables, key=lambda one: order.get(str(one.get("state")), 0))[:_TABLES_SHOWN]
    rows = [
        (
            one.get("table", ""),
            one.get("state", ""),
            count(one.get("rows") or 0),
            size(one.get("bytes") or 0),
            duration(one["seconds"]) if one.get("seconds") is not None else "",
        )
        for one in shown
    ]
    lines = table(("table", "copy", "rows", "size", "time"), rows, width, right=(2, 3, 4))
    return _with_rest(lines, len(tables) - len(rows))


def copied(result: Result, width: int) -> list[str]:
    """What a copy has moved, as pg_full_copy returns it; nothing where there was nothing to do."""
    tables: Sequence[Result] = result.get("tables") or ()
    if not tables or not result.get("changed"):
        return []
    complete = sum(1 for one in tables if one.get("state") == "complete")
    if not result.get("runs", 1) and not (result.get("large_objects") or {}).get("moved"):  # a dry run
        return [f"{count(len(tables) - complete)} of {count(len(tables))} tables are to be copied"]
    rows = sum(one.get("rows") or 0 for one in tables)
    moved = sum(one.get("bytes") or 0 for one in tables)
    said = (
        f"{count(complete)} of {count(len(tables))} tables copied, {count(rows)} rows, {size(moved)}{_objects(result)}"
    )
    return [said, *_copying(result, width)]


def progress(line: Result) -> list[str]:
    """One line of a copy that runs: where all stands, or a large table that is complete."""
    if line.get("table"):
        took = duration(line.get("seconds") or 0)
        return [
            f"table {line['table']} is complete: {count(line.get('rows') or 0)} rows, {size(line['bytes'])} in {took}"
        ]
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
        f"waits: {line['held']}" if line.get("held") else "",
    ]
    return [", ".join(one for one in said if one)]


def _with_rest(lines: list[str], left_out: int) -> list[str]:
    if not lines:
        return []
    return ["", *lines, *([f"  and {count(left_out)} more tables"] if left_out > 0 else [])]


def verdicts(result: Result, width: int) -> list[str]:
    """The verdict on each table, the differing ones first, as pg_data_validate returns them."""
    tables: Sequence[Result] = result.get("tables") or ()
    if not tables:
        return []
    shown = sorted(tables, key=lambda one: one.get("verdict") == "identical")[:_TABLES_SHOWN]
    rows = [
        (
            one.get("table", ""),
            one.get("verdict", ""),
            _count(one.get("source_rows")),
            _count(one.get("destination_rows")),
            _count(one.get("differing")),
        )
        for one in shown
    ]
    same = sum(1 for one in tables if one.get("verdict") == "identical")
    read = sum(one.get("source_rows") or 0 for one in tables)
    lines = [f"{count(same)} of {count(len(tables))} tables identical, {count(read)} rows read at the source"]
    lines += _object_verdict(result.get("large_objects") or {})
    headers = ("table", "verdict", "source rows", "destination rows", "differing")
    lines += _with_rest(table(headers, rows, width, right=(2, 3, 4)), len(tables) - len(rows))
    find = [(str(one.get("table")), str(one.get("find") or "")) for one in shown if one.get("find")]
    return lines + (["", "The first difference of each:", *facts(find, width)] if find else [])


def _object_verdict(found: Result) -> list[str]:
    """The verdict on the large objects; nothing where there are none."""
    if not found.get("objects") and not found.get("gone"):
        return []
    said = f"{count(found['objects'])} large objects {found.get('verdict')}"
    wrong = [f"{count(found[key])} {key}" for key in ("differing", "missing", "gone") if found.get(key)]
    return [f"{said}: {', '.join(wrong)} (what was written after their copy is not captured)" if wrong else said]


def _count(number: object) -> str:
    return count(number) if isinstance(number, int) else ""


def certificate(result: Result, width: int) -> list[str]:
    """What a cutover proved, as pg_cutover returns it."""
    proved: Result = result.get("certificate") or {}
    if not proved:
        return []
    marker = proved.get("marker")
    lines = [f"Certificate of the cutover, verdict {proved.get('verdict') or 'not given'}"]
    lines += facts(
        [
            ("opened", str(proved.get("opened_at") or "")),
            ("pause", duration(proved["pause_ms"] / 1000) if proved.get("pause_ms") is not None else ""),
            ("tables", _count(proved.get("tables"))),
            ("rows", _count(proved.get("rows"))),
            ("sequences", _count(proved.get("sequences"))),
            ("large objects", _certified(proved.get("large_objects") or {})),
            ("fenced roles", ", ".join(proved.get("fenced_roles") or ())),
            ("marker", f"{marker.get('number')} at {marker.get('position')}" if isinstance(marker, Mapping) else ""),
            ("note", _NO_COMMENT if proved.get("comment") is False else ""),
        ],
        width,
    )
    steps = [(one.get("name", ""), duration(one.get("seconds") or 0)) for one in proved.get("steps") or ()]
    return lines + (["", *table(("step", "time"), steps, width, right=(1,))] if steps else [])


def _certified(found: Result) -> str:
    if not found.get("objects"):
        return ""
    return f"{count(found['objects'])}, as they were when copied ({str(found.get('copied_at'))[:19]}); not compared"


def failure(result: Result, width: int, *, module: str, host: str) -> list[str]:
    """What failed, where, why, and what is safe to do next; nothing for a result without an error of the engine's."""
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


_SAFE = {
    "would_lose_rows": "Going on would lose or double rows, so nothing goes on by itself. The source is untouched.",
    "spec_error": "Nothing was changed. Correct the variable and run the same playbook again.",
    "driver_missing": "Nothing was changed. Then run the same playbook again.",
    "connect_failed": "What was reached is kept at the destination. The same playbook goes on from there.",
    "precheck_failed": "Nothing was changed at either end.",
    "wrong_state": "This step changed nothing. What was reached before is kept.",
    "mismatch": "Nothing that is not ours was touched. Decide what it is, then run the same playbook again.",
}


def _safe(code: str) -> str:
    return _SAFE.get(code, "Run the same playbook again: it goes on from where this stopped.")
