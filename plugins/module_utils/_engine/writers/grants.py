# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may write to the selected objects, by which right, and the statements that revoke a right and grant it again.

A right is an entry of an ACL, as aclexplode() shows it: a revoked one is recorded whole, grantor and grant option
included, so that exactly that can be restored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Union

from ..postgres._psycopg import sql
from ..postgres.catalog import Name, Table, qualified, quoted
from ..postgres.catalog import Sequence as CatalogSequence
from ..postgres.connect import explain_errors

if TYPE_CHECKING:
    from psycopg.sql import Composable, Composed

    from ..postgres.connect import Connection

Relation = Union[Table, CatalogSequence]

PUBLIC = ""
"""The grantee PUBLIC in a Grant."""

_AT_ONCE = 200  # objects in one statement


@dataclass(frozen=True, slots=True)
class Grant:
    """One entry of an ACL. ``kind`` is table or sequence; ``column`` is empty for the whole table; ``grantee`` is empty
    for PUBLIC; ``by_owner`` says that the grantor owns the object."""

    kind: str
    schema: str
    name: str
    column: str
    grantor: str
    grantee: str
    privilege: str
    grantable: bool
    by_owner: bool

    def stored(self) -> dict[str, object]:
        """Return the entry as the state tables store it."""
        return asdict(self)

    def __str__(self) -> str:
        column = f" ({quoted(self.column)})" if self.column else ""
        return f"{self.privilege}{column} on {qualified((self.schema, self.name))} for {self.grantee or 'PUBLIC'}"


def grant_of(stored: Mapping[str, Any]) -> Grant:
    """Return the Grant that the state tables stored."""
    return Grant(**stored)


@dataclass(frozen=True, slots=True)
class Writer:
    """A role that can write to at least one of the given objects.

    ``owns`` are objects of its own; ``grants`` its own ACL entries; ``through`` the roles that it is a member of,
    directly or not, and that can write (pg_write_all_data too); ``public`` says that PUBLIC can. A superuser needs none
    of that.
    """

    role: str
    superuser: bool
    can_login: bool
    owns: tuple[Name, ...]
    grants: tuple[Grant, ...]
    through: tuple[str, ...]
    public: bool


# Privileges by which rows or values change; GRANT names sequences apart. A NULL ACL means the owner's default.
_GRANTS = """
SELECT CASE c.relkind WHEN 'S' THEN 'sequence' ELSE 'table' END, n.nspname, c.relname, '',
       pg_catalog.pg_get_userbyid(x.grantor),
       CASE x.grantee WHEN 0 THEN '' ELSE pg_catalog.pg_get_userbyid(x.grantee) END,
       x.privilege_type, x.is_grantable, x.grantor = c.relowner
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace,
       LATERAL pg_catalog.aclexplode(coalesce(c.relacl, pg_catalog.acldefault(
           CASE c.relkind WHEN 'S' THEN 's'::"char" ELSE 'r'::"char" END, c.relowner))) x
 WHERE c.oid::bigint = ANY (%(oids)s)
   AND x.privilege_type IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'USAGE')
 UNION ALL
SELECT 'table', n.nspname, c.relname, a.attname, pg_catalog.pg_get_userbyid(x.grantor),
       CASE x.grantee WHEN 0 THEN '' ELSE pg_catalog.pg_get_userbyid(x.grantee) END,
       x.privilege_type, x.is_grantable, x.grantor = c.relowner
  FROM pg_catalog.pg_attribute a
  JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace,
       LATERAL pg_catalog.aclexplode(a.attacl) x
 WHERE c.oid::bigint = ANY (%(oids)s) AND c.relkind <> 'S' AND a.attacl IS NOT NULL AND NOT a.attisdropped
   AND x.privilege_type IN ('INSERT', 'UPDATE')
 ORDER BY 1, 2, 3, 4, 6, 7, 5
"""

# A member counts whether it inherits or would have to SET ROLE first: either way it can write.
_ROLES = """
WITH RECURSIVE reach AS (
    SELECT m.member, m.roleid FROM pg_catalog.pg_auth_members m
    UNION
    SELECT reach.member, m.roleid FROM reach JOIN pg_catalog.pg_auth_members m ON m.member = reach.roleid
)
SELECT r.rolname, r.rolsuper, r.rolcanlogin,
       coalesce((SELECT pg_catalog.array_agg(g.rolname::text ORDER BY g.rolname)
                   FROM reach JOIN pg_catalog.pg_roles g ON g.oid = reach.roleid WHERE reach.member = r.oid), '{}')
  FROM pg_catalog.pg_roles r ORDER BY 1
"""

_OWNERS = """
SELECT pg_catalog.pg_get_userbyid(c.relowner), n.nspname, c.relname
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.oid::bigint = ANY (%s) ORDER BY 2, 3
"""

_WRITES_ALL = "pg_write_all_data"


def observe_grants(conn: Connection, relations: Iterable[Relation]) -> tuple[Grant, ...]:
    """Return every ACL entry that allows to write to these tables or draw from these sequences. Raises ServerError."""
    with explain_errors("reading who may write to the selected objects"):
        rows = conn.execute(_GRANTS, {"oids": [relation.oid for relation in relations]}).fetchall()
    return tuple(Grant(*row) for row in rows)


