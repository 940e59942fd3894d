# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a driver's exception becomes, without a server."""

from __future__ import annotations

import psycopg

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.connect import server_error


def test_the_message_of_a_data_exception_quotes_the_value_and_is_not_passed_on() -> None:
    refused = psycopg.errors.InvalidTextRepresentation('invalid input value for enum mood: "4111 1111 1111 1111"')
    error = server_error(refused, "finishing the schema", "index i")
    assert "4111" not in f"{error} {error.as_result()}"
    assert (error.why, error.sqlstate) == ("invalid text representation", "22P02")


def test_other_messages_stay() -> None:
    error = server_error(psycopg.errors.UndefinedTable('relation "t" does not exist'), "reading", "table t")
    assert error.why == 'relation "t" does not exist'
