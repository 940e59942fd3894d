# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings of the session that applies, beyond those that every session of the engine sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import ServerError
from ...postgres._psycopg import psycopg
from ...postgres.connect import explain_errors
from ...postgres.sqlstates import policy_for
from ...postgres.versions import has

if TYPE_CHECKING:
    from ...postgres.connect import Connection


def pin_applying_session(conn: Connection) -> None:
    """Make commits wait for the flush, and disable the destination's triggers, rules and foreign key checks.

    Raises ServerError, saying what to grant.
    """
    version = conn.info.server_version
    with explain_errors("preparing the session that applies at the", "destination"):
        conn.execute("SET synchronous_commit = on")
        if has(version, "jit"):
            conn.execute("SET jit = off")
        # A batch finds its rows by key. The planner, which assumes a slow disk and has no statistics of a staging
        # table, would rather read the whole table to change a thousandth of it. Where there is no index it still does,
        # and `Loader.join` lets it hash.
        planner = ("enable_seqscan = off", "enable_mergejoin = off", "enable_hashjoin = off", "random_page_cost = 1")
        for setting in (*planner, "temp_buffers = '32MB'"):  # a whole batch is staged without touching a file
            conn.execute(f"SET {setting}")
        if has(version, "plan_cache_mode"):
            # Tables grow while a plan is cached: each execution is planned for the size of the moment.
            conn.execute("SET plan_cache_mode = force_custom_plan")
    if has(version, "client_connection_check_interval"):
        try:
            # A worker that was killed in a long statement must lose its lock before that ends.
            conn.execute("SET client_connection_check_interval = '5s'")
        except psycopg.Error:
            pass  # the server's operating system does not support it
    try:
        conn.execute("SET session_replication_role = replica")
    except psycopg.Error as exc:
        raise ServerError(
            "preparing the session that applies at the",
            "destination",
            "its account may not set session_replication_role, without which triggers and foreign keys would fire",
            "GRANT SET ON PARAMETER session_replication_role TO it (PostgreSQL 15 and later), or use a privileged one."
            if exc.sqlstate == "42501"
            else policy_for(exc.sqlstate or "").remedy,
            sqlstate=exc.sqlstate or "",
        ) from exc
