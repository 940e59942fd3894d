# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What came to PostgreSQL after version 10, as far as our statements name it, and with which version.

Statements choose by `has`, or read what may be missing in a way that every server takes: ``to_jsonb`` of the row, the
rows of pg_settings, ``current_setting(…, true)``. Whatever a statement names is as old as 10, or is listed here.

Two things are used nowhere, since every version has another way to say them: ``max(pg_lsn)`` and ``min(pg_lsn)`` (13), and
``*`` of a catalog, which shows its ``oid`` only from 12 on. Sources: the release notes of 11 to 18 (PostgreSQL manual,
appendix E) and the catalogs of the servers themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

FUNCTIONS: Final[Mapping[str, int]] = {
    "hashtextextended": 110000,
    "sha256": 110000,
    "pg_database_collation_actual_version": 150000,
}
"""Functions of pg_catalog."""

RELATIONS: Final[Mapping[str, int]] = {
    "pg_stat_wal": 140000,
    "pg_publication_namespace": 150000,
}
"""Catalogs and views; all of their columns came with them."""

COLUMNS: Final[Mapping[str, int]] = {
    "pg_index.indnkeyatts": 110000,
    "pg_constraint.conparentid": 110000,
    "pg_publication.pubtruncate": 110000,
    "pg_attribute.attgenerated": 120000,
    "pg_publication.pubviaroot": 130000,
    "pg_available_extension_versions.trusted": 130000,
    "pg_replication_slots.wal_status": 130000,
    "pg_replication_slots.safe_wal_size": 130000,
    "pg_attribute.attcompression": 140000,
    "pg_range.rngmultitypid": 140000,
    "pg_database.datcollversion": 150000,
    "pg_publication_rel.prattrs": 150000,
    "pg_publication_rel.prqual": 150000,
    "pg_replication_slots.conflicting": 160000,
    "pg_replication_slots.failover": 170000,
    "pg_replication_slots.inactive_since": 170000,
    "pg_replication_slots.invalidation_reason": 170000,
    "pg_replication_slots.synced": 170000,
    "pg_publication.pubgencols": 180000,
}
"""Columns that a catalog or view got later."""

SETTINGS: Final[Mapping[str, int]] = {
    "jit": 110000,
    "plan_cache_mode": 120000,
    "logical_decoding_work_mem": 130000,
    "max_slot_wal_keep_size": 130000,
    "client_connection_check_interval": 140000,
    "idle_session_timeout": 140000,
    "reserved_connections": 160000,
    "synchronized_standby_slots": 170000,
    "transaction_timeout": 170000,
    "idle_replication_slot_timeout": 180000,
}
"""Settings that a session sets or reads."""

OPTIONS: Final[Mapping[str, int]] = {
    "publish = truncate": 110000,
    "partitioned tables in a publication": 130000,
    "publish_via_partition_root": 130000,
    "stream option binary": 140000,
    "stream option messages": 140000,
    "slot options in parentheses": 150000,
    "slot option FAILOVER": 170000,
}
"""What CREATE PUBLICATION, CREATE_REPLICATION_SLOT and START_REPLICATION take."""

ABILITIES: Final[Mapping[str, int]] = {
    "snapshots that list what runs": 130000,
    "scan of a range of ctid": 140000,
    "GRANT SET ON PARAMETER": 150000,
    "locale provider of a database": 150000,
    "ICU rules of a database": 160000,
    "locale provider builtin of a database": 170000,
    "locale PG_UNICODE_FAST": 180000,
    "membership WITH SET": 160000,
    "identities without generated columns": 180000,
    "NOT NULL that was not validated": 180000,
    "NOT VALID foreign keys of partitioned tables": 180000,
}
"""What the server can do with a statement."""

SINCE: Final[Mapping[str, int]] = {**FUNCTIONS, **RELATIONS, **COLUMNS, **SETTINGS, **OPTIONS, **ABILITIES}


def has(server_version: int, what: str) -> bool:
    """Return whether a server of this version (server_version_num) has ``what``, a key of `SINCE`."""
    return server_version >= SINCE[what]
