# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fingerprint of what the comparison reads at one end: cheap enough to be taken while the source is fenced.

Equal fingerprints say that every definition is what it was, however it is printed. Rights to write are left out, since the
fence takes them; so is what a write changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..postgres.connect import explain_errors
from ..postgres.versions import has

if TYPE_CHECKING:
    from ..postgres.connect import Connection, End

# The fence revokes rights on tables, their columns and sequences, and so gives pg_class and pg_attribute new rows: these
# are read by their columns, without those rights. Of everything else (oid, xmin) shows each change by DDL.
_ROWS = """
WITH ns AS (
    SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = ANY (%(schemas)s)
), rel AS (
    SELECT c.oid, c.relname, c.relnamespace, c.reltype, c.relowner, c.relam, c.relpersistence, c.relkind, c.relnatts,
           c.relchecks, c.relhasrules, c.relhastriggers, c.relrowsecurity, c.relforcerowsecurity, c.relreplident,
           c.relispartition, c.relacl, c.reloptions, c.relpartbound
      FROM pg_catalog.pg_class c WHERE c.relnamespace IN (SELECT oid FROM ns) AND c.relkind <> 't'
), rows (class, oid, sub, text) AS (
    SELECT 'pg_namespace'::regclass, n.oid, 0, n.xmin::text
      FROM pg_catalog.pg_namespace n WHERE n.oid IN (SELECT oid FROM ns)
    UNION ALL
    SELECT 'pg_class'::regclass, c.oid, 0, pg_catalog.concat_ws(' ', c.relname, c.relnamespace, c.reltype, c.relowner, c.relam,
           c.relpersistence, c.relkind, c.relnatts, c.relchecks, c.relhasrules, c.relhastriggers, c.relrowsecurity,
           c.relforcerowsecurity, c.relreplident, c.relispartition, c.reloptions::text, c.relpartbound::text,
           CASE WHEN c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relacl IS NOT NULL THEN
               (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', x.grantor, x.grantee, x.privilege_type,
                       x.is_grantable), ',' ORDER BY x.grantee, x.privilege_type, x.grantor)
                  FROM pg_catalog.aclexplode(c.relacl) x
                 WHERE x.privilege_type <> ALL (%(taken)s)
                   AND x.grantee <> c.relowner) END)
      FROM rel c
    UNION ALL
    SELECT 'pg_class'::regclass, a.attrelid, a.attnum, pg_catalog.concat_ws(' ', a.attname, a.atttypid, a.atttypmod,
           a.attnotnull, a.atthasdef, a.attidentity, a.attisdropped, a.attcollation, a.attstorage, a.attstattarget,
           a.attislocal, a.attinhcount, a.attoptions::text, a.attfdwoptions::text{columns},
           CASE WHEN a.attacl IS NOT NULL THEN
               (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', x.grantor, x.grantee, x.privilege_type,
                       x.is_grantable), ',' ORDER BY x.grantee, x.privilege_type, x.grantor)
                  FROM pg_catalog.aclexplode(a.attacl) x
                 WHERE x.privilege_type <> ALL (%(taken)s) AND x.grantee <> rel.relowner) END)
      FROM pg_catalog.pg_attribute a JOIN rel ON rel.oid = a.attrelid
     WHERE a.attnum > 0 AND rel.relkind IN ('r', 'p', 'v', 'm', 'f', 'c')
    UNION ALL
    SELECT 'pg_attrdef'::regclass, d.oid, 0, d.xmin::text
      FROM pg_catalog.pg_attrdef d JOIN rel ON rel.oid = d.adrelid
    UNION ALL
    SELECT 'pg_constraint'::regclass, oid, 0, xmin::text
      FROM pg_catalog.pg_constraint WHERE connamespace IN (SELECT oid FROM ns)
    UNION ALL
    SELECT 'pg_class'::regclass, i.indexrelid, 0, i.xmin::text
      FROM pg_catalog.pg_index i JOIN rel ON rel.oid = i.indrelid
    UNION ALL
    SELECT 'pg_class'::regclass, i.inhrelid, 0, pg_catalog.concat_ws(' ', i.inhparent, i.inhseqno, i.xmin)
      FROM pg_catalog.pg_inherits i JOIN rel ON rel.oid = i.inhrelid
    UNION ALL
    SELECT 'pg_type'::regclass, oid, 0, xmin::text
      FROM pg_catalog.pg_type WHERE typnamespace IN (SELECT oid FROM ns)
    UNION ALL
    SELECT 'pg_type'::regclass, e.enumtypid, 0, pg_catalog.concat_ws(' ', e.oid, e.xmin) FROM pg_catalog.pg_enum e
      JOIN pg_catalog.pg_type t ON t.oid = e.enumtypid WHERE t.typnamespace IN (SELECT oid FROM ns)
    UNION ALL
    SELECT 'pg_proc'::regclass, oid, 0, xmin::text FROM pg_catalog.pg_proc WHERE pronamespace IN (SELECT oid FROM ns)
    UNION ALL
    SELECT 'pg_trigger'::regclass, t.oid, 0, t.xmin::text
      FROM pg_catalog.pg_trigger t JOIN rel ON rel.oid = t.tgrelid
    UNION ALL
    SELECT 'pg_rewrite'::regclass, r.oid, 0, r.xmin::text
      FROM pg_catalog.pg_rewrite r JOIN rel ON rel.oid = r.ev_class
    UNION ALL
    SELECT 'pg_policy'::regclass, p.oid, 0, p.xmin::text
      FROM pg_catalog.pg_policy p JOIN rel ON rel.oid = p.polrelid
    UNION ALL
    SELECT 'pg_class'::regclass, s.seqrelid, 0, s.xmin::text
      FROM pg_catalog.pg_sequence s JOIN rel ON rel.oid = s.seqrelid
    UNION ALL
    SELECT 'pg_statistic_ext'::regclass, oid, 0, xmin::text
      FROM pg_catalog.pg_statistic_ext WHERE stxnamespace IN (SELECT oid FROM ns)
    UNION ALL
    SELECT 'pg_operator'::regclass, oid, 0, xmin::text
      FROM pg_catalog.pg_operator WHERE oprnamespace IN (SELECT oid FROM ns)
    UNION ALL
    SELECT 'pg_opclass'::regclass, oid, 0, xmin::text
      FROM pg_catalog.pg_opclass WHERE opcnamespace IN (SELECT oid FROM ns)
    UNION ALL
    SELECT 'pg_opfamily'::regclass, oid, 0, xmin::text
      FROM pg_catalog.pg_opfamily WHERE opfnamespace IN (SELECT oid FROM ns)
    UNION ALL
    SELECT 'pg_opfamily'::regclass, a.amopfamily, 0, pg_catalog.concat_ws(' ', a.oid, a.xmin) FROM pg_catalog.pg_amop a
      JOIN pg_catalog.pg_opfamily f ON f.oid = a.amopfamily WHERE f.opfnamespace IN (SELECT oid FROM ns)
    UNION ALL
    SELECT 'pg_opfamily'::regclass, a.amprocfamily, 0, pg_catalog.concat_ws(' ', a.oid, a.xmin) FROM pg_catalog.pg_amproc a
      JOIN pg_catalog.pg_opfamily f ON f.oid = a.amprocfamily WHERE f.opfnamespace IN (SELECT oid FROM ns)
    UNION ALL
    SELECT 'pg_collation'::regclass, oid, 0, xmin::text
      FROM pg_catalog.pg_collation WHERE collnamespace IN (SELECT oid FROM ns)
    UNION ALL
    SELECT 'pg_conversion'::regclass, oid, 0, xmin::text
      FROM pg_catalog.pg_conversion WHERE connamespace IN (SELECT oid FROM ns)
    UNION ALL
    SELECT 'pg_ts_config'::regclass, oid, 0, xmin::text
      FROM pg_catalog.pg_ts_config WHERE cfgnamespace IN (SELECT oid FROM ns)
    UNION ALL
    SELECT 'pg_ts_config'::regclass, m.mapcfg, 0, pg_catalog.concat_ws(' ', m.maptokentype, m.mapseqno, m.mapdict)
      FROM pg_catalog.pg_ts_config_map m JOIN pg_catalog.pg_ts_config c ON c.oid = m.mapcfg
     WHERE c.cfgnamespace IN (SELECT oid FROM ns)
    UNION ALL
    SELECT 'pg_ts_dict'::regclass, oid, 0, xmin::text
      FROM pg_catalog.pg_ts_dict WHERE dictnamespace IN (SELECT oid FROM ns)
    UNION ALL
    SELECT 'pg_ts_parser'::regclass, oid, 0, xmin::text
      FROM pg_catalog.pg_ts_parser WHERE prsnamespace IN (SELECT oid FROM ns)
    UNION ALL
    SELECT 'pg_ts_template'::regclass, oid, 0, xmin::text
      FROM pg_catalog.pg_ts_template WHERE tmplnamespace IN (SELECT oid FROM ns)
    UNION ALL
    SELECT 'pg_default_acl'::regclass, oid, 0, xmin::text FROM pg_catalog.pg_default_acl
    UNION ALL
    SELECT 'pg_cast'::regclass, oid, 0, xmin::text FROM pg_catalog.pg_cast WHERE oid >= 16384
    UNION ALL
    SELECT 'pg_event_trigger'::regclass, oid, 0, xmin::text FROM pg_catalog.pg_event_trigger
    UNION ALL
    SELECT 'pg_extension'::regclass, oid, 0, xmin::text FROM pg_catalog.pg_extension
    UNION ALL
    SELECT 'pg_database'::regclass, s.subdbid, 0, s.subname::text FROM pg_catalog.pg_subscription s
      JOIN pg_catalog.pg_database d ON d.oid = s.subdbid WHERE d.datname = pg_catalog.current_database()
    UNION ALL
    SELECT 'pg_database'::regclass, d.oid, 0, pg_catalog.concat_ws(' ', d.datacl::text, d.datdba)
      FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()
    UNION ALL
    SELECT 'pg_database'::regclass, d.oid, 0, pg_catalog.concat_ws(' ', s.setrole, s.setconfig::text)
      FROM pg_catalog.pg_db_role_setting s JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
     WHERE d.datname = pg_catalog.current_database()
    UNION ALL
    SELECT d.classoid::regclass, d.objoid, d.objsubid, d.description FROM pg_catalog.pg_description d
     WHERE d.objoid >= 16384 AND d.classoid <> 'pg_publication'::regclass
    UNION ALL
    SELECT l.classoid::regclass, l.objoid, l.objsubid, pg_catalog.concat_ws(' ', l.provider, l.label)
      FROM pg_catalog.pg_seclabel l WHERE l.objoid >= 16384
)
"""
_TOTAL = "SELECT count(*)::text || ' ' || coalesce(sum({hash}::numeric), 0)::text FROM rows"
_EACH = """, each (class, oid, sub, digest) AS (
    SELECT class, oid, sub, coalesce(sum({hash}::numeric), 0)::text FROM rows GROUP BY 1, 2, 3
)
SELECT class::oid::bigint, oid::bigint, sub, digest, coalesce(pg_catalog.pg_describe_object(class, oid, sub), '') FROM each
"""
_HASH, _OLD_HASH = (
    "pg_catalog.hashtextextended(class::oid || ' ' || oid || ' ' || sub || ' ' || text, 0)",
    "('x' || pg_catalog.substr(pg_catalog.md5(class::oid || ' ' || oid || ' ' || sub || ' ' || text), 1, 16))::bit(64)::bigint",
)
_LATER = (("attgenerated", "pg_attribute.attgenerated"), ("attcompression", "pg_attribute.attcompression"))
_TAKEN = ["INSERT", "UPDATE", "DELETE", "TRUNCATE", "USAGE"]
"""What the fence may revoke; USAGE of a relation is that of a sequence."""

