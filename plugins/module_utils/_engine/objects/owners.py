# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who owns the selected objects, and whether our account may give the destination's objects to these owners.

`ALTER … OWNER TO` asks two things of an account that is no superuser: that it can become the new owner, and that the new
owner may create in the object's schema (PostgreSQL manual, ALTER TABLE). Precheck and the schema phase share these rules.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..postgres._psycopg import sql
from ..postgres.catalog import quoted
from ..postgres.connect import explain_errors
from ..postgres.versions import has

if TYPE_CHECKING:
    from psycopg.sql import Composed

    from ..postgres.connect import Connection
    from .mapping import ObjectMapping
    from .selection import Selection

# Members of an extension come with it. The row types of tables, and arrays, belong to what they are made of, and so does
# what PostgreSQL makes along with an object (deptype i): the constructors of a range type belong to its superuser.
_OWNED = """
WITH ns AS (
    SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = ANY (%(schemas)s)
), owned (class, oid, namespace, name, owner) AS (
    SELECT 'pg_class'::regclass::oid, oid, relnamespace, relname, relowner FROM pg_catalog.pg_class
     WHERE oid::bigint = ANY (%(relations)s)
        OR relnamespace IN (SELECT oid FROM ns) AND relkind IN ('v', 'm', 'f')
    UNION ALL
    SELECT 'pg_proc'::regclass, oid, pronamespace, '', proowner FROM pg_catalog.pg_proc
    UNION ALL
    SELECT 'pg_type'::regclass, t.oid, t.typnamespace, '', t.typowner
      FROM pg_catalog.pg_type t LEFT JOIN pg_catalog.pg_class c ON c.oid = t.typrelid
     WHERE coalesce(c.relkind, 'c') = 'c' AND t.typcategory <> 'A'
    UNION ALL
    SELECT 'pg_operator'::regclass, oid, oprnamespace, '', oprowner FROM pg_catalog.pg_operator
    UNION ALL
    SELECT 'pg_opclass'::regclass, oid, opcnamespace, '', opcowner FROM pg_catalog.pg_opclass
    UNION ALL
    SELECT 'pg_opfamily'::regclass, oid, opfnamespace, '', opfowner FROM pg_catalog.pg_opfamily
    UNION ALL
    SELECT 'pg_collation'::regclass, oid, collnamespace, '', collowner FROM pg_catalog.pg_collation
    UNION ALL
    SELECT 'pg_conversion'::regclass, oid, connamespace, '', conowner FROM pg_catalog.pg_conversion
    UNION ALL
    SELECT 'pg_statistic_ext'::regclass, oid, stxnamespace, '', stxowner FROM pg_catalog.pg_statistic_ext
    UNION ALL
    SELECT 'pg_ts_config'::regclass, oid, cfgnamespace, '', cfgowner FROM pg_catalog.pg_ts_config
    UNION ALL
    SELECT 'pg_ts_dict'::regclass, oid, dictnamespace, '', dictowner FROM pg_catalog.pg_ts_dict
)
SELECT DISTINCT pg_catalog.pg_get_userbyid(o.owner)::text, n.nspname::text, o.name::text
  FROM owned o JOIN pg_catalog.pg_namespace n ON n.oid = o.namespace
 WHERE (o.class = 'pg_class'::regclass OR o.namespace IN (SELECT oid FROM ns))
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                    WHERE d.classid = o.class AND d.objid = o.oid AND d.deptype IN ('e', 'i'))
 ORDER BY 1, 2, 3
"""

_SCHEMA_OWNERS = """
SELECT nspname::text, pg_catalog.pg_get_userbyid(nspowner)::text,
       pg_catalog.has_schema_privilege('public', oid, 'CREATE')
  FROM pg_catalog.pg_namespace WHERE nspname = ANY (%s) ORDER BY 1
"""

# Objects are altered after they were given away, so the account needs the owner's rights as well.
_ROLES = """
SELECT rolname::text, rolsuper, pg_catalog.pg_has_role(oid, %s) AND pg_catalog.pg_has_role(oid, 'USAGE')
  FROM pg_catalog.pg_roles
"""

_CREATE = """
SELECT r.rolname::text, n.nspname::text,
       pg_catalog.pg_has_role(n.nspowner, 'USAGE')
       OR pg_catalog.has_schema_privilege(n.oid, 'CREATE WITH GRANT OPTION')
  FROM unnest(%s::text[], %s::text[]) wanted (role, schema)
  JOIN pg_catalog.pg_roles r ON r.rolname::text = wanted.role
  JOIN pg_catalog.pg_namespace n ON n.nspname::text = wanted.schema
 WHERE NOT pg_catalog.has_schema_privilege(r.oid, n.oid, 'CREATE')
 ORDER BY 1, 2
"""


