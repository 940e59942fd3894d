# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Can the schema phase make what it is to make: checks on the extensions that selected objects need (of the family
"objects"), and on the owners that they are given to (of the family "destination")."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from ..objects.extensions import create_statements, not_there, other_version
from ..objects.owners import Giving, RoleInSchema, membership
from ..postgres.catalog import quoted
from .finding import Check, Found, at_both

if TYPE_CHECKING:
    from ..objects.extensions import Extension
    from .observed import DestinationView, Observation, SourceView

_NO_RIGHT = "42501"

_DATABASE_OWNER = "pg_database_owner"
"""The role of PostgreSQL 14 and later whose only member is the database's owner; it can be granted to nobody."""

_ROLES = "SELECT rolname, pg_has_role(oid, 'MEMBER') AND pg_has_role(oid, 'USAGE') FROM pg_roles"
_CREATE = "SELECT has_schema_privilege(role, oid, 'CREATE') FROM pg_namespace"

OFFERS = "destination: offered extensions"
"""The part of the observation with the extensions that the destination's server offers."""


def _missing(seen: Observation, source: SourceView, destination: DestinationView) -> Iterator[Found]:
    """Yield the extensions that the schema phase cannot create; without that phase, all missing ones."""
    if OFFERS in seen.failures:
        return  # the check not_observed reports it
    for extension in not_there(source.extensions, {one.name for one in destination.extensions}):
        here = f"version {extension.version} at the source"
        refusal = destination.refused_extensions.get(extension.name)
        if extension.name not in destination.offers:
            yield Found(
                extension.name,
                f"{here}; the destination's server does not offer it",
                "SELECT name, default_version FROM pg_available_extensions",
                "Install the package that holds it on the destination's server (on a cloud: allow the extension there), or"
                " leave out the objects that use it.",
            )
        elif "schema" not in seen.spec.types:
            yield Found(
                extension.name,
                f"{here}, none at the destination, and the migration creates no schema (causeway_types)",
                "SELECT extname, extversion FROM pg_extension",
                _statements(seen, destination, extension),
            )
        elif refusal is not None:
            yield Found(
                extension.name,
                f"{here}; tried at the destination: {refusal.why} (SQLSTATE {refusal.sqlstate})",
                f"BEGIN; {_statements(seen, destination, extension)} ROLLBACK",
                _cure(seen, destination, extension) if refusal.sqlstate == _NO_RIGHT else refusal.remedy,
            )


def _statements(seen: Observation, destination: DestinationView, extension: Extension) -> str:
    """Return the statements that the schema phase executes, ready to be pasted."""
    one = replace(extension, schema=seen.mapping.schema(extension.schema))
    offer = destination.offers.get(extension.name)
    made = create_statements(one, offer, {"pg_catalog", *destination.catalog.schemas})
    return " ".join(f"{statement.as_string(None)};" for statement in made)


def _cure(seen: Observation, destination: DestinationView, extension: Extension) -> str:
    """Return the statement that an account with the necessary rights executes once."""
    server = destination.server
    if destination.offers[extension.name].trusted and not destination.may_create_schemas:
        return f"GRANT CREATE ON DATABASE {quoted(server.database)} TO {quoted(server.user)};"
    return _statements(seen, destination, extension)


def _version(seen: Observation, source: SourceView, destination: DestinationView) -> Iterator[Found]:
    there = {extension.name: extension.version for extension in destination.extensions}
    for extension in source.extensions:
        version = there.get(extension.name)
        if version is None:
            other = other_version(extension, destination.offers.get(extension.name))
            if other and "schema" in seen.spec.types:
                yield Found(
                    extension.name,
                    f"source {extension.version}, which the destination's server does not offer; it creates {other}",
                    "SELECT name, version FROM pg_available_extension_versions",
                    f"Nothing if {other} is acceptable; else install {extension.version} on the destination's server, or at"
                    f" the source: ALTER EXTENSION {quoted(extension.name)} UPDATE;",
                )
        elif version != extension.version:
            yield Found(
                extension.name,
                f"source {extension.version}, destination {version}",
                "SELECT extname, extversion FROM pg_extension",
                f"ALTER EXTENSION {quoted(extension.name)} UPDATE;",
            )


EXTENSIONS = (
    Check(
        "extension_missing",
        "error",
        "Selected objects use it. The schema phase creates it, unless the destination's server does not offer it or the"
        " account may not create it.",
        "Install it on the destination's server, or execute the statement that the finding prints.",
        at_both(_missing),
    ),
    Check(
        "extension_version",
        "ignorable",
        "Types and functions of another version may behave differently.",
        "ALTER EXTENSION … UPDATE at the older end, or install the source's version on the destination's server.",
        at_both(_version),
    ),
)


