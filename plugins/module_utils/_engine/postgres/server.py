# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server as it describes itself: product, versions, identity, settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..errors import ConnectError, MismatchError
from ._psycopg import psycopg
from .connect import explain_errors, simple_query
from .lsn import Lsn, parse_lsn
from .versions import SINCE

if TYPE_CHECKING:
    from .connect import Connection, End, Endpoint


@dataclass(frozen=True, slots=True)
class Locale:
    """What a database sorts by besides LC_COLLATE and LC_CTYPE: ``provider`` is libc, icu or builtin; ``name``, ``rules``
    and the collation's ``version`` are empty where there are none, all of it before PostgreSQL 15."""

    provider: str = "libc"
    name: str = ""
    rules: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class Server:
    """One server as one session saw it.

    ``version`` is server_version_num (170011). ``system_identifier`` is empty where the account may not read it.
    ``settings`` holds what pg_settings shows, and those of HIDDEN_SETTINGS that the server has, by name.
    """

    end: End
    product: str
    product_version: str
    version: int
    version_text: str
    database: str
    database_oid: int
    user: str
    system_identifier: str
    in_recovery: bool
    started_at: str
    encoding: str
    collate: str
    ctype: str
    locale: Locale = field(default_factory=Locale)
    settings: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def major(self) -> int:
        """Return the major version: 17 for 17.11."""
        return self.version // 10000

    def setting(self, name: str, default: str = "") -> str:
        """Return a setting, or ``default`` where this server has none of that name."""
        return self.settings.get(name, default)


_IDENTITY = """
SELECT coalesce(pg_catalog.current_setting('polardb_version', true),
                pg_catalog.current_setting('polar_version', true), ''),
       pg_catalog.version(),
       pg_catalog.current_setting('server_version_num')::int,
       pg_catalog.current_setting('server_version'),
       d.datname, d.oid::bigint, current_user::text,
       pg_catalog.pg_is_in_recovery(),
       pg_catalog.pg_postmaster_start_time()::text,
       pg_catalog.pg_encoding_to_char(d.encoding), d.datcollate, d.datctype, pg_catalog.to_jsonb(d)
  FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()
"""


HIDDEN_SETTINGS = (
    "pg_failover_slots.version",
    "polar_enable_persisted_logical_slot",
    "polar_enable_shared_storage_mode",
    "polar_failover_slot_mode",
    "polar_max_non_super_wal_snd",
    "polar_repl_slots_reserved_for_superuser",
    "polar_wal_snd_reserved_for_superuser",
    "rds_failover_slot_mode",
)
"""Settings that are asked for by name: PolarDB leaves many of its own out of pg_settings, and shows them then."""

_BY_NAME = "SELECT name, pg_catalog.current_setting(name, true) FROM pg_catalog.unnest(%s::text[]) name"


def _hidden_settings(conn: Connection, names: Sequence[str]) -> dict[str, str]:
    """Return those of ``names`` that the server has and shows to the account: one that it hides would refuse them all."""
    try:
        with conn.transaction():
            rows = conn.execute(_BY_NAME, (list(names),)).fetchall()
    except psycopg.errors.InsufficientPrivilege:
        if len(names) == 1:
            return {}
        return {known: value for name in names for known, value in _hidden_settings(conn, (name,)).items()}
    return {name: value for name, value in rows if value is not None}


def observe_server(conn: Connection, end: End) -> Server:
    """Ask one session's server what it is. Raises ServerError."""
    with explain_errors("identifying the server at the", end):
        row = conn.execute(_IDENTITY).fetchone()
        settings: dict[str, str] = dict(conn.execute("SELECT name, setting FROM pg_catalog.pg_settings").fetchall())
        settings.update(_hidden_settings(conn, HIDDEN_SETTINGS))
    if row is None:  # current_database() always has its row; a proxy that rewrites statements may not
        raise MismatchError("identifying the server at the", end, "no answer", "Name the primary, not a proxy.")
    polar, version_text, version, short, database, oid, user, recovery, started, encoding, collate, ctype, known = row
    is_polar = bool(polar) or "(polardb " in version_text.lower()
    return Server(
        end=end,
        product="PolarDB" if is_polar else "PostgreSQL",
        product_version=polar or short,
        version=version,
        version_text=version_text,
        database=database,
        database_oid=oid,
        user=user,
        system_identifier=_system_identifier(conn),
        in_recovery=recovery,
        started_at=started,
        encoding=encoding,
        collate=collate,
        ctype=ctype,
        locale=_locale(known),
        settings=settings,
    )


_PROVIDERS = {"i": "icu", "b": "builtin"}


