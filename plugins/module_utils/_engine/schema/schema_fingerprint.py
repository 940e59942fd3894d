# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fingerprint that proves a schema dump consistent: pg_dump reads the catalog partly as it is now, not as its
snapshot sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..capture.snapshot_import import import_statement
from ..postgres.connect import explain_errors
from ..postgres.versions import has

if TYPE_CHECKING:
    from ..postgres.connect import Connection

# (oid, xmin) shows every change by DDL. pg_class alone is read by its columns: TRUNCATE and REFRESH give it a new row,
# and a schema that is emptied every second must still be dumped.
_FINGERPRINT = """
WITH ns AS (
    SELECT n.oid, n.xmin, n.nspname FROM pg_catalog.pg_namespace n WHERE n.nspname = ANY (%(schemas)s)
), rel AS (
    SELECT c.oid, c.relname, c.relnamespace, c.reltype, c.relowner, c.relam, c.reltablespace, c.relpersistence,
           c.relkind, c.relnatts, c.relchecks, c.relhasrules, c.relhastriggers, c.relrowsecurity,
           c.relforcerowsecurity, c.relreplident, c.relispartition, c.relacl, c.reloptions, c.relpartbound
      FROM pg_catalog.pg_class c WHERE c.relnamespace IN (SELECT oid FROM ns) AND c.relkind <> 't'
), rows (text) AS (
    SELECT pg_catalog.concat_ws(' ', 'n', oid, xmin) FROM ns
    UNION ALL SELECT pg_catalog.concat_ws(' ', 'c', c.oid, c.relname, c.relnamespace, c.reltype, c.relowner, c.relam,
        c.reltablespace, c.relpersistence, c.relkind, c.relnatts, c.relchecks, c.relhasrules, c.relhastriggers,
        c.relrowsecurity, c.relforcerowsecurity, c.relreplident, c.relispartition, c.relacl::text, c.reloptions::text,
        c.relpartbound::text) FROM rel c
    UNION ALL SELECT pg_catalog.concat_ws(' ', 'a', a.attrelid, a.attnum, a.xmin)
        FROM pg_catalog.pg_attribute a JOIN rel ON rel.oid = a.attrelid WHERE a.attnum > 0
    UNION ALL SELECT pg_catalog.concat_ws(' ', 'd', d.oid, d.xmin)
        FROM pg_catalog.pg_attrdef d JOIN rel ON rel.oid = d.adrelid
    UNION ALL SELECT pg_catalog.concat_ws(' ', 'k', oid, xmin)
        FROM pg_catalog.pg_constraint WHERE connamespace IN (SELECT oid FROM ns)
    UNION ALL SELECT pg_catalog.concat_ws(' ', 'i', i.indexrelid, i.xmin)
        FROM pg_catalog.pg_index i JOIN rel ON rel.oid = i.indrelid
    UNION ALL SELECT pg_catalog.concat_ws(' ', 'h', i.inhrelid, i.inhparent, i.xmin)
        FROM pg_catalog.pg_inherits i JOIN rel ON rel.oid = i.inhrelid
    UNION ALL SELECT pg_catalog.concat_ws(' ', 't', oid, xmin)
        FROM pg_catalog.pg_type WHERE typnamespace IN (SELECT oid FROM ns)
    UNION ALL SELECT pg_catalog.concat_ws(' ', 'e', e.oid, e.xmin) FROM pg_catalog.pg_enum e
        JOIN pg_catalog.pg_type t ON t.oid = e.enumtypid WHERE t.typnamespace IN (SELECT oid FROM ns)
    UNION ALL SELECT pg_catalog.concat_ws(' ', 'p', oid, xmin)
        FROM pg_catalog.pg_proc WHERE pronamespace IN (SELECT oid FROM ns)
    UNION ALL SELECT pg_catalog.concat_ws(' ', 'g', t.oid, t.xmin)
        FROM pg_catalog.pg_trigger t JOIN rel ON rel.oid = t.tgrelid
    UNION ALL SELECT pg_catalog.concat_ws(' ', 'r', r.oid, r.xmin)
        FROM pg_catalog.pg_rewrite r JOIN rel ON rel.oid = r.ev_class
    UNION ALL SELECT pg_catalog.concat_ws(' ', 'y', p.oid, p.xmin)
        FROM pg_catalog.pg_policy p JOIN rel ON rel.oid = p.polrelid
    UNION ALL SELECT pg_catalog.concat_ws(' ', 's', s.seqrelid, s.xmin)
        FROM pg_catalog.pg_sequence s JOIN rel ON rel.oid = s.seqrelid
    UNION ALL SELECT pg_catalog.concat_ws(' ', 'x', oid, xmin)
        FROM pg_catalog.pg_statistic_ext WHERE stxnamespace IN (SELECT oid FROM ns)
)
SELECT count(*)::text || ' ' || coalesce(sum({hash}::numeric), 0)::text FROM rows
"""

_OLD_HASH = "('x' || pg_catalog.substr(pg_catalog.md5(text), 1, 16))::bit(64)::bigint"


def statement(server_version: int) -> str:
    """Return the query for the fingerprint; its parameter is ``schemas``."""
    new = has(server_version, "hashtextextended")
    return _FINGERPRINT.format(hash="pg_catalog.hashtextextended(text, 0)" if new else _OLD_HASH)


def fingerprint(conn: Connection, schemas: tuple[str, ...], snapshot: str = "") -> str:
    """Return the catalog of some schemas as one text, as ``snapshot`` sees it or as it is now. Raises ServerError.

    ``conn`` is an autocommit session outside any transaction.
    """
    with explain_errors("reading the catalog of the", "source"), conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        if snapshot:
            conn.execute(import_statement(snapshot))
        row = conn.execute(statement(conn.info.server_version), {"schemas": list(schemas)}).fetchone()
    return str(row[0]) if row else ""
