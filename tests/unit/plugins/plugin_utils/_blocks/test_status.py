# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The status of a migration as lines."""

from __future__ import annotations

from typing import Any

from ansible_collections.causeway.postgresql.plugins.plugin_utils._blocks.status import status

SERVERS = {
    "source_server": {"reachable": True, "product": "PostgreSQL", "version": "14.22", "database": "orders"},
    "destination_server": {"product": "PostgreSQL", "version": "17.5", "database": "orders"},
}


def migration(**other: Any) -> dict[str, Any]:
    return {
        "phase": "replicating",
        "name": "orders",
        **SERVERS,
        "totals": {"tables": 2, "waiting": 1, "copying": 0, "complete": 1, "rows": 1234567, "bytes": 1_200_000_000},
        "tables": [
            {"table": "sales.a", "state": "complete", "rows": 1234567, "bytes": 1_200_000_000, "seconds": 200},
            {"table": "sales.b", "state": "waiting", "rows": 0, "bytes": 0, "seconds": None},
        ],
        "slot": {
            "name": "dts_sync_orders",
            "exists": True,
            "active": True,
            "wal_status": "reserved",
            "retained_bytes": 16_000_000,
        },
        "cdc": {
            "wanted": "started",
            "state": "running",
            "down": False,
            "worker": {"host": "mover1", "pid": 77, "compiled": True},
            "lag_bytes": 1200,
            "lag_seconds": 0.012,
            "counters": {"inserts": 1000, "updates": 0},
            "last_error": {},
        },
        **other,
    }


def test_status() -> None:
    assert status(migration(), 110) == [
        "Migration orders: replicating",
        "  source       PostgreSQL 14.22, database orders",
        "  destination  PostgreSQL 17.5, database orders",
        "  copy         1 of 2 tables, 1 234 567 rows, 1.2 GB",
        "  slot         dts_sync_orders: in use, reserved, retains 16.0 MB of WAL",
        "  CDC          running (wanted: started), on mover1 as pid 77, compiled",
        "  lag          1.2 kB behind, last change applied 12 ms after its commit",
        "  changes      1 000 inserts",
        "",
        "  table    copy           rows     size        time",
        "  sales.b  waiting           0  0 bytes",
        "  sales.a  complete  1 234 567   1.2 GB  3 min 20 s",
    ]


def test_status_says_how_fast_and_whether_it_catches_up() -> None:
    cdc = {
        **migration()["cdc"],
        "source_rate": 5_000_000.0,
        "apply_rate": 1_000_000.0,
        "catch_up": {"verdict": "never", "sentence": "it will never catch up"},
        "settings": {"rows_per_second": 2000, "mb_per_second": 0.5},
        "engine_outdated": True,
    }
    lines = status(migration(cdc=cdc, tags={"stage": "production", "app": "shop"}), 160)
    assert "  tags         app=shop, stage=production" in lines
    assert "  rates        source 5.0 MB/s of WAL, applied 1.0 MB/s: it will never catch up" in lines
    assert "  limits       2 000 rows/s, 0.5 MB/s" in lines
    assert any("does not run this collection" in line for line in lines)


def test_a_worker_that_is_down_is_said_loudly() -> None:
    cdc = {"wanted": "started", "state": "running", "down": True, "lag_bytes": 5, "last_error": {"why": "it broke"}}
    lines = "\n".join(status(migration(cdc=cdc), 160))
    assert "DOWN: no worker applies" in lines and "it broke" in lines


def test_what_the_slot_guard_sees_is_said() -> None:
    finding = {"level": "critical", "code": "slot_lost_soon", "text": "the slot is lost in 10 min", "remedy": "Hurry."}
    guard = {"retained_seconds": 200.0, "slot_lost_in_pause": 600.0, "findings": [finding]}
    slot = {"name": "s", "exists": True, "active": True, "wal_status": "extended", "retained_bytes": 16_000_000}
    lines = status(migration(slot={**slot, "guard": guard}), 160)
    kept = "retains 16.0 MB of WAL from the last 3 min 20 s; a pause of 10 min would lose it"
    assert f"  slot         s: in use, extended, {kept}" in lines
    assert "  CRITICAL     the slot is lost in 10 min. Hurry." in lines


def test_a_source_that_is_not_reached() -> None:
    away = {"reachable": False, "error": {"why": "Connection refused"}}
    lines = status(migration(source_server=away, slot={}), 120)
    assert "  source       not reached: Connection refused" in lines


def test_before_the_first_phase() -> None:
    lines = status({"phase": "none", "name": "x", "selected": {"tables": 3, "bytes": 2_000_000}}, 100)
    assert "  copy         not started: 3 tables, about 2.0 MB" in lines


def test_a_wait_is_one_line() -> None:
    assert status(migration(caught_up=True, waited=0.25), 110) == [
        "Migration orders: caught up after 250 ms, 1.2 kB behind, last change applied 12 ms after its commit"
    ]
    assert status({"phase": "replicating", "name": "x", "caught_up": True}, 110) == [
        "Migration x: caught up after 0 ms"
    ]
