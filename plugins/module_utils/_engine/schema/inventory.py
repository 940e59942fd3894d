# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The objects in some schemas of one database, each with the identity by which both ends can be compared.

PostgreSQL names objects of every kind itself (`pg_identify_object`), the same at all versions but for quotes, which
follow the version's list of keywords; they are left out of what is compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from sys import intern
from typing import TYPE_CHECKING

from ..postgres.connect import explain_errors

if TYPE_CHECKING:
    from ..objects.mapping import ObjectMapping
    from ..postgres.catalog import Name
    from ..postgres.connect import Connection, End

# The class, the object, the relation that it belongs to, a word of detail, and what a foreign key references. Row types
# and array types are left out: they are created and dropped with the object that they belong to.
_THINGS = r"""
WITH ns AS (
    SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = ANY (%(schemas)s)
), rel AS (
    SELECT c.oid, c.relname, c.relkind, c.relispopulated FROM pg_catalog.pg_class c
     WHERE c.relnamespace IN (SELECT oid FROM ns) AND c.relkind <> 't'
), things (class, oid, relation, own_name, detail, target) AS (
    SELECT 'pg_namespace'::regclass, n.oid, 0::oid, '', '', 0::oid FROM ns n
    UNION ALL
    SELECT 'pg_class'::regclass, c.oid, coalesce(i.indrelid, c.oid), c.relname,
           CASE WHEN c.relkind IN ('i', 'I') THEN CASE WHEN i.indisunique THEN 'unique' ELSE '' END
                WHEN c.relkind = 'm' THEN CASE WHEN c.relispopulated THEN 'populated' ELSE 'empty' END
                ELSE c.relkind::text END, 0
      FROM rel c LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid
    UNION ALL
    SELECT 'pg_type'::regclass, t.oid, 0, t.typname, '', 0 FROM pg_catalog.pg_type t
      LEFT JOIN pg_catalog.pg_class c ON c.oid = t.typrelid
     WHERE t.typnamespace IN (SELECT oid FROM ns) AND coalesce(c.relkind, 'c') = 'c' AND t.typcategory <> 'A'
    UNION ALL
    SELECT 'pg_proc'::regclass, oid, 0, '', '', 0 FROM pg_catalog.pg_proc WHERE pronamespace IN (SELECT oid FROM ns)
    UNION ALL
    SELECT 'pg_constraint'::regclass, k.oid, k.conrelid, k.conname,
           k.contype::text || CASE WHEN k.convalidated THEN ' valid' ELSE '' END
               || CASE WHEN c.relkind = 'p' THEN ' partitioned' ELSE '' END, k.confrelid
      FROM pg_catalog.pg_constraint k LEFT JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
     WHERE k.connamespace IN (SELECT oid FROM ns)
    UNION ALL
    SELECT 'pg_attrdef'::regclass, d.oid, d.adrelid, '', '', 0
      FROM pg_catalog.pg_attrdef d JOIN rel ON rel.oid = d.adrelid
    UNION ALL
    SELECT 'pg_trigger'::regclass, t.oid, t.tgrelid, t.tgname, t.tgenabled::text, 0
      FROM pg_catalog.pg_trigger t JOIN rel ON rel.oid = t.tgrelid
    UNION ALL
    SELECT 'pg_rewrite'::regclass, r.oid, r.ev_class, r.rulename,
           CASE WHEN %(shells)s AND rel.relkind = 'v' AND r.rulename = '_RETURN'
                     AND pg_catalog.pg_get_viewdef(r.ev_class) ~ '^\s*SELECT NULL::'
                     AND pg_catalog.pg_get_viewdef(r.ev_class) !~ '\mFROM\M'
                THEN 'shell' ELSE r.ev_enabled::text END, 0
      FROM pg_catalog.pg_rewrite r JOIN rel ON rel.oid = r.ev_class
    UNION ALL
    SELECT 'pg_policy'::regclass, p.oid, p.polrelid, p.polname, '', 0
      FROM pg_catalog.pg_policy p JOIN rel ON rel.oid = p.polrelid
    UNION ALL
    SELECT 'pg_statistic_ext'::regclass, s.oid, s.stxrelid, s.stxname, '', 0
      FROM pg_catalog.pg_statistic_ext s WHERE s.stxnamespace IN (SELECT oid FROM ns)
    UNION ALL
    SELECT 'pg_default_acl'::regclass, oid, 0, '', '', 0
      FROM pg_catalog.pg_default_acl WHERE defaclnamespace IN (SELECT oid FROM ns)
    UNION ALL
    SELECT 'pg_collation'::regclass, oid, 0, '', '', 0
      FROM pg_catalog.pg_collation WHERE collnamespace IN (SELECT oid FROM ns)
    UNION ALL
    SELECT 'pg_conversion'::regclass, oid, 0, '', '', 0
      FROM pg_catalog.pg_conversion WHERE connamespace IN (SELECT oid FROM ns)
    UNION ALL
    SELECT 'pg_operator'::regclass, oid, 0, '', '', 0
      FROM pg_catalog.pg_operator WHERE oprnamespace IN (SELECT oid FROM ns)
    UNION ALL
    SELECT 'pg_opclass'::regclass, oid, 0, '', '', 0
      FROM pg_catalog.pg_opclass WHERE opcnamespace IN (SELECT oid FROM ns)
    UNION ALL
    SELECT 'pg_opfamily'::regclass, oid, 0, '', '', 0
      FROM pg_catalog.pg_opfamily WHERE opfnamespace IN (SELECT oid FROM ns)
    UNION ALL
    SELECT 'pg_ts_config'::regclass, oid, 0, '', '', 0
      FROM pg_catalog.pg_ts_config WHERE cfgnamespace IN (SELECT oid FROM ns)
    UNION ALL
    SELECT 'pg_ts_dict'::regclass, oid, 0, '', '', 0
      FROM pg_catalog.pg_ts_dict WHERE dictnamespace IN (SELECT oid FROM ns)
    UNION ALL
    SELECT 'pg_ts_parser'::regclass, oid, 0, '', '', 0
      FROM pg_catalog.pg_ts_parser WHERE prsnamespace IN (SELECT oid FROM ns)
    UNION ALL
    SELECT 'pg_ts_template'::regclass, oid, 0, '', '', 0
      FROM pg_catalog.pg_ts_template WHERE tmplnamespace IN (SELECT oid FROM ns)
)
SELECT t.class::oid::bigint, t.oid::bigint, coalesce(known.identity, ''), coalesce(rn.nspname, ''),
       coalesce(r.relname, ''), t.own_name, t.detail, coalesce(fn.nspname, ''), coalesce(f.relname, '')
  FROM things t
 CROSS JOIN LATERAL pg_catalog.pg_identify_object(t.class, t.oid, 0) known
  LEFT JOIN pg_catalog.pg_class r ON r.oid = t.relation
  LEFT JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace
  LEFT JOIN pg_catalog.pg_class f ON f.oid = t.target
  LEFT JOIN pg_catalog.pg_namespace fn ON fn.oid = f.relnamespace
"""

