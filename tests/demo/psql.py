# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL's own client programs, told who they are by a service file: no password in an argv or an environment."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
import subprocess
from collections.abc import Mapping
from typing import Any


class PsqlError(Exception):
    """A statement failed, or the session did not come about; C(sqlstate) is None in the second case."""

    def __init__(self, message: str, sqlstate: str | None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


def write_services(path: pathlib.Path, services: Mapping[str, Mapping[str, Any]]) -> None:
    """Write a libpq service file, readable by its owner only: C({service: {"host", "port", "user", "password", …}})."""
    text = "".join(
        f"[{name}]\n" + "".join(f"{key}={value}\n" for key, value in words.items()) for name, words in services.items()
    )
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as handle:
        handle.write(text)


@dataclasses.dataclass(frozen=True)
class Psql:
    """The client programs of one folder, and the service file that names the databases."""

    bin_dir: str
    service_file: pathlib.Path

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self.bin_dir}:/usr/bin:/bin",
            "LC_ALL": "C.UTF-8",
            "HOME": str(self.service_file.parent),
            "PGSERVICEFILE": str(self.service_file),
            "PGCLIENTENCODING": "UTF8",
        }

    def program(self, name: str, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [f"{self.bin_dir}/{name}", *arguments],
            input=text,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="surrogateescape",
            env=self.environment,
            check=False,
        )

    def run(self, service: str, text: str, dbname: str | None = None, **variables: str) -> list[str]:
        """Run SQL in one session; the lines of its output, unaligned. Raises C(PsqlError) at the first error."""
        conninfo = f"service={service}" + (f" dbname={dbname}" if dbname else "")
        arguments = ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=verbose"]
        for name, value in variables.items():
            arguments += ["-v", f"{name}={value}"]
        done = self.program("psql", *arguments, "-d", conninfo, "-f", "-", text=text)
        if done.returncode != 0:
            found = re.search(r"(?:ERROR|FATAL):\s+([0-9A-Z]{5}):", done.stderr)
            raise PsqlError(done.stderr.strip()[-800:], found.group(1) if found else None)
        return [line for line in done.stdout.split("\n") if line]


def literal(value: str) -> str:
    """A string as SQL writes it (standard_conforming_strings is on)."""
    return "'" + value.replace("'", "''") + "'"


def identifier(*names: str) -> str:
    """A qualified name as SQL writes it."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)
