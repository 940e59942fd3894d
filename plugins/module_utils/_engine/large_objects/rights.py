# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Owner, grants and comment of large objects: as the source has them, and the statements that set them. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..postgres._psycopg import sql

if TYPE_CHECKING:
    from psycopg.sql import Composable, Composed

# A list of grants that is NULL stands for the default: all to the owner, nothing to others.
PAGE_STATEMENT = """
SELECT m.oid::bigint, pg_catalog.pg_get_userbyid(m.lomowner)::text, pg_catalog.obj_description(m.oid, 'pg_largeobject'),
       CASE WHEN m.lomacl IS NOT NULL THEN coalesce((
           SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(
                      CASE x.grantee WHEN 0 THEN '' ELSE pg_catalog.pg_get_userbyid(x.grantee) END,
                      x.privilege_type, x.is_grantable) ORDER BY x.grantee, x.privilege_type)
             FROM pg_catalog.aclexplode(m.lomacl) x), '[]'::jsonb) END
  FROM pg_catalog.pg_largeobject_metadata m WHERE m.oid > %s::oid ORDER BY m.oid LIMIT %s
"""

_ALL = ("SELECT", "UPDATE")


@dataclass(frozen=True, slots=True)
class SourceObject:
    """A large object without its bytes. ``grants`` are (grantee, privilege, grantable), the owner's own among them and
    an empty name for PUBLIC; None if they were never changed."""

    oid: int
    owner: str
    comment: str | None
    grants: tuple[tuple[str, str, bool], ...] | None


def comment_statements(objects: Iterable[SourceObject]) -> list[Composed]:
    """Return the statements that write the comments, before the objects change their owner."""
    return [
        sql.SQL("COMMENT ON LARGE OBJECT {} IS {}").format(sql.Literal(one.oid), sql.Literal(one.comment))
        for one in objects
        if one.comment is not None
    ]


def right_statements(objects: Iterable[SourceObject], roles: Collection[str], ourselves: str) -> list[Composed]:
    """Return the statements that set owners, then grants, of objects that we have just created, for existing ``roles``.

    ``ourselves`` is current_user: an object whose owner does not exist stays ours. The grantor is not kept: the
    owner grants.
    """
    made: list[Composed] = []
    granted: dict[tuple[str, bool], dict[int, list[str]]] = {}
    for one in objects:
        owned = one.owner in roles
        if owned and one.owner != ourselves:
            made.append(
                sql.SQL("ALTER LARGE OBJECT {} OWNER TO {}").format(sql.Literal(one.oid), sql.Identifier(one.owner))
            )
        for grantee, privilege, grantable in one.grants or ():
            if grantee != one.owner and (not grantee or grantee in roles):
                granted.setdefault((grantee, grantable), {}).setdefault(one.oid, []).append(privilege)
        if owned and one.grants is not None:
            own = {privilege for grantee, privilege, dummy in one.grants if grantee == one.owner}
            if lost := [privilege for privilege in _ALL if privilege not in own]:
                made.append(_statement("REVOKE {} ON LARGE OBJECT {} FROM {}", lost, [one.oid], one.owner))
    for (grantee, grantable), by_object in granted.items():
        template = "GRANT {} ON LARGE OBJECT {} TO {}" + (" WITH GRANT OPTION" if grantable else "")
        alike: dict[tuple[str, ...], list[int]] = {}
        for oid, privileges in by_object.items():
            alike.setdefault(tuple(sorted(privileges)), []).append(oid)
        made += [_statement(template, privileges, oids, grantee) for privileges, oids in alike.items()]
    return made


def _statement(template: str, privileges: Iterable[str], oids: Iterable[int], role: str) -> Composed:
    grantee: Composable = sql.Identifier(role) if role else sql.SQL("PUBLIC")
    return sql.SQL(template).format(
        sql.SQL(", ").join(map(sql.SQL, privileges)), sql.SQL(", ").join(map(sql.Literal, oids)), grantee
    )
