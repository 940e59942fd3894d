# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables that are altered while their changes stream: what fits goes on, what does not stops, and says why."""

from __future__ import annotations

from typing import Any

from support.harness.streaming import MakeStreaming, Streaming
from support.witness import assert_identical


def started(make_streaming: MakeStreaming, ddl: str) -> Streaming:
    streaming = make_streaming(ddl)
    streaming.begin()
    streaming.start()
    streaming.wait_state("running")
    return streaming


def failure(streaming: Streaming) -> dict[str, Any]:
    streaming.wait_state("failed")
    error: dict[str, Any] = streaming.progress("last_error")
    return error


def test_a_column_that_has_to_come_as_text_turns_a_binary_stream(make_streaming: MakeStreaming) -> None:
    """Its bytes hold an OID, which is another table's at the destination."""
    streaming = make_streaming("CREATE TABLE t (id int PRIMARY KEY)")
    source, destination = streaming.pair.ends
    destination.run("CREATE TYPE shifts_the_oids AS ENUM ('x'); DROP TYPE shifts_the_oids")
    streaming.pair.run("CREATE TABLE meant ()")
    streaming.begin()
    streaming.start()
    source.run("INSERT INTO t VALUES (1)")
    streaming.drain()
    assert '"format": "binary"' in streaming.log()
    for end in (destination, source):
        end.run("ALTER TABLE t ADD c regclass")
    source.run("INSERT INTO t VALUES (2, 'meant'); UPDATE t SET c = 'meant' WHERE id = 1")
    streaming.drain()
    assert_identical(streaming.pair, ["public"])
    assert destination.query("SELECT id, c::text FROM t ORDER BY id") == [(1, "meant"), (2, "meant")]
    assert '"format": "text"' in streaming.log()


def test_columns_that_exchange_their_names_stop_the_task(make_streaming: MakeStreaming) -> None:
    """Rows that nobody touches keep their values under the other name: the stream has nothing to say of them."""
    streaming = started(make_streaming, "CREATE TABLE t (id int PRIMARY KEY, a int, b int)")
    source = streaming.pair.source
    source.run("INSERT INTO t VALUES (1, 1, 2), (2, 1, 2)")
    streaming.drain()
    source.run("ALTER TABLE t RENAME a TO x; ALTER TABLE t RENAME b TO a; ALTER TABLE t RENAME x TO b")
    source.run("UPDATE t SET a = a WHERE id = 1")
    error = failure(streaming)
    assert error["object"] == "public.t" and "exchanged their names" in error["why"]
    assert "causeway_resync" in error["remedy"]
    assert streaming.pair.destination.query("SELECT * FROM t ORDER BY id") == [(1, 1, 2), (2, 1, 2)]


def test_a_value_that_the_destination_does_not_know_is_an_error_of_its_table(make_streaming: MakeStreaming) -> None:
    streaming = started(
        make_streaming, "CREATE TYPE mood AS ENUM ('sad'); CREATE TABLE t (id int PRIMARY KEY, m mood, ms mood[])"
    )
    source, destination = streaming.pair.ends
    source.run("ALTER TYPE mood ADD VALUE 'happy'")
    source.run("INSERT INTO t VALUES (1, 'happy')")
    error = failure(streaming)
    assert error["object"] == "public.t" and "happy" not in str(error)
    destination.run("ALTER TYPE mood ADD VALUE 'happy'")
    streaming.start()
    streaming.wait_state("running")
    streaming.drain()
    assert assert_identical(streaming.pair, ["public"]) == 1


def test_an_identity_that_changes_does_not_stand_for_a_row_that_is_not_there(make_streaming: MakeStreaming) -> None:
    """Two rows in one batch, one of which somebody has deleted at the destination: a conflict as any other."""
    streaming = started(
        make_streaming, "CREATE TABLE t (id int PRIMARY KEY, n int GENERATED ALWAYS AS IDENTITY, v text)"
    )
    source, destination = streaming.pair.ends
    source.run("INSERT INTO t (id) VALUES (1), (2)")
    streaming.drain()
    destination.run("DELETE FROM t WHERE id = 2")
    source.run("UPDATE t SET n = DEFAULT WHERE id IN (1, 2)")
    streaming.drain()
    assert streaming.progress("conflicts") == 1
    assert assert_identical(streaming.pair, ["public"]) == 2
