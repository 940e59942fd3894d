# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the migration's slot costs the source, and for how long that can go on: samples, trends, forecasts. Pure.

Two things end badly by themselves. A source that bounds what a slot may keep (max_slot_wal_keep_size) throws the slot's
WAL away: the migration is lost. One that does not bound it fills its disk, and stops. How much room a disk has cannot be
asked through SQL; what can be seen is the size of pg_wal, so the size of its disk has to be told (``disk``).
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
"""In order. What cannot be seen is no reason to be calm."""

WARN_WITHIN = 3600.0
CRITICAL_WITHIN = 900.0
"""Seconds before the end that a forecast names."""

_LONG_TRANSACTION = 900.0
_FAILSAFE_AGE = 1_600_000_000
"""vacuum_failsafe_age as it is delivered; the server stops taking writes half a thousand million later."""
_LEAST_SPAN = 5.0
"""Seconds between two samples from which a rate says something."""
WINDOW = 300.0
"""Seconds that a rate looks back: restart_lsn moves in leaps."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the slot, ``at`` by the source's clock in seconds. Sizes in bytes, ages in transactions.

    None is what the server does not have, or does not show to this account. ``limit`` is max_slot_wal_keep_size, None
    where nothing bounds what a slot may keep; ``oldest`` the oldest transaction that may write, and its age in seconds;
    ``missing`` names what else of ours is gone at the source.
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
        """Bytes of WAL that the slot keeps."""
        return max(0, self.position - self.restart) if self.restart else 0

    @property
    def lost(self) -> bool:
        """Whether the slot can no longer give all changes."""
        return not self.found or self.wal_status == "lost" or bool(self.reason)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a person should know of."""

    level: str
    code: str
    text: str
    remedy: str

    def as_result(self) -> Mapping[str, str]:
        """As data."""
        return {"level": self.level, "code": self.code, "text": self.text, "remedy": self.remedy}


@dataclass(frozen=True, slots=True)
class Forecast:
    """What follows from the samples of some minutes. Rates in bytes a second, times in seconds, None: not known, or not
    while things go on as they do.

    ``growth`` is by how much more the slot keeps; ``lost_in`` and ``disk_full_in`` go by it. ``reserve`` is for how long
    nothing at all might be confirmed, as during a pause, before the slot is lost.
    """

    wal_rate: float | None = None
    growth: float | None = None
    kept_for: float | None = None
    lost_in: float | None = None
    reserve: float | None = None
    disk_full_in: float | None = None


def rate(samples: Sequence[tuple[float, float]]) -> float | None:
    """Units a second from the first to the last (seconds, units); None where they are too close together."""
    if len(samples) < 2:
        return None
    span = samples[-1][0] - samples[0][0]
    return (samples[-1][1] - samples[0][1]) / span if span >= _LEAST_SPAN else None


def time_left(room: float | None, growth: float | None) -> float | None:
    """Seconds until ``room`` bytes are used up; 0 when they are; None where it is not bounded, or does not grow."""
    if room is None or growth is None:
        return 0.0 if room is not None and room <= 0 else None
    if room <= 0:
        return 0.0
    return room / growth if growth > 0 else None


