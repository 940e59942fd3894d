# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Family "connection and identity": do both ends answer, are they what was meant, and do they speak the same way
(`locale`), in versions that were run (`versions`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import EngineError, MismatchError, VersionError
from ..postgres.connect import walsenders_exhausted
from ..postgres.server import create_database_statement
from . import locale, versions
from .finding import Check, Found, at_both, at_destination, at_source

if TYPE_CHECKING:
    from ..postgres.connect import Endpoint
    from .observed import DestinationView, Observation, SourceView


def refusal(error: EngineError) -> str:
    """Return the kind of a refusal: host, TLS, authentication, database, replication, walsenders, or server."""
    text, state = error.why.lower(), error.sqlstate
    if state == "3D000" or ("database" in text and "does not exist" in text):
        return "database"
    if walsenders_exhausted(text):
        return "walsenders"
    if "wal sender" in text or (
        "replication" in text and any(w in text for w in ("must be", "attribute", "permission"))
    ):
        return "replication"
    if state[:2] == "28" or any(
        word in text for word in ("authentication", "no password supplied", "pg_hba.conf", "role", "peer user name")
    ):
        # before TLS: a refusal for want of TLS names pg_hba.conf as well
        return "authentication"
    if "ssl" in text or "certificate" in text or "tls" in text:
        return "TLS"
    if not state or state[:2] == "08":
        return "host"
    return "server"


def _connect(part: str, seen: Observation, endpoint: Endpoint) -> Iterator[Found]:
    error = seen.failures.get(part)
    if error is None or isinstance(error, VersionError):  # the checks on versions say that
        return
    kind = refusal(error)
    if part == "destination" and kind == "database" and seen.source:
        return  # destination_database_missing says how to create it
    yield Found(str(endpoint), f"{kind}: {error.why}", "a connection like those of the modules", error.remedy)


def _source_connect(seen: Observation) -> Iterator[Found]:
    return _connect("source", seen, seen.spec.source)


def _destination_connect(seen: Observation) -> Iterator[Found]:
    return _connect("destination", seen, seen.spec.destination)


def _replication_connect(seen: Observation) -> Iterator[Found]:
    error = seen.failures.get("replication")
    if error is None or not seen.source:
        return
    kind = refusal(error)
    remedy = error.remedy
    if kind == "replication":
        remedy = f'ALTER ROLE "{seen.source.server.user}" REPLICATION;'
    elif "pg_hba.conf" in error.why:
        remedy = "Add a line for this user, address and database to pg_hba.conf of the source and reload."
    yield Found(str(seen.spec.source), f"{kind}: {error.why}", "IDENTIFY_SYSTEM on a replication connection", remedy)


def _destination_database_missing(seen: Observation) -> Iterator[Found]:
    error = seen.failures.get("destination")
    if error is None or not seen.source or refusal(error) != "database":
        return
    yield Found(
        str(seen.spec.destination),
        error.why,
        "a connection like those of the modules",
        create_database_statement(seen.source.server, seen.spec.destination.dbname),
    )


def _not_observed(seen: Observation) -> Iterator[Found]:
    for part, error in seen.failures.items():
        if part not in ("source", "destination", "replication"):
            cause = f"{error.why} (SQLSTATE {error.sqlstate})" if error.sqlstate else error.why
            yield Found(part, cause, error.doing, error.remedy)


def _state_unusable(dummy: Observation, destination: DestinationView) -> Iterator[Found]:
    error = destination.state_failure
    if error is not None and not isinstance(error, MismatchError):
        yield Found(error.what, error.why, "the state tables at the destination", error.remedy)


def _migration_name_taken(dummy: Observation, destination: DestinationView) -> Iterator[Found]:
    error = destination.state_failure
    if isinstance(error, MismatchError):
        yield Found(error.what, error.why, "the migration's row in the state tables", error.remedy)


def _same_database(dummy: Observation, source: SourceView, destination: DestinationView) -> Iterator[Found]:
    here, there = source.server, destination.server
    if here.system_identifier and here.system_identifier == there.system_identifier and here.database == there.database:
        yield Found(
            here.database,
            f"system {here.system_identifier}, database {here.database} at both ends",
            "SELECT system_identifier FROM pg_control_system()",
        )


def _source_in_recovery(dummy: Observation, source: SourceView) -> Iterator[Found]:
    if source.server.in_recovery:
        yield Found(source.server.database, "true", "SELECT pg_is_in_recovery()")


def _destination_read_only(seen: Observation, destination: DestinationView) -> Iterator[Found]:
    server = destination.server
    if server.in_recovery:
        yield Found(server.database, "true", "SELECT pg_is_in_recovery()", "Name the primary of the destination.")
    elif destination.ordinary.get("default_transaction_read_only", server.setting("default_transaction_read_only")) == (
        "on"
    ):
        yield Found(
            server.database,
            "on",
            "SHOW default_transaction_read_only",
            f'ALTER ROLE "{seen.spec.destination.user}" IN DATABASE "{server.database}" RESET default_transaction_read_only; '
            "if a cutover into this database set it, otherwise the same for the database or the server.",
        )


CHECKS = (
    Check(
        "source_connect",
        "error",
        "Every phase connects to the source.",
        "Correct what the evidence names: host and port, TLS, authentication, or the database's name.",
        _source_connect,
    ),
    Check(
        "destination_connect",
        "error",
        "Every phase connects to the destination, and the migration's state is stored there.",
        "Correct what the evidence names: host and port, TLS, authentication, or the database's name.",
        _destination_connect,
    ),
    Check(
        "destination_database_missing",
        "error",
        "The destination database is not created for you, since its encoding and locale cannot be changed later.",
        "CREATE DATABASE with the source's encoding and locale; the finding prints the statement.",
        _destination_database_missing,
    ),
    Check(
        "replication_connect",
        "error",
        "Changes are read over a replication connection, and snapshots are exported from one.",
        "ALTER ROLE … REPLICATION for the account, and a line in pg_hba.conf that admits it.",
        _replication_connect,
        incremental=True,
    ),
    Check(
        "not_observed",
        "error",
        "What could not be read could not be checked; missing evidence counts as a failure.",
        "Fix the error that the evidence names, mostly a missing privilege, and run precheck again.",
        _not_observed,
    ),
    Check(
        "state_unusable",
        "error",
        "The migration's state cannot be read: to continue without it could copy rows twice.",
        "Use the version of the collection that began the migration, or set another causeway_state_schema.",
        at_destination(_state_unusable),
    ),
    Check(
        "migration_name_taken",
        "error",
        "The state of this name belongs to a migration from another source.",
        "Give this migration another causeway_name, or correct causeway_source.",
        at_destination(_migration_name_taken),
    ),
    Check(
        "same_database",
        "error",
        "Source and destination are one and the same database.",
        "Correct causeway_source or causeway_destination.",
        at_both(_same_database),
    ),
    *versions.CHECKS,
    Check(
        "source_in_recovery",
        "error",
        "A standby's snapshot does not show what runs at the primary: rows would be lost.",
        "Name the primary of the source.",
        at_source(_source_in_recovery),
    ),
    Check(
        "destination_read_only",
        "error",
        "Nothing can be written to the destination.",
        "Name the primary, or reset default_transaction_read_only.",
        at_destination(_destination_read_only),
    ),
    *locale.CHECKS,
)
