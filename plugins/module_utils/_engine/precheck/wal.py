# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the family "logical decoding": can the source retain, decode and send the WAL that the migration needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..units import duration, size
from .finding import Check, Found, at_source

if TYPE_CHECKING:
    from .observed import Observation, Slot, SourceView

_COPY_RATE = 50_000_000
"""The assumed rate of a copy in bytes a second, to forecast how long it takes."""

_WORTH_A_FORECAST = 1 << 30
_SHORT_SENDER_TIMEOUT = 10_000  # milliseconds


def our_slot(seen: Observation, source: SourceView) -> Slot | None:
    """Return the migration's own slot, as the state tables recorded it; None if there is none."""
    state = seen.destination.state if seen.destination else None
    known = state.slot if state else None
    if not known:
        return None
    for slot in source.slots:
        if (slot.name, slot.plugin, slot.database) == (known.get("name"), known.get("plugin"), known.get("database")):
            return slot
    return None


def _wal_level(dummy: Observation, source: SourceView) -> Iterator[Found]:
    level = source.server.setting("wal_level")
    if level != "logical":
        yield Found(source.server.database, level, "SHOW wal_level")


@dataclass(frozen=True, slots=True)
class _Limit:
    """One limit that binds the account. ``setting`` holds it; ``reserve`` names what keeps ``reserved`` of it for
    superusers."""

    setting: str
    limit: int
    used: int
    reserve: str = ""
    reserved: int = 0

    @property
    def free(self) -> int:
        return max(0, self.limit - self.used - self.reserved)

    def found(self, database: str, needed: int, counting: str) -> Found:
        """Return the finding. ``counting`` is the query that counts what is used."""
        reserved = f", {self.reserved} reserved for superusers" if self.reserved else ""
        shown = " ".join(f"SELECT current_setting('{name}', true);" for name in (self.setting, self.reserve) if name)
        wanted = self.used + self.reserved + needed + 2
        if self.setting.startswith("polar_"):
            fix = (
                f"Set {self.setting} to {wanted} or more, or to -1 for no limit (ALTER SYSTEM, or the cloud's console)"
            )
        else:
            fix = f"ALTER SYSTEM SET {self.setting} = {wanted}; then restart the source"
        lower = f"; or lower {self.reserve}, or use an account that is a superuser." if self.reserve else "."
        return Found(
            database,
            f"{self.setting}: {self.free} free ({self.used} of {self.limit} used{reserved}), {needed} needed",
            f"{counting}; {shown}",
            fix + lower,
        )


def _number(source: SourceView, name: str, default: int) -> int:
    return int(source.server.setting(name) or default)


def _shared(source: SourceView, setting: str, used: int, reserve: str) -> _Limit:
    """Return the server's limit; PolarDB 11 reserves a part of it for superusers (`reserve`, -1 for none)."""
    reserved = 0 if source.superuser else max(0, _number(source, reserve, 0))
    return _Limit(setting, _number(source, setting, 0), used, reserve if reserved else "", reserved)


def _max_replication_slots(seen: Observation, source: SourceView) -> Iterator[Found]:
    limit = _shared(source, "max_replication_slots", len(source.slots), "polar_repl_slots_reserved_for_superuser")
    needed = 1 if our_slot(seen, source) else 2
    if limit.free < needed:
        yield limit.found(source.server.database, needed, "SELECT count(*) FROM pg_replication_slots")


def _max_wal_senders(seen: Observation, source: SourceView) -> Iterator[Found]:
    limits = [_shared(source, "max_wal_senders", source.walsenders, "polar_wal_snd_reserved_for_superuser")]
    quota = _number(source, "polar_max_non_super_wal_snd", -1)
    if quota >= 0 and not source.superuser:  # PolarDB 15: -1 means that there is none
        limits.append(_Limit("polar_max_non_super_wal_snd", quota, source.limited_walsenders))
    slot = our_slot(seen, source)
    needed = 1 if slot and slot.active else 2
    limit = min(limits, key=lambda one: one.free)
    if limit.free < needed:
        counting = (
            "SELECT r.rolsuper, count(*) FROM pg_stat_replication s JOIN pg_roles r ON r.oid = s.usesysid GROUP BY 1"
        )
        yield limit.found(source.server.database, needed, counting)


def _wal_sender_timeout(dummy: Observation, source: SourceView) -> Iterator[Found]:
    value = int(source.server.setting("wal_sender_timeout", "0"))
    if 0 < value < _SHORT_SENDER_TIMEOUT:
        yield Found(source.server.database, duration(value / 1000), "SHOW wal_sender_timeout")


