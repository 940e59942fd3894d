# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a CDC task does next, from its wanted state, signals and failures. Pure; the caller passes the time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from ...errors import ConnectError, EngineError, LossError, MismatchError, ProtocolError, SpecError, StateError
from ...postgres.sqlstates import Retry, policy_for

RETRY_CONNECTION_MINUTES = (10, 720, 1440)
"""Least, default and most minutes for which a lost connection is retried."""

RETRY_OTHER_MINUTES = (1, 10, 1440)
"""The same for the other failures on the short list."""

RECOVERY_DAYS = 7
"""Days for which a worker restarts by itself after it was last alive, or a run last asked for it."""


class WorkerStep(Enum):
    """The worker's next step. ``REST`` keeps the process and the lock, and disconnects from the source."""

    APPLY = "apply"
    REST = "paused"
    STOP = "stopped"
    DISARM = "disarmed"
    LEAVE = "no state row"


def next_step(wanted: str | None, told_to_stop: bool) -> WorkerStep:
    """Return the next step from the wanted state (None: this migration has no row) and a signal. A missing row wins."""
    if wanted is None:
        return WorkerStep.LEAVE
    if wanted == "disarmed":
        return WorkerStep.DISARM
    if told_to_stop or wanted == "stopped":
        return WorkerStep.STOP
    return WorkerStep.REST if wanted == "paused" else WorkerStep.APPLY


@dataclass(frozen=True, slots=True)
class RetryLimits:
    """Seconds for which each kind of failure is retried."""

    connection: float = RETRY_CONNECTION_MINUTES[1] * 60.0
    other: float = RETRY_OTHER_MINUTES[1] * 60.0

    def of(self, kind: Retry) -> float:
        """Return the limit of one kind in seconds; 0 for what is never retried."""
        if kind is Retry.CONNECTION:
            return self.connection
        return self.other if kind is Retry.OTHER else 0.0


@dataclass(frozen=True, slots=True)
class FailureStreak:
    """Consecutive failures without progress between them: since when, how many, the last one's kind."""

    since: float
    attempts: int
    kind: Retry


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """Retry after ``wait`` seconds, or give up."""

    again: bool
    wait: float
    trouble: FailureStreak


_FIRST_WAIT = 0.25
_LONGEST_WAIT = 30.0


def kind_of(error: BaseException) -> Retry:
    """Return how a failure is retried. What is not an EngineError is a bug of the engine, and stops the task."""
    if isinstance(error, (LossError, MismatchError, ProtocolError, SpecError, StateError)):
        return Retry.NEVER
    if isinstance(error, ConnectError) and not error.sqlstate and "authentication failed" in error.why:
        # The password may just be changing: the configuration is read again before each attempt.
        return Retry.OTHER
    if isinstance(error, EngineError) and (error.sqlstate or isinstance(error, ConnectError)):
        return policy_for(error.sqlstate).retry
    return Retry.NEVER


def after_failure(trouble: FailureStreak | None, kind: Retry, now: float, limits: RetryLimits) -> RetryDecision:
    """Decide about a failure at ``now`` seconds. ``trouble`` are the failures before it, None after any progress.

    The limit runs from the first of consecutive failures; another kind starts its own streak. Waits double from a
    quarter of a second to half a minute, and never reach beyond the limit.
    """
    if trouble is None or trouble.kind is not kind:
        trouble = FailureStreak(now, 0, kind)
    trouble = replace(trouble, attempts=trouble.attempts + 1)
    left = trouble.since + limits.of(kind) - now
    if kind is Retry.NEVER or left <= 0:
        return RetryDecision(False, 0.0, trouble)
    wait = min(_FIRST_WAIT * 2 ** min(trouble.attempts - 1, 20), _LONGEST_WAIT, left)
    return RetryDecision(True, wait, trouble)
