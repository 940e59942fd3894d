# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the status of a migration, for `pg_migration_info`: read-only, with all that can be observed.

An unreachable source is reported, not raised: the status is what the operator reads when something is down.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from . import names
from .cdc.changes.compiled import says_compiled, version_of
from .copy.progress import show_copy_progress
from .errors import EngineError
from .flow.rates import Rates, forecast
from .plan import Plan
from .postgres.catalog import qualified
from .postgres.connect import explain_errors
from .postgres.lsn import parse_lsn
from .precheck.run import summary
from .slot.sampling import report_now
from .state.advisory import Holder, holder
from .state.copies import show_copies
from .state.events import recent_events
from .state.large_objects import read_copied
from .state.progress import COUNTERS, HEARD, as_known, read_slot_report, show_whole_progress
from .state.task import read_control
from .state.tombstone import read_tombstone
from .state.validation import read_verdicts
from .task.caught_up import wait_caught_up
from .units import duration, size
from .writers.fence import fence_state

if TYPE_CHECKING:
    from .migration import Migration
    from .postgres.connect import Connection
    from .state.store import MigrationState, StateStore

EVENTS = 20

# to_jsonb, since wal_status and safe_wal_size exist only from 13 on.
_SLOT = """
SELECT pg_catalog.to_jsonb(s),
       pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), s.restart_lsn)::bigint,
       pg_catalog.pg_current_wal_insert_lsn()::text
  FROM (SELECT 1) one LEFT JOIN pg_catalog.pg_replication_slots s ON s.slot_name = %s
"""


def plan(migration: Migration, engine: str = "") -> Plan:
    """Return the status as the plan's result; the plan never has a change. ``engine`` names the collection's engine.

    Raises ConnectError for the destination.
    """
    destination = summary(migration.destination_server)
    source = _source(migration)
    state = migration.store.load()
    opened = state.opened_at if state else read_tombstone(migration.destination, migration.name)
    phase = state.phase if state else "released" if opened else "none"
    tables = _tables(migration.store) if state else []
    slot = _slot(migration, state) if source["reachable"] else {}
    cdc = _cdc(migration.store, slot, engine) if state else {}
    result: dict[str, Any] = {
        "changed": False,
        "name": migration.name,
        "phase": phase,
        "opened_at": opened,
        "tags": dict(migration.spec.tags) or dict((cdc.get("settings") or {}).get("tags") or {}),
        "types": sorted(state.spec.get("types", ())) if state else sorted(migration.spec.types),
        "source_server": source,
        "destination_server": {"reachable": True, **destination},
        "selected": _selected(migration) if source["reachable"] else {},
        "tables": tables,
        "totals": _totals(tables),
        "large_objects": _large_objects(migration.store) if state else {},
        "full_copy": dict(show_copy_progress(migration.store)) if state else {},
        "slot": {key: value for key, value in slot.items() if key != "source_position"},
        "cdc": cdc,
        "validation": _validation(migration.store) if state else {},
        "events": _events(migration.store) if state else [],
        "fence": _fence(migration) if state and source["reachable"] else "unknown",
        "certificate": dict(state.certificate) if state and state.certificate else {},
    }
    return Plan(result={**result, "msg": _sentence(result)})


def plan_caught_up(migration: Migration, engine: str, timeout: float) -> Plan:
    """Return the plan of a real run that waits until the destination has caught up, and then reads everything again.

    It does not wait where there is nothing to wait for: without an incremental part, and once the destination is open.
    Raises ConnectError for the destination; the wait raises StateError, TimeoutExpired, and ConnectError for the source.
    """
    seen = plan(migration, engine)
    if not migration.spec.incremental or seen.result["opened_at"]:
        return seen

    def record() -> Mapping[str, object]:
        seconds = wait_caught_up(migration, timeout)
        return {**plan(migration, engine).result, "caught_up": True, "waited": round(seconds, 3)}

    return Plan(result=seen.result, record=record)


def _source(migration: Migration) -> dict[str, Any]:
    try:
        return {"reachable": True, **summary(migration.source_server)}
    except EngineError as exc:
        return {"reachable": False, "error": dict(exc.as_result())}


def _fence(migration: Migration) -> str:
    """Return the state of the cutover's fence at the source; unknown where the account may not read it."""
    try:
        return fence_state(migration.source, migration.name)
    except EngineError:
        return "unknown"


