# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The SQL of `catalog`: read-only, set-based, every name qualified since sessions run with an empty search_path."""

from __future__ import annotations

from .versions import has

_OURS = r"""
    n.oid >= 16384 OR n.nspname = 'public'
"""

_VISIBLE = rf"""
    ({_OURS})
    AND n.nspname !~ '^pg_(temp|toast_temp|toast)' AND n.nspname <> 'information_schema' AND n.nspname <> ALL (%s)
"""
"""Schemas of the user's: created after initdb, or public; our own are passed as a parameter and left out."""

SCHEMAS = f"""
SELECT n.nspname, pg_catalog.pg_get_userbyid(n.nspowner)
  FROM pg_catalog.pg_namespace n
 WHERE {_VISIBLE}
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e WHERE e.classid = 'pg_catalog.pg_namespace'::regclass
                      AND e.objid = n.oid AND e.deptype = 'e')
 ORDER BY 1
"""

_NOT_EXTENSION = """
   NOT EXISTS (SELECT FROM pg_catalog.pg_depend e WHERE e.classid = 'pg_catalog.pg_class'::regclass
                  AND e.objid = c.oid AND e.deptype = 'e')
"""

# Sizes are the planner's: pg_table_size() opens the table, and would wait behind a session that alters it.
TABLES = f"""
SELECT c.oid::bigint, n.nspname, c.relname, c.relkind::text, c.relpersistence::text,
       pg_catalog.pg_get_userbyid(c.relowner),
       c.relreplident::text, ri.relname, c.relispartition, c.relpages, c.reltuples::float8,
       (c.relpages::bigint + coalesce(toast.relpages, 0)) * pg_catalog.current_setting('block_size')::bigint
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_index i ON i.indrelid = c.oid AND i.indisreplident
  LEFT JOIN pg_catalog.pg_class ri ON ri.oid = i.indexrelid
  LEFT JOIN pg_catalog.pg_class toast ON toast.oid = c.reltoastrelid
 WHERE c.relkind IN ('r', 'p') AND {_VISIBLE} AND {_NOT_EXTENSION}
 ORDER BY 2, 3
"""

# A type is binary-safe when it and its elements are base types, ranges or multiranges of pg_catalog that contain no OIDs
# (the reg* family and pg_node_tree, aclitem and the like do), or when it is an enum, which is sent as its label; an array
# of enums contains the OID of its elements.
BINARY_SAFE_TYPES = """
    SELECT t.oid FROM pg_catalog.pg_type t
      LEFT JOIN pg_catalog.pg_type element ON element.oid = t.typelem AND t.typlen = -1
     WHERE t.typtype = 'e'
        OR t.typtype IN ('b', 'r', 'm') AND t.oid < 16384 AND t.typnamespace = 'pg_catalog'::regnamespace
       AND t.typsend <> 0 AND coalesce(element.typtype, 'b') IN ('b', 'r', 'm')
       AND coalesce(element.typname, t.typname) !~ '^(reg[a-z]+|aclitem|pg_(node_tree|ddl_command|ndistinct|mcv_list))$'
"""

# A domain's base type is found by walking down.
_COLUMNS = f"""
WITH RECURSIVE base AS (
    SELECT t.oid AS type, t.oid AS base, -1 AS typmod FROM pg_catalog.pg_type t
    UNION ALL
    SELECT b.type, t.typbasetype, t.typtypmod
      FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.base WHERE t.typtype = 'd'
), bottom AS (
    SELECT DISTINCT ON (b.type) b.type, b.base, b.typmod FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.base
     WHERE t.typtype <> 'd'
), safe AS ({BINARY_SAFE_TYPES})
SELECT c.oid::bigint, a.attnum::int, a.attname, a.atttypid::bigint, a.atttypmod,
       pg_catalog.format_type(a.atttypid, a.atttypmod),
       bottom.base::bigint,
       pg_catalog.format_type(bottom.base, CASE WHEN bottom.base = a.atttypid THEN a.atttypmod ELSE bottom.typmod END),
       a.attnotnull, {{generated}}, a.attidentity::text, safe.oid IS NOT NULL
  FROM pg_catalog.pg_attribute a
  JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN bottom ON bottom.type = a.atttypid
  LEFT JOIN safe ON safe.oid = bottom.base
 WHERE c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped AND {_VISIBLE} AND {_NOT_EXTENSION}
 ORDER BY c.oid, a.attnum
"""


