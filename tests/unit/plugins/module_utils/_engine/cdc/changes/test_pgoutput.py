# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The decoder gives back what was encoded, and answers anything else with its typed error."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.plugins.module_utils._engine.cdc.changes.pgoutput_encoder import encode

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes import messages as m
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes.pgoutput import (
    XLOG_HEADER,
    decode,
    parse_envelope,
    standby_status_update,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import ProtocolError

uint32 = st.integers(0, 2**32 - 1)
uint64 = st.integers(0, 2**64 - 1)
int64 = st.integers(-(2**63), 2**63 - 1)
name = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=12)


@st.composite
def rows(draw: st.DrawFn, kinds: bytes = b"nutb", width: int | None = None) -> m.Row:
    count = draw(st.integers(0, 6)) if width is None else width
    chosen = bytes(draw(st.lists(st.sampled_from(kinds), min_size=count, max_size=count)))
    return m.Row(chosen, [None if kind in b"nu" else draw(st.binary(max_size=9)) for kind in chosen])


@st.composite
def updates(draw: st.DrawFn) -> m.Update:
    new = draw(rows())
    old_kind = draw(st.sampled_from(["", "K", "O"]))
    old = draw(rows(width=len(new.kinds))) if old_kind else None
    return m.Update(draw(uint32), old_kind, old, new)


columns = st.builds(m.RelationColumn, name, uint32, st.integers(-(2**31), 2**31 - 1), st.booleans())
any_message = st.one_of(
    st.builds(m.Begin, uint64, int64, uint32),
    st.builds(m.Commit, st.integers(0, 255), uint64, uint64, int64),
    st.builds(m.Origin, uint64, name),
    st.builds(m.Relation, uint32, name, name, st.sampled_from("dnfi"), st.lists(columns, max_size=4).map(tuple)),
    st.builds(m.Type, uint32, name, name),
    st.builds(m.Insert, uint32, rows(kinds=b"ntb")),
    updates(),
    st.builds(m.Delete, uint32, st.sampled_from("KO"), rows()),
    st.builds(m.Truncate, st.lists(uint32, max_size=4).map(tuple), st.booleans(), st.booleans()),
    st.builds(m.LogicalMessage, st.booleans(), uint64, name, st.binary(max_size=9)),
)


@pytest.mark.fuzz
@given(any_message, st.binary(max_size=30))
def test_what_was_encoded_comes_back(message: m.Message, before: bytes) -> None:
    payload = encode(message)
    assert decode(payload) == message
    assert decode(before + payload, len(before)) == message


def mutated(payload: bytes, data: st.DataObject) -> bytes:
    """The same bytes, a few of them changed, lost or added."""
    altered = bytearray(payload)
    for dummy in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(altered) - 1))
        what = data.draw(st.sampled_from(["set", "cut", "insert", "grow"]))
        if what == "set":
            altered[at] = data.draw(st.integers(0, 255))
        elif what == "cut" and at:
            del altered[at:]
        elif what == "insert":
            altered.insert(at, data.draw(st.integers(0, 255)))
        else:
            altered += data.draw(st.binary(min_size=1, max_size=4))
    return bytes(altered)


@pytest.mark.fuzz
@settings(max_examples=settings().max_examples * 20)
@given(st.binary(max_size=80), st.sampled_from(b"BCORYIUDTM"))
def test_random_bytes_raise_only_the_typed_error(data: bytes, tag: int) -> None:
    for payload in (data, bytes([tag]) + data):
        decode_or_typed_error(payload)


@pytest.mark.fuzz
@settings(max_examples=settings().max_examples * 20)
@given(any_message, st.data())
def test_mutated_messages_raise_only_the_typed_error(message: m.Message, data: st.DataObject) -> None:
    decode_or_typed_error(mutated(encode(message), data))


@given(any_message, st.data())
def test_cut_off_or_followed_by_a_byte_is_malformed(message: m.Message, data: st.DataObject) -> None:
    payload = encode(message)
    with pytest.raises(ProtocolError):
        decode(payload[: data.draw(st.integers(0, len(payload) - 1))])
    with pytest.raises(ProtocolError):
        decode(payload + b"\0")


def decode_or_typed_error(payload: bytes) -> None:
    """Whatever the decoder accepts must also be what these bytes say: encoded again they are the same."""
    try:
        message = decode(payload)
    except ProtocolError:
        return
    loose = isinstance(message, m.Relation | m.Type | m.LogicalMessage)  # spare flag bits; pg_catalog has two spellings
    assert loose or encode(message) == payload


@pytest.mark.parametrize(
    "payload",
    [
        b"I" + struct.pack("!I", 1) + b"N" + struct.pack("!H", 65535),
        b"I" + struct.pack("!I", 1) + b"N" + struct.pack("!H", 1) + b"t" + struct.pack("!I", 2**32 - 1) + b"x",
        b"I" + struct.pack("!I", 1) + b"N" + struct.pack("!H", 1) + b"u",
        b"U" + struct.pack("!I", 1) + b"K" + struct.pack("!H", 0) + b"N" + struct.pack("!H", 1) + b"n",
        b"T" + struct.pack("!IB", 2**32 - 1, 0) + bytes(8),
        b"T" + struct.pack("!IBI", 1, 4, 9),
        b"R" + struct.pack("!I", 1) + b"s\0t\0" + b"x" + struct.pack("!H", 0),
        b"R" + struct.pack("!I", 1) + b"\xff\0t\0" + b"d" + struct.pack("!H", 0),
        b"S" + bytes(8),
        b"",
    ],
    ids=["columns", "length", "unchanged", "widths", "tables", "options", "identity", "utf8", "streaming", "empty"],
)
def test_absurd_messages(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(payload)


def test_no_error_repeats_a_value() -> None:
    with pytest.raises(ProtocolError) as caught:
        decode(b"I" + struct.pack("!I", 1) + b"N" + struct.pack("!H", 1) + b"t" + struct.pack("!I", 6) + b"secret?")
    assert "secret" not in str(caught.value) + repr(m.Insert(1, m.Row(b"t", [b"secret"])))


def test_an_empty_schema_is_pg_catalog() -> None:
    relation = decode(b"R" + struct.pack("!I", 7) + b"\0t\0" + b"f" + struct.pack("!H", 0))
    assert relation == m.Relation(7, "pg_catalog", "t", "f", ())


def test_the_envelope() -> None:
    data = b"w" + struct.pack("!QQq", 10, 20, -30) + b"payload"
    assert parse_envelope(data) == m.XLogData(10, 20, -30, b"payload")
    assert data[XLOG_HEADER:] == b"payload"
    assert parse_envelope(b"k" + struct.pack("!QqB", 5, 6, 1)) == m.Keepalive(5, 6, True)


@given(st.binary(max_size=40), st.sampled_from([b"", b"w", b"k"]))
def test_a_malformed_envelope_raises_only_the_typed_error(data: bytes, tag: bytes) -> None:
    try:
        envelope = parse_envelope(tag + data)
    except ProtocolError:
        return
    assert isinstance(envelope, m.XLogData | m.Keepalive)


def test_feedback() -> None:
    update = standby_status_update(300, 200, 100, 7, reply_requested=True)
    assert update == b"r" + struct.pack("!QQQqB", 300, 200, 100, 7, 1)
    for written, flushed, applied in [(1, 2, 0), (1, 0, 2), (2**64, 0, 0), (1, -1, 0)]:
        with pytest.raises(ProtocolError):
            standby_status_update(written, flushed, applied, 0)
