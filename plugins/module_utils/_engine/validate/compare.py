# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares the tables of both ends: directly if nothing is written, by rereading suspects while the source is."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from ..errors import MismatchError
from ..objects.mapping import DestinationName, ObjectMapping, tables_there
from ..postgres.catalog import Table
from ..postgres.connect import connect, explain_errors
from ..state.markers import wait_applied, write_marker
from ..state.store import StateStore
from . import digest, value_forms, verdicts
from .surplus import require_no_surplus
from .verdicts import Suspicion, Verdict

if TYPE_CHECKING:
    from psycopg.sql import Composed

    from ..migration import Migration
    from ..postgres.connect import Connection
    from .digest import Shape, Side

_KEYS_AT_ONCE = 5000
"""Suspects that are reread in one statement."""


class _Ends:
    """A session at either end for one thread, and the wait until the destination has passed the source."""

    def __init__(self, migration: Migration, live: bool, patience: float) -> None:
        self.live = live
        self.patience = patience
        self.source: Connection = connect(migration.spec.source, f"validate {migration.name}")
        self.destination: Connection = connect(migration.spec.destination, f"validate {migration.name}")
        self._store = StateStore(self.destination, migration.spec.state_schema, migration.name)

    def close(self) -> None:
        self.source.close()
        self.destination.close()

    def pass_source(self) -> None:
        """Wait until all that the source holds now has been applied; return at once if the source is not written."""
        if self.live:
            marker = write_marker(self._store, self.source)
            wait_applied(self._store, marker, max(1.0, self.patience))


class _Reading:
    """Reads one table at either end. ``keys`` holds the suspects' keys as text: for queries, never for output."""

    def __init__(self, ends: _Ends, shape: Shape) -> None:
        self.ends = ends
        self.shape = shape
        self.buckets: list[int] = []
        self.keys: dict[int, tuple[str, ...]] = {}

    def digests(self, conn: Connection, *, whole: bool) -> dict[int, verdicts.BucketDigest]:
        """Return the digest (rows, sum of hashes) of every bucket, or of the table as a ``whole``: one scan."""
        query = digest.table_digest if whole else digest.bucket_digests
        rows = self._rows(conn, query(self.shape, self._side(conn)))
        return {bucket: (count, int(total)) for bucket, count, total in rows}

    def first_suspects(self, buckets: Sequence[int]) -> Suspicion:
        """Return the suspects, after one reading of the rows of the differing buckets at both ends."""
        self.buckets = list(buckets)
        here = self._in_buckets(self.ends.source)
        self.ends.pass_source()
        there = self._in_buckets(self.ends.destination)
        found = verdicts.suspects(verdicts.by_key(r[:2] for r in here), verdicts.by_key(r[:2] for r in there))
        self.keys = {row[0]: tuple(row[2:]) for row in (*here, *there) if row[0] in found}
        return Suspicion(dict.fromkeys(found, 0))

    def again(self, conn: Connection, suspected: Sequence[int]) -> Mapping[int, verdicts.RowHashes]:
        """Return the suspects' rows as they are now: through the key's index, or by a scan if there is no key."""
        if not self.shape.source.key:
            wanted = set(suspected)
            return verdicts.by_key(row[:2] for row in self._in_buckets(conn) if row[0] in wanted)
        rows: list[Any] = []
        for start in range(0, len(suspected), _KEYS_AT_ONCE):
            keys = [self.keys[key] for key in suspected[start : start + _KEYS_AT_ONCE]]
            rows += self._rows(conn, digest.keyed_rows(self.shape, self._side(conn), keys))
        return verdicts.by_key(rows)

    def _in_buckets(self, conn: Connection) -> list[Any]:
        return self._rows(conn, digest.bucket_rows(self.shape, self._side(conn), self.buckets))

    def _side(self, conn: Connection) -> Side:
        return self.shape.source if conn is self.ends.source else self.shape.destination

    def _rows(self, conn: Connection, query: Composed) -> list[Any]:
        end = "source" if conn is self.ends.source else "destination"
        with explain_errors(f"comparing at the {end} table", ".".join(self._side(conn).name)):
            return conn.execute(query).fetchall()