def kept_for(samples: Sequence[Sample], wal_rate: float | None) -> float | None:
    """For how many seconds the source has been past the position that the slot keeps.

    Where the samples do not reach back so far: by what it keeps and the rate at which WAL is written, and never less
    than was seen.
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
    """What follows from ``samples``, in order; ``disk`` is the size of the disk that pg_wal stands on, 0: not told."""
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
    """How bad it is that something ends in so many seconds; ok where that is far off."""
    if seconds is None or seconds > WARN_WITHIN:
        return OK
    return CRITICAL if seconds <= CRITICAL_WITHIN else WARNING


def findings(name: str, last: Sample, ahead: Forecast) -> tuple[Finding, ...]:
    """What a person should know, the worst first."""
    found = [*_of_the_slot(name, last, ahead), *_of_the_disk(name, last, ahead), *_of_xids(name, last)]
    if last.missing:
        text = f"what the migration keeps at the source is gone: {', '.join(last.missing)}"
        found.append(Finding(CRITICAL, "bookkeeping_missing", text, _MISSING))
    return tuple(sorted(found, key=lambda one: -LEVELS.index(one.level)))


def _of_the_slot(name: str, last: Sample, ahead: Forecast) -> list[Finding]:
    if not last.found:
        text = f"the source has no replication slot {name}: what was not read yet is lost"
        return [Finding(LOST, "slot_missing", text, BEGIN_AGAIN)]
    if last.lost:
        why = last.reason or "more had to be kept than max_slot_wal_keep_size allows"
        return [Finding(LOST, "slot_lost", f"replication slot {name} has lost its WAL ({why})", BEGIN_AGAIN)]
    bound = f" of max_slot_wal_keep_size = {size(last.limit)}" if last.limit is not None else ""
    if last.wal_status == "unreserved":
        text = f"replication slot {name} loses its WAL at the next checkpoint: it keeps {size(last.kept)}{bound}"
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
            f"replication slot {name} keeps {size(last.kept)} of WAL{age} more than max_wal_size, and it grows by"
            f" {size(60 * (ahead.growth or 0))} a minute"
        )
        if last.limit is None and ahead.disk_full_in is None:
            text += "; nothing bounds it but the disk of pg_wal, whose free space cannot be asked through SQL"
        found.append(Finding(WARNING, "wal_grows", text, _ROOM))
    if last.found and last.oldest and last.oldest[1] >= _LONG_TRANSACTION and (ahead.growth or 0) > 0:
        text = (
            f"{last.oldest[0]} at the source has been open for {duration(last.oldest[1])}: replication slot {name} keeps"
            " all WAL since it began, whatever is confirmed"
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
        " (age(catalog_xmin)): they cannot be frozen, and at two thousand million the source takes no more writes"
    )
    return [Finding(level, "xid_held_back", text, "See that the CDC worker runs and catches up, or release.")]


_MISSING = "Nobody may drop it while the migration lives: run the migrate playbook, which says what can be saved."
_RAISE = "See that the CDC worker runs and catches up; raise max_slot_wal_keep_size at the source (a reload is enough)."
_RAISE_NOW = "Raise max_slot_wal_keep_size at the source now (ALTER SYSTEM, SELECT pg_reload_conf())."
_ROOM = "See that the CDC worker runs and catches up; have room on the disk of pg_wal, or release the migration."


def level_of(found: Sequence[Finding]) -> str:
    """The worst of them."""
    return max((one.level for one in found), key=LEVELS.index, default=OK)


class LevelMeter:
    """The level as it is told: it rises at once, falls when it has been lower for some samples, and says so each once."""

    CALM_SAMPLES = 3

    def __init__(self, level: str = OK) -> None:
        self.level = level
        self._calm: list[str] = []

    def take(self, level: str) -> bool:
        """Take one sample's level; whether the told one has changed."""
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
    """The report where nothing can be seen: ``last`` is what was known before. It is not taken for well."""
    text = f"the replication slot cannot be watched: {why}"
    finding = Finding(
        UNKNOWN, "slot_unseen", text, "See that the source is up and the migration's account may connect."
    )
    gone = ("slot_lost_in", "slot_lost_in_pause", "wal_disk_full_in")
    return {**last, **dict.fromkeys(gone), "level": UNKNOWN, "findings": [dict(finding.as_result())]}


def earlier(recorded: Mapping[str, Any]) -> Sample | None:
    """The sample behind a report, as far as trends go by it; None where the report has none."""
    if not recorded.get("at") or not recorded.get("position"):
        return None
    position = parse_lsn(recorded["position"])
    restart = position - int(recorded.get("retained_bytes") or 0)
    return Sample(recorded["at"], position, found=True, restart=restart, wal_bytes=recorded.get("wal_bytes"))


def report(name: str, samples: Sequence[Sample], disk: int = 0) -> Mapping[str, Any]:
    """Everything that is known, as data for status and state tables: names, counts and positions."""
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
