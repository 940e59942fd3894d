# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server whose snapshots cannot be imported, and who imports one all the same.

PolarDB 11 is such a server: SET TRANSACTION SNAPSHOT succeeds, and the session then sees another past than the snapshot's
holder. No stock server does that, but one can be made to say so.
"""

from __future__ import annotations

import pathlib
import re
from typing import Any

LOGGED = {
    "log_statement": "all",
    "log_replication_commands": "on",
    "log_line_prefix": "%m [%p] %q%a@%d ",
}
"""Settings of a private source, C(make_pair(private=True, source_settings=LOGGED)), for C(importers) and C(slots_made)."""

_INSTEAD = """
SET allow_system_table_mods = on;
UPDATE pg_catalog.pg_proc SET proname = 'txid_current_snapshot_of_stock'
 WHERE oid = 'pg_catalog.txid_current_snapshot()'::pg_catalog.regprocedure;
CREATE FUNCTION pg_catalog.txid_current_snapshot() RETURNS text STABLE LANGUAGE sql AS $${}$$;
RESET allow_system_table_mods
"""
_LISTS_OTHERS = """SELECT CASE WHEN pg_catalog.current_setting('application_name') LIKE 'causeway probe %'
            THEN pg_catalog.split_part(pg_catalog.txid_current_snapshot_of_stock()::text, ':', 1) || ':'
                 || pg_catalog.split_part(pg_catalog.txid_current_snapshot_of_stock()::text, ':', 2)
                 || ':0,' || pg_catalog.pg_backend_pid()
            ELSE pg_catalog.txid_current_snapshot_of_stock()::text END"""
_LISTS_NOBODY = """SELECT pg_catalog.split_part(pg_catalog.txid_current_snapshot_of_stock()::text, ':', 2) || ':'
                 || pg_catalog.split_part(pg_catalog.txid_current_snapshot_of_stock()::text, ':', 2) || ':'"""


def refuse_imports(end: Any) -> None:
    """From now on no snapshot of this database can be imported, as on PolarDB 11, as far as anybody can tell.

    The server itself says so: in the engine's probe, C(txid_current_snapshot()) lists other running transactions than in
    the session that holds the snapshot. So it holds for every process that connects, modules in processes of their own,
    playbooks and helping hosts included, and needs no hook in the engine. It is a matter of this one database
    (C(pg_proc) is), and goes with it. The account of the test must be a superuser, the accounts of the migration need
    nothing.

    What it cannot do is make an import go wrong: a session that imports without asking still sees the right rows here.
    So a test that stands on this looks at C(importers) too, which must be none but the probe.
    """
    end.run(_INSTEAD.format(_LISTS_OTHERS))


def list_nobody(end: Any) -> None:
    """From now on no session of this database is told who runs: what a snapshot and its importer say is always the same."""
    end.run(_INSTEAD.format(_LISTS_NOBODY))


def _lines(end: Any) -> list[str]:
    log = pathlib.Path(end.server.cluster.log_file).read_text(encoding="utf-8", errors="replace")
    return [line for line in log.splitlines() if f"@{end.dbname} " in line]


def importers(end: Any) -> list[str]:
    """The application_name of every session that imported a snapshot of this database, the probe's left out.

    The server's log is the witness: the source needs the settings C(LOGGED). C(pg_dump --snapshot) imports too, as
    C(causeway schema).
    """
    names = (re.search(r"\] (.*?)@", line) for line in _lines(end) if "SET TRANSACTION SNAPSHOT '" in line)
    return [name[1] for name in names if name and not name[1].startswith("causeway probe ")]


def slots_made(end: Any) -> int:
    """How many temporary slots were asked for in this database, by the server's log."""
    asked = re.compile(r"received replication command: CREATE_REPLICATION_SLOT \S+ TEMPORARY ")
    return sum(asked.search(line) is not None for line in _lines(end))
