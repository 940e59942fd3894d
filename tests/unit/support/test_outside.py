# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is skipped, and why, when the tests run on servers from outside."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import conninfo
from support.clusters import outside
from support.clusters.local import Server

DSN = "host=there port=5433 user=tester password=s dbname=postgres"


@pytest.fixture
def old_source(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A source from outside that is a 15; the destination is the tests' own."""
    monkeypatch.setenv("CAUSEWAY_TEST_SOURCE", DSN)
    monkeypatch.delenv("CAUSEWAY_TEST_DESTINATION", raising=False)
    monkeypatch.setattr(outside, "version", lambda text: {DSN: 150008}[text])
    yield


class Item:
    """The part of a test item that the question is about."""

    def __init__(self, *marks: pytest.Mark) -> None:
        self.marks = marks

    def get_closest_marker(self, name: str) -> pytest.Mark | None:
        return next(self.iter_markers(name), None)

    def iter_markers(self, name: str) -> Iterator[pytest.Mark]:
        return (mark for mark in self.marks if mark.name == name)


def why_not(*marks: pytest.MarkDecorator) -> str:
    item: Any = Item(*(decorator.mark for decorator in marks))
    return outside.why_not(item)


OWN = pytest.mark.own_servers("it crashes them")
SLOTS = pytest.mark.since(170000, "failover slots")


@pytest.mark.usefixtures("old_source")
def test_a_test_that_needs_more_is_skipped_with_the_reason() -> None:
    assert why_not(OWN) == "servers from outside: it crashes them"
    assert why_not(SLOTS) == "the source from outside is 150008, and failover slots came with 170000"
    assert why_not(pytest.mark.since(150000, "MERGE")) == ""
    assert why_not(pytest.mark.since(170000, "x", role="destination")) == "", "that one is the tests' own"
    assert why_not() == ""


def test_nothing_is_skipped_on_our_own_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in outside.EXTERNAL.values():
        monkeypatch.delenv(variable, raising=False)
    assert why_not(OWN, SLOTS) == ""
    assert outside.too_new(psycopg.errors.SyntaxError("at or near SET")) == ""


@pytest.mark.usefixtures("old_source")
def test_only_a_refusal_of_the_tests_own_sql_counts_as_too_new() -> None:
    assert "does not know what the test says: at or near" in outside.too_new(
        psycopg.errors.SyntaxError("at or near SET")
    )
    for other in (
        psycopg.errors.UndefinedTable("t"),
        psycopg.errors.UniqueViolation("t"),
        AssertionError("SyntaxError"),
    ):
        assert outside.too_new(other) == ""


def test_a_server_of_today_knows_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAUSEWAY_TEST_SOURCE", DSN)
    monkeypatch.setattr(outside, "version", lambda text: 180001)
    assert outside.too_new(psycopg.errors.SyntaxError("at or near SET")) == ""


def test_our_own_sessions_wait_for_the_flush_and_the_modules_are_given_the_endpoint_as_it_is() -> None:
    server = Server(DSN)
    assert conninfo.conninfo_to_dict(server.dsn("d"))["options"] == "-c synchronous_commit=on"
    assert "connect_params" not in server.endpoint("d")
    given = Server(DSN + " options='-c lock_timeout=1s'")
    assert conninfo.conninfo_to_dict(given.dsn())["options"] == "-c lock_timeout=1s -c synchronous_commit=on"
    assert given.endpoint("d")["connect_params"] == {"options": "-c lock_timeout=1s"}
    assert "options" not in conninfo.conninfo_to_dict(Server(DSN, object()).dsn())
