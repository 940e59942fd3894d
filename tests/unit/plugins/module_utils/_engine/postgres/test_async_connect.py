# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import DriverError
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres import _asyncpg, async_connect
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres.async_connect import (
    as_server_error,
    tls_context,
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    return tmp_path


def some_authority() -> str:
    """Any certificate will do: it is only loaded."""
    return "\n".join(ssl.DER_cert_to_PEM_cert(der) for der in ssl.create_default_context().get_ca_certs(True)[:1])


def test_without_a_root_file_the_server_is_not_verified(home: Path) -> None:
    context = tls_context({"sslmode": "require"})
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_NONE, False)


@pytest.mark.parametrize(("mode", "hostname"), [("verify-full", True), ("verify-ca", False), ("prefer", False)])
def test_a_root_file_that_stands_verifies_the_server_in_every_mode(home: Path, mode: str, hostname: bool) -> None:
    pem = some_authority()
    if not pem:
        pytest.skip("this machine has no certificate to load")
    (home / ".postgresql").mkdir()
    (home / ".postgresql" / "root.crt").write_text(pem)
    context = tls_context({"sslmode": mode})
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, hostname)


class InvalidTextRepresentationError(Exception):
    sqlstate = "22P02"
    message = 'invalid input syntax for type integer: "a secret"'
    table_name = "t"


class UniqueViolationError(Exception):
    sqlstate = "23505"
    message = 'duplicate key value violates unique constraint "t_pkey"'


def test_a_data_exception_does_not_tell_the_value() -> None:
    error = as_server_error(InvalidTextRepresentationError(), "copying table", "s.t")
    assert "secret" not in str(error) + str(error.as_result())
    assert (error.why, error.sqlstate, error.detail) == ("invalid text representation", "22P02", "table t")
    assert "t_pkey" in as_server_error(UniqueViolationError(), "copying table", "s.t").why


def test_without_the_driver_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_asyncpg, "asyncpg", None)
    with pytest.raises(DriverError, match="worker role"):
        async_connect.require_asyncpg()
