# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a comparison, the verdicts that it records in the migration's state, and its error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..drift.difference import refusal
from ..errors import MismatchError, StateError
from ..large_objects import compare
from ..plan import Plan
from ..postgres.catalog import Table
from ..state.advisory import holder
from ..state.task import read_control
from ..state.validation import StoredVerdict, record_verdicts
from .compare import compare_tables
from .verdicts import Verdict

if TYPE_CHECKING:
    from ..drift.comparison import Drift
    from ..migration import Migration


_DOING = "comparing both ends of migration"


def plan(migration: Migration, drift: Drift, *, settle_timeout: float, parallel: int) -> Plan:
    """Return a Plan that compares every selected table, and the definitions of both ends; a dry run compares nothing. No
    data of the user is changed."""
    migration.selected()  # a name that matches nothing is reported even before there is anything to compare
    state = migration.state()
    if state is None or not state.reached("copied"):
        notes = ("Nothing has been copied yet: there is nothing to compare.",)
        return Plan(result={"tables": []}, notes=notes, record=lambda: _nothing_copied(migration))

    def compare() -> Mapping[str, object]:
        rows = dict(_compare(migration, settle_timeout, parallel))
        return {**rows, **_definitions(migration, drift, rows)}

    return Plan(result={"tables": []}, record=compare)


def _nothing_copied(migration: Migration) -> Mapping[str, object]:
    """Raise StateError: a real run that compared nothing has proved nothing."""
    raise StateError(
        "comparing the contents of migration",
        migration.name,
        "nothing has been copied yet, so there is nothing to compare",
        "Run the migrate playbook first.",
    )


def _compare(migration: Migration, settle_timeout: float, parallel: int) -> Mapping[str, object]:
    live = migration.spec.incremental
    if live:
        _require_worker(migration)
    tables = migration.selected().leaves
    verdicts = compare_tables(migration, tables, live=live, settle_timeout=settle_timeout, parallel=parallel)
    rows = [as_result(table, verdicts[table.oid]) for table in tables]
    record(migration, tables, verdicts)
    result: dict[str, object] = {"tables": rows, "identical": all(row["verdict"] != "different" for row in rows)}
    wrong = [table for table in tables if verdicts[table.oid].verdict == "different"]
    if wrong:
        raise difference(wrong, verdicts, result)
    objects = compare.compare_objects(migration)
    result["large_objects"] = objects.as_result() if objects is not None else {"verdict": "not copied"}
    if objects is not None and not objects.identical and not live:
        raise compare.difference(objects, result)
    return result


def _definitions(migration: Migration, drift: Drift, result: Mapping[str, object]) -> Mapping[str, object]:
    """Compare the definitions, once the migration has created them all; return what was found.

    While changes are captured a difference is only reported: the cutover refuses it. Raises MismatchError.
    """
    state = migration.state()
    if "schema" in migration.spec.types and not (state and state.reached("finalized")):
        note = "The definitions were not compared: keys, indexes and foreign keys are still to be created."
        migration.store.advance("validated")
        return {"differences": [], "definitions": 0, "notes": [note]}
    found = drift.compare()
    if found.errors and not migration.spec.incremental:
        raise refusal(_DOING, found.errors, {**result, **found.as_result()})
    migration.store.advance("validated")
    return found.as_result()


def difference(wrong: list[Table], verdicts: Mapping[int, Verdict], result: Mapping[str, object]) -> MismatchError:
    """Return the error for tables whose contents differ: it counts rows and says how to find one, but shows none."""
    counted = ", ".join(f"{table} ({verdicts[table.oid].differing} rows)" for table in wrong[:5])
    more = f" and {len(wrong) - 5} more tables" if len(wrong) > 5 else ""
    return MismatchError(
        "comparing the contents of",
        counted + more,
        "they differ between source and destination",
        f"Look at the first one at both ends: {verdicts[wrong[0].oid].find} . Find out who wrote to the destination; "
        "then release the migration and begin again with an empty destination.",
        result=result,
    )


def as_result(table: Table, verdict: Verdict) -> dict[str, object]:
    """Return one table's verdict as a return value."""
    return {
        "table": str(table),
        "verdict": verdict.verdict,
        "source_rows": verdict.source_rows,
        "destination_rows": verdict.destination_rows,
        "differing": verdict.differing,
        "unsettled": verdict.unsettled,
        "find": verdict.find,
    }


def record(migration: Migration, tables: tuple[Table, ...], verdicts: Mapping[int, Verdict]) -> None:
    """Write the verdicts to the state tables: counts only."""
    record_verdicts(migration.store, [_stored(table, verdicts[table.oid]) for table in tables])


def _stored(table: Table, verdict: Verdict) -> StoredVerdict:
    counts = (verdict.source_rows, verdict.destination_rows, verdict.differing)
    return StoredVerdict(table.oid, table.qualified_name, verdict.verdict, *counts)


def _require_worker(migration: Migration) -> None:
    """Raise StateError if no worker applies: while the source is written, contents are only compared behind one."""
    control = read_control(migration.store)
    if control is None or control.wanted != "started" or holder(migration.destination, migration.name) is None:
        raise StateError(
            "comparing the contents of migration",
            migration.name,
            "the CDC worker is not running, so the destination falls behind during the comparison",
            "Start it with the migrate playbook, then compare again.",
        )
