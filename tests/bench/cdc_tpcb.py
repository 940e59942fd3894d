# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""C(cdc_tpcb): 100 000 transactions of pgbench's TPC-B at scale 50, every table under REPLICA IDENTITY FULL."""

from __future__ import annotations

import subprocess
from typing import Any

from bench.cdc import Workload, run, scaled
from bench.harness import VERSION
from support.clusters import servers

CLIENTS = 4
TRANSACTIONS = scaled(100_000) // CLIENTS * CLIENTS
TABLES = ("pgbench_accounts", "pgbench_branches", "pgbench_tellers", "pgbench_history")


def pgbench(dsn: str, *arguments: str) -> None:
    """One run of pgbench, which says nothing unless it fails."""
    argv = [f"{servers.bin_dir(VERSION)}/pgbench", "--quiet" if "-i" in arguments else "-n", *arguments, dsn]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)


def load(conn: Any, dsn: str) -> None:
    """pgbench's tables; the history has no key, and is only added to."""
    pgbench(dsn, "-i", "-s", str(scaled(50)))
    for table in TABLES:
        conn.execute(f"ALTER TABLE {table} REPLICA IDENTITY FULL")


def write(conn: Any, dsn: str) -> None:
    pgbench(dsn, "-c", str(CLIENTS), "-j", "2", "-t", str(TRANSACTIONS // CLIENTS), "--random-seed", "1")


def workload() -> Workload:
    return Workload("cdc_tpcb", load, write, TABLES, TRANSACTIONS * 4)


def main() -> None:
    """Three rounds in turn."""
    run(workload())
