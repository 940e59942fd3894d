# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections: one function that opens every session, with the same pinned settings, and the errors if it fails."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ..errors import ConnectError, EngineError, ServerError, VersionError
from ._psycopg import pq, psycopg, require_psycopg, sql
from .open_sessions import note
from .session import OFF_FOR_WALSENDERS, PINNED, later_timeouts, startup_options
from .sqlstates import policy_for

if TYPE_CHECKING:
    from psycopg import Connection as PgConnection
    from psycopg.pq.abc import PGresult

    Connection = PgConnection[tuple[Any, ...]]

End = Literal["source", "destination"]

_PATIENCE = 60.0

OLDEST = 100000
"""The first server_version_num that can be migrated: logical replication came with PostgreSQL 10."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One end of a migration, in community.postgresql's terms; ``connect_params`` are libpq's own, service included."""

    end: End
    host: str = ""
    port: int = 5432
    user: str = ""
    password: str = field(default="", repr=False)
    dbname: str = ""
    unix_socket: str = ""
    ssl_mode: str = "prefer"
    ca_cert: str = ""
    ssl_cert: str = ""
    ssl_key: str = ""
    connect_params: Mapping[str, str] = field(default_factory=dict, repr=False)
    session_role: str = ""

    def __str__(self) -> str:
        """Return what identifies it to the operator: host, port, database and user; never password or parameters."""
        place = self.unix_socket or self.host or self.connect_params.get("service", "") or "localhost"
        return f"{self.end} {place}:{self.port}/{self.dbname} as {self.user}"

    @property
    def patience(self) -> float:
        """Return the seconds for which a session may get no answer before its server is looked for: tcp_user_timeout."""
        try:
            wanted = int(self.libpq()["tcp_user_timeout"]) / 1000
        except (KeyError, ValueError):
            wanted = 0.0
        return wanted or _PATIENCE

    def libpq(self) -> dict[str, str]:
        """Return libpq's parameters, the password included; empty ones are left to a service file or default."""
        wanted = {
            "host": self.unix_socket or self.host,
            "port": str(self.port),
            "user": self.user,
            "password": self.password,
            "dbname": self.dbname,
            "sslmode": self.ssl_mode,
            "sslrootcert": self.ca_cert,
            "sslcert": self.ssl_cert,
            "sslkey": self.ssl_key,
            "connect_timeout": "10",
            "keepalives_idle": "30",
            "keepalives_interval": "10",
            "keepalives_count": "3",
            "tcp_user_timeout": "60000",  # keepalives are not sent while sent data waits for its acknowledgement
        }
        parameters = {key: value for key, value in wanted.items() if value}
        if "service" in self.connect_params and not self.host:
            parameters.pop("port", None)
        parameters.update(self.connect_params)
        return parameters


def connect(
    endpoint: Endpoint,
    purpose: str,
    *,
    autocommit: bool = True,
    replication: bool = False,
    settings: Mapping[str, str] | None = None,
    pinned: bool = True,
) -> Connection:
    """Open a session with the pinned settings.

    ``purpose`` becomes part of ``application_name``; ``replication`` opens a walsender on the database (only
    ``conn.pgconn.exec_`` and the simple protocol work there). Without ``pinned`` the session is an ordinary one, to
    see what the application gets. Raises ConnectError, which distinguishes host, TLS, authentication and database, and
    VersionError.
    """
    require_psycopg()
    wanted = {**(PINNED if pinned else {}), **(settings or {})}
    parameters = endpoint.libpq()
    given = parameters.pop("options", "")
    parameters["options"] = f"{given} {startup_options(wanted)}".strip()
    parameters["application_name"] = f"causeway {purpose}"[:63]
    if replication:
        parameters["replication"] = "database"
    try:
        conninfo = psycopg.conninfo.make_conninfo("", **parameters)
        connection = psycopg.connect(conninfo, autocommit=autocommit)
    except psycopg.Error as exc:
        raise _connect_error(endpoint, exc) from exc
    note(connection, endpoint, purpose, endpoint.patience)
    try:
        _require_version(connection, endpoint)
        _settle(connection, endpoint)
        if replication:
            _settle_walsender(connection, endpoint)
    except (psycopg.Error, EngineError) as exc:
        connection.close()
        if isinstance(exc, EngineError):
            raise
        raise server_error(exc, "preparing a session at", str(endpoint)) from exc
    return connection


def _require_version(connection: Connection, endpoint: Endpoint) -> None:
    """Raise VersionError before a first statement, since most catalogs look different on so old a server."""
    version = connection.info.server_version
    if 0 < version < OLDEST:
        shown = connection.info.parameter_status("server_version") or str(version)
        raise VersionError(
            "connecting to the",
            str(endpoint),
            f"the server's version is {shown}, and logical replication came with PostgreSQL {OLDEST // 10000}",
            f"Use a server of PostgreSQL {OLDEST // 10000} or newer: pg_upgrade, or pg_dump and pg_restore, bring an older one"
            " there.",
        )


def _settle(connection: Connection, endpoint: Endpoint) -> None:
    """Set what the startup packet cannot carry, through the simple protocol, since a walsender knows no other."""
    quoted = sql.SQL("SET {} = {}")
    todo = [
        quoted.format(sql.Identifier(n), sql.Literal(v))
        for n, v in later_timeouts(connection.info.server_version).items()
    ]
    if endpoint.session_role:
        todo.append(sql.SQL("SET ROLE {}").format(sql.Identifier(endpoint.session_role)))
    for statement in todo:
        simple_query(connection, statement.as_string(connection), "preparing a session at", str(endpoint))


