# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The next safe step of a cutover, from what is true now. Pure: may be asked after every step, and after every crash.

The state of the fence is decided at the source, in one row: ``fenced`` may still become ``reopened`` (by the module
that ran out of time, or the guard of one that died), or ``closed``, once, when everything has been proved. The process
that comes second finds that the state is no longer ``fenced``. After ``closed`` nothing is undone automatically.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class CutoverStep(Enum):
    """The next step. ``REOPEN`` lifts the fence; ``DONE`` ends a run, opened or not."""

    CATCH_UP = "catch up"
    FENCE = "fence"
    END_SESSIONS = "end sessions"
    MARK = "mark"
    DRAIN = "drain"
    SEQUENCES = "sequences"
    COMPARE = "compare"
    CLOSE = "close"
    DISARM = "disarm"
    TRIGGERS = "triggers"
    REVOKE_WRITER = "revoke writer"
    OPEN = "open"
    REOPEN = "reopen"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Facts:
    """What is true now. The proofs (from ``sessions_ended`` on) count only for the fence that this process has made.

    ``fence`` is ``none``, ``fenced``, ``closed``, ``reopened`` or ``lost``; ``ours`` says that it was this process that
    fenced; ``given_back`` that it has restored what the fence took; ``failed`` that a step could not be done; ``late`` that
    the time for the fence has run out.
    """

    opened: bool = False
    fence: str = "none"
    ours: bool = False
    given_back: bool = False
    failed: bool = False
    late: bool = False
    caught_up: bool = False
    sessions_ended: bool = False
    marked: bool = False
    drained: bool = False
    sequences_set: bool = False
    compared: bool = False
    disarmed: bool = False
    triggers_restored: bool = False
    writer_revoked: bool = False

    @property
    def proved(self) -> bool:
        """Return whether everything is true that has to be before the source is closed for good."""
        return self.sessions_ended and self.marked and self.drained and self.sequences_set and self.compared


_PROOFS = (
    ("sessions_ended", CutoverStep.END_SESSIONS),
    ("marked", CutoverStep.MARK),
    ("drained", CutoverStep.DRAIN),
    ("sequences_set", CutoverStep.SEQUENCES),
    ("compared", CutoverStep.COMPARE),
)

_ENDINGS = (
    ("disarmed", CutoverStep.DISARM),
    ("triggers_restored", CutoverStep.TRIGGERS),
    ("writer_revoked", CutoverStep.REVOKE_WRITER),
)


def next_step(facts: Facts) -> CutoverStep:
    """Return the next safe step. For any facts, following it never opens an unproved destination, and never leaves a
    source fenced that was not closed."""
    if facts.opened:
        return CutoverStep.DONE
    if facts.ours and facts.fence in ("none", "lost"):
        # the fence stands, and its state is lost: the publication was dropped, or commented on
        return CutoverStep.DONE if facts.given_back else CutoverStep.REOPEN
    if facts.fence == "closed":
        return _first_missing(facts, _ENDINGS) or CutoverStep.OPEN
    if facts.fence == "fenced":
        if facts.failed or facts.late:
            return CutoverStep.REOPEN
        if not facts.ours:
            # Left over from a process that is gone: what it proved is lost, so we fence again.
            return CutoverStep.FENCE
        return _first_missing(facts, _PROOFS) or CutoverStep.CLOSE
    if facts.failed or facts.late or (facts.fence == "reopened" and facts.ours):
        return CutoverStep.DONE
    return CutoverStep.FENCE if facts.caught_up else CutoverStep.CATCH_UP


def _first_missing(facts: Facts, steps: tuple[tuple[str, CutoverStep], ...]) -> CutoverStep | None:
    return next((step for fact, step in steps if not getattr(facts, fact)), None)
