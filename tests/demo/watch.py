# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks for passwords where everybody could read them: argv and environment of every process, files, state tables."""

from __future__ import annotations

import pathlib
import stat
import threading
from collections.abc import Iterable

from .psql import Psql, PsqlError, identifier


class Watch(threading.Thread):
    """Reads /proc a few times a second while the demo runs; what it finds stands in C(found), without the password."""

    def __init__(self, passwords: Iterable[str], interval: float = 0.1) -> None:
        super().__init__(name="watch", daemon=True)
        self.passwords = [password.encode() for password in passwords]
        self.interval = interval
        self.found: set[str] = set()
        self.seen: set[tuple[str, bytes]] = set()
        self.looks = 0
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.is_set():
            self.look()
            self.looks += 1
            self._ended.wait(self.interval)

    def look(self) -> None:
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                argv = (process / "cmdline").read_bytes()
                if not argv or (process.name, argv) in self.seen:
                    continue
                environment = (process / "environ").read_bytes()
            except OSError:
                continue  # it has ended, or it is somebody else's
            self.seen.add((process.name, argv))
            for where, text in (("argv", argv), ("environment", environment)):
                if any(password in text for password in self.passwords):
                    program = argv.split(b"\0")[0].decode(errors="replace")
                    self.found.add(f"the {where} of {pathlib.Path(program).name}")

    def __enter__(self) -> Watch:
        self.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.end()

    def end(self) -> None:
        self._ended.set()
        self.join(5)


def in_files(folders: Iterable[pathlib.Path], passwords: Iterable[str]) -> list[str]:
    """Files that hold a password and that others than their owner could read, and logs that hold one at all."""
    words = [password.encode() for password in passwords]
    found = []
    for folder in folders:
        for path in folder.rglob("*"):
            try:
                mode = path.lstat().st_mode
                if not stat.S_ISREG(mode):
                    continue
                text = path.read_bytes()
            except OSError:
                continue
            if any(word in text for word in words) and (mode & 0o077 or path.suffix in (".log", ".out", ".err")):
                found.append(f"the file {path.name}")
    return found


def in_state_tables(psql: Psql, ends: Iterable[str], passwords: Iterable[str]) -> list[str]:
    """State tables, at either end, that hold a password."""
    words, found = list(passwords), []
    listing = (
        "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = 'causeway' AND c.relkind IN ('r', 'p');"
    )
    for end in ends:
        for table in psql.run(end, listing):
            try:
                rows = psql.run(end, f"SELECT to_jsonb(t) FROM {identifier('causeway', table)} AS t;")
            except PsqlError:
                continue
            if any(word in row for row in rows for word in words):
                found.append(f"the state table {table} at the {end}")
    return found