def _settle_walsender(connection: Connection, endpoint: Endpoint) -> None:
    """Turn off what would change the stream, where the server has it: asked first, as others know no such setting."""
    doing, where = "preparing the replication connection to", str(endpoint)
    for name in OFF_FOR_WALSENDERS:
        asking = sql.SQL("SELECT pg_catalog.current_setting({}, true)").format(sql.Literal(name))
        value = simple_query(connection, asking.as_string(connection), doing, where)[0][0]
        if value not in (None, "", "off"):
            turned_off = sql.SQL("SET {} = off").format(sql.Identifier(name))
            simple_query(connection, turned_off.as_string(connection), doing, f"{where}, setting {name}")


def simple_query(connection: Connection, statement: str, doing: str, what: str) -> list[tuple[str | None, ...]]:
    """Run one statement through the simple query protocol, the only one that a walsender understands.

    Returns the rows as text. Raises ServerError, and ConnectError where the connection broke before it could answer.
    """
    try:
        result = connection.pgconn.exec_(statement.encode())
    except psycopg.Error as exc:
        raise server_error(exc, doing, what) from exc
    if result.status not in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK):
        raise refusal(result, doing, what)
    rows = []
    for row in range(result.ntuples):
        values = (result.get_value(row, column) for column in range(result.nfields))
        rows.append(tuple(None if value is None else value.decode() for value in values))
    return rows


_SEE_LOG = "See the server's log for the statement and its context."


def refusal(result: PGresult, doing: str, what: str) -> ServerError | ConnectError:
    """Return the error for libpq's result of a failed statement: without a SQLSTATE the connection broke."""
    state = result.error_field(pq.DiagnosticField.SQLSTATE)
    message = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or result.error_message
    sqlstate = state.decode() if state else ""
    kind = ServerError if sqlstate else ConnectError
    why = message.decode(errors="replace").strip()
    return kind(doing, what, why, policy_for(sqlstate).remedy or _SEE_LOG, sqlstate=sqlstate)


def condition_name(exc: Exception) -> str:
    """Return ``InvalidTextRepresentationError``, or psycopg's form of it, as "invalid text representation"."""
    name = type(exc).__name__.removesuffix("Error")
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name).strip()


def server_error(exc: psycopg.Error, doing: str, what: str, remedy: str = "") -> ServerError | ConnectError:
    """Return a driver's exception as ours: with its SQLSTATE and only its primary message (DETAIL may hold row values).

    The message of a data exception (class 22) quotes the value: it is replaced by the exception's name.
    """
    sqlstate = exc.sqlstate or ""
    why = exc.diag.message_primary or (str(exc).strip().splitlines() or [type(exc).__name__])[0]
    if sqlstate.startswith("22"):
        why = condition_name(exc)
    kind = ServerError if sqlstate else ConnectError
    where = ", ".join(
        f"{label} {value}"
        for label, value in (
            ("schema", exc.diag.schema_name),
            ("table", exc.diag.table_name),
            ("column", exc.diag.column_name),
            ("constraint", exc.diag.constraint_name),
        )
        if value
    )
    return kind(doing, what, why, remedy or policy_for(sqlstate).remedy or _SEE_LOG, sqlstate=sqlstate, detail=where)


@contextmanager
def explain_errors(doing: str, what: str = "", remedy: str = "") -> Iterator[None]:
    """Turn what psycopg raises inside into an EngineError that says what we were doing, and to what."""
    try:
        yield
    except psycopg.Error as exc:
        raise server_error(exc, doing, what, remedy) from exc


def walsenders_exhausted(message: str) -> bool:
    """Return whether a refusal says that all walsenders are in use; the words are PostgreSQL's and PolarDB's. Pure."""
    lower = message.lower()
    return "number of requested standby connections" in lower or "number of available wal senders" in lower


def _connect_error(endpoint: Endpoint, exc: psycopg.Error) -> ConnectError:
    """Return the error with a remedy for its kind, which is read from libpq's message (free of secrets), since most
    refusals have no SQLSTATE."""
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    said = [line for line in lines if not line.startswith(("DETAIL:", "HINT:", "CONTEXT:"))]
    why = said[-1] if said else type(exc).__name__
    lower = why.lower()
    remedy = "Check that the server runs, listens on this address and port, and that no firewall blocks it."
    if "password authentication failed" in lower or "no password supplied" in lower:
        remedy = f"Correct login_user or login_password of the {endpoint.end}."
    elif "pg_hba.conf" in lower:
        remedy = "Add a line for this user, database and address to pg_hba.conf (or the cloud's allow-list) and reload."
    elif walsenders_exhausted(lower):
        remedy = (
            "End a walsender that is not needed, or raise max_wal_senders; on PolarDB also its limit for accounts that are"
            " no superusers (polar_max_non_super_wal_snd, polar_wal_snd_reserved_for_superuser)."
        )
    elif "wal sender" in lower or "walsender" in lower:
        remedy = f'ALTER ROLE "{endpoint.user}" REPLICATION, by a superuser or the cloud\'s administrator.'
    elif "database" in lower and "does not exist" in lower:
        remedy = f"Create the database at the {endpoint.end}, or correct login_db."
    elif "ssl" in lower or "certificate" in lower:
        remedy = "Check ssl_mode, ca_cert, ssl_cert and ssl_key; they are paths on the worker host."
    elif "could not translate host name" in lower or "resolve" in lower:
        remedy = "Correct login_host: the worker host cannot resolve it."
    elif "too many" in lower or "remaining connection slots" in lower:
        remedy = "Raise max_connections, or free connections."
    return ConnectError("connecting to the", str(endpoint), why, remedy, sqlstate=exc.sqlstate or "")
