# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Large objects: what the source holds, what prevents its copy, what has been copied, and the plan.

They are no relations: no stream carries what is written to them, and their OIDs are their names. Each that this migration
has made is recorded (`state.large_objects`), so that another's is never overwritten and never removed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ..errors import MismatchError, ServerError, SpecError
from ..plan import Change
from ..postgres._psycopg import psycopg
from ..postgres.connect import explain_errors
from ..state.large_objects import ObjectsCopied, foreign_objects, read_copied

if TYPE_CHECKING:
    from ..migration import Migration
    from ..postgres.connect import Connection
    from ..state.store import StateStore

LARGE_OBJECTS: Final = "pg_catalog.pg_largeobject"
"""The name for all of them among the tables that are to be copied again."""

PIECE: Final = 1 << 20
"""Bytes that are read and written in one statement: of several objects together, or of a larger one alone."""

PAGE: Final = 256
"""Objects that are looked at together, and small ones in one transaction: each takes a lock when its owner is set."""

_SHOWN: Final = 5
_LOOKED_AT: Final = 10_000

SIZES: Final = """
SELECT n.o::bigint, n.size, pg_catalog.lo_close(n.fd)
  FROM (SELECT f.o, f.fd, pg_catalog.lo_lseek64(f.fd, 0, 2) AS size
          FROM (SELECT o, pg_catalog.lo_open(o, 262144) AS fd FROM pg_catalog.unnest(%(objects)s::oid[]) o OFFSET 0) f
        OFFSET 0) n
"""
READ: Final = (
    "SELECT o::bigint, pg_catalog.lo_get(o, %(offset)s, %(length)s) FROM pg_catalog.unnest(%(objects)s::oid[]) o"
)
CREATE: Final = (
    "SELECT pg_catalog.lo_from_bytea(n.o, n.d) FROM ROWS FROM (pg_catalog.unnest(%(objects)s::oid[]),"
    " pg_catalog.unnest(%(pieces)b::bytea[])) AS n(o, d)"
)
PUT: Final = "SELECT pg_catalog.lo_put(%(object)s::oid, %(offset)s, %(piece)b)"
REMOVE: Final = "SELECT pg_catalog.lo_unlink(m.oid) FROM pg_catalog.pg_largeobject_metadata m WHERE m.oid = ANY (%(objects)s::oid[])"


@dataclass(frozen=True, slots=True)
class ObjectWish:
    """Whether large objects are ``copied`` at all, ``again`` although they are, and with owners and grants."""

    copied: bool = True
    again: bool = False
    privileges: bool = True


def as_result(migration: Migration, wish: ObjectWish, moved: int) -> Mapping[str, Any]:
    """Return their state as a return value; ``moved`` is the number that this call moved."""
    copied = read_copied(migration.store) if migration.state() is not None else None
    if copied is None:
        return {"state": "waiting" if wish.copied else "left out", "objects": 0, "bytes": 0, "moved": 0}
    return {"state": copied.state, "objects": copied.objects, "bytes": copied.bytes, "moved": moved}


def certified(store: StateStore) -> Mapping[str, Any] | None:
    """Return what a certificate says of them: when they were copied, and that they were neither captured nor compared
    behind the fence. None if they were not copied, or there were none."""
    copied = read_copied(store)
    if copied is None or not copied.objects:
        return None
    return {"objects": copied.objects, "copied_at": copied.finished_at, "captured": False, "compared": False}


def waiting(copied: ObjectsCopied | None, wish: ObjectWish) -> bool:
    """Return whether there is anything to copy."""
    return wish.copied and (wish.again or copied is None or copied.state != "complete")


def count(source: Connection) -> int:
    """Return how many the source holds. Raises ServerError."""
    with explain_errors("counting the large objects at the", "source"):
        row = source.execute("SELECT count(*) FROM pg_catalog.pg_largeobject_metadata").fetchone()
    return int(row[0]) if row else 0


def stored_bytes(source: Connection) -> int:
    """Return the bytes that they take at the source, compressed and with what has been deleted. Raises ServerError."""
    with explain_errors("asking for the size of the large objects at the", "source"):
        row = source.execute("SELECT pg_catalog.pg_relation_size('pg_catalog.pg_largeobject')").fetchone()
    return int(row[0]) if row else 0


_CLOSED = """
SELECT m.oid::bigint, count(*) OVER ()
  FROM pg_catalog.pg_largeobject_metadata m
 WHERE pg_catalog.current_setting('is_superuser') <> 'on' AND pg_catalog.current_setting('lo_compat_privileges') <> 'on'
   AND NOT EXISTS (
       SELECT FROM pg_catalog.aclexplode(coalesce(m.lomacl, pg_catalog.acldefault('L', m.lomowner))) x
        WHERE x.privilege_type = 'SELECT' AND (x.grantee = 0 OR pg_catalog.pg_has_role(x.grantee, 'USAGE')))
 ORDER BY m.oid LIMIT %s
"""


def closed_objects(source: Connection) -> tuple[int, tuple[int, ...]]:
    """Return how many large objects the account may not read, and the first of them. Raises ServerError."""
    with explain_errors("looking for large objects that cannot be read at the", "source"):
        found = source.execute(_CLOSED, (_SHOWN,)).fetchall()
        # The catalog does not know what a cloud's account may do beyond it: try.
        if not found or not _refused(source, found[0][0]):
            return 0, ()
    return found[0][1], tuple(row[0] for row in found)


