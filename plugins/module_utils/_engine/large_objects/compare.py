# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares the bytes of the large objects that were copied, by digests that both servers compute piece by piece.

No stream carries what is written to them after the copy: while the source is in use a difference is expected, and is
reported. If the source is at rest it is an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import MismatchError
from ..postgres._psycopg import psycopg
from ..postgres.connect import connect, explain_errors
from ..postgres.versions import has
from ..state.large_objects import count_own_objects, read_copied
from .objects import LARGE_OBJECTS, PAGE, PIECE
from .writes import REMEDY

if TYPE_CHECKING:
    from ..migration import Migration
    from ..postgres.connect import Connection

_OIDS = "SELECT m.oid::bigint FROM pg_catalog.pg_largeobject_metadata m WHERE m.oid > %s::oid ORDER BY m.oid LIMIT %s"
_DIGESTS = """
SELECT p.oid::bigint, pg_catalog.length(p.d), {digest}
  FROM (SELECT m.oid, pg_catalog.lo_get(m.oid, %(offset)s, %(length)s) AS d
          FROM pg_catalog.pg_largeobject_metadata m WHERE m.oid = ANY (%(objects)s::oid[]) OFFSET 0) p
"""

_SHA, _MD5 = "pg_catalog.sha256(p.d)", "pg_catalog.decode(pg_catalog.md5(p.d), 'hex')"

Digests = Mapping[int, Sequence[bytes]]


@dataclass(slots=True)
class ObjectVerdict:
    """How many ``objects`` the source holds; OIDs that differ in their bytes, and that the destination lacks; and how
    many it has from us that are ``gone`` at the source. ``digest`` is the function by which both ends were compared."""

    objects: int = 0
    differing: list[int] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)
    gone: int = 0
    digest: str = "sha256"

    @property
    def identical(self) -> bool:
        return not (self.differing or self.missing or self.gone)

    def judge(self, oids: Sequence[int], here: Digests, there: Digests) -> None:
        """Add a page of the source's objects. Pure. One that was removed meanwhile is ignored."""
        self.objects += len(oids)
        self.missing += [oid for oid in oids if oid in here and oid not in there]
        self.differing += [oid for oid in oids if oid in here and oid in there and here[oid] != there[oid]]

    def as_result(self) -> dict[str, Any]:
        """Return it as a return value."""
        first = min([*self.differing, *self.missing], default=None)
        return {
            "verdict": "identical" if self.identical else "different",
            "objects": self.objects,
            "differing": len(self.differing),
            "missing": len(self.missing),
            "gone": self.gone,
            "find": "" if first is None else f"SELECT {self.digest}(lo_get({first}))",
        }


def compare_objects(migration: Migration) -> ObjectVerdict | None:
    """Compare all of them; return None if this migration has not copied them. Raises ServerError, ConnectError."""
    copied = read_copied(migration.store)
    if copied is None or copied.state != "complete":
        return None
    verdict = ObjectVerdict()
    purpose = f"validate {migration.name}"
    with (
        closing(connect(migration.spec.source, purpose)) as source,
        closing(connect(migration.spec.destination, purpose)) as destination,
    ):
        for conn in (source, destination):  # an object is read in several statements
            conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        version = min(conn.info.server_version for conn in (source, destination))
        verdict.digest = "sha256" if has(version, "sha256") else "md5"
        query = digests_statement(version)
        after = 0
        with explain_errors("comparing the large objects of migration", migration.name):
            while oids := [row[0] for row in source.execute(_OIDS, (after, PAGE)).fetchall()]:
                verdict.gone -= count_own_objects(migration.store, destination, oids)
                with source.transaction(), destination.transaction():
                    verdict.judge(oids, _digests(source, query, oids), _digests(destination, query, oids))
                after = oids[-1]
            verdict.gone += count_own_objects(migration.store, destination)
    return verdict


def digests_statement(server_version: int) -> str:
    """Return the query for the digests of one piece of each of some objects; the version is that of the older end."""
    return _DIGESTS.format(digest=_SHA if has(server_version, "sha256") else _MD5)


def _digests(conn: Connection, query: str, oids: Sequence[int]) -> dict[int, list[bytes]]:
    """Return the digests of the pieces of each of these objects, in their order, by OID."""
    digests: dict[int, list[bytes]] = {}
    offset, left = 0, list(oids)
    while left:
        values = {"objects": left, "offset": offset, "length": PIECE}
        rows = conn.execute(query, values, binary=True).fetchall()
        for oid, dummy, digest in rows:
            digests.setdefault(oid, []).append(digest)
        left = [oid for oid, length, dummy in rows if length == PIECE]
        offset += PIECE
    return digests


def difference(verdict: ObjectVerdict, result: Mapping[str, object]) -> MismatchError:
    """Return the error for objects that differ although nothing is written."""
    return MismatchError(
        "comparing the contents of",
        LARGE_OBJECTS,
        f"{len(verdict.differing)} large objects differ, {len(verdict.missing)} are missing at the destination, and"
        f" {verdict.gone} exist there that the source no longer has",
        REMEDY,
        result=result,
    )
