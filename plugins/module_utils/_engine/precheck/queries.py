# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The SQL of `observe`: read-only, and allowed to an account without special rights as far as the server permits."""

from __future__ import annotations

SLOTS = """
SELECT slot_name::text, coalesce(plugin::text, ''), coalesce(database::text, ''), active, temporary,
       extract(epoch FROM pg_catalog.clock_timestamp()
                          - (pg_catalog.to_jsonb(s) ->> 'inactive_since')::timestamptz)::float8
  FROM pg_catalog.pg_replication_slots s ORDER BY 1
"""

# All walsenders, and those of accounts that are no superusers.
WALSENDERS = """
SELECT pg_catalog.count(*)::int, (pg_catalog.count(*) FILTER (WHERE NOT u.rolsuper))::int
  FROM pg_catalog.pg_stat_replication r LEFT JOIN pg_catalog.pg_roles u ON u.oid = r.usesysid
"""

# -1 where the account may not see who is synchronous: that takes pg_read_all_stats.
SYNCHRONOUS_STANDBYS = """
SELECT CASE WHEN coalesce(pg_catalog.bool_or(sync_state IS NULL), false) THEN -1
            ELSE pg_catalog.count(*) FILTER (WHERE sync_state IN ('sync', 'quorum')) END::int
  FROM pg_catalog.pg_stat_replication
"""

# Roles that are an account or may become it, and have sessions in this database that are not ours. Superusers lose nothing.
FELLOWS = """
SELECT a.usename::text, pg_catalog.count(*)::int,
       coalesce(pg_catalog.array_agg(DISTINCT a.application_name::text)
                FILTER (WHERE a.application_name <> ''), '{}')
  FROM pg_catalog.pg_stat_activity a
  JOIN pg_catalog.pg_roles r ON r.oid = a.usesysid
  JOIN pg_catalog.pg_roles account ON account.rolname = %s
 WHERE pg_catalog.pg_has_role(r.oid, account.oid, 'MEMBER') AND NOT r.rolsuper AND a.pid <> pg_catalog.pg_backend_pid()
   AND coalesce(a.application_name, '') NOT LIKE 'causeway %%' AND a.datname = pg_catalog.current_database()
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_replication w WHERE w.pid = a.pid)
 GROUP BY 1 ORDER BY 1
"""

STANDBYS = """
SELECT coalesce(nullif(r.application_name, ''), r.client_addr::text, 'a standby')
  FROM pg_catalog.pg_stat_replication r
 WHERE r.state = 'streaming'
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_replication_slots s
                    WHERE s.active_pid = r.pid AND s.slot_type = 'logical')
 ORDER BY 1
"""

PREPARED = """
SELECT 0, gid, owner::text, database::text, '', prepared::text,
       extract(epoch FROM pg_catalog.clock_timestamp() - prepared)::float8
  FROM pg_catalog.pg_prepared_xacts ORDER BY prepared
"""

# Our own copy is a long transaction too, and never a finding. A slot waits for transactions of every database.
LONG_TRANSACTIONS = """
SELECT pid, '', coalesce(usename::text, ''), coalesce(datname::text, ''), coalesce(application_name, ''),
       coalesce(query_start::text, ''),
       extract(epoch FROM pg_catalog.clock_timestamp() - xact_start)::float8
  FROM pg_catalog.pg_stat_activity
 WHERE xact_start < pg_catalog.clock_timestamp() - interval '10 minutes' AND pid <> pg_catalog.pg_backend_pid()
   AND coalesce(backend_type, '') = 'client backend' AND coalesce(application_name, '') NOT LIKE 'causeway %%'
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_replication r WHERE r.pid = pg_stat_activity.pid)
 ORDER BY xact_start
"""

PUBLICATIONS = """
SELECT pubname::text, puballtables, coalesce(pg_catalog.obj_description(oid, 'pg_publication'), '')
  FROM pg_catalog.pg_publication ORDER BY 1
"""

# Leftovers of the reference tool, and a publication of our own name.
LEFTOVERS = r"""
SELECT 'publication', pubname::text FROM pg_catalog.pg_publication WHERE pubname LIKE 'dts\_%%' OR pubname = %s
UNION ALL
SELECT 'event trigger', evtname::text FROM pg_catalog.pg_event_trigger WHERE evtname LIKE 'dts\_%%'
UNION ALL
SELECT 'table', pg_catalog.format('%%I.%%I', n.nspname, c.relname)
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relname = 'dts_ddl_command' AND c.relkind = 'r'
 ORDER BY 1, 2
"""

EXTENSIONS = """
SELECT e.extname::text, e.extversion, n.nspname::text
  FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace ORDER BY 1
"""