def _max_slot_wal_keep_size(dummy: Observation, source: SourceView) -> Iterator[Found]:
    value = int(source.server.setting("max_slot_wal_keep_size", "-1"))
    if value >= 0:
        yield Found(source.server.database, size(value << 20), "SHOW max_slot_wal_keep_size")


def _idle_replication_slot_timeout(dummy: Observation, source: SourceView) -> Iterator[Found]:
    value = source.server.setting("idle_replication_slot_timeout", "0")
    if value != "0":
        yield Found(source.server.database, duration(float(value)), "SHOW idle_replication_slot_timeout")


def _logical_decoding_work_mem(dummy: Observation, source: SourceView) -> Iterator[Found]:
    value = int(source.server.setting("logical_decoding_work_mem", "65536"))
    if value < 65536:
        yield Found(source.server.database, size(value << 10), "SHOW logical_decoding_work_mem")


def _wal_disk_headroom(seen: Observation, source: SourceView) -> Iterator[Found]:
    if source.wal_rate is None:
        return
    todo = sum(t.bytes for t in source.selection.leaves if seen.destination is None or not _copied(seen, t.oid))
    seconds = todo / _COPY_RATE
    forecast = source.wal_rate * seconds
    limit = int(source.server.setting("max_slot_wal_keep_size", "-1")) << 20
    if forecast > _WORTH_A_FORECAST or 0 <= limit < forecast:
        yield Found(
            source.server.database,
            f"{size(todo)} to copy in about {duration(seconds)} at {size(_COPY_RATE)}/s, "
            f"{size(source.wal_rate)} of WAL a second: {size(forecast)} retained",
            "SELECT wal_bytes / extract(epoch FROM now() - stats_reset) FROM pg_stat_wal",
            f"Have {size(2 * forecast)} are free in the source's pg_wal.",
        )


def _copied(seen: Observation, oid: int) -> bool:
    table = seen.source.catalog.tables.get(oid) if seen.source else None
    return bool(seen.destination and table and seen.mapped(table).destination in seen.destination.copied)


CHECKS = (
    Check(
        "wal_level",
        "error",
        "Without it the WAL cannot be decoded into changes.",
        "ALTER SYSTEM SET wal_level = logical; then restart the source.",
        at_source(_wal_level),
        lock="a restart of the source",
        incremental=True,
    ),
    Check(
        "max_replication_slots",
        "error",
        "The migration uses one slot, and each copy run needs one more for its snapshot.",
        "ALTER SYSTEM SET max_replication_slots to a higher number, then restart; or drop unused slots. PolarDB 11 keeps"
        " some for superusers.",
        at_source(_max_replication_slots),
        lock="a restart of the source",
        incremental=True,
    ),
    Check(
        "max_wal_senders",
        "error",
        "The stream uses one walsender, and each copy run needs one more.",
        "ALTER SYSTEM SET max_wal_senders to a higher number, then restart. PolarDB has limits of its own for accounts that"
        " are no superusers; the finding names the one that binds.",
        at_source(_max_wal_senders),
        lock="a restart of the source",
        incremental=True,
    ),
    Check(
        "wal_sender_timeout",
        "warning",
        "A network interruption longer than this ends the stream, and the worker has to reconnect each time.",
        "ALTER SYSTEM SET wal_sender_timeout = '60s'; SELECT pg_reload_conf();",
        at_source(_wal_sender_timeout),
        incremental=True,
    ),
    Check(
        "max_slot_wal_keep_size",
        "ignorable",
        "A slot that falls behind by more than this is invalidated, and every table has to be copied again.",
        "ALTER SYSTEM SET max_slot_wal_keep_size = -1; SELECT pg_reload_conf(); and watch the disk.",
        at_source(_max_slot_wal_keep_size),
        incremental=True,
    ),
    Check(
        "idle_replication_slot_timeout",
        "warning",
        "A slot that is inactive for this long is invalidated: a worker that is down over a weekend loses it.",
        "ALTER SYSTEM SET idle_replication_slot_timeout = 0; SELECT pg_reload_conf();",
        at_source(_idle_replication_slot_timeout),
        incremental=True,
    ),
    Check(
        "logical_decoding_work_mem",
        "note",
        "Transactions larger than this are spilled to the source's disk while they are decoded.",
        "ALTER SYSTEM SET logical_decoding_work_mem = '64MB'; SELECT pg_reload_conf();",
        at_source(_logical_decoding_work_mem),
        incremental=True,
    ),
    Check(
        "wal_disk_headroom",
        "ignorable",
        "While tables are copied the slot retains all WAL; a full disk stops the source.",
        "Make sure that twice the forecast is free in pg_wal, or migrate at a quieter time.",
        at_source(_wal_disk_headroom),
        incremental=True,
    ),
)
