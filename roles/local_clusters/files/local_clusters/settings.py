# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster's settings and its port."""

from __future__ import annotations

import contextlib
import pathlib
import random
import socket
from collections.abc import Mapping
from typing import Any

from .accounts import give
from .cluster import Cluster
from .folders import ClusterError

DEFAULT_SETTINGS: Mapping[str, str] = {
    "wal_level": "logical",
    "max_wal_senders": "20",
    "max_replication_slots": "20",
    "max_connections": "200",
    "max_prepared_transactions": "10",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
}
# Settings that only this program may set: a caller's setting of the same name would make the endpoints wrong.
RESERVED_SETTINGS = frozenset({"listen_addresses", "port", "unix_socket_directories", "data_directory", "hba_file"})
HOST_RULES = """\
# Written by local_clusters: a password for every role, from this machine only.
local all         all               scram-sha-256
host  all         all 127.0.0.1/32  scram-sha-256
host  replication all 127.0.0.1/32  scram-sha-256
local replication all               scram-sha-256
"""
# Below the range from which the kernel takes the ports of outgoing connections: a port that a stopped server had is
# then still free when it starts again.
PORTS = range(20000, 32000)
SOCKET_PATH_LIMIT = 107


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free now. Raises ClusterError."""
    for port in random.SystemRandom().sample(PORTS, 200):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise ClusterError("No free port was found on 127.0.0.1.")


def wanted_settings(settings: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the default settings and over them the caller's. Raises ClusterError for a reserved one."""
    wanted = dict(DEFAULT_SETTINGS)
    for key, value in (settings or {}).items():
        if key in RESERVED_SETTINGS:
            raise ClusterError(f"The setting {key} is chosen by local_clusters and cannot be given.")
        wanted[key] = ("on" if value else "off") if isinstance(value, bool) else str(value)
    return wanted


def write_settings(cluster: Cluster) -> None:
    """Write settings and pg_hba.conf; the server reads them when it starts."""
    sockets = f"{cluster.folder}/run"
    if len(f"{sockets}/.s.PGSQL.{cluster.port}") > SOCKET_PATH_LIMIT:
        sockets = ""  # no socket rather than a server that does not start; everything here goes over TCP
    lines = {
        "listen_addresses": "127.0.0.1",
        "port": str(cluster.port),
        "unix_socket_directories": sockets,
        **cluster.settings,
    }
    text = "".join("{} = '{}'\n".format(key, value.replace("'", "''")) for key, value in lines.items())
    data = pathlib.Path(cluster.data_dir)
    for name, content in (("causeway.conf", text), ("pg_hba.conf", HOST_RULES)):
        path = data / name
        path.write_text(content, encoding="utf-8")
        give(path, cluster.user, 0o600)
