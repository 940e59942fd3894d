# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The last transaction of a cutover: certificate and opening, both or neither; and the later reading of it."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..errors import ServerError, StateError
from ..large_objects.objects import certified
from ..postgres.connect import explain_errors
from ..state.tombstone import with_tombstone
from .certificate import Evidence

if TYPE_CHECKING:
    from psycopg.sql import Composed

    from ..migration import Migration
    from ..postgres.connect import Connection


def open_destination(migration: Migration, proofs: Evidence) -> None:
    """Write the certificate and open the destination, in one transaction. Idempotent. Raises ServerError."""
    state = migration.state()
    conn = migration.destination
    now = datetime.datetime.now(datetime.timezone.utc)
    opened_at = now.isoformat(timespec="milliseconds")
    proved = dict((state.fence or {}).get("proved", {})) if state else {}
    # Closed by an earlier run: its steps come first, and the pause is measured in wall-clock time.
    steps = proofs.steps if proofs.fenced_at else [*proved.get("steps", []), *proofs.steps]
    pause_ms = proofs.pause_ms or _pause(str(proved.get("fenced_at", "")), now)
    certificate = {
        **proved,
        "migration": migration.name,
        "opened_at": opened_at,
        "pause_ms": pause_ms,
        "source": _identity(migration, "source"),
        "destination": _identity(migration, "destination"),
        "writer": dict(proofs.writer),
        "triggers": proofs.triggers,
        "large_objects": certified(migration.store),
        "steps": steps,
        "comment": _leave_tombstone(conn, with_tombstone(conn, migration.name, opened_at)),
    }
    with explain_errors("opening the destination of migration", migration.name), conn.transaction():
        migration.store.record_opened(certificate, opened_at)
        migration.store.event("opened", "destination opened", {"pause_ms": pause_ms})


def _pause(fenced_at: str, now: datetime.datetime) -> int:
    """Return the milliseconds since the fence was raised; 0 if that time was not recorded."""
    return round((now - datetime.datetime.fromisoformat(fenced_at)).total_seconds() * 1000) if fenced_at else 0


def _leave_tombstone(conn: Connection, statement: Composed) -> bool:
    """Write the comment that outlives a release; return False if not allowed, as only the database's owner is."""
    try:
        with explain_errors("writing the comment of the", "destination database"):
            conn.execute(statement)
    except ServerError as exc:
        if exc.sqlstate != "42501":
            raise
        return False
    return True


def _identity(migration: Migration, end: str) -> Mapping[str, object]:
    server = migration.source_server if end == "source" else migration.destination_server
    return {
        "product": server.product,
        "version": server.product_version,
        "database": server.database,
        "system_identifier": server.system_identifier,
    }


def certificate_of(migration: Migration) -> Mapping[str, object]:
    """Return the stored certificate. Raises StateError if there is none."""
    state = migration.store.load()
    if state is None or state.certificate is None:
        raise StateError(
            "reading the certificate of migration",
            migration.name,
            "the destination was not opened",
            "Run the cutover playbook.",
        )
    return state.certificate