def _selected(migration: Migration) -> dict[str, Any]:
    """Return the number and bytes of the selected tables, by the source's own estimate of sizes."""
    leaves = migration.selection.leaves
    return {"tables": len(leaves), "bytes": sum(table.bytes for table in leaves)}


def _tables(store: StateStore) -> list[dict[str, Any]]:
    return [dataclasses.asdict(copy) for copy in show_copies(store)]


def _totals(tables: list[dict[str, Any]]) -> dict[str, Any]:
    totals: dict[str, Any] = {"tables": len(tables), "waiting": 0, "copying": 0, "complete": 0, "rows": 0, "bytes": 0}
    for table in tables:
        totals[table["state"]] += 1
        totals["rows"] += table["rows"]
        totals["bytes"] += table["bytes"]
    return totals


def _large_objects(store: StateStore) -> dict[str, Any]:
    """Return the progress of the copy of the large objects; empty before it has begun."""
    copied = read_copied(store)
    return {} if copied is None else dataclasses.asdict(copied)


def _slot(migration: Migration, state: MigrationState | None) -> dict[str, Any]:
    """Return the migration's slot as the source shows it now; ``exists`` is false where it is missing."""
    known = state.slot if state else None
    name = str(known["name"]) if known and known.get("name") else names.slot_name(migration.name)
    row = _one(migration.source, _SLOT, name)
    if row is None or row[0] is None:
        guard = {"guard": _guard(migration, name, known)} if known and known.get("consistent_point") else {}
        return {"name": name, "exists": False, **guard, "source_position": row[2] if row else ""}
    shown = row[0]
    return {
        "name": name,
        "exists": True,
        "active": bool(shown.get("active")),
        "wal_status": shown.get("wal_status") or "",
        "restart_lsn": shown.get("restart_lsn") or "",
        "confirmed_flush_lsn": shown.get("confirmed_flush_lsn") or "",
        "retained_bytes": row[1],
        "safe_wal_size": shown.get("safe_wal_size"),
        "failover": bool(shown.get("failover")),
        "source_position": row[2],
        "guard": _guard(migration, name, known) if known else {},
    }


