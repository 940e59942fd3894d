# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What belongs to a database and to no schema of it, so that a dump of schemas leaves it out.

An item is one setting, right or object. Its text decides whether both ends have the same; it may hold a secret (a setting
of an extension's or the application's own may be a key) and is shown nowhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..names import SLOT_PREFIX, publication_name
from ..postgres._psycopg import sql
from ..postgres.connect import explain_errors
from ..postgres.server import observe_server
from ..state.tombstone import without_lines

if TYPE_CHECKING:
    from psycopg.sql import Composable

    from ..postgres.connect import Connection, End
    from ..postgres.server import Server


@dataclass(frozen=True, slots=True)
class Item:
    """One fact of a database. ``make`` gives it to the destination, ``take`` takes it away from there; None where only an
    operator can know how. ``shown`` says that ``make`` may be shown."""

    kind: str
    name: str
    text: str = field(repr=False)
    make: Composable | None = field(default=None, repr=False)
    take: Composable | None = field(default=None, repr=False)
    shown: bool = True

    @property
    def key(self) -> tuple[str, str]:
        return (self.kind, self.name)


def observe_items(conn: Connection, end: End, migration: str, database: str) -> dict[tuple[str, str], Item]:
    """Return the items of one end, without this migration's own, by kind and name. Raises ServerError.

    ``database`` is the destination's name, which the statements are for.
    """
    server = observe_server(conn, end)
    with explain_errors("reading what belongs to the database of the", end):
        found = [item for read in _READERS for item in read(conn, server, database)]
    ours = {("publication", publication_name(migration))}
    return {item.key: item for item in found if item.key not in ours}


def _rows(conn: Connection, query: str) -> list[tuple[Any, ...]]:
    return conn.execute(query).fetchall()


_SETTINGS = """
SELECT coalesce(r.rolname, ''), pg_catalog.split_part(c, '=', 1), pg_catalog.substr(c, pg_catalog.strpos(c, '=') + 1),
       EXISTS (SELECT FROM pg_catalog.pg_settings s WHERE s.name = pg_catalog.split_part(c, '=', 1))
  FROM pg_catalog.pg_db_role_setting s JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
 CROSS JOIN LATERAL pg_catalog.unnest(s.setconfig) c
  LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
 WHERE d.datname = pg_catalog.current_database()
"""
_LISTS = (
    *("search_path", "temp_tablespaces", "session_preload_libraries", "shared_preload_libraries"),
    *("local_preload_libraries", "unix_socket_directories"),
)
_ELEMENT = re.compile(r'\s*("(?:[^"]|"")*"|[^,]*?)\s*(?:,|\Z)')


def _settings(conn: Connection, dummy: Server, database: str) -> Iterator[Item]:
    for role, name, value, known in _rows(conn, _SETTINGS):
        where = sql.SQL("DATABASE {}").format(_id(database))
        if role:
            where = sql.SQL("ROLE {} IN {}").format(_id(role), where)
        yield Item(
            "setting",
            f"{name} of role {role}" if role else name,
            value,
            sql.SQL("ALTER {} SET {} TO {}").format(where, _setting_name(name), setting_value(name, value)),
            sql.SQL("ALTER {} RESET {}").format(where, _setting_name(name)),
            shown=bool(known) and "." not in name,
        )


def setting_value(name: str, value: str) -> Composable:
    """Return a value as ALTER DATABASE takes it: the elements of a list one by one, or it would be one long name."""
    if name.lower() not in _LISTS:
        return sql.Literal(value)
    elements = [match[1] for match in _ELEMENT.finditer(value) if match[1]]
    plain = [one[1:-1].replace('""', '"') if one.startswith('"') else one for one in elements]
    return sql.SQL(", ").join(map(sql.Literal, plain)) if plain else sql.Literal("")


def _setting_name(name: str) -> Composable:
    return sql.SQL(".").join(map(sql.Identifier, name.split(".")))


def _id(name: str) -> sql.Identifier:
    return sql.Identifier(name)


_MEMBER = "NOT EXISTS (SELECT FROM pg_catalog.pg_depend m WHERE m.objid = {0}.oid AND m.classid = '{1}'::regclass AND m.deptype = 'e')"

_CASTS = f"""
SELECT pg_catalog.format_type(c.castsource, NULL), pg_catalog.format_type(c.casttarget, NULL),
       CASE WHEN c.castfunc <> 0 THEN c.castfunc::regprocedure::text ELSE '' END, c.castcontext::text, c.castmethod::text
  FROM pg_catalog.pg_cast c WHERE c.oid >= 16384 AND {_MEMBER.format("c", "pg_cast")}
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                    WHERE d.classid = 'pg_cast'::regclass AND d.objid = c.oid AND d.deptype = 'i')
"""
"""Without those that come with a type: of a range to its multirange."""
_CONTEXTS = {"a": " AS ASSIGNMENT", "i": " AS IMPLICIT"}


