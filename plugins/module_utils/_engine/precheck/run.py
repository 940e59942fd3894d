# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The precheck as one call: observe, judge, return the findings or raise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import EngineError
from ..plan import Plan
from ..postgres._psycopg import psycopg
from . import catalogue
from .observe import observe

if TYPE_CHECKING:
    from ..migration import Migration
    from ..postgres.server import Server
    from ..runner import Runner
    from .finding import Finding
    from .observed import DestinationView, Observation, SourceView


@dataclass(frozen=True, slots=True)
class PrecheckOptions:
    """The options of one precheck. ``fail_on`` is error, warning or never."""

    ignore: tuple[str, ...] = ()
    fail_on: str = catalogue.ON_ERROR
    client_bin: str = ""
    worker_home: str = ""
    large_objects: bool = True
    identity: str = "auto"
    revoke_writer: bool = True
    privileges: bool = True


def plan(migration: Migration, runner: Runner, wanted: PrecheckOptions) -> Plan:
    """Return findings, counts and a summary of both ends as the plan's result; the plan never has a change.

    Raises SpecError for ids that may not be ignored, and PrecheckError (with the same result) for findings that
    ``fail_on`` counts. A destination that was opened is in production: there is nothing left to check.
    """
    catalogue.require_ignorable(wanted.ignore)
    opened = _opened_at(migration)
    if opened and not migration.spec.restart:
        return Plan(
            result={
                **_result((), None, None, passed=True),
                "opened_at": opened,
                "msg": f"Migration {migration.name} was cut over at {opened}: the destination is in production, "
                "and there is nothing left to check.",
            }
        )
    seen = observe(
        migration,
        runner,
        client_bin=wanted.client_bin,
        worker_home=wanted.worker_home,
        large_objects=wanted.large_objects,
        identity=wanted.identity,
        revoke_writer=wanted.revoke_writer,
        privileges=wanted.privileges,
    )
    findings = catalogue.without_ignored(catalogue.judge(seen), wanted.ignore)
    stopped_by = catalogue.stopping(findings, wanted.fail_on)
    result = _result(findings, seen.source, seen.destination, passed=not stopped_by)
    if stopped_by:
        raise catalogue.failure(stopped_by, migration.name, result)
    return Plan(result={**result, "msg": _summary(seen, findings)})


def _opened_at(migration: Migration) -> str:
    """Return when the destination was opened; empty where it was not, or where that is unknown (then a finding)."""
    if psycopg is None:
        return ""
    try:
        return migration.opened_at()
    except EngineError:
        return ""


def _result(
    findings: Sequence[Finding], source: SourceView | None, destination: DestinationView | None, *, passed: bool
) -> dict[str, Any]:
    return {
        "changed": False,
        "findings": [one.as_result() for one in findings],
        "counts": catalogue.counts(findings),
        "passed": passed,
        "source_server": summary(source.server) if source else {},
        "destination_server": summary(destination.server) if destination else {},
    }


def summary(server: Server) -> Mapping[str, Any]:
    """Return what the operator wants to know of a server: product, versions, database, encoding, identity."""
    return {
        "product": server.product,
        "version": server.product_version,
        "version_num": server.version,
        "database": server.database,
        "encoding": server.encoding,
        "system_identifier": server.system_identifier,
    }


def _summary(seen: Observation, findings: Sequence[Finding]) -> str:
    number = catalogue.counts(findings)
    said = ", ".join(f"{count} {severity}" for severity, count in number.items() if count) or "nothing found"
    tables = len(seen.source.selection.leaves) if seen.source else 0
    return f"Migration {seen.spec.name} may start: {tables} tables selected; {said}."
