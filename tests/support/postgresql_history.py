# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What PostgreSQL 10 has of what our SQL names, and what came with 11 to 14: written by hand, from the release notes and manuals.

No server older than 14 runs in the tests. C(test_old_servers.py) holds this against those that do: whatever is listed for 10
exists in 14 and later and is not listed as newer; whatever is listed for 11 to 14 exists in 14; what came with 15 to 18 is
seen by comparing servers. So a wrong line here can only call something older than it is, within 10 to 13.
"""

from __future__ import annotations

from collections.abc import Mapping

_FUNCTIONS = """
acldefault aclexplode age array_agg array_dims bool_and bool_or clock_timestamp concat_ws convert_to count current_database
current_setting decode encode format format_type generate_series has_any_column_privilege has_database_privilege
has_function_privilege has_schema_privilege has_sequence_privilege has_table_privilege jsonb_agg jsonb_build_array
jsonb_build_object
jsonb_each_text jsonb_set left length lo_close lo_from_bytea lo_get lo_lseek64 lo_open lo_put lo_unlink
make_interval max md5 min now obj_description pg_advisory_lock pg_advisory_lock_shared pg_advisory_unlock
pg_advisory_xact_lock pg_backend_pid pg_blocking_pids pg_cancel_backend pg_collation_actual_version
pg_control_checkpoint pg_control_system pg_current_wal_flush_lsn pg_current_wal_insert_lsn pg_current_wal_lsn pg_describe_object
pg_drop_replication_slot pg_encoding_to_char pg_export_snapshot pg_get_constraintdef pg_get_userbyid
pg_get_viewdef pg_has_role pg_identify_object pg_is_in_recovery pg_logical_emit_message pg_ls_waldir
pg_my_temp_schema pg_notify pg_postmaster_start_time pg_relation_size pg_reload_conf pg_stat_get_last_analyze_time
pg_stat_get_last_autoanalyze_time pg_terminate_backend pg_try_advisory_lock pg_try_advisory_lock_shared
pg_try_advisory_xact_lock pg_wal_lsn_diff point quote_ident round row_number set_config setval shobj_description
split_part string_agg strpos substr sum to_jsonb to_regclass txid_current txid_current_snapshot unnest version
"""
FUNCTIONS: frozenset[str] = frozenset(_FUNCTIONS.split())

_CATALOGS: Mapping[str, str] = {
    "pg_am": "oid amname amhandler amtype",
    "pg_amop": ("oid amopfamily amoplefttype amoprighttype amopstrategy amoppurpose amopopr amopmethod amopsortfamily"),
    "pg_amproc": "oid amprocfamily amproclefttype amprocrighttype amprocnum amproc",
    "pg_attrdef": "oid adrelid adnum adbin",
    "pg_attribute": (
        "attrelid attname atttypid attstattarget attlen attnum attndims attcacheoff atttypmod attbyval "
        "attalign attstorage attnotnull atthasdef attidentity attisdropped attislocal attinhcount "
        "attcollation attacl attoptions attfdwoptions"
    ),
    "pg_auth_members": "roleid member grantor admin_option",
    "pg_available_extension_versions": "name version installed superuser relocatable schema requires comment",
    "pg_available_extensions": "name default_version installed_version comment",
    "pg_cast": "oid castsource casttarget castfunc castcontext castmethod",
    "pg_class": (
        "oid relname relnamespace reltype reloftype relowner relam relfilenode reltablespace relpages "
        "reltuples relallvisible reltoastrelid relhasindex relisshared relpersistence relkind relnatts "
        "relchecks relhasrules relhastriggers relhassubclass relrowsecurity relforcerowsecurity "
        "relispopulated relreplident relispartition relfrozenxid relminmxid relacl reloptions relpartbound"
    ),
    "pg_collation": "oid collname collnamespace collowner collprovider collencoding collcollate collctype collversion",
    "pg_constraint": (
        "oid conname connamespace contype condeferrable condeferred convalidated conrelid contypid conindid "
        "confrelid confupdtype confdeltype confmatchtype conislocal coninhcount connoinherit conkey confkey "
        "conpfeqop conppeqop conffeqop conexclop conbin"
    ),
    "pg_conversion": "oid conname connamespace conowner conforencoding contoencoding conproc condefault",
    "pg_database": (
        "oid datname datdba encoding datcollate datctype datistemplate datallowconn datconnlimit datfrozenxid "
        "datminmxid dattablespace datacl"
    ),
    "pg_db_role_setting": "setdatabase setrole setconfig",
    "pg_default_acl": "oid defaclrole defaclnamespace defaclobjtype defaclacl",
    "pg_depend": "classid objid objsubid refclassid refobjid refobjsubid deptype",
    "pg_description": "objoid classoid objsubid description",
    "pg_enum": "oid enumtypid enumsortorder enumlabel",
    "pg_event_trigger": "oid evtname evtevent evtowner evtfoid evtenabled evttags",
    "pg_extension": "oid extname extowner extnamespace extrelocatable extversion extconfig extcondition",
    "pg_foreign_data_wrapper": "oid fdwname fdwowner fdwhandler fdwvalidator fdwacl fdwoptions",
    "pg_foreign_server": "oid srvname srvowner srvfdw srvtype srvversion srvacl srvoptions",
    "pg_index": (
        "indexrelid indrelid indnatts indisunique indisprimary indisexclusion indimmediate indisclustered "
        "indisvalid indcheckxmin indisready indislive indisreplident indkey indcollation indclass indoption "
        "indexprs indpred"
    ),
    "pg_inherits": "inhrelid inhparent inhseqno",
    "pg_language": "oid lanname lanowner lanispl lanpltrusted lanplcallfoid laninline lanvalidator lanacl",
    "pg_largeobject": "loid pageno data",
    "pg_largeobject_metadata": "oid lomowner lomacl",
    "pg_locks": (
        "locktype database relation page tuple virtualxid transactionid classid objid objsubid "
        "virtualtransaction pid mode granted fastpath"
    ),
    "pg_namespace": "oid nspname nspowner nspacl",
    "pg_opclass": "oid opcmethod opcname opcnamespace opcowner opcfamily opcintype opcdefault opckeytype",
    "pg_operator": (
        "oid oprname oprnamespace oprowner oprkind oprcanmerge oprcanhash oprleft oprright oprresult oprcom "
        "oprnegate oprcode oprrest oprjoin"
    ),
    "pg_opfamily": "oid opfmethod opfname opfnamespace opfowner",
    "pg_policy": "oid polname polrelid polcmd polpermissive polroles polqual polwithcheck",
    "pg_prepared_xacts": "transaction gid prepared owner database",
    "pg_proc": (
        "oid proname pronamespace proowner prolang procost prorows provariadic prosecdef proleakproof "
        "proisstrict proretset provolatile proparallel pronargs pronargdefaults prorettype proargtypes "
        "proallargtypes proargmodes proargnames proargdefaults protrftypes prosrc probin proconfig proacl"
    ),
    "pg_publication": "oid pubname pubowner puballtables pubinsert pubupdate pubdelete",
    "pg_publication_rel": "oid prpubid prrelid",
    "pg_range": "rngtypid rngsubtype rngcollation rngsubopc rngcanonical rngsubdiff",
    "pg_replication_slots": (
        "slot_name plugin slot_type datoid database temporary active active_pid xmin catalog_xmin restart_lsn "
        "confirmed_flush_lsn"
    ),
    "pg_rewrite": "oid rulename ev_class ev_type ev_enabled is_instead ev_qual ev_action",
    "pg_roles": (
        "rolname rolsuper rolinherit rolcreaterole rolcreatedb rolcanlogin rolreplication rolconnlimit "
        "rolpassword rolvaliduntil rolbypassrls rolconfig oid"
    ),
    "pg_seclabel": "objoid classoid objsubid provider label",
    "pg_sequence": "seqrelid seqtypid seqstart seqincrement seqmax seqmin seqcache seqcycle",
    "pg_settings": (
        "name setting unit category short_desc extra_desc context vartype source min_val max_val enumvals "
        "boot_val reset_val sourcefile sourceline pending_restart"
    ),
    "pg_stat_activity": (
        "datid datname pid usesysid usename application_name client_addr client_hostname client_port "
        "backend_start xact_start query_start state_change wait_event_type wait_event state backend_xid "
        "backend_xmin query backend_type"
    ),
    "pg_stat_all_tables": (
        "relid schemaname relname seq_scan seq_tup_read idx_scan idx_tup_fetch n_tup_ins n_tup_upd n_tup_del "
        "n_tup_hot_upd n_live_tup n_dead_tup n_mod_since_analyze last_vacuum last_autovacuum last_analyze "
        "last_autoanalyze vacuum_count autovacuum_count analyze_count autoanalyze_count"
    ),
    "pg_stat_database": (
        "datid datname numbackends xact_commit xact_rollback blks_read blks_hit tup_returned tup_fetched "
        "tup_inserted tup_updated tup_deleted conflicts temp_files temp_bytes deadlocks blk_read_time "
        "blk_write_time stats_reset"
    ),
    "pg_stat_replication": (
        "pid usesysid usename application_name client_addr client_hostname client_port backend_start "
        "backend_xmin state sent_lsn write_lsn flush_lsn replay_lsn write_lag flush_lag replay_lag "
        "sync_priority sync_state"
    ),
    "pg_statistic_ext": "oid stxrelid stxname stxnamespace stxowner stxkeys stxkind",
    "pg_stats": (
        "schemaname tablename attname inherited null_frac avg_width n_distinct most_common_vals "
        "most_common_freqs histogram_bounds correlation"
    ),
    "pg_subscription": (
        "oid subdbid subname subowner subenabled subconninfo subslotname subsynccommit subpublications"
    ),
    "pg_transform": "oid trftype trflang trffromsql trftosql",
    "pg_trigger": (
        "oid tgrelid tgname tgfoid tgtype tgenabled tgisinternal tgconstrrelid tgconstrindid tgconstraint "
        "tgdeferrable tginitdeferred tgnargs tgattr tgargs tgqual tgoldtable tgnewtable"
    ),
    "pg_ts_config": "oid cfgname cfgnamespace cfgowner cfgparser",
    "pg_ts_config_map": "mapcfg maptokentype mapseqno mapdict",
    "pg_ts_dict": "oid dictname dictnamespace dictowner dicttemplate dictinitoption",
    "pg_ts_parser": "oid prsname prsnamespace prsstart prstoken prsend prsheadline prslextype",
    "pg_ts_template": "oid tmplname tmplnamespace tmplinit tmpllexize",
    "pg_type": (
        "oid typname typnamespace typowner typlen typbyval typtype typcategory typispreferred typisdefined "
        "typdelim typrelid typelem typarray typinput typoutput typreceive typsend typmodin typmodout "
        "typanalyze typalign typstorage typnotnull typbasetype typtypmod typndims typcollation typdefaultbin "
        "typdefault typacl"
    ),
    "pg_user_mappings": "umid srvid srvname umuser usename umoptions",
}

CATALOGS: Mapping[str, frozenset[str]] = {
    relation: frozenset(columns.split()) for relation, columns in _CATALOGS.items()
}

_SETTINGS = """
synchronous_standby_names DateStyle IntervalStyle TimeZone array_nulls block_size bytea_output check_function_bodies client_encoding
client_min_messages default_transaction_deferrable default_transaction_isolation default_transaction_read_only
enable_hashjoin enable_mergejoin enable_seqscan extra_float_digits idle_in_transaction_session_timeout
is_superuser lc_monetary lo_compat_privileges lock_timeout maintenance_work_mem max_connections quote_all_identifiers
max_locks_per_transaction max_replication_slots max_wal_senders random_page_cost row_security search_path
server_version server_version_num session_replication_role standard_conforming_strings statement_timeout
superuser_reserved_connections synchronous_commit tcp_keepalives_count tcp_keepalives_idle tcp_keepalives_interval
temp_buffers timezone_abbreviations transaction_read_only wal_level wal_sender_timeout xmloption
"""
SETTINGS: frozenset[str] = frozenset(_SETTINGS.split())

_NEWER_FUNCTIONS: Mapping[int, str] = {
    110000: (
        "hashtextextended pg_replication_slot_advance sha224 sha256 sha384 sha512 starts_with "
        "websearch_to_tsquery pg_jit_available satisfies_hash_partition json_to_tsvector jsonb_to_tsvector "
        "hash_array_extended hashint4extended hashint8extended"
    ),
    120000: (
        "acosh asinh atanh cosh sinh tanh jsonb_path_exists jsonb_path_match jsonb_path_query "
        "jsonb_path_query_array jsonb_path_query_first pg_copy_logical_replication_slot "
        "pg_copy_physical_replication_slot pg_ls_archive_statusdir pg_ls_tmpdir pg_partition_ancestors "
        "pg_partition_root pg_partition_tree pg_promote pg_mcv_list_items pg_stat_get_db_checksum_failures"
    ),
    130000: (
        "gcd gen_random_uuid is_normalized jsonb_path_exists_tz jsonb_path_query_tz jsonb_set_lax lcm "
        "min_scale normalize pg_current_snapshot pg_current_xact_id pg_current_xact_id_if_assigned "
        "pg_get_shmem_allocations pg_snapshot_xip pg_snapshot_xmax pg_snapshot_xmin pg_stat_get_slru "
        "pg_stat_reset_slru pg_visible_in_snapshot pg_xact_status to_regcollation trim_scale"
    ),
    140000: (
        "bit_count bit_xor date_bin hash_record hash_record_extended pg_column_compression "
        "pg_get_backend_memory_contexts pg_get_wal_replay_pause_state pg_log_backend_memory_contexts "
        "pg_stat_get_replication_slot pg_stat_get_wal pg_stat_reset_replication_slot "
        "pg_xact_commit_timestamp_origin range_agg range_intersect_agg multirange trim_array string_to_table "
        "unistr"
    ),
}
_NEWER_RELATIONS: Mapping[int, str] = {
    120000: (
        "pg_stat_gssapi pg_stat_progress_cluster pg_stat_progress_create_index pg_statistic_ext_data pg_stats_ext"
    ),
    130000: ("pg_shmem_allocations pg_stat_progress_analyze pg_stat_progress_basebackup pg_stat_slru"),
    140000: (
        "pg_backend_memory_contexts pg_stat_progress_copy pg_stat_replication_slots pg_stat_wal pg_stats_ext_exprs"
    ),
}
_NEWER_COLUMNS: Mapping[int, str] = {
    110000: (
        "pg_attribute.atthasmissing pg_attribute.attmissingval pg_class.relrewrite pg_constraint.conparentid "
        "pg_index.indnkeyatts pg_partitioned_table.partdefid pg_proc.prokind pg_publication.pubtruncate "
        "pg_aggregate.aggfinalmodify pg_aggregate.aggmfinalmodify"
    ),
    120000: (
        "pg_attribute.attgenerated pg_collation.collisdeterministic pg_proc.prosupport "
        "pg_stat_database.checksum_failures pg_stat_database.checksum_last_failure "
        "pg_stat_replication.reply_time pg_stat_ssl.client_serial pg_stat_ssl.issuer_dn"
    ),
    130000: (
        "pg_available_extension_versions.trusted pg_publication.pubviaroot pg_replication_slots.safe_wal_size "
        "pg_replication_slots.wal_status pg_stat_activity.leader_pid pg_stat_all_tables.n_ins_since_vacuum "
        "pg_statistic_ext.stxstattarget pg_trigger.tgparentid"
    ),
    140000: (
        "pg_attribute.attcompression pg_inherits.inhdetachpending pg_locks.waitstart pg_proc.prosqlbody "
        "pg_range.rngmultitypid pg_replication_slots.two_phase pg_stat_activity.query_id "
        "pg_stat_database.active_time pg_stat_database.idle_in_transaction_time pg_stat_database.session_time "
        "pg_stat_database.sessions pg_stat_database.sessions_abandoned pg_stat_database.sessions_fatal "
        "pg_stat_database.sessions_killed pg_statistic_ext.stxexprs pg_subscription.subbinary "
        "pg_subscription.substream pg_type.typsubscript"
    ),
}
_NEWER_SETTINGS: Mapping[int, str] = {
    110000: (
        "enable_parallel_append enable_parallel_hash enable_partition_pruning enable_partitionwise_aggregate "
        "enable_partitionwise_join jit jit_above_cost max_parallel_maintenance_workers "
        "parallel_leader_participation ssl_passphrase_command"
    ),
    120000: (
        "default_table_access_method log_transaction_sample_rate plan_cache_mode primary_conninfo "
        "primary_slot_name promote_trigger_file recovery_target_lsn restore_command shared_memory_type "
        "ssl_max_protocol_version ssl_min_protocol_version tcp_user_timeout wal_init_zero wal_recycle"
    ),
    130000: (
        "autovacuum_vacuum_insert_threshold backtrace_functions enable_incremental_sort hash_mem_multiplier "
        "ignore_invalid_pages log_min_duration_sample log_parameter_max_length logical_decoding_work_mem "
        "maintenance_io_concurrency max_slot_wal_keep_size wal_keep_size wal_receiver_create_temp_slot "
        "wal_skip_threshold"
    ),
    140000: (
        "client_connection_check_interval compute_query_id default_toast_compression enable_async_append "
        "enable_memoize huge_page_size idle_session_timeout in_hot_standby log_recovery_conflict_waits "
        "min_dynamic_shared_memory recovery_init_sync_method remove_temp_files_after_crash "
        "track_wal_io_timing vacuum_failsafe_age vacuum_multixact_failsafe_age"
    ),
}


def _since(listed: Mapping[int, str]) -> dict[str, int]:
    return {name: version for version, names in listed.items() for name in names.split()}


NEWER_FUNCTIONS = _since(_NEWER_FUNCTIONS)
NEWER_RELATIONS = _since(_NEWER_RELATIONS)
NEWER_COLUMNS = _since(_NEWER_COLUMNS)
NEWER_SETTINGS = _since(_NEWER_SETTINGS)
NEWER = {**NEWER_FUNCTIONS, **NEWER_RELATIONS, **NEWER_COLUMNS, **NEWER_SETTINGS}
"""Name (columns as C(relation.column)): the server version that it came with."""
