# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""C(cdc_wide_update): 200 000 updates of a table of twelve columns, ten rows a transaction, REPLICA IDENTITY FULL."""

from __future__ import annotations

from typing import Any

from bench.cdc import Workload, run, scaled

EACH = 10
UPDATES = scaled(200_000) // EACH * EACH
ROWS = max(UPDATES // 2, EACH)
"""Every row is updated twice."""

TABLE = f"""
CREATE TABLE wide (id bigint PRIMARY KEY, a int, b int, c bigint, d numeric(14, 3), e text, f text, g varchar(60),
                   h timestamptz, i date, j boolean, k uuid);
ALTER TABLE wide REPLICA IDENTITY FULL;
INSERT INTO wide SELECT n, n, n % 97, n * 7, n / 9.0, 'text ' || n, repeat('f', n::int % 40), 'name ' || n,
       timestamptz '2024-01-01' + n * interval '1 s', date '2024-01-01' + n::int % 900, n % 2 = 0, md5(n::text)::uuid
  FROM generate_series(1, {ROWS}) n;
"""
UPDATE = """
UPDATE wide SET a = a + 1, c = c + 13, d = d * 1.01, e = e || '!', h = h + interval '1 min', j = NOT j
 WHERE id = ANY (%s)
"""


def load(conn: Any, dsn: str) -> None:
    conn.execute(TABLE)


def write(conn: Any, dsn: str) -> None:
    """The rows of a transaction lie far apart, as an application's do."""
    stride = max(ROWS // EACH, 1)
    for number in range(UPDATES // EACH):
        first = number % stride
        conn.execute(UPDATE, ([first + 1 + stride * at for at in range(EACH)],))


def workload() -> Workload:
    return Workload("cdc_wide_update", load, write, ("wide",), UPDATES)


def main() -> None:
    """Three rounds in turn."""
    run(workload())
