# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much WAL the migration's slot retains at the source, and for how long it can: samples, trends, forecasts. Pure.

Two things end badly without intervention. A source that limits what a slot retains (max_slot_wal_keep_size) removes the
slot's WAL: the migration is lost. One without a limit fills its disk, and stops. SQL does not show the free space of a
disk, only the size of pg_wal, so the size of its disk has to be configured (``disk``).
(PostgreSQL manual, pg_replication_slots: wal_status, safe_wal_size.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..postgres.lsn import Lsn, format_lsn, parse_lsn
from ..units import count, duration, size
from .identity import BEGIN_AGAIN

OK, WARNING, CRITICAL, LOST, UNKNOWN = "ok", "warning", "critical", "lost", "unknown"
LEVELS = (OK, WARNING, CRITICAL, UNKNOWN, LOST)
"""In rising order. Unknown ranks above critical: a slot that cannot be observed may be lost."""

WARN_WITHIN = 3600.0
CRITICAL_WITHIN = 900.0
"""Seconds before a forecast loss from which a finding is a warning, or critical."""

_LONG_TRANSACTION = 900.0
_FAILSAFE_AGE = 1_600_000_000
"""The default of vacuum_failsafe_age; the server refuses writes 500 million transactions later."""
_LEAST_SPAN = 5.0
"""The least number of seconds between two samples that give a rate."""
WINDOW = 300.0
"""Seconds of samples that a rate covers: restart_lsn moves in leaps."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One observation of the slot, ``at`` by the source's clock in seconds. Sizes in bytes, ages in transactions.

    None: the server does not have the value, or does not show it to this account. ``limit`` is max_slot_wal_keep_size,
    None for no limit; ``oldest`` the oldest transaction that may write, and its age in seconds; ``missing`` names other
    objects of ours that are missing at the source.
    """

    at: float
    position: Lsn
    found: bool
    wal_status: str = ""
    reason: str = ""
    restart: Lsn = 0
    confirmed: Lsn = 0
    safe: int | None = None
    limit: int | None = None
    wal_bytes: int | None = None
    catalog_age: int | None = None
    frozen_age: int | None = None
    freeze_max_age: int = 200_000_000
    oldest: tuple[str, float] | None = None
    missing: tuple[str, ...] = ()

    @property
    def kept(self) -> int:
        """Return the bytes of WAL that the slot retains."""
        return max(0, self.position - self.restart) if self.restart else 0

    @property
    def lost(self) -> bool:
        """Return whether the slot can no longer send all changes."""
        return not self.found or self.wal_status == "lost" or bool(self.reason)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that the operator should know."""

    level: str
    code: str
    text: str
    remedy: str

    def as_result(self) -> Mapping[str, str]:
        """As data."""
        return {"level": self.level, "code": self.code, "text": self.text, "remedy": self.remedy}


@dataclass(frozen=True, slots=True)
class Forecast:
    """What follows from the samples of some minutes. Rates in bytes a second, times in seconds; None: unknown, or never
    at the present rates.

    ``growth`` is the growth of the retained WAL, from which ``lost_in`` and ``disk_full_in`` follow. ``reserve`` is how
    long nothing at all may be confirmed, as during a pause, before the slot is lost.
    """

    wal_rate: float | None = None
    growth: float | None = None
    kept_for: float | None = None
    lost_in: float | None = None
    reserve: float | None = None
    disk_full_in: float | None = None


def rate(samples: Sequence[tuple[float, float]]) -> float | None:
    """Return units a second from the first to the last (seconds, units); None if they are too close together."""
    if len(samples) < 2:
        return None
    span = samples[-1][0] - samples[0][0]
    return (samples[-1][1] - samples[0][1]) / span if span >= _LEAST_SPAN else None


def time_left(room: float | None, growth: float | None) -> float | None:
    """Return the seconds until ``room`` bytes are used up, 0 if they are; None without a limit, or without growth."""
    if room is None or growth is None:
        return 0.0 if room is not None and room <= 0 else None
    if room <= 0:
        return 0.0
    return room / growth if growth > 0 else None


def kept_for(samples: Sequence[Sample], wal_rate: float | None) -> float | None:
    """Return how many seconds ago the source wrote the oldest WAL that the slot retains.

    If the samples do not reach back so far: the retained bytes over the rate at which WAL is written, and never less
    than was observed.
    """
    last = samples[-1]
    if not last.kept:
        return 0.0 if last.restart else None
    for sample in samples:
        if sample.position > last.restart:
            seen = last.at - sample.at
            if sample is not samples[0]:
                return seen
            return max(seen, last.kept / wal_rate) if wal_rate else None
    return 0.0


def forecast(samples: Sequence[Sample], disk: int = 0) -> Forecast:
    """Return what follows from ``samples``, in order; ``disk`` is the size of the disk of pg_wal, 0: not configured."""
    last = samples[-1]
    if not last.found:
        return Forecast(lost_in=0.0, reserve=0.0)
    known = [sample for sample in samples if sample.found]
    recent = [sample for sample in known if last.at - sample.at <= WINDOW]
    wal_rate = rate([(sample.at, sample.position) for sample in recent])
    growth = rate([(sample.at, sample.kept) for sample in recent])
    disk_growth = rate([(sample.at, sample.wal_bytes) for sample in recent if sample.wal_bytes is not None])
    room = disk - last.wal_bytes if disk and last.wal_bytes is not None else None
    return Forecast(
        wal_rate=wal_rate,
        growth=growth,
        kept_for=kept_for(known, wal_rate),
        lost_in=0.0 if last.lost else time_left(last.safe, growth),
        reserve=0.0 if last.lost else time_left(last.safe, wal_rate),
        disk_full_in=time_left(room, disk_growth),
    )


def _within(seconds: float | None) -> str:
    """Return the level of an end in so many seconds; ok if it is far off."""
    if seconds is None or seconds > WARN_WITHIN:
        return OK
    return CRITICAL if seconds <= CRITICAL_WITHIN else WARNING


def findings(name: str, last: Sample, ahead: Forecast) -> tuple[Finding, ...]:
    """Return what the operator should know, the worst first."""
    found = [*_of_the_slot(name, last, ahead), *_of_the_disk(name, last, ahead), *_of_xids(name, last)]
    if last.missing:
        text = f"objects of the migration are missing at the source: {', '.join(last.missing)}"
        found.append(Finding(CRITICAL, "bookkeeping_missing", text, _MISSING))
    return tuple(sorted(found, key=lambda one: -LEVELS.index(one.level)))


def _of_the_slot(name: str, last: Sample, ahead: Forecast) -> list[Finding]:
    if not last.found:
        text = f"the source has no replication slot {name}: changes that were not read yet are lost"
        return [Finding(LOST, "slot_missing", text, BEGIN_AGAIN)]
    if last.lost:
        why = last.reason or "it had to retain more than max_slot_wal_keep_size allows"
        return [Finding(LOST, "slot_lost", f"replication slot {name} has lost its WAL ({why})", BEGIN_AGAIN)]
    bound = f" of max_slot_wal_keep_size = {size(last.limit)}" if last.limit is not None else ""
    if last.wal_status == "unreserved":
        text = f"replication slot {name} loses its WAL at the next checkpoint: it retains {size(last.kept)}{bound}"
        return [Finding(CRITICAL, "slot_unreserved", text, _RAISE_NOW)]
    level = _within(ahead.lost_in)
    if level != OK and ahead.lost_in is not None:
        left = f"{size(max(0, last.safe or 0))} are left{bound}"
        grows = f", and it grows by {size(60 * ahead.growth)} a minute" if ahead.growth else ""
        text = f"replication slot {name} is lost in {duration(ahead.lost_in)}: {left}{grows}"
        return [Finding(level, "slot_lost_soon", text, _RAISE)]
    return []


def _of_the_disk(name: str, last: Sample, ahead: Forecast) -> list[Finding]:
    found = []
    level = _within(ahead.disk_full_in)
    if level != OK and ahead.disk_full_in is not None:
        text = (
            f"the source's WAL disk is full in {duration(ahead.disk_full_in)}: pg_wal has {size(last.wal_bytes or 0)}"
        )
        found.append(Finding(level, "wal_disk_full_soon", text, _ROOM))
    if last.found and last.wal_status == "extended" and (ahead.growth or 0) > 0:
        age = f", {duration(ahead.kept_for)} of it," if ahead.kept_for else ""
        text = (
            f"replication slot {name} retains {size(last.kept)} of WAL{age} more than max_wal_size, growing by"
            f" {size(60 * (ahead.growth or 0))} a minute"
        )
        if last.limit is None and ahead.disk_full_in is None:
            text += "; its only limit is the disk of pg_wal, whose free space SQL does not show"
        found.append(Finding(WARNING, "wal_grows", text, _ROOM))
    if last.found and last.oldest and last.oldest[1] >= _LONG_TRANSACTION and (ahead.growth or 0) > 0:
        text = (
            f"{last.oldest[0]} at the source has been open for {duration(last.oldest[1])}: replication slot {name} retains"
            " all WAL since it began, even what is confirmed"
        )
        found.append(Finding(WARNING, "transaction_open", text, "End that transaction at the source."))
    return found


def _of_xids(name: str, last: Sample) -> list[Finding]:
    age = last.catalog_age
    if age is None or age < last.freeze_max_age:
        return []
    level = CRITICAL if age >= _FAILSAFE_AGE else WARNING
    text = (
        f"replication slot {name} holds back vacuum of the source's catalogs by {count(age)} transactions"
        " (age(catalog_xmin)): they cannot be frozen, and at two billion the source refuses writes"
    )
    return [Finding(level, "xid_held_back", text, "See that the CDC worker runs and catches up, or release.")]


_MISSING = "It may not be dropped during the migration: run the migrate playbook, which says what can be saved."
_RAISE = "See that the CDC worker runs and catches up; raise max_slot_wal_keep_size at the source (a reload is enough)."
_RAISE_NOW = "Raise max_slot_wal_keep_size at the source now (ALTER SYSTEM, SELECT pg_reload_conf())."
_ROOM = "See that the CDC worker runs and catches up; make room on the disk of pg_wal, or release the migration."


def level_of(found: Sequence[Finding]) -> str:
    """Return the worst level of these findings; ok without any."""
    return max((one.level for one in found), key=LEVELS.index, default=OK)


class LevelMeter:
    """The debounced level: it rises immediately, and falls after some calmer samples."""

    CALM_SAMPLES = 3

    def __init__(self, level: str = OK) -> None:
        self.level = level
        self._calm: list[str] = []

    def take(self, level: str) -> bool:
        """Add one sample's level; return whether the debounced level has changed."""
        before = self.level
        if LEVELS.index(level) >= LEVELS.index(before):
            self._calm = []
            self.level = level
        else:
            self._calm.append(level)
            if len(self._calm) >= self.CALM_SAMPLES:
                self.level = max(self._calm, key=LEVELS.index)
                self._calm = []
        return self.level != before


def unseen(why: str, last: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the report if the slot cannot be observed; ``last`` is the report before. Unknown is not reported as ok."""
    text = f"the replication slot cannot be observed: {why}"
    finding = Finding(
        UNKNOWN, "slot_unseen", text, "Make sure that the source is up and the migration's account may connect."
    )
    gone = ("slot_lost_in", "slot_lost_in_pause", "wal_disk_full_in")
    return {**last, **dict.fromkeys(gone), "level": UNKNOWN, "findings": [dict(finding.as_result())]}


def earlier(recorded: Mapping[str, Any]) -> Sample | None:
    """Return the sample behind a report, with the values that trends use; None if the report has none."""
    if not recorded.get("at") or not recorded.get("position"):
        return None
    position = parse_lsn(recorded["position"])
    restart = position - int(recorded.get("retained_bytes") or 0)
    return Sample(recorded["at"], position, found=True, restart=restart, wal_bytes=recorded.get("wal_bytes"))


def report(name: str, samples: Sequence[Sample], disk: int = 0) -> Mapping[str, Any]:
    """Return all that is known, as data for status and state tables: names, counts and positions."""
    last, ahead = samples[-1], forecast(samples, disk)
    found = findings(name, last, ahead)
    return {
        "at": last.at,
        "position": format_lsn(last.position),
        "level": level_of(found),
        "wal_status": last.wal_status,
        "safe_wal_size": last.safe,
        "max_slot_wal_keep_size": last.limit,
        "retained_bytes": last.kept,
        "retained_seconds": _rounded(ahead.kept_for),
        "unconfirmed_bytes": max(0, last.position - last.confirmed) if last.confirmed else None,
        "wal_bytes": last.wal_bytes,
        "wal_disk_size": disk or None,
        "wal_rate": _rounded(ahead.wal_rate),
        "retained_growth": _rounded(ahead.growth),
        "slot_lost_in": _rounded(ahead.lost_in),
        "slot_lost_in_pause": _rounded(ahead.reserve),
        "wal_disk_full_in": _rounded(ahead.disk_full_in),
        "catalog_xmin_age": last.catalog_age,
        "datfrozenxid_age": last.frozen_age,
        "oldest_transaction": {"who": last.oldest[0], "seconds": round(last.oldest[1], 1)} if last.oldest else {},
        "findings": [dict(one.as_result()) for one in found],
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
