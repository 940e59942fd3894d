# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries a cutover out: asks the resolver for the next safe step, does it, and looks again, until there is none."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import fence, sequences, writers
from ..cdc.control import set_wanted, wait_gone
from ..connect import speaking
from ..errors import EngineError, StateError, TimeoutExpired
from ..marker import wait_applied, write_marker
from ..schema.triggers import enable_triggers_statements
from ..validate import report
from ..validate.compare import compare_tables
from . import opening
from .guard import Guard, start_guard
from .proofs import Proofs
from .resolver import Facts, Step, next_step

if TYPE_CHECKING:
    from ..migration import Migration

_AGAIN = "Run the cutover again: it goes on from here."


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds: for the fence as a whole, for catching up before it, and for the worker to stop after it."""

    fence: float
    catch_up: float
    stop: float
    parallel: int


class Cutover:
    """One run. Its facts are what it has done itself; where the fence stands is read at the source before every step."""

    def __init__(self, migration: Migration, limits: Limits) -> None:
        self.migration = migration
        self.limits = limits
        self.proofs = Proofs()
        self.facts = Facts()
        self._guard: Guard | None = None
        self._fence: fence.Fence | None = None
        self._steps: Mapping[Step, Callable[[], None]] = {
            Step.CATCH_UP: self._catch_up,
            Step.FENCE: self._raise_fence,
            Step.END_SESSIONS: self._end_sessions,
            Step.MARK: self._mark,
            Step.DRAIN: self._drain,
            Step.SEQUENCES: self._set_sequences,
            Step.COMPARE: self._compare,
            Step.CLOSE: self._close,
            Step.DISARM: self._disarm,
            Step.TRIGGERS: self._restore_triggers,
            Step.REVOKE_WRITER: self._revoke_writer,
            Step.OPEN: self._open,
            Step.REOPEN: self._reopen,
        }

    def run(self) -> Mapping[str, object]:
        """Go to the end of either way. Returns the certificate. Raises EngineError when the source was reopened."""
        trouble: EngineError | None = None
        try:
            while (step := self._next()) is not Step.DONE:
                try:
                    with self.proofs.timed(step.value):
                        self._steps[step]()
                except EngineError as exc:
                    if trouble is not None or self.facts.fence == "closed" or step is Step.REOPEN:
                        raise self._told(exc) from exc
                    trouble = exc
                    self.facts = dataclasses.replace(self.facts, failed=True)
        finally:
            self._settle_guard()
        if trouble is not None:
            raise self._told(trouble) from trouble
        if not self.facts.opened:
            raise self._told(self._too_late())
        return opening.certificate_of(self.migration)

    def _next(self) -> Step:
        standing = fence.standing(self.migration.source, self.migration.name)
        late = bool(self.proofs.fenced_at) and time.monotonic() > self.proofs.fenced_at + self.limits.fence
        self.facts = dataclasses.replace(self.facts, fence=standing, late=late)
        return next_step(self.facts)

    def _left(self) -> float:
        """Seconds that are left of the time for the fence."""
        return max(0.1, self.proofs.fenced_at + self.limits.fence - time.monotonic())

    def _settle_guard(self) -> None:
        """The guard goes once the fence stands for good or is gone; while it stands at fenced, it is its to reopen."""
        if self._guard is not None and self.facts.fence != "fenced":
            self._guard.release()

    def _too_late(self) -> TimeoutExpired:
        return TimeoutExpired(
            "cutting over migration",
            self.migration.name,
            f"it was not done within {self.limits.fence:g} s",
            "Look at lag and rates with the status playbook; give causeway_cutover_timeout more time.",
        )

    def _told(self, exc: EngineError) -> EngineError:
        """The error with where it leaves the application: that is what whoever reads it must know first."""
        where = {
            "closed": "The source is closed and the destination not yet open. " + _AGAIN,
            "fenced": "The source is still fenced; the guard gives the writers back what was taken.",
        }.get(self.facts.fence, "The source is writable, and nothing was opened.")
        exc.remedy = f"{where} {exc.remedy}"
        return exc

    def _done(self, **facts: Any) -> None:
        self.facts = dataclasses.replace(self.facts, **facts)

    def _catch_up(self) -> None:
        """Long work belongs before the fence: come close first."""
        marker = write_marker(self.migration.source, self.migration.name)
        wait_applied(self.migration.store, marker, self.limits.catch_up)
        self._done(caught_up=True)

    def _raise_fence(self) -> None:
        migration = self.migration
        found = fence.observe(migration)
        # Recorded before it goes up: whoever comes after a crash must know what to give back.
        migration.store.set_json("fence", found.stored())
        self._fence = found
        if self._guard is None:
            self._guard = start_guard(self.limits.fence, fence.undoing(migration.spec.source, migration.name, found))
        fence.raise_fence(migration.source, migration.name, found)
        self.proofs.fenced_at = time.monotonic()
        self.proofs.roles, self.proofs.bypassing = found.roles, found.bypassing
        self._done(ours=True)
        migration.store.event("cutover", "source fenced", {"roles": list(found.roles)})

    def _end_sessions(self) -> None:
        self.proofs.sessions_ended = fence.end_sessions(self.migration.source, self._found(), self._left())
        fence.require_taken(self.migration.source, self.migration.selected().tables)
        self._done(sessions_ended=True)

    def _found(self) -> fence.Fence:
        if self._fence is None:
            raise StateError("cutting over migration", self.migration.name, "there is no fence of this run", _AGAIN)
        return self._fence

    def _mark(self) -> None:
        self.proofs.marker = write_marker(self.migration.source, self.migration.name)
        self._done(marked=True)

    def _drain(self) -> None:
        if self.proofs.marker is not None:
            self.proofs.drain_seconds = wait_applied(self.migration.store, self.proofs.marker, self._left())
        self._done(drained=True)

    def _set_sequences(self) -> None:
        migration = self.migration
        self.proofs.sequences = sequences.synchronise(migration, migration.selected())
        self._done(sequences_set=True)

    def _compare(self) -> None:
        """Both ends stand still now, so this is exact."""
        migration = self.migration
        tables = migration.selected().leaves
        verdicts = compare_tables(migration, tables, live=False, parallel=self.limits.parallel)
        report.record(migration, tables, verdicts)
        wrong = [table for table in tables if verdicts[table.oid].verdict != "identical"]
        if wrong:
            rows = [report.as_result(table, verdicts[table.oid]) for table in tables]
            raise report.difference(wrong, verdicts, {"tables": rows})
        self.proofs.verdicts = verdicts
        self._done(compared=True)

    def _close(self) -> None:
        """The one decision: from here on it only goes forward. The proofs are written first: a crash may follow."""
        self.migration.store.set_json("fence", {**self._found().stored(), "proved": self.proofs.closed_part()})
        fence.close(self.migration.source, self.migration.name)

    def _disarm(self) -> None:
        set_wanted(self.migration.store, "disarmed")
        wait_gone(self.migration.destination, self.migration.name, self.limits.stop)
        self._done(disarmed=True)

    def _restore_triggers(self) -> None:
        state = self.migration.state()
        statements = enable_triggers_statements(state.before_image) if state else ()
        conn = self.migration.destination
        with speaking("putting back the triggers at the destination"), conn.transaction():
            for statement in statements:
                conn.execute(statement)
        self.proofs.triggers = len(statements)
        self._done(triggers_restored=True)

    def _revoke_writer(self) -> None:
        self.proofs.writer = writers.revoke_own(self.migration)
        self._done(writer_revoked=True)

    def _open(self) -> None:
        self.proofs.opened_after = time.monotonic()
        opening.open_destination(self.migration, self.proofs)
        self._done(opened=True)

    def _reopen(self) -> None:
        fence.reopen(self.migration.source, self.migration.name, self._found())
        self.migration.store.event("cutover", "source reopened", {})