def _guard(migration: Migration, name: str, known: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the last report of the worker's slot guard; while no worker runs, a report made now."""
    store = migration.store
    recorded = read_slot_report(store)
    fresh = recorded.age is not None and recorded.age < HEARD
    if recorded.seen and fresh and holder(store.conn, store.name) is not None:
        return dict(recorded.seen)
    publication, disk = names.publication_name(migration.name), int(known.get("wal_disk_size", 0))
    return report_now(migration.source, name, publication, recorded.seen, disk)


def _one(conn: Connection, query: str, name: str) -> Any:
    with explain_errors("looking at the replication slot", name):
        return conn.execute(query, (name,)).fetchone()


def _cdc(store: StateStore, slot: Mapping[str, Any], engine: str) -> dict[str, Any]:
    """Return the CDC task's wanted state, its worker and its progress; empty before there is a task."""
    control = read_control(store)
    whole = show_whole_progress(store)
    if control is None and whole is None:
        return {}
    shown, age = (whole.values, whole.age) if whole else ({}, None)
    worker = holder(store.conn, store.name)
    wanted = control.wanted if control else ""
    shown = as_known(shown, age, lives=worker is not None)
    lag = _lag(shown, slot, running=worker is not None)
    runs = str(shown.get("engine") or "")
    return {
        "wanted": wanted,
        "state": shown.get("state") or "",
        "down": wanted == "started" and worker is None,
        "worker": _worker(worker, shown) if worker else {},
        "received": shown.get("received") or "",
        "applied": shown.get("applied") or "",
        "confirmed": shown.get("confirmed") or "",
        **lag,
        **_rates(str(shown.get("state") or "") if worker else "", shown, lag),
        "settings": dict(control.settings) if control else {},
        "counters": {name: shown.get(name) or 0 for name in COUNTERS},
        "last_error": shown.get("last_error") or {},
        "retrying_since": shown.get("retrying_since") or "",
        "engine": runs,
        "engine_outdated": bool(worker and engine and runs and version_of(runs) != version_of(engine)),
        "heartbeat_age": round(age, 1) if age is not None else None,
    }


def _worker(worker: Holder, shown: Mapping[str, Any]) -> dict[str, Any]:
    """Return the session that holds the lock at the destination, and the process that it recorded as its own."""
    return {
        "host": shown.get("host") or "",
        "pid": shown.get("pid"),
        "compiled": says_compiled(str(shown.get("engine") or "")),
        "session": worker.pid,
        "address": worker.address,
        "since": worker.since,
    }


def _lag(shown: Mapping[str, Any], slot: Mapping[str, Any], *, running: bool) -> dict[str, Any]:
    """Return the lag that the worker measured; while none runs that is stale, and the source's position gives it."""
    if running or not slot.get("source_position") or not shown.get("applied"):
        known = shown if running else {}
        return {"lag_bytes": known.get("lag_bytes"), "lag_seconds": known.get("lag_seconds")}
    reached = max(parse_lsn(shown["applied"]), parse_lsn(shown.get("confirmable") or "0/0"))
    return {"lag_bytes": max(0, parse_lsn(slot["source_position"]) - reached), "lag_seconds": None}


def _rates(state: str, shown: Mapping[str, Any], lag: Mapping[str, Any]) -> dict[str, Any]:
    """Return both rates in bytes of the source's WAL a second, and whether and in how many seconds that catches up."""
    source, apply = shown.get("source_rate"), shown.get("apply_rate")
    rates = Rates(source, apply) if state == "running" and source is not None and apply is not None else None
    found = forecast(state, lag["lag_bytes"], lag["lag_seconds"], rates)
    return {
        "source_rate": rates.source if rates else None,
        "apply_rate": rates.apply if rates else None,
        "catch_up": {"verdict": found.verdict, "seconds": found.seconds, "sentence": found.sentence(rates)},
    }


def _validation(store: StateStore) -> dict[str, Any]:
    rows = read_verdicts(store)
    verdicts: dict[str, int] = {}
    for row in rows:
        verdicts[row.verdict] = verdicts.get(row.verdict, 0) + 1
    return {
        "tables": len(rows),
        "verdicts": verdicts,
        "differing": [
            {"table": qualified(row.name), "verdict": row.verdict, "differing": row.differing}
            for row in rows
            if row.differing
        ],
        "checked_at": max((row.checked_at for row in rows), default=""),
    }


def _events(store: StateStore) -> list[dict[str, Any]]:
    """Return the last events, the oldest of them first."""
    return [dataclasses.asdict(event) for event in recent_events(store, EVENTS)]


def _sentence(result: Mapping[str, Any]) -> str:
    said = [f"Migration {result['name']}: phase {result['phase']}"]
    totals, cdc = result["totals"], result["cdc"]
    if result["opened_at"]:
        said.append(f"opened at {result['opened_at']}")
    if totals["tables"]:
        said.append(f"{totals['complete']} of {totals['tables']} tables copied ({size(totals['bytes'])})")
    if cdc.get("down"):
        said.append("the CDC worker is down: run the migrate playbook again")
    elif cdc:
        said.append(f"CDC {cdc['state']}")
    if cdc.get("lag_bytes") is None and cdc.get("state") in ("running", "unknown") and cdc.get("worker"):
        said.append("how far it is behind is unknown")
    if cdc.get("lag_bytes") is not None:
        seconds = f", {duration(cdc['lag_seconds'])}" if cdc["lag_seconds"] is not None else ""
        said.append(f"{size(cdc['lag_bytes'])}{seconds} behind")
    if (cdc.get("catch_up") or {}).get("verdict") in ("catching_up", "never", "stalled"):
        said.append(cdc["catch_up"]["sentence"])
    if cdc.get("state") == "paused" and (result["slot"] or {}).get("retained_bytes") is not None:
        said.append(f"the slot retains {size(result['slot']['retained_bytes'])} of WAL at the source meanwhile")
    said.extend(finding["text"] for finding in (result["slot"].get("guard") or {}).get("findings", ()))
    if result["fence"] == "fenced":
        said.append("the source is fenced: run the cutover playbook again; migrate and release lift the fence")
    elif result["fence"] == "closed" and not result["opened_at"]:
        said.append("the source is closed: run the cutover playbook again to open the destination")
    if not result["source_server"]["reachable"]:
        said.append("the source cannot be reached")
    return ", ".join(said) + "."
