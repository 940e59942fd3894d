# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries out a cutover: asks the resolver for the next safe step, does it, and observes again, until there is none."""

from __future__ import annotations

import dataclasses
import datetime
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import failpoints
from ..errors import EngineError, StateError, TimeoutExpired
from ..postgres.connect import explain_errors
from ..postgres.locks import in_lock_timeout
from ..postgres.silence import unwatched
from ..schema.triggers import enable_triggers_statements
from ..state.markers import wait_applied, write_marker
from ..validate import report, sequences
from ..validate.compare import compare_tables
from ..writers import fence, revoke, sessions
from ..writers.left_fence import lift_fence
from . import opening
from .certificate import Evidence
from .deadline import bounded
from .drain import changes_applied, drain, drain_what_closing_wrote, see_worker_gone
from .readiness import require_alike
from .reopen_guard import Guard, start_guard
from .resolver import CutoverStep, Facts, next_step

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from ..drift.comparison import Drift
    from ..migration import Migration

_AGAIN = "Run the cutover again: it resumes from here."
_DOING = "cutting over migration"
_TRIGGER_LOCK = 30.0
_BOUNDED = (CutoverStep.MARK, CutoverStep.DRAIN, CutoverStep.SEQUENCES, CutoverStep.COMPARE, CutoverStep.CLOSE)
"""Steps that may wait for another session at the destination while the source is fenced."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds: for the fence as a whole, for catching up before it, and for the worker to stop after it.

    ``revoke_writer``: the migration's account loses its right to write to the destination.
    """

    fence: float
    catch_up: float
    stop: float
    parallel: int
    revoke_writer: bool = True