Detail = Mapping[tuple[int, int, int], tuple[str, str]]
"""Type alias: by class, OID and column, the digest and the description of what has it."""


def total(conn: Connection, end: End, schemas: tuple[str, ...]) -> str:
    """Return one text that is the same as long as no definition changes. Raises ServerError."""
    row = _rows(conn, end, schemas, _TOTAL)[0]
    return str(row[0])


def detail(conn: Connection, end: End, schemas: tuple[str, ...]) -> Detail:
    """Return the digest of each object, with its description. Raises ServerError."""
    return {(row[0], row[1], row[2]): (row[3], row[4]) for row in _rows(conn, end, schemas, _EACH)}


def changed(before: Detail, now: Detail) -> tuple[str, ...]:
    """Return the descriptions of what is not what it was. Pure."""
    keys = [key for key in before.keys() | now.keys() if before.get(key, ("",))[0] != now.get(key, ("",))[0]]
    return tuple(sorted({(now.get(key) or before[key])[1] or before.get(key, ("", ""))[1] for key in keys}))


def _rows(conn: Connection, end: End, schemas: tuple[str, ...], query: str) -> list[tuple[Any, ...]]:
    """Execute one of the two queries."""
    version = conn.info.server_version
    columns = "".join(f", a.{name}" for name, what in _LATER if has(version, what))
    digest = _HASH if has(version, "hashtextextended") else _OLD_HASH
    text = _ROWS.format(columns=columns) + query.format(hash=digest)
    with explain_errors("reading the fingerprint of the definitions at the", end), conn.transaction():
        if has(version, "jit"):
            conn.execute("SET LOCAL jit = off")  # its compilation takes longer than the query
        return conn.execute(text, {"schemas": list(schemas), "taken": _TAKEN}).fetchall()
