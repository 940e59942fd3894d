# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Samples the migration's slot at the source with an ordinary account: one `health.Sample` at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..errors import ConnectError, EngineError, ServerError
from ..postgres.catalog import qualified
from ..postgres.connect import explain_errors
from ..postgres.lsn import parse_lsn
from ..state.source_schema import HEARTBEAT_NAME, sends_messages
from .health import Sample, earlier, report, unseen

if TYPE_CHECKING:
    from ..postgres.connect import Connection

# to_jsonb sees the columns that this version has: wal_status and safe_wal_size from 13, conflicting from 16,
# invalidation_reason from 17. The settings are in megabytes; -1 bounds nothing.
_LOOK = """
SELECT extract(epoch FROM pg_catalog.clock_timestamp())::float8,
       CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_current_wal_insert_lsn() END::text,
       pg_catalog.to_jsonb(s), pg_catalog.age(s.catalog_xmin), pg_catalog.age(d.datfrozenxid),
       (SELECT setting::bigint FROM pg_catalog.pg_settings WHERE name = 'max_slot_wal_keep_size'),
       (SELECT setting::bigint FROM pg_catalog.pg_settings WHERE name = 'autovacuum_freeze_max_age'),
       pg_catalog.has_function_privilege('pg_catalog.pg_ls_waldir()', 'EXECUTE'),
       EXISTS (SELECT FROM pg_catalog.pg_publication WHERE pubname = %s),
       EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                WHERE n.nspname = %s AND c.relname = %s)
  FROM pg_catalog.pg_database d LEFT JOIN pg_catalog.pg_replication_slots s ON s.slot_name = %s
 WHERE d.datname = pg_catalog.current_database()
"""

# Decoding retains what was written since the oldest transaction that may still commit began, in any database.
_OLDEST = """
SELECT who, seconds FROM (
    SELECT 'pid ' || a.pid AS who,
           extract(epoch FROM pg_catalog.clock_timestamp() - a.xact_start)::float8 AS seconds
      FROM pg_catalog.pg_stat_activity a WHERE a.backend_xid IS NOT NULL AND a.xact_start IS NOT NULL
     UNION ALL
    SELECT 'prepared transaction ' || p.transaction::text,
           extract(epoch FROM pg_catalog.clock_timestamp() - p.prepared)::float8 FROM pg_catalog.pg_prepared_xacts p
) open ORDER BY seconds DESC LIMIT 1
"""


_PROMOTE = "Promote it, or name the primary."


def sample_slot(source: Connection, name: str, publication: str) -> Sample:
    """Return one sample of the slot ``name``, with whether the migration's publication still exists.

    Raises ServerError, ConnectError: a slot that cannot be observed gives no sample.
    """
    doing = "watching the replication slot"
    with explain_errors(doing, name):
        row = source.execute(_LOOK, (publication, *HEARTBEAT_NAME, name), prepare=True).fetchone()
        oldest = source.execute(_OLDEST, prepare=True).fetchone()
        waldir = source.execute("SELECT sum(size)::bigint FROM pg_catalog.pg_ls_waldir()") if row and row[7] else None
        wal_bytes = waldir.fetchone() if waldir is not None else None
    if row is None:
        raise ServerError(doing, name, "the source gave no answer", "Name the primary, not a proxy.")
    if row[1] is None:
        raise ConnectError(
            doing, name, "the source is in recovery: a standby, or one that is not promoted yet", _PROMOTE
        )
    at, position, shown, catalog_age, frozen_age, limit, freeze_max_age, dummy, published, heartbeat = row
    slot = shown or {}
    ours = [(f"publication {publication}", published)]
    if not sends_messages(source):
        ours.append((f"table {qualified(HEARTBEAT_NAME)}", heartbeat))
    reason = slot.get("invalidation_reason") or ("conflict with recovery" if slot.get("conflicting") else "")
    return Sample(
        at=at,
        position=parse_lsn(position),
        found=shown is not None,
        wal_status=slot.get("wal_status") or "",
        reason=reason,
        restart=parse_lsn(slot["restart_lsn"]) if slot.get("restart_lsn") else 0,
        confirmed=parse_lsn(slot["confirmed_flush_lsn"]) if slot.get("confirmed_flush_lsn") else 0,
        safe=slot.get("safe_wal_size"),
        limit=limit << 20 if limit is not None and limit >= 0 else None,
        wal_bytes=wal_bytes[0] if wal_bytes else None,
        catalog_age=catalog_age,
        frozen_age=frozen_age,
        freeze_max_age=freeze_max_age or 200_000_000,
        oldest=(oldest[0], oldest[1]) if oldest else None,
        missing=tuple([what for what, exists in ours if not exists]),
    )


def report_now(
    source: Connection, name: str, publication: str, recorded: Mapping[str, Any], disk: int = 0
) -> Mapping[str, Any]:
    """Return a report made now; ``recorded`` is the worker's last one, from which rates follow. Raises no EngineError."""
    try:
        sample = sample_slot(source, name, publication)
    except EngineError as exc:
        return unseen(exc.why, recorded)
    before = earlier(recorded)
    known = [before] if before is not None and before.position <= sample.position and before.at < sample.at else []
    return report(name, [*known, sample], disk)
