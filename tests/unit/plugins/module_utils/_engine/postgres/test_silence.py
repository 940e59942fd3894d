# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a session that gets no answer is given up, and what is measured of its socket."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import (
    ConnectError,
    ServerError,
    StateError,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres import silence
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres.connect import Endpoint
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres.open_sessions import (
    OpenSession,
    silence_of,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres.silence import (
    STANDBY,
    Ended,
    Seen,
    SilenceWatch,
    death,
    unwatched,
    watching,
)

SOURCE = Endpoint("source", host="old", dbname="shop", user="mover")


def session(**other: Any) -> OpenSession:
    known = {"endpoint": SOURCE, "purpose": "x", "pid": 7, "limit": 60.0}
    return OpenSession(**{**known, "descriptor": lambda: -1, "waits": lambda: True, **other})


WORKING = Seen(True, state="active")
STREAMING = Seen(True, True, "active")


@pytest.mark.parametrize(
    ("seen", "streams"),
    [
        (WORKING, False),
        (replace(WORKING, kind="Lock", event="relation"), False),
        (replace(WORKING, kind="IO", event="DataFileRead"), False),
        (replace(WORKING, kind="Client", event="ClientRead"), False),
        (Seen(True), False),
        (Seen(True, state="disabled"), False),
        (STREAMING, True),
        (replace(STREAMING, kind="IO", event="ReorderBufferWrite"), True),
        (replace(STREAMING, kind="LWLock", event="WALRead"), True),
    ],
)
def test_a_session_at_work_lives_however_long_it_takes(seen: Seen, streams: bool) -> None:
    assert death(seen, session(streams=streams), 61.0) == ""


@pytest.mark.parametrize(
    ("seen", "streams", "silent"),
    [
        (Seen(False), False, 61.0),
        (Seen(True, state="idle", kind="Client", event="ClientRead"), False, 61.0),
        (Seen(True, state="idle in transaction", kind="Client", event="ClientRead"), False, 61.0),
        (replace(WORKING, kind="Client", event="ClientWrite"), False, 61.0),
        (replace(WORKING, kind="Client", event="ClientRead"), False, 181.0),
        (replace(WORKING, kind="IPC", event="SyncRep"), False, 61.0),
        (Seen(False), True, 61.0),
        (replace(STREAMING, reads_slot=False), True, 61.0),
        (replace(STREAMING, kind="Client", event="WalSenderWaitForWAL"), True, 61.0),
        (replace(STREAMING, kind="Client", event="WalSenderWaitForWal"), True, 61.0),
        (replace(STREAMING, kind="Client", event="WalSenderWriteData"), True, 61.0),
        (replace(STREAMING, kind="Activity", event="WalSenderMain"), True, 61.0),
    ],
)
def test_a_session_that_can_say_no_more_is_dead(seen: Seen, streams: bool, silent: float) -> None:
    assert death(seen, session(streams=streams), silent)


@pytest.mark.parametrize("event", ["ClientRead", ""])
def test_of_a_driver_that_does_not_tell_whether_it_waits_an_idle_session_lives(event: str) -> None:
    idle = Seen(True, state="idle in transaction" if event else "active", kind="Client", event="ClientRead")
    assert death(idle, session(waits=lambda: None), 1000.0) == ""
    assert death(Seen(False), session(waits=lambda: None), 61.0)


def test_a_closed_session_is_neither_silent_nor_cut() -> None:
    gone = session()
    assert gone.silent() == 0.0
    gone.cut()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as ours,
        listener.accept()[0] as there,
    ):
        yield ours, there


