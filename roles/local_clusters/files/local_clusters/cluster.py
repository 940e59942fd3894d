# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One cluster, and the state file in its folder."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from .folders import ClusterError, write_private

STATE_FORMAT = 1
STATE_FILE = "cluster.json"


@dataclasses.dataclass(frozen=True)
class Cluster:
    """One cluster, as its state file describes it.

    C(version) is the major version as a string, C(user) the account that the server runs as (None: the caller's).
    """

    name: str
    version: str
    folder: str
    bin_dir: str
    port: int
    superuser: str
    password: str = dataclasses.field(repr=False)
    user: str | None = None
    settings: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def data_dir(self) -> str:
        return f"{self.folder}/data"

    @property
    def log_file(self) -> str:
        return f"{self.folder}/log/server.log"

    def dsn(self, dbname: str = "postgres", user: str | None = None, password: str | None = None) -> str:
        """Return a libpq connection string. It holds a password: for a driver's connect(), never for an argv."""
        parts = {
            "host": "127.0.0.1",
            "port": str(self.port),
            "dbname": dbname,
            "user": user or self.superuser,
            "password": self.password if password is None else password,
        }
        return " ".join(f"{key}={_quoted(value)}" for key, value in parts.items())

    def endpoint(self) -> dict[str, Any]:
        """Return the options of the collection's C(source) and C(destination), without a database."""
        return {
            "login_host": "127.0.0.1",
            "login_port": self.port,
            "login_user": self.superuser,
            "login_password": self.password,
        }

    def answer(self) -> dict[str, Any]:
        """Return the endpoint, version and folders."""
        return {**self.endpoint(), "version": self.version, "bin_dir": self.bin_dir, "folder": self.folder}


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def load(folder: str | os.PathLike[str]) -> Cluster | None:
    """Return the cluster in a folder, or None. Raises ClusterError for a state file of another version."""
    try:
        state = json.loads((pathlib.Path(folder) / STATE_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    if state.pop("format", None) != STATE_FORMAT:
        raise ClusterError(f"{folder} was made by another version of local_clusters: remove it and run again.")
    return Cluster(**{**state, "folder": str(pathlib.Path(folder).resolve())})


def save(cluster: Cluster) -> None:
    """Write the state file, whole or not at all."""
    path = pathlib.Path(cluster.folder) / STATE_FILE
    state = {**dataclasses.asdict(cluster), "format": STATE_FORMAT}
    partial = path.with_suffix(".partial")
    write_private(partial, json.dumps(state, indent=1))
    partial.replace(path)