def _locale(row: Mapping[str, str | None]) -> Locale:
    """Return the locale of a row of pg_database, whose columns are named otherwise from version to version."""
    return Locale(
        provider=_PROVIDERS.get(str(row.get("datlocprovider")), "libc"),
        name=row.get("datlocale") or row.get("daticulocale") or "",
        rules=row.get("daticurules") or "",
        version=row.get("datcollversion") or "",
    )


def create_database_statement(server: Server, name: str, version: int | None = None) -> str:
    """Return CREATE DATABASE, for the operator, for a database that encodes and sorts as this one does.

    ``version`` is that of the server that is to run it, where it is known, and has the locale (`lacking_locale`). The
    version of the collation is the library's, so that it is said and not set.
    """
    locale = server.locale
    since = _locale_since(locale)
    parts = [f"CREATE DATABASE {_name(name)} TEMPLATE template0 ENCODING {_text(server.encoding)}"]
    newer = (version or server.version) >= since
    if newer:
        parts.append(f"LOCALE_PROVIDER {locale.provider}")
    if locale.provider == "icu":
        parts.append(f"ICU_LOCALE {_text(locale.name)}")
        parts += [f"ICU_RULES {_text(locale.rules)}"] if locale.rules else []
    elif locale.provider == "builtin":
        parts.append(f"BUILTIN_LOCALE {_text(locale.name)}")
    parts.append(f"LC_COLLATE {_text(server.collate)} LC_CTYPE {_text(server.ctype)};")
    if locale.version:
        parts.append(f"-- collation version {locale.version} at the source")
    if version is None:
        parts.append(_other_versions(locale.provider, since, newer))
    return " ".join(parts)


def _locale_since(locale: Locale) -> int:
    """Return the version that LOCALE_PROVIDER, and what this locale says behind it, came with."""
    if locale.provider == "builtin":
        later = locale.name == "PG_UNICODE_FAST"
        return SINCE["locale PG_UNICODE_FAST" if later else "locale provider builtin of a database"]
    return SINCE["ICU rules of a database" if locale.rules else "locale provider of a database"]


def lacking_locale(server: Server, version: int) -> str:
    """Return which PostgreSQL has the locale of this database, where one of ``version`` lacks it; else an empty text."""
    locale = server.locale
    since = _locale_since(locale)
    if locale.provider == "libc" or version >= since:
        return ""
    rules = ", with rules" if locale.rules else ""
    return f"PostgreSQL {since // 10000} or newer, which has the locale {locale.name} of the provider {locale.provider}{rules}"


def _other_versions(provider: str, since: int, newer: bool) -> str:
    """Return what is to be changed where another version runs the statement, or that none can."""
    if not newer:
        return f"-- from PostgreSQL {since // 10000} on with LOCALE_PROVIDER libc"
    if provider == "libc":
        return f"-- before PostgreSQL {since // 10000} without LOCALE_PROVIDER libc"
    return f"-- PostgreSQL {since // 10000} or newer has this locale"


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _system_identifier(conn: Connection) -> str:
    """Return the system identifier; empty where a cloud has revoked pg_control_system(), open to PUBLIC by default."""
    allowed = conn.execute(
        "SELECT pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')"
    ).fetchone()
    if not allowed or not allowed[0]:
        return ""
    row = conn.execute("SELECT system_identifier::text FROM pg_catalog.pg_control_system()").fetchone()
    return str(row[0]) if row else ""


@dataclass(frozen=True, slots=True)
class System:
    """The answer to IDENTIFY_SYSTEM: which cluster, on which timeline, how far its WAL is flushed."""

    identifier: str
    timeline: int
    flushed: Lsn


def identify_system(walsender: Connection, endpoint: Endpoint) -> System:
    """Run IDENTIFY_SYSTEM on a walsender (PostgreSQL manual, Streaming Replication Protocol). Raises ServerError."""
    rows = simple_query(walsender, "IDENTIFY_SYSTEM", "identifying the system of the", str(endpoint))
    identifier, timeline, position = rows[0][0] or "", rows[0][1] or "0", rows[0][2] or "0/0"
    return System(identifier, int(timeline), parse_lsn(position))


def require_primary(source: Connection) -> None:
    """Raise ConnectError, which is tried again, while the server that answers is a standby.

    Behind one that lags, or is about to be promoted, nothing can be said yet of what was lost.
    """
    with explain_errors("asking for the role of the", "source"):
        row = source.execute("SELECT pg_catalog.pg_is_in_recovery()").fetchone()
    if row is None or row[0]:
        raise ConnectError(
            "taking up the stream of the",
            "source",
            "the server is in recovery: a standby, or one that is not promoted yet",
            "Promote it, or name the primary; the worker goes on by itself then.",
        )