def _casts(conn: Connection, *dummy: object) -> Iterator[Item]:
    for source, target, function, context, method in _rows(conn, _CASTS):
        # format_type and regprocedure quote what has to be quoted
        between = f"({source} AS {target})"
        how = {"f": f"WITH FUNCTION {function}", "i": "WITH INOUT"}.get(method, "WITHOUT FUNCTION")
        made = sql.SQL("CREATE CAST " + between + " " + how + _CONTEXTS.get(context, ""))
        dropped = sql.SQL("DROP CAST " + between)
        yield Item("cast", between, f"{how} {context}", made, dropped)


_EVENT_TRIGGERS = f"""
SELECT e.evtname::text, e.evtevent::text, e.evtenabled::text, coalesce(e.evttags, '{{}}'), e.evtfoid::regprocedure::text
  FROM pg_catalog.pg_event_trigger e WHERE {_MEMBER.format("e", "pg_event_trigger")}
"""
EVENT_TRIGGER_STATES: Mapping[str, str] = {"O": "ENABLE", "A": "ENABLE ALWAYS", "R": "ENABLE REPLICA", "D": "DISABLE"}


def _event_triggers(conn: Connection, *dummy: object) -> Iterator[Item]:
    for name, event, state, tags, function in _rows(conn, _EVENT_TRIGGERS):
        when = sql.SQL(" WHEN TAG IN ({})").format(sql.SQL(", ").join(map(sql.Literal, tags))) if tags else sql.SQL("")
        made = sql.SQL("CREATE EVENT TRIGGER {} ON {}{} EXECUTE FUNCTION {}; ALTER EVENT TRIGGER {} {}").format(
            _id(name), sql.SQL(event), when, sql.SQL(function), _id(name), sql.SQL(EVENT_TRIGGER_STATES[state])
        )
        dropped = sql.SQL("DROP EVENT TRIGGER {}").format(_id(name))
        text = f"{event} {sorted(tags)} {function} {state}"
        yield Item("event trigger", name, text, made, dropped)


_DEFAULTS = """
WITH held AS (
    SELECT d.defaclrole, d.defaclobjtype, d.defaclacl AS given,
           pg_catalog.acldefault(CASE d.defaclobjtype WHEN 'S' THEN 's' ELSE d.defaclobjtype END, d.defaclrole) AS usual
      FROM pg_catalog.pg_default_acl d WHERE d.defaclnamespace = 0
)
SELECT pg_catalog.pg_get_userbyid(h.defaclrole)::text, h.defaclobjtype::text, coalesce(g.rolname, ''), x.privilege_type,
       x.is_grantable, true FROM held h CROSS JOIN LATERAL pg_catalog.aclexplode(h.given) x
  LEFT JOIN pg_catalog.pg_roles g ON g.oid = x.grantee
 WHERE NOT EXISTS (SELECT FROM pg_catalog.aclexplode(h.usual) u
                    WHERE (u.grantee, u.privilege_type, u.is_grantable) = (x.grantee, x.privilege_type, x.is_grantable))
UNION ALL
SELECT pg_catalog.pg_get_userbyid(h.defaclrole)::text, h.defaclobjtype::text, coalesce(g.rolname, ''), u.privilege_type,
       false, false FROM held h CROSS JOIN LATERAL pg_catalog.aclexplode(h.usual) u
  LEFT JOIN pg_catalog.pg_roles g ON g.oid = u.grantee
 WHERE NOT EXISTS (SELECT FROM pg_catalog.aclexplode(h.given) x WHERE (x.grantee, x.privilege_type) = (u.grantee, u.privilege_type))
"""
_OBJECT_TYPES = {"r": "TABLES", "S": "SEQUENCES", "f": "FUNCTIONS", "T": "TYPES", "n": "SCHEMAS", "L": "LARGE OBJECTS"}


def _default_privileges(conn: Connection, *dummy: object) -> Iterator[Item]:
    for role, kind, grantee, privilege, grantable, granted in _rows(conn, _DEFAULTS):
        objects = _OBJECT_TYPES[kind]
        parts = {"role": _id(role), "grantee": _grantee(grantee), "right": sql.SQL(privilege), "on": sql.SQL(objects)}
        give = sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {role} GRANT {right} ON {on} TO {grantee}").format(**parts)
        if grantable:
            give = sql.SQL("{} WITH GRANT OPTION").format(give)
        away = sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {role} REVOKE {right} ON {on} FROM {grantee}").format(**parts)
        first, second = (give, away) if granted else (away, give)
        yield Item(
            "default privilege",
            f"{'' if granted else 'no '}{privilege} on {objects.lower()} of role {role} to {grantee or 'PUBLIC'}",
            str(grantable),
            first,
            second,
        )


def _grantee(name: str) -> Composable:
    return _id(name) if name else sql.SQL("PUBLIC")


