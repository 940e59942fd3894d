# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions that write, one transaction after the other, until they are told to stop; who loses one opens another."""

from __future__ import annotations

import abc
import contextlib
import threading
from collections.abc import Iterable
from typing import Any, TypeVar

import psycopg

Kind = TypeVar("Kind", bound="Writers")


class WritesNoMore(Exception):
    """C(failed) raises it: this writer ends, the others do not."""


class Writers(abc.ABC):
    """A thread for each of C(names), from C(__enter__) to C(__exit__). What they write is for who derives from this."""

    pause = 0.1
    """Seconds before another session is opened."""

    def __init__(self, names: Iterable[str]) -> None:
        self.stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(name,), daemon=True) for name in names]

    def __enter__(self: Kind) -> Kind:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *dummy: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Let each finish its transaction, and wait for that."""
        self.stopping.set()
        for thread in self._threads:
            thread.join(30)

    def _run(self, name: str) -> None:
        while not self.stopping.is_set():
            try:
                with contextlib.closing(self.connect(name)) as session:
                    while not self.stopping.is_set():
                        self.transaction(session, name)
            except psycopg.Error as exc:
                try:
                    self.failed(name, exc)
                except WritesNoMore:
                    return
                self.stopping.wait(self.pause)

    @abc.abstractmethod
    def connect(self, name: str) -> psycopg.Connection[Any]:
        """The session of one of them."""

    @abc.abstractmethod
    def transaction(self, session: psycopg.Connection[Any], name: str) -> None:
        """What it does over and over."""

    @abc.abstractmethod
    def failed(self, name: str, error: psycopg.Error) -> None:
        """Its session could not be opened, or a transaction was refused."""