def _given(seen: Observation) -> tuple[DestinationView, Giving] | None:
    """Return the destination and the owners there; None where the migration gives nothing to an owner."""
    if seen.destination is None or seen.giving is None or not seen.privileges or "schema" not in seen.spec.types:
        return None
    return seen.destination, seen.giving


def _new_owners(seen: Observation, destination: DestinationView, giving: Giving) -> Iterator[tuple[str, list[str]]]:
    """Yield each role that objects are given to, with the schemas that it is to own itself: those that do not exist."""
    missing = [
        one for one in giving.owners.schemas if seen.mapping.schema(one.schema) not in destination.catalog.schemas
    ]
    for role in sorted({one.role for one in (*giving.owners.inside, *missing)} - {destination.server.user}):
        yield role, [seen.mapping.schema(one.schema) for one in missing if one.role == role]


def _named(schemas: list[str]) -> str:
    return f"schema {', '.join(map(quoted, schemas))}" if schemas else ""


def _owner_role_missing(seen: Observation) -> Iterator[Found]:
    for destination, giving in filter(None, [_given(seen)]):
        for role, schemas in _new_owners(seen, destination, giving):
            if role not in giving.roles:
                inside = sorted({one.schema for one in giving.owners.inside if one.role == role})
                owned = [_named(schemas), f"objects in {', '.join(map(quoted, inside))}" if inside else ""]
                yield Found(
                    role,
                    f"no role of that name; at the source it owns {' and '.join(filter(None, owned))}",
                    "SELECT rolname FROM pg_roles",
                    f"CREATE ROLE {quoted(role)}; GRANT {quoted(role)} TO {quoted(destination.server.user)};",
                )


def _owner_not_ours(seen: Observation) -> Iterator[Found]:
    for destination, giving in filter(None, [_given(seen)]):
        account = quoted(destination.server.user)
        inside = {one.role for one in giving.owners.inside}
        for role, schemas in _new_owners(seen, destination, giving):
            known = giving.roles.get(role)
            if known is None or known.ours:
                continue
            remedy = membership(role, destination.server.user, destination.server.version)
            if role == _DATABASE_OWNER:
                remedy = f"ALTER DATABASE {quoted(destination.server.database)} OWNER TO {account};"
            elif known.superuser and role not in inside:
                remedy = " ".join(
                    f"CREATE SCHEMA {name} AUTHORIZATION {quoted(role)};"
                    f" GRANT CREATE, USAGE ON SCHEMA {name} TO {account} WITH GRANT OPTION;"
                    for name in map(quoted, schemas)
                )
            yield Found(
                role, f"it is to own {_named(schemas) or 'objects'}; member, with its rights: false", _ROLES, remedy
            )


def _owner_create(seen: Observation) -> Iterator[Found]:
    for destination, giving in filter(None, [_given(seen)]):
        made = destination.state is not None and destination.state.reached("schema")
        for one, grantable in giving.lacking.items():
            if not grantable and not made:
                yield Found(
                    one.role,
                    f"may not create in schema {quoted(one.schema)}, and our account may not grant it",
                    _CREATE,
                    _grant(one),
                )


def _owner_loses_create(seen: Observation) -> Iterator[Found]:
    for dummy, giving in filter(None, [_given(seen)]):
        through_public = {seen.mapping.schema(schema) for schema in giving.owners.open_schemas}
        for one, grantable in giving.lacking.items():
            if grantable and one.schema in through_public:
                yield Found(one.role, f"schema {quoted(one.schema)}: CREATE false", _CREATE, _grant(one))


def _grant(one: RoleInSchema) -> str:
    return f"GRANT CREATE ON SCHEMA {quoted(one.schema)} TO {quoted(one.role)};"


OWNERS = (
    Check(
        "owner_role_missing",
        "warning",
        "What it owns at the source will belong to the migration's account, which loses its right to write at the cutover.",
        "CREATE ROLE at the destination, and GRANT it to the account.",
        _owner_role_missing,
    ),
    Check(
        "owner_not_ours",
        "error",
        "Only an account that can become the new owner, and has its rights, may give it objects.",
        "GRANT the owning role to the account, or set causeway_privileges: skip.",
        _owner_not_ours,
    ),
    Check(
        "owner_may_not_create",
        "error",
        "PostgreSQL gives an object only to a role that may create in its schema.",
        "GRANT CREATE ON SCHEMA to the owner, or set causeway_privileges: skip.",
        _owner_create,
    ),
    Check(
        "owner_loses_create",
        "ignorable",
        "At the source every role may create in the schema, as before PostgreSQL 15; at the destination the owner may not.",
        "GRANT CREATE ON SCHEMA to the owner, where it is to create more objects there.",
        _owner_loses_create,
    ),
)