def observe_writers(conn: Connection, tables: Sequence[Relation]) -> tuple[Writer, ...]:
    """Return every role that can INSERT, UPDATE, DELETE or TRUNCATE one of ``tables`` or owns one, by membership too;
    superusers included, logins or not, ordered by name. Raises ServerError."""
    oids = [table.oid for table in tables]
    grants: dict[str, list[Grant]] = {}
    for grant in observe_grants(conn, tables):
        grants.setdefault(grant.grantee, []).append(grant)
    with explain_errors("reading who may write to the selected objects"):
        roles = conn.execute(_ROLES).fetchall()
        owned: dict[str, list[Name]] = {}
        for owner, schema, name in conn.execute(_OWNERS, (oids,)).fetchall():
            owned.setdefault(owner, []).append((schema, name))
    sources = {*grants, *owned, _WRITES_ALL} - {PUBLIC}
    sources |= {role for role, superuser, dummy_login, dummy_groups in roles if superuser}
    writers = []
    for role, superuser, can_login, groups in roles:
        through = tuple(group for group in groups if group in sources)
        if role in sources or superuser or through or PUBLIC in grants:
            writers.append(
                Writer(
                    role,
                    superuser,
                    can_login,
                    tuple(owned.get(role, ())),
                    tuple(grants.get(role, ())),
                    through,
                    PUBLIC in grants,
                )
            )
    return tuple(writers)


def with_dependents(grants: Sequence[Grant], role: str) -> tuple[Grant, ...]:
    """Return the entries of ``role`` and those that depend on its grant options, which have to be revoked with them."""
    taken = [grant for grant in grants if grant.grantee == role]
    todo = list(taken)
    while todo:
        base = todo.pop()
        if not base.grantable:
            continue
        for other in grants:
            rests = (other.kind, other.schema, other.name, other.privilege, other.grantor) == (
                base.kind,
                base.schema,
                base.name,
                base.privilege,
                base.grantee,
            )
            if rests and not other.by_owner and other not in taken:
                taken.append(other)
                todo.append(other)
    return tuple(taken)


def _depth(grant: Grant, grants: Sequence[Grant], seen: frozenset[str] = frozenset()) -> int:
    """Return the length of the longest chain of ``grants`` that this one depends on; 0 for one by the owner."""
    if grant.by_owner or grant.grantor in seen:
        return 0
    bases = [
        other
        for other in grants
        if other.grantable
        and (other.kind, other.schema, other.name, other.privilege, other.grantee)
        == (grant.kind, grant.schema, grant.name, grant.privilege, grant.grantor)
    ]
    return 1 + max((_depth(base, grants, seen | {grant.grantor}) for base in bases), default=0)


def _batches(grants: Sequence[Grant]) -> list[tuple[int, list[Grant], list[Name]]]:
    """Group the entries that one statement can revoke or grant: equal ones of several tables, and those of one table
    that differ in the privilege only. Return for each group its depth, the grants of one table, and the tables."""
    by_object: dict[tuple[Any, ...], list[Grant]] = {}
    for grant in grants:
        key = (_depth(grant, grants), grant.kind, grant.column, grant.by_owner, grant.grantor, grant.grantee)
        by_object.setdefault((*key, grant.grantable, grant.schema, grant.name), []).append(grant)
    batches: dict[tuple[Any, ...], tuple[int, list[Grant], list[Name]]] = {}
    for key, entries in sorted(by_object.items()):
        entries.sort(key=lambda entry: entry.privilege)
        alike = (*key[:-2], tuple(entry.privilege for entry in entries), key[-2:] if key[2] else None)
        batch = batches.setdefault(alike, (key[0], entries, []))
        batch[2].append(key[-2:])
    found = []
    for depth, entries, names in batches.values():
        found += [(depth, entries, names[first : first + _AT_ONCE]) for first in range(0, len(names), _AT_ONCE)]
    return found


def _on(entries: Sequence[Grant], names: Sequence[Name]) -> Composed:
    column = sql.SQL(" ({})").format(sql.Identifier(entries[0].column)) if entries[0].column else sql.SQL("")
    return sql.SQL("{} ON {} {}").format(
        sql.SQL(", ").join(sql.SQL(entry.privilege) + column for entry in entries),
        sql.SQL(entries[0].kind.upper()),
        sql.SQL(", ").join(sql.Identifier(*name) for name in names),
    )


def _role(grantee: str) -> Composable:
    return sql.Identifier(grantee) if grantee else sql.SQL("PUBLIC")


def _as_grantor(grant: Grant, statement: Composed, ourselves: str) -> tuple[Composed, ...]:
    """Return the statement wrapped for its grantor: REVOKE and GRANT act as the owner, so another grantor's entry can
    only be changed under SET ROLE."""
    if grant.by_owner:
        return (statement,)
    become = sql.SQL("SET LOCAL ROLE {}")
    return (become.format(sql.Identifier(grant.grantor)), statement, become.format(sql.Identifier(ourselves)))


def revoke_statements(grants: Sequence[Grant], ourselves: str) -> tuple[Composed, ...]:
    """Return the statements that revoke these entries, in an order that needs no CASCADE, for one transaction, since
    some run as the grantor. ``ourselves`` is current_user."""
    made: list[Composed] = []
    for dummy_depth, entries, names in sorted(_batches(grants), key=lambda batch: -batch[0]):
        statement = sql.SQL("REVOKE {} FROM {}").format(_on(entries, names), _role(entries[0].grantee))
        made += _as_grantor(entries[0], statement, ourselves)
    return tuple(made)


def grant_statements(grants: Sequence[Grant], ourselves: str) -> tuple[Composed, ...]:
    """Return the statements that grant exactly these entries again, in one transaction."""
    made: list[Composed] = []
    for dummy_depth, entries, names in sorted(_batches(grants), key=lambda batch: batch[0]):
        option = sql.SQL(" WITH GRANT OPTION" if entries[0].grantable else "")
        statement = sql.SQL("GRANT {} TO {}{}").format(_on(entries, names), _role(entries[0].grantee), option)
        made += _as_grantor(entries[0], statement, ourselves)
    return tuple(made)
