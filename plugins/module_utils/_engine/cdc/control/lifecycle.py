# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a CDC task does next: its wanted state, what it was told, how it failed. Pure; the clock is handed in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from ...errors import ConnectError, EngineError, LossError, MismatchError, ProtocolError, SpecError, StateError
from ...postgres.sqlstates import Retry, policy_for

RETRY_CONNECTION_MINUTES = (10, 720, 1440)
"""Least, default and most minutes for which a lost connection is tried again."""

RETRY_OTHER_MINUTES = (1, 10, 1440)
"""The same for the other failures on the short list."""

RECOVERY_DAYS = 7
"""For how long a worker that nobody has asked for comes back by itself."""


class WorkerStep(Enum):
    """What the worker does next. ``REST`` keeps the process and the lock, and lets go of the source."""

    APPLY = "apply"
    REST = "paused"
    STOP = "stopped"
    DISARM = "disarmed"
    LEAVE = "no state row"


def next_step(wanted: str | None, told_to_stop: bool) -> WorkerStep:
    """From the wanted state (None: there is no row of this migration) and a signal. A missing row outweighs all."""
    if wanted is None:
        return WorkerStep.LEAVE
    if wanted == "disarmed":
        return WorkerStep.DISARM
    if told_to_stop or wanted == "stopped":
        return WorkerStep.STOP
    return WorkerStep.REST if wanted == "paused" else WorkerStep.APPLY


@dataclass(frozen=True, slots=True)
class RetryLimits:
    """For how long, in seconds, each kind of failure is tried again."""

    connection: float = RETRY_CONNECTION_MINUTES[1] * 60.0
    other: float = RETRY_OTHER_MINUTES[1] * 60.0

    def of(self, kind: Retry) -> float:
        """The limit of one kind; 0 for what is never tried again."""
        if kind is Retry.CONNECTION:
            return self.connection
        return self.other if kind is Retry.OTHER else 0.0


@dataclass(frozen=True, slots=True)
class FailureStreak:
    """A row of failures without progress between them: since when, how many, the last one's kind."""

    since: float
    attempts: int
    kind: Retry


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """``wait`` seconds and try again, or give up."""

    again: bool
    wait: float
    trouble: FailureStreak


_FIRST_WAIT = 0.25
_LONGEST_WAIT = 30.0


def kind_of(error: BaseException) -> Retry:
    """Whether a failure is on the short list. Whatever is not an EngineError is a bug of ours, and stops the task."""
    if isinstance(error, (LossError, MismatchError, ProtocolError, SpecError, StateError)):
        return Retry.NEVER
    if isinstance(error, ConnectError) and not error.sqlstate and "authentication failed" in error.why:
        # A password that is being changed: the configuration is read again before each attempt.
        return Retry.OTHER
    if isinstance(error, EngineError) and (error.sqlstate or isinstance(error, ConnectError)):
        return policy_for(error.sqlstate).retry
    return Retry.NEVER


def after_failure(trouble: FailureStreak | None, kind: Retry, now: float, limits: RetryLimits) -> RetryDecision:
    """What to do about a failure at ``now`` seconds. ``trouble`` is what went before, None after any progress.

    The time runs from the first failure in a row; a new kind begins its own. Waits double from a quarter of a second
    to half a minute, and never reach beyond the limit.
    """
    if trouble is None or trouble.kind is not kind:
        trouble = FailureStreak(now, 0, kind)
    trouble = replace(trouble, attempts=trouble.attempts + 1)
    left = trouble.since + limits.of(kind) - now
    if kind is Retry.NEVER or left <= 0:
        return RetryDecision(False, 0.0, trouble)
    wait = min(_FIRST_WAIT * 2 ** min(trouble.attempts - 1, 20), _LONGEST_WAIT, left)
    return RetryDecision(True, wait, trouble)
