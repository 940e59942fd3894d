# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""psql for the tests, with the accounts of the service file that prepare.yml wrote."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Psql = Callable[..., Any]


@pytest.fixture
def folder() -> Path:
    return Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])


@pytest.fixture
def psql(host: Any, folder: Path) -> Psql:
    """Return a function for ``psql("source_app", "SELECT 1")``, which returns testinfra's result of one command.

    Statements of one call share a session.
    """

    def run(service: str, statements: str) -> Any:
        return host.run(
            "env PGSERVICEFILE=%s %s -X -q -A -t -v ON_ERROR_STOP=1 -v VERBOSITY=verbose -d %s -c %s",
            str(folder / "services"),
            str(folder / "bin" / "psql"),
            f"service={service}",
            statements,
        )

    return run


@pytest.fixture
def ask(psql: Psql) -> Callable[[str, str], str]:
    """Return a function like C(psql) for statements that must succeed, which returns their output."""

    def run(service: str, statements: str) -> str:
        done = psql(service, statements)
        assert done.rc == 0, done.stderr
        return str(done.stdout).strip()

    return run
