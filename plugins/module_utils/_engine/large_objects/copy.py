# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copying large objects: page by page in the order of their OIDs, small ones together, a large one in pieces.

An object and the row that says it is ours are written in one destination transaction: after a crash what exists is
complete and known, and the next call copies the others. Memory holds one piece: of a large object, or small ones together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from typing import TYPE_CHECKING, Protocol

from ..capture.snapshot_import import SNAPSHOT_GONE, import_statement
from ..errors import StateError
from ..postgres._psycopg import psycopg, sql
from ..postgres.connect import connect, explain_errors
from ..state.large_objects import (
    begin_objects,
    complete_objects,
    forget_objects,
    objects_before_run,
    objects_of_run,
    own_objects,
    read_copied,
    record_objects,
)
from .objects import (
    CREATE,
    PAGE,
    PIECE,
    PUT,
    READ,
    REMOVE,
    SIZES,
    ObjectWish,
    count,
    destination_roles,
    present_objects,
    require_free,
    require_readable,
    stored_bytes,
    taken,
    waiting,
)
from .rights import PAGE_STATEMENT, SourceObject, comment_statements, right_statements
from .writes import BEFORE, COPIED, written_rows

if TYPE_CHECKING:
    from ..migration import Migration
    from ..postgres.connect import Connection

_COPYING = "copying large objects"
_RIGHTS_REMEDY = "Make the migration's account a member of the roles that own large objects, at the destination, or set privileges: skip."


class Pace(Protocol):
    """What a copy may spend."""

    async def spend(self, **amounts: float) -> None:
        """Wait until so many ``queries``, ``rows`` and ``bytes`` may go."""


class Reporter(Protocol):
    """Where a copy counts what it does: rows, bytes as read, and size as the source stores them."""

    rows: int
    bytes: int
    size: int

    @property
    def throttle(self) -> Pace:
        """Return the rate limits of the copy."""

    def working(self) -> AbstractContextManager[None]:
        """Return a context in which this host counts as copying."""


