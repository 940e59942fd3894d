# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a driver's exception becomes, without a server."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from psycopg import pq

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.control.lifecycle import kind_of
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import (
    ConnectError,
    ServerError,
    VersionError,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres import connect
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres.connect import (
    Endpoint,
    refusal,
    server_error,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres.sqlstates import Retry


def test_the_message_of_a_data_exception_quotes_the_value_and_is_not_passed_on() -> None:
    refused = psycopg.errors.InvalidTextRepresentation('invalid input value for enum mood: "4111 1111 1111 1111"')
    error = server_error(refused, "finishing the schema", "index i")
    assert "4111" not in f"{error} {error.as_result()}"
    assert (error.why, error.sqlstate) == ("invalid text representation", "22P02")


def test_other_messages_stay() -> None:
    error = server_error(psycopg.errors.UndefinedTable('relation "t" does not exist'), "reading", "table t")
    assert error.why == 'relation "t" does not exist'


class Answer:
    """A libpq result as far as `refusal` looks at it."""

    def __init__(self, sqlstate: bytes | None, primary: bytes | None, message: bytes = b"") -> None:
        self._fields = {pq.DiagnosticField.SQLSTATE: sqlstate, pq.DiagnosticField.MESSAGE_PRIMARY: primary}
        self.error_message = message

    def error_field(self, field: pq.DiagnosticField) -> bytes | None:
        return self._fields[field]


def test_a_connection_that_broke_is_no_refusal_and_is_tried_again() -> None:
    silence: Any = Answer(None, None, b"server closed the connection unexpectedly\n")
    broken = refusal(silence, "asking", "it")
    assert isinstance(broken, ConnectError)
    assert kind_of(broken) is Retry.CONNECTION
    answer: Any = Answer(b"42501", b"permission denied")
    refused = refusal(answer, "asking", "it")
    assert isinstance(refused, ServerError)
    assert (refused.sqlstate, refused.why, kind_of(refused)) == ("42501", "permission denied", Retry.NEVER)


SOURCE = Endpoint("source", host="old", dbname="orders", user="mover")


class Session:
    """A psycopg connection as far as `connect` looks at a new one: its version, and whether it was closed."""

    def __init__(self, version: int, shown: str = "") -> None:
        self.info = SimpleNamespace(server_version=version, parameter_status=lambda dummy: shown)
        self.closed = False
        self.connection, self.adapters = None, psycopg.adapters  # to quote names and literals with

    def close(self) -> None:
        self.closed = True


def test_a_server_before_10_is_refused_before_anything_is_asked_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    session = Session(90624, "9.6.24")
    monkeypatch.setattr(psycopg, "connect", lambda *dummy, **other: session)
    monkeypatch.setattr(connect, "note", lambda *dummy: None)
    monkeypatch.setattr(connect, "simple_query", lambda conn, statement, *dummy: asked.append(statement))
    with pytest.raises(VersionError) as caught:
        connect.connect(SOURCE, "module")
    assert (asked, session.closed, kind_of(caught.value)) == ([], True, Retry.NEVER)
    assert "connecting to the source old:5432/orders as mover: the server's version is 9.6.24" in str(caught.value)
    assert "pg_upgrade" in caught.value.remedy


@pytest.mark.parametrize("version", [100000, 110009, 170005, 190000])
def test_a_server_from_10_on_is_not(version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    session: Any = Session(version)
    monkeypatch.setattr(psycopg, "connect", lambda *dummy, **other: session)
    monkeypatch.setattr(connect, "note", lambda *dummy: None)
    monkeypatch.setattr(connect, "simple_query", lambda *dummy: [])
    assert connect.connect(SOURCE, "module") is session


@pytest.mark.parametrize(
    ("value", "turned_off"),
    [(None, False), ("off", False), ("on", True)],
)
def test_a_walsender_turns_off_what_changes_the_stream(
    value: str | None, turned_off: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def answer(dummy_conn: Any, statement: str, *dummy: str) -> list[tuple[str | None, ...]]:
        asked.append(statement)
        return [(value,)] if "current_setting" in statement else []

    monkeypatch.setattr(psycopg, "connect", lambda *dummy, **other: Session(110009))
    monkeypatch.setattr(connect, "note", lambda *dummy: None)
    monkeypatch.setattr(connect, "simple_query", answer)
    connect.connect(SOURCE, "stream", replication=True)
    statement = 'SET "polar_publish_via_partition_root" = off'
    assert any("'polar_publish_via_partition_root', true" in one for one in asked)
    assert (statement in asked) is turned_off
    asked.clear()
    connect.connect(SOURCE, "module")
    assert not [one for one in asked if "polar" in one]


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        ("FATAL:  permission denied to start WAL sender", "REPLICATION, by"),
        ("FATAL:  must be superuser or replication role to start walsender", "REPLICATION, by"),
        ("FATAL:  number of requested standby connections exceeds max_wal_senders (currently 1)", "End a walsender"),
        ("FATAL:  number of available wal senders is not enough", "End a walsender"),
    ],
)
def test_a_missing_attribute_and_missing_walsenders_are_told_apart(message: str, remedy: str) -> None:
    error = connect._connect_error(SOURCE, psycopg.OperationalError(message))
    assert remedy in error.remedy