STALE_COLLATIONS = """
SELECT pg_catalog.format('%I.%I (%s, now %s)', n.nspname, c.collname, c.collversion,
                         pg_catalog.pg_collation_actual_version(c.oid))
  FROM pg_catalog.pg_collation c JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace
 WHERE c.collversion IS NOT NULL AND c.collversion <> pg_catalog.pg_collation_actual_version(c.oid)
   AND c.collencoding IN (-1, (SELECT encoding FROM pg_catalog.pg_database
                                WHERE datname = pg_catalog.current_database()))
 ORDER BY 1 LIMIT 20
"""

STALE_DATABASE_COLLATION = """
SELECT pg_catalog.format('database %I (%s, now %s)', datname, datcollversion,
                         pg_catalog.pg_database_collation_actual_version(oid))
  FROM pg_catalog.pg_database
 WHERE datname = pg_catalog.current_database()
   AND datcollversion <> pg_catalog.pg_database_collation_actual_version(oid)
"""
"""From PostgreSQL 15 on."""

# Sessions of all databases; a limit of the role or the database, where there is one, counts only its own.
SESSIONS = """
SELECT least(
         pg_catalog.current_setting('max_connections')::int
           - pg_catalog.current_setting('superuser_reserved_connections')::int
           - coalesce(nullif(pg_catalog.current_setting('reserved_connections', true), ''), '0')::int
           - (SELECT sum(numbackends) FROM pg_catalog.pg_stat_database),
         (SELECT d.datconnlimit - s.numbackends FROM pg_catalog.pg_database d
            JOIN pg_catalog.pg_stat_database s ON s.datid = d.oid
           WHERE d.datname = pg_catalog.current_database() AND d.datconnlimit >= 0),
         (SELECT r.rolconnlimit - (SELECT count(*) FROM pg_catalog.pg_stat_activity a WHERE a.usename = r.rolname)
            FROM pg_catalog.pg_roles r WHERE r.rolname = session_user AND r.rolconnlimit >= 0))::int,
       (SELECT sum(numbackends) FROM pg_catalog.pg_stat_database)::int
"""

WAL_RATE = """
SELECT (wal_bytes / extract(epoch FROM pg_catalog.clock_timestamp() - stats_reset))::float8
  FROM pg_catalog.pg_stat_wal WHERE stats_reset < pg_catalog.clock_timestamp() - interval '1 minute'
"""
"""From PostgreSQL 14 on; statistics younger than a minute say nothing."""

ACCOUNT = "SELECT rolreplication OR rolsuper, rolsuper FROM pg_catalog.pg_roles WHERE rolname = session_user"
"""May the account that logs in, and so the walsender, replicate; and is it a superuser."""

CLOSED_SCHEMAS = """
SELECT nspname::text FROM pg_catalog.pg_namespace
 WHERE nspname = ANY (%s) AND NOT pg_catalog.has_schema_privilege(oid, %s) ORDER BY 1
"""

LARGE_OBJECTS = "SELECT count(*) FROM pg_catalog.pg_largeobject_metadata"

WITHOUT_PRIVILEGE = """
SELECT n.nspname::text, c.relname::text
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.oid::bigint = ANY (%s)
   AND EXISTS (SELECT FROM pg_catalog.unnest(%s::text[]) wanted WHERE NOT pg_catalog.has_table_privilege(c.oid, wanted))
 ORDER BY 1, 2
"""

# From a sequence that only a superuser may draw from, the fence takes nothing.
FOREIGN_OWNERS = """
SELECT pg_catalog.pg_get_userbyid(c.relowner)::text, pg_catalog.count(*)::int
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_roles r ON r.oid = c.relowner
 WHERE c.oid::bigint = ANY (%s) AND NOT pg_catalog.pg_has_role(c.relowner, 'USAGE')
   AND NOT (c.relkind = 'S' AND c.relacl IS NULL AND r.rolsuper)
 GROUP BY 1 ORDER BY 1
"""

# Owners that may not write to what is theirs. A superuser may, whatever was revoked.
FENCED = """
SELECT pg_catalog.pg_get_userbyid(c.relowner)::text, CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
       pg_catalog.array_agg(pg_catalog.format('%%I.%%I', n.nspname, c.relname) ORDER BY n.nspname, c.relname)
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.oid::bigint = ANY (%s)
   AND NOT CASE c.relkind WHEN 'S' THEN pg_catalog.has_sequence_privilege(c.relowner, c.oid, 'USAGE, UPDATE')
                          ELSE pg_catalog.has_table_privilege(c.relowner, c.oid, 'INSERT') END
 GROUP BY 1, 2 ORDER BY 1, 2 DESC
"""

DATABASE_PRIVILEGES = """
SELECT pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE'),
       pg_catalog.has_database_privilege(pg_catalog.current_database(), 'TEMP')
"""

CLOCK = "SELECT extract(epoch FROM pg_catalog.clock_timestamp())::float8"

ORDINARY = """
SELECT name, setting FROM pg_catalog.pg_settings
 WHERE name IN ('TimeZone', 'timezone_abbreviations', 'lc_monetary', 'default_transaction_read_only',
                'idle_in_transaction_session_timeout', 'session_replication_role', 'statement_timeout')
"""
