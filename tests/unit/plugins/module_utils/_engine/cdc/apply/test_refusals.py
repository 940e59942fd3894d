# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the destination refuses, in words without values."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.apply.refusals import (
    apply_error,
    refusals_of,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import EngineError


def test_an_error_about_a_value_does_not_quote_it() -> None:
    error = apply_error(psycopg.errors.InvalidTextRepresentation('invalid input syntax: "secret"'), "applying", "s.t")
    assert error.sqlstate == "22P02"
    assert "secret" not in str(error)
    assert error.why == "invalid text representation"
    violation = apply_error(psycopg.errors.UniqueViolation("secret"), "applying", "s.t")
    assert violation.sqlstate == "23505"
    assert "secret" not in str(violation)


def test_a_constraint_in_the_way_is_the_caller_s_and_what_else_is_refused_names_the_table() -> None:
    written: Any = SimpleNamespace(table="s.t")
    with pytest.raises(psycopg.IntegrityError), refusals_of(written):
        raise psycopg.errors.UniqueViolation("secret")
    with pytest.raises(EngineError) as refused, refusals_of(written):
        raise psycopg.errors.NumericValueOutOfRange("secret")
    assert refused.value.what == "s.t"
    assert "secret" not in str(refused.value)
