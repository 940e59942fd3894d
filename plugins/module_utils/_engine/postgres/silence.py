# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bounds every wait for a server: a thread looks for sessions that get no answer, and asks the server about each.

A connection may be half open: something in between keeps our leg, and forwards nothing. The kernel does not notice, since
what we send is acknowledged. A session that has got no byte for its limit is looked up over a new one. It lives if the
server says that it works, or waits for a lock; so neither a long statement nor a long decoding is taken for death. It is
ended if the server does not know it, waits for us, waits for a standby, or lets no new session in.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..errors import ConnectError, EngineError
from ._psycopg import psycopg
from .connect import connect, explain_errors
from .open_sessions import OpenSession, open_sessions
from .sqlstates import policy_for

if TYPE_CHECKING:
    from .connect import End

_PURPOSE = "look"
_ANSWER = 20.0
"""Seconds within which a new session must have answered: connecting alone may take 10."""

_JUST = 10.0
"""Seconds for which an error may still be the consequence of a session that was given up."""

_TERMINATED = "57P01"

_SENDING = 3
"""How many times the limit a server may wait for the rest of what we send, in a COPY."""

_LOOK = """
SELECT coalesce(state, ''), coalesce(wait_event_type, ''), coalesce(wait_event, '')
  FROM pg_catalog.pg_stat_activity WHERE pid = %s
"""
_SLOT = "SELECT EXISTS (SELECT FROM pg_catalog.pg_replication_slots WHERE active_pid = %s)"

STANDBY = "its commit waits for a synchronous standby that is not there"


@dataclass(frozen=True, slots=True)
class Seen:
    """What the server says of a session: whether it is ``there``, reads a slot, and pg_stat_activity's columns."""

    there: bool
    reads_slot: bool = False
    state: str = ""
    kind: str = ""
    event: str = ""


def death(seen: Seen, session: OpenSession, silent: float) -> str:
    """Return why a session that has been silent for so many seconds will never answer; empty if it may. Pure."""
    if not seen.there or (session.streams and not seen.reads_slot):
        return "the server has ended the session, and we were not told"
    if seen.event == "SyncRep":
        return STANDBY
    if session.streams:
        # A walsender that decodes waits for nothing, or for the disk; one that waits would have answered our request.
        waits = seen.kind == "Client" or seen.event == "WalSenderMain"
        return "the walsender waits, and nothing of it arrives" if waits else ""
    if seen.state.startswith("idle"):
        # Idle it is too while nobody asks it anything.
        return "the server has answered, or never got the statement" if session.waits() else ""
    if seen.event == "ClientRead" and (not session.waits() or silent < _SENDING * session.limit):
        return ""
    return "the server waits for us, and nothing of it arrives" if seen.kind == "Client" else ""


@dataclass(slots=True)
class Ended:
    """A session that was given up, and why. ``at`` is monotonic."""

    end: End
    purpose: str
    why: str
    at: float = field(default_factory=time.monotonic)

    def __str__(self) -> str:
        return f"the {self.end} has not answered session {self.purpose!r} {self.why}"