def compare_tables(
    migration: Migration,
    tables: Sequence[Table],
    *,
    live: bool,
    settle_timeout: float = 300,
    parallel: int = 2,
) -> dict[int, Verdict]:
    """Compare ``tables`` of the source with what they are mapped to at the destination; verdicts by source OID.

    ``live`` says that the source is written and the CDC worker applies: then a difference is a suspect that is
    reread, for ``settle_timeout`` seconds for each table, not counting the first reading of a large one. Without
    it nothing is written at either end and the answer is exact. Raises MismatchError for a missing table or column, or a
    table that only the destination has where the source's rows belong, and
    TimeoutExpired where the worker has not passed a position within that time.
    """
    portable = digest.needs_portable_hash(migration.source_server, migration.destination_server)
    catalog, mapping = migration.destination_catalog(), migration.mapping
    require_no_surplus(migration, catalog, "comparing the contents of")
    present = tables_there(catalog)
    shapes = {table.oid: _shape(table, present, mapping, portable) for table in tables}
    largest_first = sorted(tables, key=lambda table: -table.bytes)

    def work(share: Sequence[Table]) -> dict[int, Verdict]:
        ends = _Ends(migration, live, settle_timeout)
        try:
            types = {column.type_oid for table in share for column in table.columns}
            forms = value_forms.observe_forms(ends.source, ends.destination, types)
            fitted = {table.oid: digest.in_forms(shapes[table.oid], table, forms) for table in share}
            return {oid: _compare(_Reading(ends, shape)) for oid, shape in fitted.items()}
        finally:
            ends.close()

    shares = [share for start in range(parallel) if (share := largest_first[start::parallel])]
    with ThreadPoolExecutor(max_workers=parallel) as pool:
        parts = list(pool.map(work, shares))
    return {oid: verdict for part in parts for oid, verdict in part.items()}


def _shape(table: Table, present: Mapping[DestinationName, Table], mapping: ObjectMapping, portable: bool) -> Shape:
    mapped = mapping.table(table.qualified_name)
    there = present.get(mapped.destination)
    names = {column.name for column in there.columns} if there else set()
    missing = [name for c in table.columns if there and (name := mapped.column(c.name)) not in names]
    if there is None or missing:
        why = f"columns {', '.join(missing)} are missing at the destination" if there else "the destination lacks it"
        raise MismatchError("comparing table", str(mapped), why, "Run the migrate playbook, then compare again.")
    return digest.shape_of(table, mapped, verdicts.bucket_count(table.rows), portable)


def _compare(reading: _Reading) -> Verdict:
    """Compare one table: the digests at both ends, then the rows of the buckets that differ.

    If nothing is written the table is first compared as a whole: it is most likely equal, and the application waits.
    """
    ends = reading.ends
    for whole in (False,) if ends.live else (True, False):
        source = reading.digests(ends.source, whole=whole)
        ends.pass_source()
        destination = reading.digests(ends.destination, whole=whole)
        counts = sum(d[0] for d in source.values()), sum(d[0] for d in destination.values())
        buckets = verdicts.differing_buckets(source, destination)
        if not buckets:
            return Verdict("identical", *counts)
    suspicion = reading.first_suspects(buckets)
    if ends.live:
        _settle(reading, suspicion)
    different = suspicion.different if ends.live else set(suspicion.watched)
    if different:
        return Verdict("different", *counts, differing=len(different), find=_find(reading, min(different)))
    if suspicion.watched:
        return Verdict("unsettled", *counts, unsettled=len(suspicion.watched))
    return Verdict("identical", *counts)


def _find(reading: _Reading, key_hash: int) -> str:
    """Return the SQL that finds a row: one statement, or one for each end where the table has two names."""
    shape, conn = reading.shape, reading.ends.source
    sides = dict.fromkeys((shape.source, shape.destination))
    here, *there = [digest.finder(shape, side, key_hash).as_string(conn) for side in sides]
    return f"{here} (at the destination: {there[0]})" if there else here


def _settle(reading: _Reading, suspicion: Suspicion) -> None:
    """Reread the suspects, each time after the applied position has passed the source's, until none is left."""
    ends = reading.ends
    deadline = time.monotonic() + ends.patience
    while suspicion.watched and time.monotonic() < deadline:
        suspected = sorted(suspicion.watched)
        before = reading.again(ends.source, suspected)
        ends.pass_source()
        there = reading.again(ends.destination, suspected)
        suspicion.judge(before, there, reading.again(ends.source, suspected))
