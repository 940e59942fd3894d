# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""C(cdc_insert): 400 000 rows in transactions of 500 into a keyed table of five columns."""

from __future__ import annotations

from typing import Any

from bench.cdc import Workload, run, scaled

EACH = 500
ROWS = scaled(400_000) // EACH * EACH
TABLE = """
CREATE TABLE event (id bigint PRIMARY KEY, kind int NOT NULL, amount numeric(12, 2), note text, at timestamptz);
"""
INSERT = """
INSERT INTO event SELECT i, i %% 7, i / 3.0, 'note ' || i, timestamptz '2024-01-01' + i * interval '1 s'
  FROM generate_series(%s::bigint, %s::bigint) i
"""


def load(conn: Any, dsn: str) -> None:
    conn.execute(TABLE)


def write(conn: Any, dsn: str) -> None:
    for first in range(1, ROWS + 1, EACH):
        conn.execute(INSERT, (first, first + EACH - 1))


def workload() -> Workload:
    return Workload("cdc_insert", load, write, ("event",), ROWS)


def main() -> None:
    """Three rounds in turn."""
    run(workload())
