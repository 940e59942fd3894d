# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the family "connection and identity": which versions can be migrated, and which of them were run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ..errors import VersionError
from .finding import Check, Found, at_both, at_source

if TYPE_CHECKING:
    from ..postgres.server import Server
    from .observed import DestinationView, Observation, SourceView

WAS_RUN: Mapping[str, frozenset[int]] = {"PostgreSQL": frozenset({14, 17, 18}), "PolarDB": frozenset({11, 15})}
"""The major versions that were run: PostgreSQL's by the project's tests, PolarDB's (11.9, 15.8) by hand."""

_FIRST_SAFE_MINOR = {13: 130021, 14: 140018, 15: 150013, 16: 160009, 17: 170005}
"""The May 2025 minor releases: older ones lose changes of transactions that run while a publication changes."""


def _named(server: Server) -> str:
    return f"{server.product} {server.product_version}"


def _too_old(part: str, seen: Observation) -> Iterator[Found]:
    error = seen.failures.get(part)
    if isinstance(error, VersionError):
        yield Found(error.what, error.why, "SHOW server_version", error.remedy)


def _source_version(seen: Observation) -> Iterator[Found]:
    return _too_old("source", seen)


def _destination_version(seen: Observation) -> Iterator[Found]:
    return _too_old("destination", seen)


def _not_run(seen: Observation) -> Iterator[Found]:
    for view in (seen.source, seen.destination):
        if view is None or view.server.major in WAS_RUN[view.server.product]:
            continue
        run = sorted(WAS_RUN[view.server.product])
        yield Found(
            f"{view.server.end} {_named(view.server)}",
            f"major version {view.server.major}; of {view.server.product} were run: {', '.join(map(str, run))}",
            "SELECT version()",
        )


def _version_downgrade(dummy: Observation, source: SourceView, destination: DestinationView) -> Iterator[Found]:
    if destination.server.major < source.server.major:
        yield Found(
            f"{source.server.major} to {destination.server.major}",
            f"source {source.server.product_version}, destination {destination.server.product_version}",
            "SHOW server_version",
        )


def _source_minor(dummy: Observation, source: SourceView) -> Iterator[Found]:
    server = source.server
    first = _FIRST_SAFE_MINOR.get(server.major)
    if server.major >= 13 and (first is None or server.version >= first):
        return
    wanted = f"{first // 10000}.{first % 10000}" if first else "a version that is still maintained"
    if server.product == "PolarDB":
        yield _polardb_minor(server, wanted)
        return
    yield Found(
        _named(server),
        f"server_version_num {server.version}; first with the fix: {wanted}",
        "SHOW server_version_num",
        f"Update the source to {wanted} or newer." if first else "",
    )


def _polardb_minor(server: Server, wanted: str) -> Found:
    """PolarDB's releases are numbered apart: one may hold the fix without saying so, and PostgreSQL's cannot be installed."""
    return Found(
        _named(server),
        f"server_version_num {server.version}; PostgreSQL has the fix from {wanted} on, and PolarDB does not say whether"
        " it has it",
        "SHOW server_version_num",
        "Nothing while the selection stays as it is. Add a table to causeway_objects later only while no transaction writes to"
        " it, and validate it afterwards.",
        severity="note",
    )


CHECKS = (
    Check(
        "source_version",
        "error",
        "The source's version has no logical decoding that this collection can read.",
        "PostgreSQL 10 or newer, or PolarDB 11 or newer.",
        _source_version,
    ),
    Check(
        "destination_version",
        "error",
        "The destination's version is not supported.",
        "PostgreSQL 10 or newer, or PolarDB 11 or newer.",
        _destination_version,
    ),
    Check(
        "version_not_run",
        "note",
        "This major version is accepted, but nothing of this collection has been run on it: what differs there is not known.",
        "Rehearse with a copy of the database first, cutover included.",
        _not_run,
    ),
    Check(
        "version_downgrade",
        "ignorable",
        "The destination is older: features that it lacks, mostly in the schema, cannot be restored there.",
        "Use a destination of at least the source's version, or ignore this and see the errors of the schema phase.",
        at_both(_version_downgrade),
    ),
    Check(
        "source_minor_decoding_fix",
        "warning",
        "Older minor releases lose changes of transactions that run while a publication changes.",
        "Update the source to the minor release of May 2025 or newer.",
        at_source(_source_minor),
        incremental=True,
    ),
)
