# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A full copy as lines: while it runs, and at its end."""

from __future__ import annotations

from ansible_collections.causeway.postgresql.plugins.plugin_utils._blocks.full_copy import copied, progress


def test_what_a_copy_has_moved() -> None:
    tables = [
        {"table": "a", "state": "complete", "rows": 1000, "bytes": 2_000_000, "seconds": 1.5},
        {"table": "b", "state": "copying", "rows": 5, "bytes": 10, "seconds": None},
    ]
    assert copied({"changed": True, "tables": tables}, 100) == [
        "1 of 2 tables copied, 1 005 rows, 2.0 MB",
        "",
        "  table  copy       rows      size   time",
        "  b      copying       5  10 bytes",
        "  a      complete  1 000    2.0 MB  1.5 s",
    ]
    assert copied({"changed": False, "tables": tables}, 100) == []
    assert copied({"changed": True, "tables": tables, "runs": 0}, 100) == ["1 of 2 tables are to be copied"]
    objects = {"state": "complete", "objects": 1006, "bytes": 3_000_000, "moved": 1006}
    only_these = copied({"changed": True, "tables": tables, "runs": 0, "large_objects": objects}, 100)
    assert only_these[0] == "1 of 2 tables copied, 1 005 rows, 2.0 MB, 1 006 large objects (3.0 MB)"


def test_a_copy_that_runs_is_one_line() -> None:
    line = {
        "percent": 42.31, "tables": 12, "complete": 3, "rows": 1234567, "bytes_per_second": 12_300_000, "eta": 200.0,
        "held": "a standby lags",
    }  # fmt: skip
    (said,) = progress(line)
    assert (
        said.startswith("42.3 %, 3 of 12 tables, ")
        and "3 min 20 s left" in said
        and said.endswith("waiting: a standby lags")
    )
    assert ", 7 large objects left, " in progress({**line, "large_objects_left": 7})[0]
    (large,) = progress({"table": "s.t", "rows": 5, "bytes": 10**9, "seconds": 61.0})
    assert large.startswith("table s.t is complete: 5 rows")
    assert progress({}) == []
