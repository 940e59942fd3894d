# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Key values of both protocols become the integers that PostgreSQL sorts by; the server itself is asked in the
functional tests."""

from __future__ import annotations

import uuid
from datetime import date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import ProtocolError
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres import key_order as order

WIDTH = {order.INT2: 2, order.INT4: 4, order.INT8: 8}


@pytest.mark.parametrize("type_oid", WIDTH)
@given(data=st.data())
def test_integers(type_oid: int, data: st.DataObject) -> None:
    bits = 8 * WIDTH[type_oid] - 1
    value = data.draw(st.integers(-(1 << bits), (1 << bits) - 1))
    assert order.from_text(type_oid, b"%d" % value) == value
    assert order.from_binary(type_oid, value.to_bytes(WIDTH[type_oid], "big", signed=True)) == value
    assert order.literal(type_oid, value) == str(value)


@given(st.uuids(), st.uuids())
def test_uuids(one: uuid.UUID, other: uuid.UUID) -> None:
    for value in (one, other):
        assert order.from_text(order.UUID, str(value).encode()) == order.from_binary(order.UUID, value.bytes)
        assert order.literal(order.UUID, value.int) == str(value)
    assert (one.bytes < other.bytes) == (
        order.from_binary(order.UUID, one.bytes) < order.from_binary(order.UUID, other.bytes)
    )


@given(st.dates())
def test_dates(value: date) -> None:
    days = (value - date(2000, 1, 1)).days
    assert order.from_text(order.DATE, value.isoformat().encode()) == days
    assert order.from_binary(order.DATE, days.to_bytes(4, "big", signed=True)) == days
    assert order.literal(order.DATE, days) == value.isoformat()


@given(st.datetimes(), st.integers(-15 * 3600, 15 * 3600))
def test_timestamps(value: datetime, east: int) -> None:
    micros = (value - datetime(2000, 1, 1)) // timedelta(microseconds=1)
    text = value.isoformat(" ")
    assert order.from_text(order.TIMESTAMP, text.encode()) == micros
    assert order.from_binary(order.TIMESTAMP, micros.to_bytes(8, "big", signed=True)) == micros
    assert order.literal(order.TIMESTAMP, micros) == text
    sign, rest = "-+"[east >= 0], abs(east)
    zoned = f"{text}{sign}{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    assert order.from_text(order.TIMESTAMPTZ, zoned.encode()) == micros - east * 1_000_000
    assert order.from_text(order.TIMESTAMPTZ, f"{text}+00".encode()) == micros


FAR = {
    (order.DATE, b"0001-12-31 BC"): -730_120,
    (order.DATE, b"4714-11-24 BC"): -2_451_545,
    (order.DATE, b"5874897-12-31"): 2_145_031_948,
    (order.DATE, b"infinity"): 2**31 - 1,
    (order.DATE, b"-infinity"): -(2**31),
    (order.TIMESTAMP, b"4714-11-24 00:00:00 BC"): -211_813_488_000_000_000,
    (order.TIMESTAMP, b"294276-12-31 23:59:59.999999"): 9_223_371_331_199_999_999,
    (order.TIMESTAMP, b"infinity"): 2**63 - 1,
    (order.TIMESTAMPTZ, b"-infinity"): -(2**63),
    (order.TIMESTAMPTZ, b"2000-01-01 00:00:00.5+00"): 500_000,
}


@pytest.mark.parametrize(("type_oid", "text"), FAR)
def test_ends_of_time(type_oid: int, text: bytes) -> None:
    assert order.from_text(type_oid, text) == FAR[type_oid, text]


def test_there_is_no_literal_outside_the_years_that_everybody_knows() -> None:
    for type_oid in (order.DATE, order.TIMESTAMP, order.TIMESTAMPTZ):
        assert order.literal(type_oid, 2**31 if type_oid == order.DATE else 2**62) is None


@given(st.sampled_from(sorted(order.TYPE_NAMES)), st.binary(max_size=40))
def test_nothing_but_the_typed_error_on_any_bytes(type_oid: int, data: bytes) -> None:
    for read in (order.from_text, order.from_binary):
        try:
            assert isinstance(read(type_oid, data), int)
        except ProtocolError as exc:
            assert repr(data) not in str(exc)


def test_other_types_have_no_order() -> None:
    for read in (order.from_text, order.from_binary):
        with pytest.raises(ProtocolError):
            read(25, b"text")