@pytest.mark.skipif(sys.platform != "linux", reason="TCP_INFO is Linux's")
def test_silence_is_measured_from_the_last_byte(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, there = pair
    there.sendall(b"x")
    ours.recv(1)
    time.sleep(0.3)
    assert 0.25 <= silence_of(ours.fileno(), sent_counts=False) < 1.0
    ours.sendall(b"feedback")
    assert silence_of(ours.fileno(), sent_counts=False) >= 0.25
    assert silence_of(ours.fileno(), sent_counts=True) < 0.25
    there.sendall(b"x")
    time.sleep(0.3)
    assert silence_of(ours.fileno(), sent_counts=False) == 0.0, "what we have not read yet is no silence"


def test_a_unix_socket_is_never_silent() -> None:
    ours, there = socket.socketpair()
    with ours, there:
        assert silence_of(ours.fileno(), sent_counts=False) == 0.0


def test_the_limit_is_the_connection_s_own() -> None:
    assert SOURCE.patience == 60.0
    assert replace(SOURCE, connect_params={"tcp_user_timeout": "2500"}).patience == 2.5
    assert replace(SOURCE, connect_params={"tcp_user_timeout": "0"}).patience == 60.0
    assert replace(SOURCE, connect_params={"tcp_user_timeout": "soon"}).patience == 60.0


class Silent:
    """A session that says nothing, until it is cut."""

    def __init__(self, purpose: str = "worker", limit: float = 0.2) -> None:
        self.endpoint, self.purpose, self.limit, self.due = SOURCE, purpose, limit, 0.0
        self.cuts = 0

    def silent(self) -> float:
        return 0.0 if self.cuts else 1.0

    def cut(self) -> None:
        self.cuts += 1


def watched(monkeypatch: pytest.MonkeyPatch, sessions: list[Any], answer: str) -> tuple[SilenceWatch, list[Ended]]:
    told: list[Ended] = []
    monkeypatch.setattr(silence, "open_sessions", lambda: tuple(sessions))
    monkeypatch.setattr(silence, "_ask", lambda session, silent, note: note(answer))
    watch = SilenceWatch()
    watch.told = told.append
    watch.start()
    time.sleep(0.6)
    watch.stop(join=True)
    return watch, told


def test_a_dead_session_is_cut_once_and_its_error_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    dead = Silent()
    watch, told = watched(monkeypatch, [dead], STANDBY)
    assert dead.cuts == 1 and len(told) == 1
    lost = ConnectError("committing", "m", "server closed the connection", "Look.")
    found = watch.explained(lost)
    assert STANDBY in found.why and "synchronous_standby_names" in found.remedy
    assert watch.explained(lost) is lost


def test_a_session_that_was_ended_at_the_server_first_says_why_too(monkeypatch: pytest.MonkeyPatch) -> None:
    watch, dummy = watched(monkeypatch, [Silent()], STANDBY)
    ended = ServerError("committing", "m", "terminating connection", "Again.", sqlstate="57P01")
    assert STANDBY in watch.explained(ended).why


def test_the_reason_is_known_before_the_server_ends_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it says when it is ended is a sign of life, and may be explained before the look is over."""
    dead = Silent()
    said: list[str] = []

    def ask(_session: Any, _silent: float, note: Any) -> None:
        assert note(STANDBY)
        monkeypatch.setattr(dead, "silent", lambda: 0.0)
        said.append(watch.explained(ConnectError("committing", "m", "server closed the connection", "Look.")).why)

    monkeypatch.setattr(silence, "open_sessions", lambda: (dead,))
    monkeypatch.setattr(silence, "_ask", ask)
    watch = SilenceWatch()
    watch.start()
    time.sleep(0.6)
    watch.stop(join=True)
    assert STANDBY in said[0] and dead.cuts == 1


def test_one_that_was_heard_meanwhile_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Silent()
    taken: list[bool] = []

    def ask(_session: Any, _silent: float, note: Any) -> None:
        monkeypatch.setattr(one, "silent", lambda: 0.0)
        taken.append(note("the server has ended it"))

    monkeypatch.setattr(silence, "open_sessions", lambda: (one,))
    monkeypatch.setattr(silence, "_ask", ask)
    watch = SilenceWatch()
    watch.start()
    time.sleep(0.6)
    watch.stop(join=True)
    assert taken == [False] and not one.cuts


def test_another_error_keeps_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    watch, dummy = watched(monkeypatch, [Silent()], "the server has ended it")
    other = StateError("a", "b", "c", "d")
    assert watch.explained(other) is other


def test_one_that_lives_is_left_and_not_asked_about_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    alive, look = Silent(limit=10.0), Silent("look worker", limit=0.1)
    alive.silent = lambda: 11.0  # type: ignore[method-assign]
    asked: list[Any] = []

    def ask(*looked: Any) -> None:
        asked.append(looked)

    monkeypatch.setattr(silence, "_ask", ask)
    monkeypatch.setattr(silence, "open_sessions", lambda: (alive, look))
    watch = SilenceWatch()
    watch.start()
    time.sleep(0.6)
    watch.stop(join=True)
    assert len(asked) == 1 and not alive.cuts and not look.cuts


def test_a_look_that_gets_no_answer_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    dead = Silent(limit=0.1)

    def ask(*dummy: Any) -> None:
        time.sleep(5)

    monkeypatch.setattr(silence, "_ask", ask)
    monkeypatch.setattr(silence, "open_sessions", lambda: (dead,))
    watch = SilenceWatch()
    watch.start()
    time.sleep(1.2)
    watch.stop(join=True)
    assert dead.cuts == 1


def test_no_thread_is_there_while_a_process_forks() -> None:
    with watching():
        with unwatched():
            assert not silence._WATCH.runs
        assert silence._WATCH.runs
    assert not silence._WATCH.runs
    with unwatched():
        pass
    assert not silence._WATCH.runs
