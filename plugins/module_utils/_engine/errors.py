# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's errors: each says what we were doing, to what, why it failed, and what to do next."""

from __future__ import annotations

from collections.abc import Mapping


class EngineError(Exception):
    """Base of every error that the engine raises on purpose.

    ``doing`` is a phrase ("copying a table"), ``what`` names the object as PostgreSQL prints it, ``why`` is the
    cause, ``remedy`` the operator's next step. ``sqlstate`` and ``detail`` are the server's, if it answered.
    None of them may hold a row value, a password or a connection string. ``result`` holds the results up to then, which
    are returned with the failure: the findings of a precheck, the verdict on each table.
    """

    code = "engine_error"

    def __init__(
        self,
        doing: str,
        what: str,
        why: str,
        remedy: str,
        *,
        sqlstate: str = "",
        detail: str = "",
        result: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(doing, what, why, remedy)
        self.doing = doing
        self.what = what
        self.why = why
        self.remedy = remedy
        self.sqlstate = sqlstate
        self.detail = detail
        self.result: Mapping[str, object] = result or {}

    def __str__(self) -> str:
        cause = f"{self.why} (SQLSTATE {self.sqlstate})" if self.sqlstate else self.why
        subject = f" {self.what}" if self.what else ""
        return f"{self.doing}{subject}: {cause}. {self.remedy}"

    def as_result(self) -> Mapping[str, str]:
        """Return the error as data: for return values and for ``causeway.event``."""
        return {
            "code": self.code,
            "doing": self.doing,
            "object": self.what,
            "why": self.why,
            "remedy": self.remedy,
            "sqlstate": self.sqlstate,
            "detail": self.detail,
        }


class SpecError(EngineError):
    """The migration as it is written is invalid: an unknown option, a pattern that matches nothing."""

    code = "spec_error"


class DriverError(EngineError):
    """A driver or client program is missing on the worker host, or too old."""

    code = "driver_missing"


class ConnectError(EngineError):
    """A server could not be reached, or refused the connection."""

    code = "connect_failed"


class VersionError(EngineError):
    """A server's version is older than any that the collection can migrate."""

    code = "version_unsupported"


class ServerError(EngineError):
    """A server refused a statement."""

    code = "server_error"


class StateError(EngineError):
    """The recorded state does not allow this step now."""

    code = "wrong_state"


class MismatchError(EngineError):
    """An object of our name exists and is not what we created or need: a slot, a table, a column."""

    code = "mismatch"


class LossError(EngineError):
    """To continue would lose or duplicate rows: the task stops until the operator has decided."""

    code = "would_lose_rows"


class ProtocolError(EngineError):
    """The server sent bytes that do not follow the replication protocol."""

    code = "protocol_error"


class TimeoutExpired(EngineError):
    """A condition was not met within its timeout."""

    code = "timeout"
