# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The CDC worker on real servers: every kind of change, judged by the witness."""

from __future__ import annotations

from .streaming import MakeStreaming, make_streaming  # noqa: F401 - a fixture
from .witness import assert_identical

def test_plain_changes_arrive(make_streaming: MakeStreaming) -> None:
    streaming = make_streaming("CREATE TABLE t (id int PRIMARY KEY, v text)")
    streaming.begin()
    streaming.start()
    source = streaming.pair.source
    source.run("INSERT INTO t SELECT n, n::text FROM generate_series(1, 1000) n")
    source.run("UPDATE t SET v = v || 'x' WHERE id % 3 = 0")
    source.run("DELETE FROM t WHERE id % 5 = 0")
    streaming.drain()
    assert assert_identical(streaming.pair, ["public"]) == 800
    assert streaming.progress("inserts") == 1000
    assert streaming.progress("conflicts") == 0
    assert streaming.stop() == 0
    assert streaming.progress("state") == "stopped"
