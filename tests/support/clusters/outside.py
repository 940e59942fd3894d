# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers from outside: PostgreSQL or PolarDB clusters of yours, named by CAUSEWAY_TEST_SOURCE and CAUSEWAY_TEST_DESTINATION.

What holds for the tests' own servers does not hold for these: their version and product, settings of the account, that they may
be stopped or configured. A test says what it needs by a marker, and is skipped with the reason where the server has not got it:

* C(own_servers("why")): it is about servers that the tests start or configure themselves, or about a product and its versions;
* C(since(170000, "failover slots")): a source of at least this version. C(since(…, role="destination")) for the other end.

SQL of a test's own sessions that an older server does not know is found by its SQLSTATE (C(too_new)): such a test is skipped too.
A module's failure never is, whatever the server.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping

import psycopg
import pytest
from psycopg import conninfo

EXTERNAL: Mapping[str, str] = {"source": "CAUSEWAY_TEST_SOURCE", "destination": "CAUSEWAY_TEST_DESTINATION"}
WRITTEN_FOR = 170000
"""The version that the SQL of the tests is written for."""

UNKNOWN = {
    psycopg.errors.SyntaxError,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.UndefinedObject,
    psycopg.errors.InvalidParameterValue,
    psycopg.errors.FeatureNotSupported,
}
"""What a server answers to a statement, a function, a column, a setting or an option that came after it."""


def named() -> dict[str, str]:
    """The connection strings of the servers from outside, by their role."""
    return {role: os.environ[variable] for role, variable in EXTERNAL.items() if os.environ.get(variable)}


def durable(text: str) -> str:
    """The connection string for a test's own session: a cloud's default is to answer a commit before it is durable, and a
    test that kills or compares counts on what was answered."""
    given = str(conninfo.conninfo_to_dict(text).get("options") or "")
    return conninfo.make_conninfo(text, options=f"{given} -c synchronous_commit=on".strip())


@functools.cache
def version(text: str) -> int:
    """What a server from outside calls its version. Raises psycopg.Error."""
    with psycopg.connect(text) as conn:
        return int(conn.info.server_version)


def why_not(item: pytest.Item) -> str:
    """Why a test cannot run on the servers from outside; empty if it can, or if there are none."""
    servers = named()
    if servers and (mark := item.get_closest_marker("own_servers")):
        return f"servers from outside: {mark.args[0]}"
    for mark in item.iter_markers("since"):
        role = str(mark.kwargs.get("role", "source"))
        if role in servers and version(servers[role]) < mark.args[0]:
            return f"the {role} from outside is {version(servers[role])}, and {mark.args[1]} came with {mark.args[0]}"
    return ""


def too_new(error: BaseException) -> str:
    """Why a test's own statement failed, if that is a server from outside which is older than the tests' SQL; else empty."""
    oldest = min((version(text) for text in named().values()), default=WRITTEN_FOR)
    if oldest >= WRITTEN_FOR or type(error) not in UNKNOWN:
        return ""
    return f"a server from outside is {oldest} and does not know what the test says: {str(error).splitlines()[0]}"