class ObjectCopy:
    """The copy of large objects in one call. ``copied`` counts those that it has copied, or removed again."""

    def __init__(self, migration: Migration, wish: ObjectWish, reporter: Reporter | None = None) -> None:
        self.copied = 0
        self._migration = migration
        self._wish = wish
        self._reporter = reporter
        self.size = 0
        """Bytes of all of them as the source stores them, once `begin` has looked: progress is counted in these."""
        self._run = 0
        self._counted = 0
        self._roles: list[str] = []
        self._ourselves = ""

    def begin(self) -> None:
        """Record that large objects are to be copied, before any snapshot is taken: what is written to them from now on
        counts as written after the copy. Raises MismatchError, ServerError."""
        migration, store = self._migration, self._migration.store
        known = read_copied(store)
        if not waiting(known, self._wish):
            return
        require_readable(migration.source)
        require_free(migration)
        self._roles, self._ourselves = destination_roles(migration.destination)
        self.size = stored_bytes(migration.source)
        if known is not None and not self._wish.again:
            self._run = known.run
            return
        total = count(migration.source)
        with explain_errors("counting what was written to large objects at the", "source"):
            written = written_rows(migration.source)
        with explain_errors("beginning to copy the large objects of migration", store.name), store.conn.transaction():
            store.drop_original(BEFORE, ["written"])
            store.record_original(BEFORE, {"written": written})
            self._run = begin_objects(store, total)

    def copy(self, snapshot: str = "") -> None:
        """Copy what is left, under this exported snapshot of the source, or one of its own. Nothing is done if nothing
        is left, or if the snapshot is no longer held. Raises EngineErrors; what is copied stays."""
        if not self._run:
            return
        reporter = self._reporter
        with reporter.working() if reporter else nullcontext(), self._reading(snapshot) as source:
            if source is None:
                return
            after = 0
            while page := self._page(source, after):
                after = page[-1].oid
                self._copy_page(source, page)
        self._remove_gone()
        self._finish()

    @contextmanager
    def _reading(self, snapshot: str) -> Iterator[Connection | None]:
        with closing(connect(self._migration.spec.source, f"large objects {self._migration.name}")) as source:
            with explain_errors("taking a snapshot of the large objects at the", "source"):
                source.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                stands = not snapshot or _imported(source, snapshot)
            yield source if stands else None

    def _page(self, source: Connection, after: int) -> list[SourceObject]:
        with explain_errors("reading which large objects there are at the", "source"):
            rows = source.execute(PAGE_STATEMENT, (after, PAGE)).fetchall()
        return [
            SourceObject(oid, owner, comment, None if grants is None else tuple((g[0], g[1], g[2]) for g in grants))
            for oid, owner, comment, grants in rows
        ]

    def _copy_page(self, source: Connection, page: Sequence[SourceObject]) -> None:
        store = self._migration.store
        with explain_errors("reading which large objects are copied in migration", store.name):
            done = set(objects_of_run(store, self._run, [one.oid for one in page]))
        todo = [one for one in page if one.oid not in done]
        if not todo:
            return
        sizes = self._sizes(source, [one.oid for one in todo])
        for group in packed(todo, sizes, PIECE):
            self._write(source, group, sum(sizes[one.oid] for one in group))

    def _sizes(self, source: Connection, oids: list[int]) -> dict[int, int]:
        with explain_errors("asking for the size at the source of large object", _span(oids)):
            return {oid: size for oid, size, dummy in source.execute(SIZES, {"objects": oids}).fetchall()}

    def _read(self, source: Connection, oids: list[int], offset: int) -> dict[int, bytes]:
        """Return a piece of each of these objects, by OID."""
        with explain_errors("reading at the source large object", _span(oids)):
            values = {"objects": oids, "offset": offset, "length": PIECE}
            pieces: dict[int, bytes] = dict(source.execute(READ, values, binary=True).fetchall())
        if self._reporter is not None:
            size = sum(map(len, pieces.values()))
            asyncio.run(self._reporter.throttle.spend(queries=1, rows=0 if offset else len(oids), bytes=size))
            # The stored size is compressed, and objects that an earlier call copied are not read.
            step = min(size, self.size - self._counted)
            self._counted += step
            self._reporter.bytes, self._reporter.size = self._reporter.bytes + size, self._reporter.size + step
        return pieces

    def _write(self, source: Connection, objects: Sequence[SourceObject], size: int) -> None:
        """Write some objects whole in one transaction: bytes, comment, owner, grants, and that they are ours."""
        store, oids = self._migration.store, [one.oid for one in objects]
        with explain_errors("writing at the destination large object", _span(oids)):
            try:
                with store.conn.transaction():
                    self._remove(own_objects(store, oids))
                    first = self._read(source, oids, 0)
                    store.conn.execute(CREATE, {"objects": oids, "pieces": [first[oid] for oid in oids]})
                    for offset in range(PIECE, size, PIECE):  # only an object that is alone exceeds it
                        piece = self._read(source, oids, offset)[oids[0]]
                        store.conn.execute(PUT, {"object": oids[0], "offset": offset, "piece": piece})
                    self._write_rights(objects)
                    self._note(oids, size)
            except psycopg.errors.UniqueViolation:
                if found := present_objects(store.conn, oids):
                    raise taken(found) from None
                raise
        self.copied += len(oids)
        if self._reporter is not None:
            self._reporter.rows += len(oids)

    def _write_rights(self, objects: Sequence[SourceObject]) -> None:
        conn = self._migration.destination
        statements = comment_statements(objects)
        if self._wish.privileges:
            statements += right_statements(objects, self._roles, self._ourselves)
        if statements:
            with explain_errors(
                "setting comment, owner and grants of large objects at the", "destination", _RIGHTS_REMEDY
            ):
                conn.execute(sql.SQL("; ").join(statements))

    def _remove(self, oids: list[int]) -> None:
        if oids:
            self._migration.destination.execute(REMOVE, {"objects": oids})

    def _note(self, oids: list[int], size: int) -> None:
        store = self._migration.store
        if not record_objects(store, self._run, oids, size):
            raise StateError(
                _COPYING, store.name, "a later run has taken them over", "Nothing is lost: the other run copies them."
            )

    def _remove_gone(self) -> None:
        """Remove objects of ours that this run has not met: the source no longer has them."""
        store = self._migration.store
        while True:
            with (
                explain_errors("removing at the destination large objects that the source no longer has"),
                store.conn.transaction(),
            ):
                gone = objects_before_run(store, self._run, PAGE)
                if not gone:
                    return
                self._remove(gone)
                forget_objects(store, gone)
            self.copied += len(gone)

    def _finish(self) -> None:
        store = self._migration.store
        with explain_errors("finishing the large objects of migration", store.name), store.conn.transaction():
            complete_objects(store, self._run)
            known = read_copied(store)
            if known is not None and (known.objects or known.run > 1):
                store.event("copied", COPIED, {"objects": known.objects, "bytes": known.bytes, "run": known.run})
        self._run = 0


def _imported(source: Connection, snapshot: str) -> bool:
    """Import an exported snapshot; return False if its holder has ended. Raises psycopg.Error."""
    try:
        source.execute(import_statement(snapshot))
    except psycopg.Error as exc:
        if exc.sqlstate not in SNAPSHOT_GONE:
            raise
        return False
    return True


def packed(objects: Sequence[SourceObject], sizes: Mapping[int, int], most: int) -> list[list[SourceObject]]:
    """Group neighbours that together have no more than ``most`` bytes, in order; a larger one is alone. Pure."""
    groups: list[list[SourceObject]] = []
    room = 0
    for one in objects:
        if not groups or sizes[one.oid] > room:
            groups.append([])
            room = most
        groups[-1].append(one)
        room -= sizes[one.oid]
    return groups


def _span(oids: Sequence[int]) -> str:
    return str(oids[0]) if len(oids) == 1 else f"{oids[0]} to {oids[-1]}"
