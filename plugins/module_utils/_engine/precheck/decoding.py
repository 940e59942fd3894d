# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Family "logical decoding": can the source decode its changes, and retain their WAL until they are read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from .. import names
from ..units import duration
from . import wal
from .finding import Check, Found, at_source
from .wal import our_slot

if TYPE_CHECKING:
    from .observed import Observation, SourceView, Transaction

_LONG = 600.0


def _slot_failover(dummy: Observation, source: SourceView) -> Iterator[Found]:
    server = source.server
    if server.product == "PolarDB":
        mode = server.setting("polar_failover_slot_mode") or server.setting("rds_failover_slot_mode")
        if mode != "sync":
            yield Found(
                server.database,
                f"polar_failover_slot_mode {mode or 'unknown'}",
                "SELECT current_setting('polar_failover_slot_mode', true)",
                "Set the cluster's failover slot mode to sync, or plan no switchover until the cutover.",
            )
        return
    if not source.standbys:
        return
    if server.major >= 17 and server.setting("synchronized_standby_slots"):
        return
    if "pg_failover_slots" in server.setting("shared_preload_libraries"):
        return
    wanted = "synchronized_standby_slots" if server.major >= 17 else "the extension pg_failover_slots"
    yield Found(
        ", ".join(source.standbys),
        f"{len(source.standbys)} standbys follow, and {wanted} is not set",
        "SELECT application_name FROM pg_stat_replication",
    )


def _slot_name_taken(seen: Observation, source: SourceView) -> Iterator[Found]:
    wanted = names.slot_name(seen.spec.name)
    for slot in source.slots:
        if slot.name == wanted and our_slot(seen, source) is None:
            yield Found(
                slot.name,
                f"plugin {slot.plugin or 'none (physical)'}, database {slot.database or 'none'}, "
                f"{'in use' if slot.active else 'not in use'}",
                "SELECT * FROM pg_replication_slots",
                f"If it is not needed: SELECT pg_drop_replication_slot('{slot.name}');",
            )


def _session(transaction: Transaction) -> str:
    return transaction.gid or f"pid {transaction.pid}"


def _prepared_transactions(dummy: Observation, source: SourceView) -> Iterator[Found]:
    for one in source.prepared:
        yield Found(
            one.gid,
            f"prepared {duration(one.age)} ago by {one.user} in database {one.database}",
            "SELECT * FROM pg_prepared_xacts",
            f"COMMIT PREPARED or ROLLBACK PREPARED '{one.gid}' in database {one.database}.",
        )


def _long_transactions(dummy: Observation, source: SourceView) -> Iterator[Found]:
    for one in source.long_transactions:
        if one.age >= _LONG:
            yield Found(
                _session(one),
                f"{one.user} ({one.application or 'no application name'}) in database {one.database}, "
                f"open for {duration(one.age)}, query began {one.since}",
                "SELECT pid, xact_start, query_start FROM pg_stat_activity ORDER BY xact_start",
                f"Wait until it ends, or SELECT pg_terminate_backend({one.pid});",
            )


def _publication_for_all_tables(dummy: Observation, source: SourceView) -> Iterator[Found]:
    for publication in source.publications:
        if publication.all_tables:
            keyless = [
                str(table)
                for table in source.catalog.tables.values()
                if table.holds_rows and table.replica_identity in "dn" and not any(i.primary for i in table.keys)
            ]
            without = f"; tables without a replica identity: {', '.join(keyless[:5])}" if keyless else ""
            yield Found(
                publication.name,
                f"FOR ALL TABLES{without}",
                "SELECT pubname FROM pg_publication WHERE puballtables",
            )


def _leftovers(seen: Observation, source: SourceView) -> Iterator[Found]:
    ours = names.slot_name(seen.spec.name)
    for slot in source.slots:
        if slot.name.startswith("dts_") and slot.name != ours and not slot.active and not slot.temporary:
            yield Found(
                slot.name,
                f"an inactive slot of database {slot.database or 'none'}",
                "SELECT * FROM pg_replication_slots WHERE NOT active",
                f"SELECT pg_drop_replication_slot('{slot.name}');",
            )
    known = seen.destination is not None and seen.destination.state is not None
    for kind, name in source.leftovers:
        if kind == "publication" and name == names.publication_name(seen.spec.name) and known:
            continue
        yield Found(
            name,
            f"{kind}, created by another migration or tool",
            "pg_publication, pg_event_trigger, pg_class",
            f"DROP {kind.upper()} {name if kind == 'table' else chr(34) + name + chr(34)};",
        )


def _idle_in_transaction(dummy: Observation, source: SourceView) -> Iterator[Found]:
    value = source.ordinary.get("idle_in_transaction_session_timeout", "0")
    if value not in ("0", ""):
        yield Found(source.server.database, duration(float(value) / 1000), "SHOW idle_in_transaction_session_timeout")


CHECKS = (
    *wal.CHECKS,
    Check(
        "slot_failover",
        "ignorable",
        "After a failover or switchover of the source the slot is missing or behind: the tables have to be copied again.",
        "17 and later: synchronized_standby_slots here, sync_replication_slots on the standby. Before: pg_failover_slots.",
        at_source(_slot_failover),
        incremental=True,
    ),
    Check(
        "slot_name_taken",
        "error",
        "A slot of the migration's name exists, but is not recorded in its state: reading from it could skip changes.",
        "Drop it if it is not needed, or give the migration another causeway_name.",
        at_source(_slot_name_taken),
        incremental=True,
    ),
    Check(
        "prepared_transactions",
        "warning",
        "The slot cannot be created before every prepared transaction has ended.",
        "COMMIT PREPARED or ROLLBACK PREPARED.",
        at_source(_prepared_transactions),
        incremental=True,
    ),
    Check(
        "long_transactions",
        "ignorable",
        "The slot cannot be created before they have ended, and they hold back vacuum.",
        "Wait until they end, or terminate their sessions.",
        at_source(_long_transactions),
        incremental=True,
    ),
    Check(
        "publication_for_all_tables",
        "ignorable",
        "It makes every table need a replica identity: an UPDATE or DELETE on a table without one fails at the source.",
        "Replace it by a publication that names its tables, or give each table a replica identity.",
        at_source(_publication_for_all_tables),
        incremental=True,
    ),
    Check(
        "leftovers",
        "warning",
        "Left over from an earlier migration: a slot retains WAL for ever, a trigger still writes.",
        "Drop what is not needed; the finding prints the statement.",
        at_source(_leftovers),
        lock="DROP TABLE and DROP PUBLICATION: a short exclusive lock on the object",
        incremental=True,
    ),
    Check(
        "idle_in_transaction_session_timeout",
        "note",
        "It ends the application's idle transactions, but not those of the migration, whose sessions set it to 0.",
        "Nothing to do.",
        at_source(_idle_in_transaction),
        incremental=True,
    ),
)