class SilenceWatch:
    """The thread. Only one is wanted in a process; `stop` joins it, so that the process may fork."""

    def __init__(self) -> None:
        self.told: Callable[[Ended], None] = lambda dummy: None
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._ended: list[Ended] = []

    @property
    def runs(self) -> bool:
        return self._thread is not None

    def start(self) -> None:
        """Start to look. Idempotent."""
        if self._thread is None:
            self._over.clear()
            self._thread = threading.Thread(target=self._run, name="silence", daemon=True)
            self._thread.start()

    def stop(self, *, join: bool) -> None:
        """Stop looking; with ``join`` return when the thread has ended. Idempotent."""
        if self._thread is not None:
            self._over.set()
            if join:
                self._thread.join()
            self._thread = None

    def explained(self, exc: EngineError) -> EngineError:
        """Return the error of a session that has just been given up, with the reason; any other error as it is."""
        last = self._ended.pop() if self._ended else None
        self._ended.clear()
        lost = isinstance(exc, ConnectError) or exc.sqlstate == _TERMINATED
        if last is None or not lost or time.monotonic() - last.at > _JUST:
            return exc
        remedy = _CONNECT_STANDBY if STANDBY in last.why else policy_for("").remedy
        return ConnectError(exc.doing, exc.what, str(last), remedy, result=exc.result)

    def _run(self) -> None:
        while not self._over.wait(self._pause()):
            for session in open_sessions():
                silent, now = session.silent(), time.monotonic()
                if silent < session.limit or now < session.due or session.purpose.startswith(_PURPOSE):
                    continue
                self._look(session, silent)
                session.due = now + session.limit / 2

    def _pause(self) -> float:
        return max(0.1, min([2.0, *(session.limit / 4 for session in open_sessions())]))

    def _look(self, session: OpenSession, silent: float) -> None:
        """Look a session up, and give it up if it will never answer. In a thread, since a look may be silent too."""
        noted: list[Ended] = []

        def note(why: str) -> bool:
            # Before the server ends it: what the session then says is explained by this. It may have been heard meanwhile.
            if not noted and session.silent() >= session.limit:
                noted.append(Ended(session.endpoint.end, session.purpose, f"for {silent:.0f} s: {why}"))
                self._ended.append(noted[0])
            return bool(noted)

        asked = threading.Thread(target=_ask, args=(session, silent, note), name="look", daemon=True)
        asked.start()
        asked.join(min(_ANSWER, 4 * session.limit))
        if asked.is_alive():
            note("the server answers no new session either")
        if noted:
            session.cut()
            self.told(noted[0])


def _ask(session: OpenSession, silent: float, note: Callable[[str], bool]) -> None:
    """Look a session up, and ``note`` why it is dead; if that is taken, end at the server what of it still stands there."""
    try:
        with connect(session.endpoint, f"{_PURPOSE} {session.purpose}") as conn:
            row = conn.execute(_LOOK, (session.pid,)).fetchone()
            slot = conn.execute(_SLOT, (session.pid,)).fetchone() if session.streams else None
            seen = Seen(True, bool(slot and slot[0]), *row) if row else Seen(False)
            why = death(seen, session, silent)
            if why and note(why) and seen.there:
                conn.execute("SELECT pg_catalog.pg_terminate_backend(%s)", (session.pid,))
    except ConnectError as exc:
        # A server that refuses is there: too many connections, or it is starting.
        if not exc.sqlstate and "FATAL" not in exc.why:
            note("no new session can be opened either")
    except (EngineError, psycopg.Error):
        return


_CONNECT_STANDBY = (
    "Connect the standby, or take it out of synchronous_standby_names until it is connected; then run the"
    " same playbook again. What was done is kept."
)

_WATCH = SilenceWatch()


def explained(exc: EngineError) -> EngineError:
    """Return the error of a session that this process has just given up, with the reason; any other error as it is."""
    return _WATCH.explained(exc)


@contextmanager
def explaining(doing: str, what: str) -> Iterator[None]:
    """Turn what ends the body into an EngineError: a session that was given up with the reason, a driver's error as it is."""
    try:
        with explain_errors(doing, what):
            yield
    except EngineError as exc:
        found = explained(exc)
        if found is exc:
            raise
        raise found from exc


@contextmanager
def watching(told: Callable[[Ended], None] | None = None) -> Iterator[None]:
    """Bound the waits of the body's sessions; ``told`` is called, in the thread, with each that is given up."""
    _WATCH.told = told or _WATCH.told
    _WATCH.start()
    try:
        yield
    finally:
        _WATCH.stop(join=False)


@contextmanager
def unwatched() -> Iterator[None]:
    """Have no thread while the body runs, which forks."""
    ran = _WATCH.runs
    _WATCH.stop(join=True)
    try:
        yield
    finally:
        if ran:
            _WATCH.start()
