# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Family "logical decoding": can the source decode its changes, and retain their WAL until they are read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from .. import names
from ..postgres.versions import has
from ..units import duration
from . import wal
from .finding import Check, Found, at_source
from .wal import our_slot

if TYPE_CHECKING:
    from ..postgres.server import Server
    from .observed import Observation, SourceView, Transaction

_LONG = 600.0


_CLOUD_MODES = ("polar_failover_slot_mode", "rds_failover_slot_mode")
"""The cloud's settings, PolarDB's and RDS's: sync, async or off."""

_STORAGE, _PERSISTED = "polar_enable_shared_storage_mode", "polar_enable_persisted_logical_slot"
_NO_SWITCHOVER = "or plan no switchover until the cutover."


def _slot_failover(dummy: Observation, source: SourceView) -> Iterator[Found]:
    """Judge by the cloud's mode where there is one, by PolarDB's storage where that is shared, else by the standbys."""
    server = source.server
    mode = next((name for name in _CLOUD_MODES if server.setting(name)), "")
    if mode:
        yield from _cloud_failover(server, mode)
    elif server.product == "PolarDB" and server.setting(_STORAGE) != "off":
        yield from _storage_failover(server)
    else:
        yield from _standby_failover(source)


def _cloud_failover(server: Server, name: str) -> Iterator[Found]:
    value = server.setting(name).lower()
    if value == "sync":
        return
    why = (
        "In this mode the worker may be ahead of the standby that is promoted: then the task stops, and the tables have to be"
        " copied again."
    )
    yield Found(
        server.database,
        f"{name} {value}",
        f"SELECT current_setting('{name}', true)",
        f"Set {name} to sync in the cloud's console, {_NO_SWITCHOVER}",
        why if value == "async" else "",
    )


def _storage_failover(server: Server) -> Iterator[Found]:
    """PolarDB on shared storage: the node that is promoted reads the slots that were persisted there."""
    shared, persisted = server.setting(_STORAGE), server.setting(_PERSISTED)
    if shared == persisted == "on":
        return
    yield Found(
        server.database,
        f"{_STORAGE} {shared or 'unknown'}, {_PERSISTED} {persisted or 'unknown'}, {_CLOUD_MODES[0]} unknown",
        "; ".join(f"SELECT current_setting('{name}', true)" for name in (_STORAGE, _PERSISTED, _CLOUD_MODES[0])),
        f"Set {_PERSISTED} to on and restart, or on the cloud {_CLOUD_MODES[0]} to sync; {_NO_SWITCHOVER}",
    )


def _standby_failover(source: SourceView) -> Iterator[Found]:
    server = source.server
    if not source.standbys:
        return
    named_slots = has(server.version, "synchronized_standby_slots")
    if named_slots and server.setting("synchronized_standby_slots"):
        return
    # Its settings are seen by every account, the list of preloaded libraries is not.
    loaded = server.setting("pg_failover_slots.version") or "pg_failover_slots" in server.setting(
        "shared_preload_libraries"
    )
    if loaded:
        return
    wanted = "synchronized_standby_slots" if named_slots else "the extension pg_failover_slots"
    yield Found(
        ", ".join(source.standbys),
        f"{len(source.standbys)} standbys follow, and {wanted} is not set",
        "SELECT application_name FROM pg_stat_replication",
    )


def _slot_name_taken(seen: Observation, source: SourceView) -> Iterator[Found]:
    wanted = names.slot_name(seen.spec.name)
    for slot in source.slots:
        if slot.name == wanted and our_slot(seen, source) is None:
            yield Found(
                slot.name,
                f"plugin {slot.plugin or 'none (physical)'}, database {slot.database or 'none'}, "
                f"{'in use' if slot.active else 'not in use'}",
                "SELECT * FROM pg_replication_slots",
            )


def _session(transaction: Transaction) -> str:
    return transaction.gid or f"pid {transaction.pid}"


def _prepared_transactions(dummy: Observation, source: SourceView) -> Iterator[Found]:
    for one in source.prepared:
        yield Found(
            one.gid,
            f"prepared {duration(one.age)} ago by {one.user} in database {one.database}",
            "SELECT * FROM pg_prepared_xacts",
            f"COMMIT PREPARED or ROLLBACK PREPARED '{one.gid}' in database {one.database}.",
        )


def _long_transactions(dummy: Observation, source: SourceView) -> Iterator[Found]:
    for one in source.long_transactions:
        if one.age >= _LONG:
            yield Found(
                _session(one),
                f"{one.user} ({one.application or 'no application name'}) in database {one.database}, "
                f"open for {duration(one.age)}, query began {one.since}",
                "SELECT pid, xact_start, query_start FROM pg_stat_activity ORDER BY xact_start",
                f"Wait until it ends, or SELECT pg_terminate_backend({one.pid});",
            )


def _idle_in_transaction(dummy: Observation, source: SourceView) -> Iterator[Found]:
    value = source.ordinary.get("idle_in_transaction_session_timeout", "0")
    if value not in ("0", ""):
        yield Found(source.server.database, duration(float(value) / 1000), "SHOW idle_in_transaction_session_timeout")


CHECKS = (
    *wal.CHECKS,
    Check(
        "slot_failover",
        "ignorable",
        "After a failover or switchover of the source the slot is missing or behind: the tables have to be copied again.",
        "17 and later: synchronized_standby_slots here, sync_replication_slots on the standby. Before: pg_failover_slots."
        " On a cloud: its failover slot mode.",
        at_source(_slot_failover),
        incremental=True,
    ),
    Check(
        "slot_name_taken",
        "error",
        "A slot of the migration's name exists, but is not recorded in its state: reading from it could skip changes.",
        "Give the migration another causeway_name. Drop the slot only when you know whose it is, and that nothing reads it.",
        at_source(_slot_name_taken),
        incremental=True,
    ),
    Check(
        "prepared_transactions",
        "warning",
        "The slot cannot be created before every prepared transaction has ended.",
        "COMMIT PREPARED or ROLLBACK PREPARED.",
        at_source(_prepared_transactions),
        incremental=True,
    ),
    Check(
        "long_transactions",
        "ignorable",
        "The slot cannot be created before they have ended, and they hold back vacuum.",
        "Wait until they end, or terminate their sessions.",
        at_source(_long_transactions),
        incremental=True,
    ),
    Check(
        "idle_in_transaction_session_timeout",
        "note",
        "It ends the application's idle transactions, but not those of the migration, whose sessions set it to 0.",
        "Nothing to do.",
        at_source(_idle_in_transaction),
        incremental=True,
    ),
)
