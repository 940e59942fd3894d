# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The compiled engine and the pure one say the same of the same bytes: messages, pieces, their net effect, and what is
sent to the destination.

C(captured_stream.txt) is what a PostgreSQL 17 sent (binary, messages on) of a session with all identities, key changes,
unchanged TOAST, TRUNCATE, a changed table, savepoints, and values of many types: length and CopyData of each, compressed.
"""

from __future__ import annotations

import base64
import importlib
import pathlib
import struct
import sys
import types
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.compiling import NotCompiled, compiled_engine
from unit.plugins.module_utils._engine.cdc.changes.pgoutput_encoder import encode
from unit.plugins.module_utils._engine.cdc.changes.test_pgoutput import any_message, mutated

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes import messages as m

PURE = "ansible_collections.causeway.postgresql.plugins.module_utils._engine"
CAPTURED = pathlib.Path(__file__).with_name("captured_stream.txt")
MODULES = (
    "errors",
    "cdc.changes.messages",
    "cdc.changes.pgoutput",
    "cdc.changes.large_changes",
    "cdc.changes.batches",
    "cdc.changes.batch_limits",
    "cdc.changes.batcher",
    "cdc.changes.receiver",
    "cdc.changes.compaction",
    "cdc.changes.copy_format",
)


class Engine(types.SimpleNamespace):
    """The modules of one engine, by their last name."""


def load(package: str) -> Engine:
    return Engine(**{name.rpartition(".")[2]: importlib.import_module(f"{package}.{name}") for name in MODULES})


@pytest.fixture(scope="session")
def engines() -> tuple[Engine, Engine]:
    """Pure and compiled; skipped where nothing can be compiled."""
    try:
        folder = compiled_engine()
    except NotCompiled as why:
        pytest.skip(f"the engine is not compiled here: {why}")
    sys.path.insert(0, str(folder))
    try:
        compiled = load("_engine")
        assert importlib.import_module("_engine.cdc.changes.compiled").is_compiled()
    finally:
        sys.path.remove(str(folder))
    return load(PURE), compiled


FIELDS = {
    "Row": ("kinds", "values"),
    "Insert": ("relation_oid", "new"),
    "Update": ("relation_oid", "old_kind", "old", "new"),
    "Delete": ("relation_oid", "old_kind", "old"),
    "Begin": ("final_lsn", "commit_time_us", "xid"),
    "Commit": ("flags", "commit_lsn", "end_lsn", "commit_time_us"),
    "Segment": ("changes",),
    "Batch": (
        *("steps", "system", "last_of_transaction", "end_lsn", "commit_time_us", "transactions", "size", "weight"),
        *("inserts", "updates", "deletes", "truncates", "filtered"),
    ),
}


def plain(value: Any) -> Any:
    """Anything of either engine as tuples of built-in values."""
    if isinstance(value, str | bytes | int | float) or value is None:
        return value
    if isinstance(value, Sequence):
        return tuple([plain(one) for one in value])
    name = type(value).__name__
    fields = FIELDS.get(name) or tuple(value.__dataclass_fields__)
    return (name, *[plain(getattr(value, field)) for field in fields])


def decoded(engine: Engine, payload: bytes) -> Any:
    """The message, or the typed error; anything else ends the test."""
    try:
        return plain(engine.pgoutput.decode(payload))
    except engine.errors.ProtocolError as error:
        return str(error)


def decoded_large(engine: Engine, payload: bytes) -> Any:
    """The same, with every value of a few bytes taken for a huge one."""
    try:
        return plain(engine.large_changes.decode_large(memoryview(payload), 0, 3))
    except engine.errors.ProtocolError as error:
        return str(error)


def enveloped(engine: Engine, data: bytes) -> Any:
    try:
        return plain(engine.pgoutput.parse_envelope(data))
    except engine.errors.ProtocolError as error:
        return str(error)


def read(engine: Engine, stream: Sequence[bytes], marks: dict[int, int], limits: tuple[int, int], often: int) -> Any:
    """Everything that comes of a stream: its pieces, the net effect of each, and the bytes of their COPY."""
    limit = engine.batch_limits.BatchLimits(limits[0], limits[1], 3600.0)
    intake = engine.receiver.Receiver(engine.batcher.Batcher(marks, limits=limit, clock=lambda: 0.0), 0)
    came = iter([(len(data), memoryview(data)) for data in stream])
    batches = []
    got = 1
    try:
        while got > 0:
            got = intake.read(lambda wait: next(came, (0, memoryview(b""))), often)
            while (batch := intake.take()) is not None:
                batches.append(batch)
            if intake.ready(1, got == 0) and (batch := intake.batcher.flush()) is not None:
                batches.append(batch)
    except engine.errors.EngineError as error:
        return str(error)
    state = (intake.received, intake.keepalive, intake.behind, intake.idle, intake.reply_requested)
    return state, plain(batches), [effect(engine, batch) for batch in batches]


def effect(engine: Engine, batch: Any) -> Any:
    """What is sent of a piece whose tables have their first column as key."""
    found: list[Any] = []
    known = engine.batches
    kinds = {known.Segment, known.RelationStep, known.TruncateStep, known.EmptyStep}
    for step in batch.steps:
        assert type(step) in kinds  # the applier finds its handler by it
        if type(step).__name__ != "Segment":
            continue
        for oid, changes in sorted(step.by_table().items()):
            width = len((changes[0].old if isinstance(changes[0], engine.messages.Delete) else changes[0].new).kinds)
            shape = engine.compaction.TableShape(oid, width, (0,) if width else None)
            try:
                net = engine.compaction.compact(changes, shape)
                found.append(plain([net.deletes, net.passing, net.rowwise, net.inserts, net.removed]))
                for group in net.updates:
                    for binary in (False, True):
                        sent = engine.copy_format.update_pieces(group.keys, group.rows, group.assigned, binary)
                        found.append((group.assigned, group.key_changed, b"".join(sent)))
                every = tuple(range(width))
                found += [
                    b"".join(engine.copy_format.insert_pieces(net.inserts, every, binary)) for binary in (False, True)
                ]
            except engine.errors.ProtocolError as error:
                found.append(str(error))
    return found


def captured() -> list[bytes]:
    data = zlib.decompress(base64.b64decode(CAPTURED.read_text(encoding="ascii")))
    messages = []
    while data:
        size = struct.unpack_from("!I", data)[0]
        messages.append(data[4 : 4 + size])
        data = data[4 + size :]
    return messages


def marks_of(stream: Sequence[bytes]) -> dict[int, int]:
    return {int.from_bytes(data[26:30], "big"): 0 for data in stream if data[25:26] == b"R"}


@pytest.mark.parametrize("limits", [(10**9, 10**9), (4000, 5), (1, 1)])
def test_a_captured_stream(engines: tuple[Engine, Engine], limits: tuple[int, int]) -> None:
    stream = captured()
    assert len(stream) > 100
    pure, compiled = [read(engine, stream, marks_of(stream), limits, 2000) for engine in engines]
    assert not isinstance(pure, str) and len(pure[1]) > 0
    assert pure == compiled


@pytest.mark.fuzz
@settings(max_examples=settings().max_examples * 2)
@given(data=st.data())
def test_a_captured_stream_that_was_altered(engines: tuple[Engine, Engine], data: st.DataObject) -> None:
    """Messages lost, doubled, exchanged or mutated: the same pieces, or the same error."""
    stream = captured()
    marks = marks_of(stream)
    for dummy in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(stream) - 1))
        what = data.draw(st.sampled_from(["lose", "double", "exchange", "mutate"]))
        if what == "lose":
            del stream[at]
        elif what == "double":
            stream.insert(at, stream[at])
        elif what == "exchange":
            other = data.draw(st.integers(0, len(stream) - 1))
            stream[at], stream[other] = stream[other], stream[at]
        else:
            stream[at] = mutated(stream[at], data)
    pure, compiled = [read(engine, stream, marks, (10**6, 50), 4000) for engine in engines]
    assert pure == compiled


def envelope(message: m.Message, sent_at: int) -> bytes:
    return b"w" + struct.pack("!QQq", 1, 1, sent_at) + encode(message)


WIDTHS = {1: 1, 2: 2, 3: 3}
RELATIONS = [
    m.Relation(oid, "s", f"t{oid}", "f", tuple([m.RelationColumn(f"c{n}", 25, -1, n == 0) for n in range(width)]))
    for oid, width in WIDTHS.items()
]
values = st.binary(max_size=3)


@st.composite
def rows(draw: st.DrawFn, width: int, kinds: bytes) -> m.Row:
    shown = [draw(st.sampled_from(b"tb"))] + [draw(st.sampled_from(kinds)) for dummy in range(width - 1)]
    return m.Row(bytes(shown), [None if kind in b"nu" else draw(values) for kind in shown])


@st.composite
def changes(draw: st.DrawFn) -> m.Message:
    oid = draw(st.sampled_from(sorted(WIDTHS)))
    width = WIDTHS[oid]
    what = draw(st.sampled_from("IUUDT"))
    if what == "I":
        return m.Insert(oid, draw(rows(width, b"ntb")))
    if what == "U":
        kind = draw(st.sampled_from(["", "K", "O"]))
        return m.Update(oid, kind, draw(rows(width, b"ntb")) if kind else None, draw(rows(width, b"ntbu")))
    if what == "D":
        return m.Delete(oid, draw(st.sampled_from("KO")), draw(rows(width, b"ntb")))
    return m.Truncate((oid,), False, False)


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    stream: list[bytes] = []
    announced: list[m.Message] = list(RELATIONS)
    for number, content in enumerate(draw(st.lists(st.lists(changes(), max_size=10), min_size=1, max_size=5)), 1):
        commit_time = draw(st.integers(0, 2)) * 1_000_000
        lsn = 100 * number
        whole = [m.Begin(lsn, commit_time, number), *announced, *content, m.Commit(0, lsn, lsn + 5, commit_time)]
        announced = []
        stream += [envelope(message, 1_200_000) for message in whole]
        if draw(st.booleans()):
            stream.append(b"k" + struct.pack("!QqB", lsn + 5, 0, draw(st.integers(0, 1))))
    return stream


@pytest.mark.fuzz
@settings(max_examples=settings().max_examples * 2)
@given(
    stream=streams(),
    marks=st.fixed_dictionaries({oid: st.integers(0, 300) for oid in WIDTHS}),
    limits=st.tuples(st.integers(1, 400), st.integers(1, 12)),
    often=st.integers(1, 400),
)
def test_a_generated_stream(
    engines: tuple[Engine, Engine], stream: list[bytes], marks: dict[int, int], limits: tuple[int, int], often: int
) -> None:
    pure, compiled = [read(engine, stream, marks, limits, often) for engine in engines]
    assert pure == compiled


@pytest.mark.parametrize("kind", [b"t", b"b"])
def test_a_huge_value(engines: tuple[Engine, Engine], kind: bytes) -> None:
    """What the old row and the new one have in common, and what they have not, of several pieces of COPY."""
    huge = bytes(range(256)) * 4096
    rows = [m.Row(kind * 3, [b"1", huge, other]) for other in (huge, huge[:-1] + b"x", b"")]
    content: list[m.Message] = [
        *RELATIONS,
        m.Update(3, "O", rows[0], rows[1]),
        m.Insert(3, rows[2]),
        m.Update(3, "O", rows[1], rows[0]),
    ]
    whole: list[m.Message] = [m.Begin(100, 0, 1), *content, m.Commit(0, 100, 105, 0)]
    stream = [envelope(message, 1_200_000) for message in whole]
    pure, compiled = [read(engine, stream, dict.fromkeys(WIDTHS, 0), (10**9, 10**9), 1) for engine in engines]
    assert not isinstance(pure, str) and len(pure[1]) == 1
    assert pure == compiled


@pytest.mark.fuzz
@settings(max_examples=settings().max_examples * 10)
@given(data=st.binary(max_size=80), tag=st.sampled_from([b"", *(bytes([tag]) for tag in b"BCORYIUDTMwk")]))
def test_random_bytes(engines: tuple[Engine, Engine], data: bytes, tag: bytes) -> None:
    """Nothing but the typed error, of either."""
    pure, compiled = engines
    assert decoded(pure, tag + data) == decoded(compiled, tag + data)
    assert enveloped(pure, tag + data) == enveloped(compiled, tag + data)


@pytest.mark.fuzz
@settings(max_examples=settings().max_examples * 10)
@given(message=any_message, data=st.data())
def test_mutated_messages(engines: tuple[Engine, Engine], message: m.Message, data: st.DataObject) -> None:
    payload = encode(message)
    pure, compiled = engines
    assert decoded(compiled, payload) == plain(message)
    payload = mutated(payload, data)
    assert decoded(pure, payload) == decoded(compiled, payload) == decoded_large(compiled, payload)


def each_message() -> Iterator[bytes]:
    for data in captured():
        if data[:1] == b"w":
            yield data[25:]


def test_every_way_to_cut_a_captured_message(engines: tuple[Engine, Engine]) -> None:
    """Where a row is read only as far as it is asked for, nothing may be taken for granted."""
    pure, compiled = engines
    for payload in each_message():
        for size in range(min(len(payload), 300)):
            outcome = decoded(pure, payload[:size])
            assert isinstance(outcome, str) and outcome == decoded(compiled, payload[:size])