OWN_RIGHT = "right on the database for the migration"
_RIGHTS = """
SELECT coalesce(g.rolname, ''), x.privilege_type, x.is_grantable, coalesce(g.rolname = session_user, false)
  FROM pg_catalog.pg_database d
 CROSS JOIN LATERAL pg_catalog.aclexplode(coalesce(d.datacl, pg_catalog.acldefault('d', d.datdba))) x
  LEFT JOIN pg_catalog.pg_roles g ON g.oid = x.grantee
 WHERE d.datname = pg_catalog.current_database() AND x.grantee <> d.datdba
"""


def _rights(conn: Connection, dummy: Server, database: str) -> Iterator[Item]:
    """Yield the rights on the database, less those of its owner, which is another role at each end on purpose. Those of the
    migration's own account are of a kind of their own: it was given them for the migration."""
    for grantee, privilege, grantable, own in _rows(conn, _RIGHTS):
        to, right = _grantee(grantee), sql.SQL(privilege)
        option = sql.SQL(" WITH GRANT OPTION" if grantable else "")
        yield Item(
            OWN_RIGHT if own else "right on the database",
            f"{privilege} to {grantee or 'PUBLIC'}",
            str(grantable),
            sql.SQL("GRANT {} ON DATABASE {} TO {}{}").format(right, _id(database), to, option),
            sql.SQL("REVOKE {} ON DATABASE {} FROM {}").format(right, _id(database), to),
        )


_NAMED = (
    ("extension", "SELECT x.extname::text, x.extversion FROM pg_catalog.pg_extension x"),
    (
        "foreign data wrapper",
        f"SELECT w.fdwname::text, '' FROM pg_catalog.pg_foreign_data_wrapper w WHERE {_MEMBER.format('w', 'pg_foreign_data_wrapper')}",
    ),
    (
        "foreign server",
        "SELECT s.srvname::text, w.fdwname::text FROM pg_catalog.pg_foreign_server s"
        f"  JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid = s.srvfdw WHERE {_MEMBER.format('s', 'pg_foreign_server')}",
    ),
    (
        "user mapping",
        "SELECT coalesce(u.usename, 'PUBLIC') || ' at server ' || u.srvname, '' FROM pg_catalog.pg_user_mappings u",
    ),
    ("publication", "SELECT p.pubname::text, '' FROM pg_catalog.pg_publication p"),
    (
        "subscription",
        "SELECT s.subname::text, '' FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid"
        " WHERE d.datname = pg_catalog.current_database()",
    ),
    (
        "logical slot",
        "SELECT s.slot_name::text, '' FROM pg_catalog.pg_replication_slots s WHERE s.slot_type = 'logical' AND NOT s.temporary"
        f" AND s.database = pg_catalog.current_database() AND s.slot_name NOT LIKE '{SLOT_PREFIX}%'",
    ),
    (
        "language",
        f"SELECT l.lanname::text, '' FROM pg_catalog.pg_language l WHERE l.oid >= 16384 AND {_MEMBER.format('l', 'pg_language')}",
    ),
    (
        "transform",
        "SELECT pg_catalog.format_type(t.trftype, NULL) || ' in ' || l.lanname, '' FROM pg_catalog.pg_transform t"
        f"  JOIN pg_catalog.pg_language l ON l.oid = t.trflang WHERE {_MEMBER.format('t', 'pg_transform')}",
    ),
    (
        "access method",
        f"SELECT a.amname::text, '' FROM pg_catalog.pg_am a WHERE a.oid >= 16384 AND {_MEMBER.format('a', 'pg_am')}",
    ),
)
"""Kinds of which names are compared, and of extensions the version: never options, which may hold a password."""


def _named(conn: Connection, *dummy: object) -> Iterator[Item]:
    for kind, query in _NAMED:
        for name, text in _rows(conn, query):
            yield Item(kind, name, text)


def _of_the_database(conn: Connection, server: Server, database: str) -> Iterator[Item]:
    """Yield what the row of pg_database says: encoding and locale, connection limit, comment."""
    locale = server.locale
    for name, text in (
        ("encoding", server.encoding),
        ("locale provider", locale.provider),
        ("locale", locale.name),
        ("ICU rules", locale.rules),
        ("LC_COLLATE", server.collate),
        ("LC_CTYPE", server.ctype),
        ("collation version", locale.version),
    ):
        if text:
            yield Item("property of the database", name, text)
    query = (
        "SELECT d.datconnlimit, coalesce(pg_catalog.shobj_description(d.oid, 'pg_database'), '')"
        " FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()"
    )
    ((limit, comment),) = _rows(conn, query)
    yield Item(
        "property of the database",
        "connection limit",
        str(limit),
        sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(_id(database), sql.SQL(str(limit))),
    )
    own = without_lines(comment)
    yield Item(
        "property of the database",
        "comment",
        own,
        sql.SQL("COMMENT ON DATABASE {} IS {}").format(_id(database), sql.Literal(own)),
    )


_READERS = (_settings, _casts, _event_triggers, _default_privileges, _rights, _named, _of_the_database)