@dataclass(frozen=True, slots=True, order=True)
class RoleInSchema:
    """A role that is to own objects in a schema, whose name is that of the end it was read from."""

    role: str
    schema: str


@dataclass(frozen=True, slots=True)
class Owners:
    """The owners of what is selected at the source: ``inside`` a schema, and of the ``schemas`` themselves. In
    ``open_schemas`` every role may create."""

    inside: tuple[RoleInSchema, ...]
    schemas: tuple[RoleInSchema, ...]
    open_schemas: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Known:
    """A role of the destination. ``ours``: our account can become it, and has its rights."""

    superuser: bool
    ours: bool


@dataclass(frozen=True, slots=True)
class Giving:
    """What giving the destination's objects to their owners needs: the source's ``owners``, the destination's ``roles``,
    and the owners that may not create in an existing schema there (``lacking``), with whether we may grant it."""

    owners: Owners
    roles: Mapping[str, Known]
    lacking: Mapping[RoleInSchema, bool]


def observe_giving(source: Connection, destination: Connection, selection: Selection, mapping: ObjectMapping) -> Giving:
    """Return what giving objects to their owners needs, from both ends. Raises ServerError."""
    owners = observe_owners(source, selection)
    wanted = {RoleInSchema(one.role, mapping.schema(one.schema)) for one in owners.inside}
    return Giving(owners, observe_roles(destination), lacking_create(destination, wanted))


def observe_owners(conn: Connection, selection: Selection) -> Owners:
    """Return who owns the selected objects and their schemas. Raises ServerError.

    Of a schema that is not selected whole only tables and sequences are seen.
    """
    relations = [table.oid for table in selection.tables] + [sequence.oid for sequence in selection.sequences]
    schemas = sorted({table.schema for table in selection.tables} | set(selection.schemas))
    with explain_errors("reading the owners of the selected objects at the", "source"):
        rows = conn.execute(_OWNED, {"schemas": list(selection.schemas), "relations": relations}).fetchall()
        owned = conn.execute(_SCHEMA_OWNERS, (schemas,)).fetchall()
    left_out = {
        (schema, name)
        for dummy, schema, name in rows
        if name and any(rule.schema == schema and rule.leaves_out(name) for rule in selection.rules)
    }
    inside = {RoleInSchema(role, schema) for role, schema, name in rows if (schema, name) not in left_out}
    return Owners(
        inside=tuple(sorted(inside)),
        schemas=tuple(RoleInSchema(owner, schema) for schema, owner, dummy in owned),
        open_schemas=frozenset(schema for schema, dummy, anyone in owned if anyone),
    )


def observe_roles(conn: Connection) -> dict[str, Known]:
    """Return the destination's roles by name. Raises ServerError."""
    become = "SET" if has(conn.info.server_version, "membership WITH SET") else "MEMBER"
    with explain_errors("reading the roles of the", "destination"):
        rows = conn.execute(_ROLES, (become,)).fetchall()
    return {name: Known(superuser, ours) for name, superuser, ours in rows}


def membership(role: str, account: str, server_version: int) -> str:
    """Return the statement that lets an account become a role and gives it that role's rights, which a membership that it
    has already need not do from PostgreSQL 16 on."""
    options = " WITH INHERIT TRUE, SET TRUE" if has(server_version, "membership WITH SET") else ""
    return f"GRANT {quoted(role)} TO {quoted(account)}{options};"


def lacking_create(conn: Connection, wanted: Collection[RoleInSchema]) -> dict[RoleInSchema, bool]:
    """Return those roles that may not create in an existing schema of the destination, with whether our account may
    grant it. Raises ServerError."""
    if not wanted:
        return {}
    roles, schemas = [one.role for one in wanted], [one.schema for one in wanted]
    with explain_errors("reading who may create in the schemas of the", "destination"):
        rows = conn.execute(_CREATE, (roles, schemas)).fetchall()
    return {RoleInSchema(role, schema): grantable for role, schema, grantable in rows}


def granting(lacking: Iterable[RoleInSchema]) -> tuple[Composed, ...]:
    """Return the statements that allow these roles to create in their schemas."""
    return tuple(_about("GRANT CREATE ON SCHEMA {} TO {}", one) for one in sorted(lacking))


def revoking(lacking: Iterable[RoleInSchema]) -> tuple[Composed, ...]:
    """Return the statements that take back exactly what `granting` grants."""
    return tuple(_about("REVOKE CREATE ON SCHEMA {} FROM {}", one) for one in sorted(lacking))


def _about(form: str, one: RoleInSchema) -> Composed:
    return sql.SQL(form).format(sql.Identifier(one.schema), sql.Identifier(one.role))
