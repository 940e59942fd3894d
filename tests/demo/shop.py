# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo's database: the roles at both ends, the filled C(shop) at the source, an empty one at the destination."""

from __future__ import annotations

import pathlib
import secrets
from collections.abc import Sequence

from .psql import Psql, PsqlError, literal

DBNAME = "shop"
MOVER = "mover"
# What the application logs in as: by grants to the role itself, by membership, as the owner of the tables.
APPLICATION = ("shop_app", "shop_clerk", "shop_owner")
ROLES = """
CREATE ROLE shop_owner LOGIN PASSWORD {shop_owner};
CREATE ROLE shop_app LOGIN PASSWORD {shop_app};
CREATE ROLE shop_writers NOLOGIN;
CREATE ROLE shop_clerk LOGIN IN ROLE shop_writers PASSWORD {shop_clerk};
CREATE ROLE shop_reader NOLOGIN;
"""
# What docs/quickstart.md gives the migration's accounts, and nothing more.
ACCOUNTS = {
    "source": """
CREATE ROLE mover LOGIN REPLICATION PASSWORD {mover};
CREATE DATABASE shop TEMPLATE template0 OWNER shop_owner;
GRANT shop_owner, pg_signal_backend, pg_monitor TO mover;
GRANT CREATE ON DATABASE shop TO mover;
""",
    "destination": """
CREATE ROLE mover LOGIN PASSWORD {mover};
CREATE DATABASE shop TEMPLATE template0 OWNER mover;
GRANT shop_owner TO mover;
GRANT SET ON PARAMETER session_replication_role TO mover;
""",
}
PGBENCH_GRANTS = """
ALTER TABLE pgbench_accounts OWNER TO shop_owner;
ALTER TABLE pgbench_branches OWNER TO shop_owner;
ALTER TABLE pgbench_tellers OWNER TO shop_owner;
ALTER TABLE pgbench_history OWNER TO shop_owner;
GRANT SELECT, INSERT, UPDATE, DELETE ON pgbench_accounts, pgbench_branches, pgbench_tellers, pgbench_history
    TO shop_app, shop_writers;
"""


def new_password() -> str:
    return secrets.token_urlsafe(18)


def make_roles(psql: Psql, end: str, application: dict[str, str]) -> dict[str, str]:
    """Make the roles, which a migration does not carry, and an empty database, as the superuser of this end.

    C(application) holds the passwords of the application's roles, which are the same at both ends; the answer holds
    the mover's too, which is not.
    """
    passwords = {**application, MOVER: new_password()}
    words = {role: literal(word) for role, word in passwords.items()}
    psql.run(f"{end}_admin", (ROLES + ACCOUNTS[end]).format(**words), dbname="postgres")
    return passwords


def fill(psql: Psql, service: str, scale: int = 1, pgbench_scale: int = 2) -> int:
    """Make the tables at the source, about 1.2 million rows with a scale of 1, and pgbench's; the number of rows."""
    text = (pathlib.Path(__file__).parent / "shop.sql").read_text(encoding="utf-8")
    psql.run(service, text, scale=str(scale))
    arguments: Sequence[str] = ["-i", "-q", "-s", str(pgbench_scale), f"service={service}"]
    done = psql.program("pgbench", *arguments)
    if done.returncode != 0:
        raise PsqlError(done.stderr.strip()[-800:], None)
    psql.run(service, PGBENCH_GRANTS)
    counted = psql.run(
        service,
        "SELECT sum((xpath('/row/n/text()', query_to_xml(format('SELECT count(*) AS n FROM ONLY %s', c.oid::regclass), "
        "false, true, '')))[1]::text::bigint) FROM pg_class c WHERE relkind = 'r' AND oid >= 16384;",
    )
    return int(counted[0])
