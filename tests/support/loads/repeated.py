# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One transaction over and over, by one session or several."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
from support.loads.writers import Writers, WritesNoMore


class Repeated(Writers):
    """Sessions that do C(transaction(session, number)) until told to stop or refused; C(failures) holds why.

    The number is the session's own, from 0 on. C(between) is the rest between two transactions, in seconds.
    """

    def __init__(
        self,
        end: Any,
        transaction: Callable[[psycopg.Connection[Any], int], object],
        *,
        sessions: int = 1,
        between: float = 0,
    ) -> None:
        super().__init__([str(number) for number in range(sessions)])
        self._end = end
        self._transaction = transaction
        self._between = between
        self.failures: list[str] = []

    def connect(self, name: str) -> psycopg.Connection[Any]:
        session: psycopg.Connection[Any] = self._end.connect()
        return session

    def transaction(self, session: psycopg.Connection[Any], name: str) -> None:
        self._transaction(session, int(name))
        self.stopping.wait(self._between)

    def failed(self, name: str, error: psycopg.Error) -> None:
        self.failures.append(str(error))
        raise WritesNoMore