def _refused(source: Connection, oid: int) -> bool:
    try:
        source.execute("SELECT pg_catalog.lo_get(%s::oid, 0, 1)", (oid,))
    except psycopg.errors.InsufficientPrivilege:
        return True
    except psycopg.errors.UndefinedObject:  # it was removed just now
        return True
    return False


def require_readable(source: Connection) -> None:
    """Raise ServerError while there are large objects that the account may not read."""
    number, first = closed_objects(source)
    if number:
        raise ServerError(
            "reading at the source large object",
            _listed(first, number),
            "the account may not read it",
            "GRANT SELECT ON LARGE OBJECT to the account, or make it a member of the owner; or leave all large objects out"
            " with causeway_large_objects: false.",
            sqlstate="42501",
        )


def standing_objects(migration: Migration, *, ours: bool) -> tuple[int, ...]:
    """Return some large objects of the destination, in ascending order, that this migration has not created and whose
    OIDs the source has too. ``ours``: the migration has a state, which knows what is ours. Raises ServerError."""
    after = 0
    with explain_errors("comparing the OIDs of large objects at", "both ends"):
        while page := foreign_objects(migration.store, after, _LOOKED_AT, known=ours):
            if found := present_objects(migration.source, page):
                return found
            after = page[-1]
    return ()


def present_objects(conn: Connection, oids: list[int]) -> tuple[int, ...]:
    query = (
        "SELECT m.oid::bigint FROM pg_catalog.pg_largeobject_metadata m WHERE m.oid = ANY (%s::oid[]) ORDER BY m.oid"
    )
    return tuple(row[0] for row in conn.execute(query, (oids,)).fetchall())


def require_free(migration: Migration) -> None:
    """Raise MismatchError if a large object that is not ours exists under an OID that we need."""
    if found := standing_objects(migration, ours=migration.state() is not None):
        raise taken(found)


def taken(oids: tuple[int, ...]) -> MismatchError:
    """Return the error for OIDs under which the destination holds large objects that are not ours."""
    return MismatchError(
        "copying large object",
        _listed(oids[:_SHOWN], len(oids)),
        "the destination has a large object of that OID that this migration did not create, and it is not overwritten",
        f"Remove it there if it is not needed (SELECT lo_unlink({oids[0]})), or store it under another OID; or leave"
        " all large objects out with causeway_large_objects: false, as where another migration of the same two databases"
        " copies them.",
    )


def _listed(oids: tuple[int, ...], number: int) -> str:
    more = f" and {number - len(oids)} more" if number > len(oids) else ""
    return ", ".join(map(str, oids)) + more


_ABSENT_ROLES = """
SELECT r.role, count(*)
  FROM (SELECT m.oid, pg_catalog.pg_get_userbyid(m.lomowner) AS role FROM pg_catalog.pg_largeobject_metadata m
         UNION
        SELECT m.oid, pg_catalog.pg_get_userbyid(x.grantee)
          FROM pg_catalog.pg_largeobject_metadata m, pg_catalog.aclexplode(m.lomacl) x WHERE x.grantee <> 0) r
 WHERE r.role <> ALL (%s) GROUP BY 1 ORDER BY 1
"""


def destination_roles(destination: Connection) -> tuple[list[str], str]:
    """Return the roles that can be owners and grantees, and our current one. Raises ServerError."""
    with explain_errors("reading the roles of the", "destination"):
        rows = destination.execute("SELECT rolname::text, rolname = current_user FROM pg_catalog.pg_roles").fetchall()
    return [row[0] for row in rows], next((row[0] for row in rows if row[1]), "")


def plan_objects(migration: Migration, wish: ObjectWish) -> tuple[list[Change], list[str]]:
    """Return the changes for large objects, and notes for the operator; both empty if there is nothing to do.

    Raises MismatchError for an OID that is taken, ServerError for an object that cannot be read, SpecError for a wish that
    contradicts itself.
    """
    if wish.again and not wish.copied:
        raise SpecError(
            "reading the tables that are to be copied again",
            LARGE_OBJECTS,
            "large objects are left out",
            "Set causeway_large_objects: true, or take it out of causeway_resync.",
        )
    copied = read_copied(migration.store) if migration.state() is not None else None
    if not waiting(copied, wish):
        return [], []
    number = count(migration.source)
    if not number and not (copied is not None and copied.objects):
        return [], []
    require_readable(migration.source)
    require_free(migration)
    notes = []
    if wish.privileges:
        with explain_errors("reading the owners of the large objects at the", "source"):
            absent = migration.source.execute(_ABSENT_ROLES, (destination_roles(migration.destination)[0],)).fetchall()
        notes = [
            f"Role {role} does not exist at the destination: {n} large objects are copied without it."
            for role, n in absent
        ]
    before = "not copied" if copied is None else "copied" if copied.state == "complete" else "partly copied"
    after = "copied, with owners and grants" if wish.privileges else "copied"
    return [
        Change("source", "large objects", None, f"{number} read", _shown(SIZES, READ)),
        Change(
            "destination",
            "large objects",
            before,
            after,
            _shown(*((REMOVE,) if copied is not None else ()), CREATE, PUT),
        ),
    ], notes


def _shown(*statements: str) -> tuple[str, ...]:
    """Return statements for display: their values differ for each page of objects."""
    return tuple(re.sub(r"%\((\w+)\)[sb]", r"$\1", statement) for statement in statements)