_RELATIONS = """
SELECT n.nspname, c.relname, c.relkind::text, c.relrowsecurity,
       EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid),
       EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                  AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')),
       EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisprimary),
       coalesce(u.indisunique, false)
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_index u ON u.indexrelid = c.oid
 WHERE n.nspname = ANY (%(schemas)s) AND c.relkind <> 't'
"""

_SCHEMAS = """
SELECT n.nspname, pg_catalog.pg_has_role(n.nspowner, 'USAGE')
       OR pg_catalog.has_schema_privilege(n.oid, 'CREATE WITH GRANT OPTION')
          AND pg_catalog.has_schema_privilege(n.oid, 'USAGE WITH GRANT OPTION'),
       ARRAY(SELECT g.rolname || ' ' || a.privilege_type
               FROM pg_catalog.aclexplode(n.nspacl) a JOIN pg_catalog.pg_roles g ON g.oid = a.grantee
              WHERE a.grantee <> n.nspowner)
  FROM pg_catalog.pg_namespace n
"""


@dataclass(frozen=True, slots=True)
class Schema:
    """Whether our account may grant all rights on it, as its owner or by grant options, and the grants (``role PRIVILEGE``) but those to PUBLIC."""

    ours: bool
    grants: frozenset[str]


@dataclass(frozen=True, slots=True)
class DatabaseObject:
    """One object. ``relation`` is the table that it belongs to, itself for a table, ('', '') for none.

    ``detail``: for a relation its relkind, for an index ``unique`` or nothing, for a materialized view ``populated`` or
    ``empty``, for a constraint its contype with ``valid`` and ``partitioned``, for a trigger or rule its state, or
    ``shell`` for the rule of a view without a query.
    ``target`` is the table that a foreign key references.
    """

    class_oid: int
    oid: int
    identity: str
    relation: Name
    own_name: str
    detail: str
    target: Name

    @property
    def key(self) -> str:
        """Return what is compared between both ends."""
        return f"{self.class_oid} {self.identity.replace(chr(34), '')}"

    def key_there(self, mapping: ObjectMapping) -> str:
        """Return the key that the destination's object has, given the source's.

        Only names are mapped: of schemas, of relations and of what belongs to one; not those within a signature.
        """
        if mapping.is_identity:
            return self.key
        known = self.identity.replace('"', "")
        return (
            f"{self.class_oid} {self._on_relation(known, mapping) if self.relation[1] else _in_schema(known, mapping)}"
        )

    def _on_relation(self, known: str, mapping: ObjectMapping) -> str:
        here, there = ".".join(self.relation), ".".join(mapping.there(self.relation))
        if known == here:
            return there
        if known.endswith(f" on {here}"):  # a constraint, trigger, rule or policy
            return known[: -len(here)] + there
        if known.startswith(f"for {here}."):  # a default
            return f"for {there}.{mapping.table(self.relation).column(known[len(f'for {here}.') :])}"
        own_schema, dot, name = known.partition(".")  # an index, a statistics object
        return ".".join(mapping.index(self.relation, name)) if dot and own_schema == self.relation[0] else known


