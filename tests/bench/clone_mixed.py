# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""C(clone_mixed): the demo's shop with three million rows, one of everything, and its secondary indexes."""

from __future__ import annotations

import pathlib

from bench.clone import DBNAME, measure
from bench.clone_peers import Peers
from bench.harness import SCALE, Bench

ROLES = ("shop_owner", "shop_app", "shop_writers", "shop_clerk", "shop_reader", "mover")
SHOP = pathlib.Path(__file__).resolve().parents[1] / "demo" / "shop.sql"


def fill(bench: Bench, peers: Peers) -> int:
    """The shop, and at both ends the roles that it names; the number of its rows."""
    for end in (bench.source, bench.destination):
        with bench.connect(end) as conn:
            for role in ROLES:
                conn.execute(f"CREATE ROLE {role}")
    with bench.connect(bench.source, DBNAME) as conn:
        conn.execute(f"GRANT CREATE ON DATABASE {DBNAME} TO shop_owner")
    peers.psql.run("source", SHOP.read_text(encoding="utf-8"), scale=str(max(1, round(3 * SCALE))))
    with bench.connect(bench.source, DBNAME) as conn:
        conn.execute("ANALYZE")
        rows = conn.execute("SELECT sum(reltuples)::bigint FROM pg_class WHERE relkind = 'r' AND oid >= 16384")
        return int(rows.fetchone()[0])  # type: ignore[index]


def main() -> None:
    """Three rounds in turn."""
    measure("clone_mixed", ["shop", "Lager & Büro"], fill)
