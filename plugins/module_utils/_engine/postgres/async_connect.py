# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""asyncpg sessions equal to those over libpq: same address, account, TLS and pinned settings.

libpq has already resolved service files, password files and defaults for the existing session: its result is passed
on, so that both drivers always connect to the same server in the same way.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConnectError, ServerError
from ._asyncpg import asyncpg, require_asyncpg
from ._psycopg import sql
from .connect import condition_name
from .open_sessions import note_async
from .session import later_timeouts
from .sqlstates import policy_for

if TYPE_CHECKING:
    from .connect import Connection, Endpoint

CONNECT_TIMEOUT = 30.0
_SEE_LOG = "See the server's log for the statement and its context."


def resolved(like: Connection) -> dict[str, str]:
    """Return libpq's connection parameters as it resolved them; those without a value are left out."""
    return {option.keyword.decode(): option.val.decode() for option in like.pgconn.info if option.val}


def tls_context(parameters: Mapping[str, str]) -> ssl.SSLContext:
    """Return a context by libpq's rules (PostgreSQL manual, SSL Support): a root file that exists always verifies."""
    home = Path.home() / ".postgresql"
    mode = parameters.get("sslmode", "prefer")
    root = parameters.get("sslrootcert") or str(home / "root.crt")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = mode == "verify-full"
    if root == "system":
        context.load_default_certs()
    elif Path(root).is_file():
        context.load_verify_locations(cafile=root)
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    revoked = parameters.get("sslcrl", "")
    if revoked and Path(revoked).is_file():
        context.load_verify_locations(cafile=revoked)
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
    own = parameters.get("sslcert") or str(home / "postgresql.crt")
    if Path(own).is_file():
        key = parameters.get("sslkey") or str(home / "postgresql.key")
        context.load_cert_chain(own, key, parameters.get("sslpassword"))
    return context


def arguments(like: Connection, purpose: str) -> dict[str, Any]:
    """Return the arguments of asyncpg.connect() for one more session like the given one."""
    parameters = resolved(like)
    encrypted = like.pgconn.ssl_in_use
    # The resolved address saves a lookup that may fail here; but verify-full needs the name.
    address = parameters.get("hostaddr", "") if parameters.get("sslmode") != "verify-full" else ""
    return {
        "host": address or like.info.host,
        "port": like.info.port,
        "user": like.info.user,
        "password": like.info.password or None,
        "database": like.info.dbname,
        "ssl": tls_context(parameters) if encrypted else False,
        "direct_tls": encrypted and parameters.get("sslnegotiation") == "direct",
        "target_session_attrs": "any",
        "timeout": CONNECT_TIMEOUT,
        "server_settings": {"application_name": purpose[:63], "options": parameters.get("options", "")},
    }


async def open_session(like: Connection, endpoint: Endpoint, purpose: str) -> Any:
    """Open one more session to the server of ``like``, over asyncpg. Raises DriverError, ConnectError, ServerError."""
    require_asyncpg()
    async with explain_errors("connecting to the", str(endpoint)):
        session = await asyncpg.connect(**arguments(like, f"causeway {purpose}"))
        note_async(session, endpoint, purpose, endpoint.patience)
        for name, value in later_timeouts(like.info.server_version).items():
            await session.execute(_text(sql.SQL("SET {} = {}").format(sql.Identifier(name), sql.Literal(value))))
        if endpoint.session_role:
            await session.execute(_text(sql.SQL("SET ROLE {}").format(sql.Identifier(endpoint.session_role))))
    return session


def _text(statement: sql.Composable) -> str:
    return statement.as_string(None)


@asynccontextmanager
async def explain_errors(doing: str, what: str, remedy: str = "") -> AsyncIterator[None]:
    """Turn what asyncpg raises inside into an EngineError that says what we were doing, and to what."""
    try:
        yield
    except asyncpg.PostgresError as exc:
        raise as_server_error(exc, doing, what, remedy) from exc
    except (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError) as exc:
        raise ConnectError(
            doing, what, str(exc) or type(exc).__name__, remedy or policy_for("").remedy or _SEE_LOG
        ) from exc


def as_server_error(exc: Any, doing: str, what: str, remedy: str = "") -> ServerError:
    """Return a PostgresError as ours. A data exception (class 22) is named only, since its message quotes the value."""
    sqlstate = exc.sqlstate or ""
    why = str(getattr(exc, "message", "") or type(exc).__name__)
    if sqlstate.startswith("22"):
        why = condition_name(exc)
    labels = (("schema", "schema_name"), ("table", "table_name"), ("column", "column_name"))
    found = [(label, getattr(exc, name, None)) for label, name in (*labels, ("constraint", "constraint_name"))]
    detail = ", ".join(f"{label} {value}" for label, value in found if value)
    return ServerError(
        doing, what, why, remedy or policy_for(sqlstate).remedy or _SEE_LOG, sqlstate=sqlstate, detail=detail
    )
