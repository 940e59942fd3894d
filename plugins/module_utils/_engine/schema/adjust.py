# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Adjusts the SQL of one entry for the destination: without missing roles, triggers disabled, foreign keys not yet
validated. Pure; every change is to a statement that pg_dump itself put at the end of the entry.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .compare import MissingObject

REPLICA_IDENTITY = re.compile(
    r"^ALTER TABLE ONLY (?P<table>[^\n]*) REPLICA IDENTITY (?P<identity>FULL|NOTHING|USING INDEX [^\n]*);$\n*",
    re.MULTILINE,
)
_ENABLE = re.compile(r"^(ALTER TABLE [^\n]*) ENABLE (?:ALWAYS|REPLICA) ((?:TRIGGER|RULE) [^\n]*;)\Z", re.MULTILINE)
_ROLE = r'("(?:[^"]|"")+"|[^\s";]+)'
_GRANTEE = re.compile(rf" (?:TO|FROM) {_ROLE}(?: WITH GRANT OPTION)?(?: CASCADE)?;\Z")
_FOR_ROLE = re.compile(rf"^ALTER DEFAULT PRIVILEGES FOR ROLE {_ROLE} ")
_ON_SCHEMA = re.compile(r"^GRANT ([A-Z,]+) ON SCHEMA ")
_OPTION = " WITH GRANT OPTION;"
SESSION = re.compile(r"^(?:SET|RESET) SESSION AUTHORIZATION\b")
_GRANTS = ("ACL", "DEFAULT ACL")


@dataclass(frozen=True, slots=True)
class Adjusted:
    """The statements of one entry, possibly none, and the missing roles because of which something was left out.
    ``owner`` is the role that the last statement gives the object to, empty for none."""

    statements: tuple[str, ...]
    missing_roles: frozenset[str] = frozenset()
    owner: str = ""


def adjust(
    missing: MissingObject,
    *,
    roles: Collection[str],
    user: str,
    privileges: bool,
    not_valid: bool,
    identities: Mapping[str, str] | None = None,
) -> Adjusted:
    """Return the SQL of an entry. ``roles`` are the destination's, ``user`` is our own there; ``not_valid`` says that
    foreign keys are validated later; ``identities`` are `normal_form.original_identities`."""
    entry = missing.entry
    if entry.kind in _GRANTS:
        return _grants(entry.text, roles, missing) if privileges else Adjusted(())
    text = entry.text
    if entry.kind in ("TABLE", "INDEX", "CONSTRAINT"):
        text = _with_own_identity(text, missing, identities or {})
    elif entry.kind in ("TRIGGER", "RULE") and missing.thing and missing.thing.detail in ("A", "R"):
        text = _ENABLE.sub(r"\1 DISABLE \2", text)
    elif entry.kind == "FK CONSTRAINT" and not_valid and missing.thing and "valid" in missing.thing.detail:
        text = f"{text.rstrip(';')} NOT VALID;"
    if not privileges or not entry.owner_text or entry.owner == user:
        return Adjusted((text,))
    if entry.owner not in roles:
        return Adjusted((text,), frozenset([entry.owner]))
    return Adjusted((text, entry.owner_text), owner=entry.owner)


def _with_own_identity(text: str, missing: MissingObject, identities: Mapping[str, str]) -> str:
    """Return the statements of a table or index with the replica identity that the source had before this migration set
    another."""
    if not missing.thing:
        return text
    table = all_quoted(*missing.thing.relation)
    if table not in identities:
        return text
    text = REPLICA_IDENTITY.sub("", text).strip()
    own = f"USING INDEX {all_quoted(missing.thing.own_name)}"
    original = identities[table]
    if original and (original == own if missing.entry.kind != "TABLE" else original in ("FULL", "NOTHING")):
        text += f"\n\nALTER TABLE ONLY {table} REPLICA IDENTITY {original};"
    return text


def all_quoted(*names: str) -> str:
    """Return a name as pg_dump prints it under ``--quote-all-identifiers``."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


def _grants(text: str, roles: Collection[str], missing: MissingObject) -> Adjusted:
    """Return the grants to existing roles. The grantor is left out: it would need that role's own session."""
    statements, absent = [], set()
    for statement in re.split(r"(?<=;)\n+", text):
        if SESSION.match(statement) or not statement.strip():
            continue
        lacking = lacking_roles(statement, roles)
        absent |= lacking
        if not lacking and not (missing.stands and _needless(statement.strip(), missing.held)):
            statements.append(statement.strip())
    return Adjusted(tuple(statements), frozenset(absent))


def _needless(statement: str, held: Collection[str]) -> bool:
    """Return whether a statement about an existing schema gives no named role a right that is not among ``held``.

    A right that is held by another role's grant would else be given a second time, by another grantor.
    """
    named = _named(statement)
    given = _ON_SCHEMA.match(statement)
    if "PUBLIC" in named or given is None:
        return statement.startswith("REVOKE") or "PUBLIC" in named
    rights = "CREATE,USAGE" if given[1] == "ALL" else given[1]
    return not statement.endswith(_OPTION) and all(
        f"{unquoted(role)} {right}" in held for role in named for right in rights.split(",")
    )


def lacking_roles(statement: str, roles: Collection[str]) -> set[str]:
    """Return the roles that a GRANT, REVOKE or ALTER DEFAULT PRIVILEGES names and that are not among ``roles``."""
    return {name for name in map(unquoted, _named(statement)) if name not in roles and name != "PUBLIC"}


def _named(statement: str) -> list[str]:
    return [match[1] for match in (_GRANTEE.search(statement), _FOR_ROLE.search(statement)) if match]


def unquoted(name: str) -> str:
    """Return the name that an identifier, quoted or not, denotes in SQL."""
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
