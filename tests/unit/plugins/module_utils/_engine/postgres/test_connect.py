# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a driver's exception becomes, without a server."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import pq

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.control.lifecycle import kind_of
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import ConnectError, ServerError
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres.connect import refusal, server_error
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
