# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fence that outlived its cutover and the guard of it: every run that holds the migration's lock lifts it.

The cutover holds that lock for as long as it runs. One that has lost it with its session at the destination, and lives,
finds the fence reopened and opens nothing: the state of the fence changes once, whoever comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import ConnectError, StateError
from ..plan import Plan, SqlChange, as_change
from ..state.fence_state import fence_statement
from .fence import Fence, accounts, fence_state, left_standing, not_given_back, reopen
from .grants import grant_of, grant_statements

if TYPE_CHECKING:
    from ..migration import Migration

_DOING = "looking for a fence that was left at the source of migration"


@dataclass(frozen=True, slots=True)
class Leaving:
    """What has to be restored first, as a change to show (None if nothing) and the function that does it."""

    change: SqlChange | None
    give_back: Callable[[], bool]


def lift_fence(migration: Migration) -> Leaving:
    """Return how to lift a fence that is still raised.

    Raises StateError where the source is closed for good and the destination was not opened: the application could not
    write to either end; and where the record of the rights that the fence took is gone.
    """
    conn, name = migration.source, migration.name
    now = fence_state(conn, name)
    if now in ("none", "lost"):
        return _lift_lost(migration, now)
    if now not in ("fenced", "closed"):
        return Leaving(None, lambda: False)
    state = migration.state()
    if state is None or state.fence is None:
        raise StateError(
            _DOING,
            name,
            f"its source is {now}, and which rights to write were taken there is not recorded at the destination",
            "Restore the state tables from a backup of that time and run the playbook again. Without one, GRANT the"
            " application's roles their rights to write by hand, then run"
            f" {fence_statement(conn, name, 'reopened').as_string(conn)} at the source.",
        )
    if now == "closed":
        if state.opened_at:
            return Leaving(None, lambda: False)
        raise StateError(
            _DOING,
            name,
            "its cutover has closed the source and not yet opened the destination",
            "Run the cutover playbook again: it resumes there. If the destination is not to be used after all, run"
            f" {fence_statement(conn, name, 'fenced').as_string(conn)} at the source, then this playbook again, which"
            " restores the right to write.",
        )
    grants, roles = left_standing(migration)
    login, ourselves = accounts(conn, name)
    fence = Fence(ourselves, login, (), grants, roles, ())
    shown = [str(grant) for grant in grants]
    statements = grant_statements(grants, ourselves)
    change = SqlChange("source", "right to write the selected objects", None, shown, statements)
    return Leaving(change, lambda: reopen(conn, name, fence))


def _lift_lost(migration: Migration, now: str) -> Leaving:
    """Return how to restore what a fence took whose state at the source was lost with the publication or its comment.

    What it took is on record at the destination, and whether it was given back shows at the source. Raises StateError
    where the record says that the cutover was about to close the source: nobody knows whether it did.
    """
    conn, name, state = migration.source, migration.name, migration.state()
    if state is None or state.opened_at or not state.fence:
        return Leaving(None, lambda: False)
    taken = tuple(grant_of(entry) for entry in state.fence.get("grants", ()))
    missing = not_given_back(conn, taken, migration.selected().written)
    if not missing:
        return Leaving(None, lambda: False)
    login, ourselves = accounts(conn, name)
    statements = grant_statements(missing, ourselves)
    if "proved" in state.fence:
        shown = "; ".join(statement.as_string(conn) for statement in statements)
        raise StateError(
            _DOING,
            name,
            f"its state is {now}: the publication was dropped, or its comment changed, while the cutover was closing the"
            " source",
            "If the cutover is to be finished, create the publication again where it is missing, and run"
            f" {fence_statement(conn, name, 'closed').as_string(conn)} at the source, then the cutover playbook. Else run"
            f" {fence_statement(conn, name, 'fenced').as_string(conn)}, then this playbook, which restores the right to"
            f" write; or by hand: {shown}",
        )
    fence = Fence(ourselves, login, (), missing, tuple(state.fence.get("roles", ())), ())
    change = SqlChange(
        "source", "right to write the selected objects", None, [str(grant) for grant in missing], statements
    )
    return Leaving(change, lambda: reopen(conn, name, fence, lost=True))


def plan_lifted(migration: Migration) -> Plan:
    """Return the plan that lifts a fence that was left; one without changes where there is none, or no source to ask.

    To be applied under the migration's lock only. Raises StateError as `lift_fence`, and ServerError.
    """
    try:
        leaving = lift_fence(migration)
    except ConnectError:
        return Plan()  # what needs the source fails by itself; to pause or to look, nothing does
    if leaving.change is None:
        return Plan()

    def apply() -> Mapping[str, object]:
        if leaving.give_back():
            migration.store.event("cutover", "source reopened", {"why": "the cutover that fenced it is gone"})
        migration.refresh_catalog()
        return {}

    return Plan(
        changes=as_change([leaving.change], migration.source),
        apply=apply,
        warnings=(
            "The source was fenced, and the cutover that fenced it is gone, its guard too: the right to write is"
            " restored first.",
        ),
    )