def columns(server_version: int) -> str:
    """Return the query for columns; generated ones exist from PostgreSQL 12 on."""
    generated = has(server_version, "pg_attribute.attgenerated")
    return _COLUMNS.format(generated="a.attgenerated::text" if generated else "''")


_UNIQUE_INDEXES = f"""
SELECT c.oid::bigint, ic.relname,
       (SELECT pg_catalog.array_agg(coalesce(a.attname::text, '') ORDER BY k.position)
          FROM pg_catalog.unnest(i.indkey::smallint[]) WITH ORDINALITY k(number, position)
          LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number AND k.number > 0
         WHERE k.position <= i.{{key_columns}}),
       i.indisprimary, i.indimmediate, i.indpred IS NOT NULL, i.indisvalid,
       NOT EXISTS (SELECT FROM pg_catalog.unnest(i.indkey::smallint[]) WITH ORDINALITY k(number, position)
                     LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
                    WHERE k.position <= i.{{key_columns}} AND NOT {{not_null}})
  FROM pg_catalog.pg_index i
  JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
  JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE i.indisunique AND c.relkind IN ('r', 'p') AND {_VISIBLE} AND {_NOT_EXTENSION}
 ORDER BY 1, 2
"""


def not_null(server_version: int) -> str:
    """Return the condition that a column ``a`` holds no NULL. From PostgreSQL 18 on attnotnull is set although the
    constraint is not validated; such a column may even be part of a replica identity."""
    if not has(server_version, "NOT NULL that was not validated"):
        return "coalesce(a.attnotnull, false)"
    return (
        "(coalesce(a.attnotnull, false) AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint nn"
        " WHERE nn.conrelid = a.attrelid AND nn.contype = 'n' AND nn.conkey[1] = a.attnum AND NOT nn.convalidated))"
    )


def key_columns(server_version: int) -> str:
    """Return the column of pg_index that counts the key's columns: INCLUDE, which only follows them, came with 11."""
    return "indnkeyatts" if has(server_version, "pg_index.indnkeyatts") else "indnatts"


def unique_indexes(server_version: int) -> str:
    """Return the query for unique indexes."""
    return _UNIQUE_INDEXES.format(key_columns=key_columns(server_version), not_null=not_null(server_version))


PARENTS = """
SELECT i.inhrelid::bigint, i.inhparent::bigint FROM pg_catalog.pg_inherits i
  JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid WHERE c.relkind IN ('r', 'p') ORDER BY i.inhrelid, i.inhseqno
"""

SEQUENCES = f"""
SELECT c.oid::bigint, n.nspname, c.relname, pg_catalog.pg_get_userbyid(c.relowner),
       coalesce(d.refobjid, 0)::bigint, coalesce(a.attname::text, ''), coalesce(d.deptype = 'i', false)
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid
       AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')
  LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
 WHERE c.relkind = 'S' AND {_VISIBLE} AND {_NOT_EXTENSION}
 ORDER BY 2, 3
"""

# A query of its own: in a catalog that was never analyzed a join would read pg_depend once for each sequence.
DRAWN = """
SELECT DISTINCT u.refobjid::bigint, v.adrelid::bigint
  FROM pg_catalog.pg_depend u
  JOIN pg_catalog.pg_attrdef v ON u.classid = 'pg_catalog.pg_attrdef'::regclass AND v.oid = u.objid
  JOIN pg_catalog.pg_class c ON c.oid = u.refobjid
 WHERE u.refclassid = 'pg_catalog.pg_class'::regclass AND c.relkind = 'S'
 ORDER BY 1, 2
"""
