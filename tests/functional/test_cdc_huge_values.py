# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The memory of a worker that carries a huge value: what old and new row have in common is held once."""

from __future__ import annotations

import pathlib
import re

import pytest
from support.harness.streaming import MakeStreaming
from support.witness import assert_identical

MIB = 1024 * 1024
SIZE = 24 * MIB
# Random bytes, which nothing compresses; twice as many where they come as text.
TABLE = "CREATE TABLE h (id int PRIMARY KEY, v bytea, n int{more}); ALTER TABLE h REPLICA IDENTITY FULL"
VALUE = f"SELECT string_agg(sha256((n + %s)::text::bytea), '') FROM generate_series(1, {SIZE // 32}) n"


def forget_peak(pid: int) -> int:
    """Begin to measure the peak anew; the resident bytes of the moment."""
    pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")
    return resident(pid, "VmRSS")


def resident(pid: int, what: str) -> int:
    """Resident bytes of a process: now (VmRSS), or at the peak (VmHWM)."""
    found = re.search(rf"{what}:\s+(\d+) kB", pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii"))
    assert found
    return int(found[1]) * 1024


@pytest.mark.parametrize("form", ["binary", "text"])
def test_a_huge_value_that_comes_twice_is_held_once(make_streaming: MakeStreaming, form: str) -> None:
    """Five updates of another column, five that write the same value again, and one that writes another."""
    streaming = make_streaming(TABLE.format(more="" if form == "binary" else ", c regclass"))
    source = streaming.pair.source
    value = source.value(VALUE, [0])
    for end in streaming.pair.ends:
        end.run("INSERT INTO h (id, v, n) VALUES (1, %s, 0), (2, NULL, 0)", [value])
    streaming.begin()
    pid = streaming.start().pid
    source.run("UPDATE h SET n = 1 WHERE id = 2")
    streaming.drain()
    assert f'"format": "{form}"' in streaming.log()
    one = SIZE if form == "binary" else 2 * SIZE
    used: dict[str, float] = {}
    first = forget_peak(pid)
    # The driver's buffer and its copy of the message, and the values. Of one that it has freed the allocator may keep some.
    allowed = {"n = n + 1": 3.5, "v = v || '', n = n + 1": 5.5, "v = v || 'x', n = n + 1": 7.5}
    for what in allowed:
        forget_peak(pid)
        times = 5 if "'x'" not in what else 1
        for dummy in range(times):
            source.run(f"UPDATE h SET {what} WHERE id = 1")
        streaming.drain()
        used[what] = (resident(pid, "VmHWM") - first) / one
    assert all(used[what] < allowed[what] for what in allowed), used
    assert streaming.progress("conflicts") == 0
    assert_identical(streaming.pair, ["public"])