def _in_schema(known: str, mapping: ObjectMapping) -> str:
    """Return the identity of a schema, or of an object that belongs to no relation, as a type."""
    for name, mapped in mapping.relations.items():
        if known == ".".join(name):
            return ".".join(mapped)
    for here, there in mapping.schemas.items():
        if known == here or known.startswith(f"{here}."):
            return there + known[len(here) :]
    return known


@dataclass(frozen=True, slots=True)
class Relation:
    """A relation with its properties that are no objects: attached to a parent, owned by a column, row security."""

    name: Name
    kind: str
    row_security: bool
    attached: bool
    owned: bool
    has_primary_key: bool
    unique: bool


@dataclass(frozen=True, slots=True)
class Inventory:
    """All objects in the requested schemas, and the roles of the cluster.

    ``things`` are the source's, by the row of its catalog, and ``details`` the destination's, by `DatabaseObject.key`:
    each end has only the one that is needed, since with ten thousand tables either is large. ``relations`` is by (schema,
    name), with line breaks as blanks, as the dump prints names.
    """

    end: End
    version: int
    user: str
    things: Mapping[tuple[int, int], DatabaseObject]
    details: Mapping[str, str]
    relations: Mapping[Name, Relation]
    roles: frozenset[str]
    schemas: Mapping[str, Schema]

    def relation(self, name: Name) -> Relation | None:
        """Return the relation of that name, or None; the name as the catalog or as the dump has it."""
        return self.relations.get((one_line(name[0]), one_line(name[1])))


def observe_standing(conn: Connection, end: End, schemas: tuple[str, ...]) -> Inventory:
    """Read the inventory of one end in four queries. Raises ServerError."""
    # pg_get_viewdef() opens what a view reads, and waits behind DDL on that; only we leave views without a query.
    parameters = {"schemas": list(schemas), "shells": end == "destination"}
    with explain_errors("reading the objects of the", end):
        names: dict[Name, Name] = {}
        things, details = {}, {}
        for row in conn.execute(_THINGS, parameters):
            relation, target = (names.setdefault(name, name) for name in (row[3:5], row[7:9]))
            thing = DatabaseObject(row[0], row[1], row[2], relation, row[5], intern(row[6]), target)
            if end == "source":
                things[thing.class_oid, thing.oid] = thing
            else:
                details[thing.key] = thing.detail
        relations = {
            (one_line(row[0]), one_line(row[1])): Relation(names.setdefault(row[:2], row[:2]), intern(row[2]), *row[3:])
            for row in conn.execute(_RELATIONS, parameters)
        }
        roles = conn.execute("SELECT rolname, rolname = current_user FROM pg_catalog.pg_roles").fetchall()
        owned = conn.execute(_SCHEMAS).fetchall()
    return Inventory(
        end=end,
        version=conn.info.server_version,
        user=next((name for name, current in roles if current), ""),
        things=things,
        details=details,
        relations=relations,
        roles=frozenset(name for name, dummy in roles),
        schemas={name: Schema(ours, frozenset(grants)) for name, ours, grants in owned},
    )


def one_line(name: str) -> str:
    """Return a name as pg_restore prints it in a comment."""
    return name.replace("\r", " ").replace("\n", " ")