class Cutover:
    """One run. Its facts are what it has done itself; the fence's state is read at the source before every step."""

    def __init__(self, migration: Migration, limits: Limits, drift: Drift) -> None:
        self.migration = migration
        self.limits = limits
        self.drift = drift
        self.proofs = Evidence()
        self.warnings: list[str] = []
        self.facts = Facts()
        self._looked = False
        self._counted = 0
        self._guard: Guard | None = None
        self._fence: fence.Fence | None = None
        self._steps: Mapping[CutoverStep, Callable[[], None]] = {
            CutoverStep.CATCH_UP: self._catch_up,
            CutoverStep.FENCE: self._raise_fence,
            CutoverStep.END_SESSIONS: self._end_sessions,
            CutoverStep.MARK: self._mark,
            CutoverStep.DRAIN: self._drain,
            CutoverStep.SEQUENCES: self._set_sequences,
            CutoverStep.COMPARE: self._compare,
            CutoverStep.CLOSE: self._close,
            CutoverStep.DISARM: self._disarm,
            CutoverStep.TRIGGERS: self._restore_triggers,
            CutoverStep.REVOKE_WRITER: self._revoke_writer,
            CutoverStep.OPEN: self._open,
            CutoverStep.REOPEN: self._reopen,
        }

    def run(self) -> Mapping[str, object]:
        """Run until the destination is opened or the fence lifted; return the certificate. Raises EngineError: the
        first failure, with the state that it leaves the application in."""
        trouble: EngineError | None = None
        try:
            while True:
                try:
                    step = self._next()
                    if step is CutoverStep.DONE:
                        break
                    self._carry_out(step)
                except EngineError as exc:
                    stuck = trouble is not None or not self._looked or self.facts.fence == "closed"
                    trouble = trouble or exc
                    self._looked = False
                    if stuck:
                        break
                    self.facts = dataclasses.replace(self.facts, failed=True)
        finally:
            self._settle_guard()
        if trouble is None and not self.facts.opened:
            trouble = self._too_late("")
        if trouble is not None:
            raise self._told(trouble) from trouble
        return opening.certificate_of(self.migration)

    def _carry_out(self, step: CutoverStep) -> None:
        limit: AbstractContextManager[None] = nullcontext()
        if step in _BOUNDED:
            limit = bounded(self.migration, self.proofs.fenced_at + self.limits.fence)
        try:
            with self.proofs.timed(step.value), limit:
                self._steps[step]()
        except EngineError as exc:
            if step in _BOUNDED and self._late():
                raise self._too_late(f", step {step.value}: {exc.doing} {exc.what}") from exc
            raise
        failpoints.failpoint(f"after {step.value}")

    def _next(self) -> CutoverStep:
        if self.facts.fence != "closed":  # closed is never undone: from there on the source is not needed any more
            self._looked = False
            standing = fence.fence_state(self.migration.source, self.migration.name)
            self.facts = dataclasses.replace(self.facts, fence=standing, late=self._late())
            self._looked = True
        return next_step(self.facts)

    def _late(self) -> bool:
        return bool(self.proofs.fenced_at) and time.monotonic() > self.proofs.fenced_at + self.limits.fence

    def _left(self) -> float:
        """Return the seconds that are left of the time for the fence."""
        return max(0.1, self.proofs.fenced_at + self.limits.fence - time.monotonic())

    def _settle_guard(self) -> None:
        """Release the guard if we have just seen that there is nothing for it to do; else let it look for itself."""
        if self._guard is None:
            return
        if self._looked and self.facts.fence != "fenced":
            self._guard.release()
        else:
            self._guard.let_go()

    def _too_late(self, where: str) -> TimeoutExpired:
        return TimeoutExpired(
            _DOING,
            self.migration.name,
            f"it was not done within {self.limits.fence:g} s{where}",
            "Look at lag and rates with the status playbook; raise causeway_cutover_timeout.",
        )

    def _told(self, exc: EngineError) -> EngineError:
        """Return the error; its remedy begins with the state of the application, which the operator must know first."""
        if self.facts.fence == "closed":
            where = f"The source is closed and the destination is not yet open. {_AGAIN}"
        elif self._looked and self.facts.fence != "fenced":
            where = "The source is writable, and nothing was opened."
        else:
            where = "Nothing was opened. If the source is still fenced, "
            where += (
                "the guard lifts the fence as soon as it can reach the source."
                if self._guard is not None
                else "run the cutover playbook again, or any other but status and precheck: each lifts the fence."
            )
        exc.remedy = f"{where} {exc.remedy}"
        return exc

    def _done(self, **facts: Any) -> None:
        self.facts = dataclasses.replace(self.facts, **facts)

    def _catch_up(self) -> None:
        """Catch up with the source first: long work belongs before the fence."""
        marker = write_marker(self.migration.store, self.migration.source)
        wait_applied(self.migration.store, marker, self.limits.catch_up)
        self._done(caught_up=True)

    def _raise_fence(self) -> None:
        migration = self.migration
        # Catching up may have taken long: a partition created since is fenced too, a table created since stops us.
        migration.refresh_catalog()
        require_alike(migration)
        self.drift.require_unchanged(f"{_DOING} {migration.name}:")
        sessions.require_nothing_prepared(migration.source, migration.selected().written)
        if self.facts.fence in ("none", "lost"):
            lift_fence(migration).give_back()  # what an earlier fence took and is on record is never overwritten
        found = fence.observe(migration)
        # Recorded before it is raised: a later run must know after a crash which rights to restore.
        migration.store.set_json("fence", found.stored())
        self._fence = found
        with unwatched():
            self._guard = start_guard(self.limits.fence, fence.undoing(migration.spec.source, migration.name, found))
        failpoints.failpoint("before fence")
        fence.raise_fence(migration.source, migration.name, found)
        self.proofs.fenced_at = time.monotonic()
        self.proofs.fenced_on = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")
        self.proofs.roles, self.proofs.bypassing = found.roles, found.bypassing
        self._done(ours=True)
        migration.store.event("cutover", "source fenced", {"roles": list(found.roles)})

    def _end_sessions(self) -> None:
        source, selection = self.migration.source, self.migration.selected()
        fence.require_taken(source, selection.written)
        self.proofs.sessions_ended = sessions.end_sessions(source, self._found(), selection.written, self._left())
        self._name_bypassing(fence.found_bypassing(source, selection.tables, self._found()))
        self._done(sessions_ended=True)

    def _name_bypassing(self, roles: tuple[str, ...]) -> None:
        """Name the roles that can write although every right is revoked: a write behind the fence stops the cutover."""
        if not roles:
            return
        known = self._found()
        self._fence = dataclasses.replace(known, bypassing=tuple(sorted({*known.bypassing, *roles})))
        self.proofs.bypassing = self._fence.bypassing
        self.migration.store.event("cutover", "the fence does not stop some roles", {"roles": list(roles)})
        self.warnings.append(
            f"The fence does not stop {', '.join(roles)}: every right was revoked, and the server lets them write all the"
            " same. Make sure that nothing writes to the source with them. A write behind the fence stops the cutover."
        )

    def _found(self) -> fence.Fence:
        if self._fence is None:
            raise StateError(_DOING, self.migration.name, "there is no fence of this run", _AGAIN)
        return self._fence

    def _mark(self) -> None:
        self.proofs.marker = write_marker(self.migration.store, self.migration.source)
        self._done(marked=True)

    def _drain(self) -> None:
        if self.proofs.marker is not None:
            self.proofs.drain_seconds = drain(self.migration, self.proofs.marker, self._left())
        self._counted = changes_applied(self.migration.store)
        self._done(drained=True)

    def _set_sequences(self) -> None:
        migration = self.migration
        self.proofs.sequences = sequences.synchronise(migration, migration.selected())
        self._done(sequences_set=True)

    def _compare(self) -> None:
        """Compare all selected tables: nothing is written at either end now, so this is exact."""
        migration = self.migration
        self._compare_definitions()
        tables = migration.selected().leaves
        verdicts = compare_tables(migration, tables, live=False, parallel=self.limits.parallel)
        report.record(migration, tables, verdicts)
        wrong = [table for table in tables if verdicts[table.oid].verdict != "identical"]
        if wrong:
            rows = [report.as_result(table, verdicts[table.oid]) for table in tables]
            error = report.difference(wrong, verdicts, {"tables": rows})
            if self.proofs.bypassing:
                error.remedy += (
                    f" No fence stops {', '.join(self.proofs.bypassing)}: they may have written to the source."
                )
            raise error
        self.proofs.verdicts = verdicts
        self._done(compared=True)

    def _compare_definitions(self) -> None:
        """See that no definition was changed since they were compared, before the fence; compare them where they were not,
        since this run has taken over a fence."""
        doing, began = f"{_DOING} {self.migration.name}:", time.monotonic()
        if self.drift.seen is None:
            self.drift.require_equal(doing, fenced=True)
        else:
            self.drift.require_unchanged(doing)
        if self.drift.seen is not None:
            seconds = round(time.monotonic() - began, 3)
            self.proofs.definitions = {**self.drift.seen.certified(), "seconds": seconds}

    def _close(self) -> None:
        """Close the source: from here on it only goes forward. The evidence is stored first: a crash may follow."""
        migration = self.migration
        fence.require_taken(migration.source, migration.selected().written)
        drain(migration, write_marker(migration.store, migration.source), self._left())
        if changes_applied(migration.store) != self._counted:
            raise StateError(
                _DOING,
                migration.name,
                "rows of the selected tables were changed at the source behind the fence",
                f"A role wrote that no fence stops ({', '.join(self.proofs.bypassing) or 'none is known'}), or one that"
                " was granted the right for a moment: find out which, then run the cutover again.",
            )
        migration.store.set_json("fence", {**self._found().stored(), "proved": self.proofs.closed_part()})
        fence.close(migration.source, migration.name)

    def _disarm(self) -> None:
        trouble = drain_what_closing_wrote(self.migration, self.limits.stop)
        self.warnings += [trouble] if trouble else []
        see_worker_gone(self.migration, self.limits.stop)
        self._done(disarmed=True)

    def _restore_triggers(self) -> None:
        state = self.migration.state()
        statements = enable_triggers_statements(state.before_image) if state else ()
        conn = self.migration.destination
        with explain_errors("restoring the triggers at the destination"), conn.transaction():
            in_lock_timeout(conn, _TRIGGER_LOCK)
            for statement in statements:
                conn.execute(statement)
        self.proofs.triggers = len(statements)
        self._done(triggers_restored=True)

    def _revoke_writer(self) -> None:
        if not self.limits.revoke_writer:
            self.proofs.writer = {"role": self.migration.destination.info.user, "revoked": False}
            self._done(writer_revoked=True)
            return
        written = dict(revoke.revoke_own(self.migration))
        found = written.pop("warnings", None)
        self.warnings += map(str, found if isinstance(found, list) else ())
        self.proofs.writer = written
        self._done(writer_revoked=True)

    def _open(self) -> None:
        self.proofs.opened_after = time.monotonic()
        opening.open_destination(self.migration, self.proofs)
        self._done(opened=True)

    def _reopen(self) -> None:
        if self._fence is None:  # raised by a run that is gone; this one has failed before raising its own
            lift_fence(self.migration).give_back()
        else:
            lost = self.facts.fence != "fenced"
            given_back = fence.reopen(self.migration.source, self.migration.name, self._fence, lost=lost)
            self._done(given_back=given_back)
            if lost:
                raise StateError(
                    _DOING,
                    self.migration.name,
                    "the state of its fence is lost: another session dropped the publication, or changed its comment",
                    "Find out which; run migrate, then the cutover again.",
                )
        try:
            self.migration.store.event("cutover", "source reopened", {})
        except EngineError:
            pass  # the destination may be what has failed; the source is what matters
