# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The package of the role C(local_clusters), for everything here that needs servers."""

from __future__ import annotations

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "roles" / "local_clusters" / "files"))

from local_clusters.accounts import give  # noqa: E402
from local_clusters.binaries import bin_dir  # noqa: E402
from local_clusters.cluster import Cluster  # noqa: E402
from local_clusters.clusters import destroy, ensure  # noqa: E402
from local_clusters.folders import HOME_VARIABLE, ClusterError, default_home, own_folder  # noqa: E402
from local_clusters.processes import restart, run_program, start, stop  # noqa: E402
from local_clusters.settings import free_port, write_settings  # noqa: E402

__all__ = [
    "HOME_VARIABLE",
    "Cluster",
    "ClusterError",
    "bin_dir",
    "default_home",
    "destroy",
    "ensure",
    "free_port",
    "give",
    "own_folder",
    "restart",
    "run_program",
    "start",
    "stop",
    "write_settings",
]
