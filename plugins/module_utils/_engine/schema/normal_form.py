# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The normal form of a dump: each fact about an object under a key that is the same at both ends.

A fact is what one statement of pg_dump says: a definition, an owner, the grants on an object, a replica identity. What
carries no meaning is taken out: the order of grants, who granted, the numbers of the archive.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ..state.validation import record_source
from .adjust import REPLICA_IDENTITY, SESSION, all_quoted, lacking_roles, unquoted
from .compare import NOT_MOVED
from .triggers import name_of

if TYPE_CHECKING:
    from ..migration import Migration
    from .compare import MissingObject
    from .toc import Entry

_BETWEEN = re.compile(r"(?<=;)\n+")
_GRANT = re.compile(
    r"^(?P<verb>(?:ALTER DEFAULT PRIVILEGES .*? )?(?:GRANT|REVOKE) )(?P<rights>(?:[A-Z ]+(?:\((?:[^()\"]|\"[^\"]*\")*\))?,?)+)"
    r"(?P<rest> ON .*;)\Z"
)
_RIGHT = re.compile(r"[A-Z ]+(?:\((?:[^()\"]|\"[^\"]*\")*\))?")
_OPTION = " WITH GRANT OPTION;"
_OWNER = re.compile(r" OWNER TO (.*);\Z")
_GRANTS = ("ACL", "DEFAULT ACL")
IDENTITY, OWNER = "REPLICA IDENTITY", "OWNER"


class Key(NamedTuple):
    """Which fact: its kind in pg_dump's words (``OWNER`` and ``REPLICA IDENTITY`` are ours), the schema, and the name as
    the archive has it (``table constraint`` for a constraint, ``price(integer)`` for a function)."""

    kind: str
    schema: str
    name: str

    def __str__(self) -> str:
        """Return it for display: ``function shop.price(integer)``."""
        kind = self.kind.lower()
        if not self.schema:
            return f"{kind} {self.name}"
        if self.kind not in (*_GRANTS, OWNER, "COMMENT", "SECURITY LABEL"):
            return f"{kind} {self.schema}.{self.name}"
        what, dummy, name = self.name.rpartition(" ")  # a grant on TABLE "orders"
        if what.isupper() and self.kind != "DEFAULT ACL":
            return f"{kind} {what} {self.schema}.{name}"
        return f"{kind} {self.name} in schema {self.schema}"


@dataclass(frozen=True, slots=True)
class Definition:
    """One fact; ``text`` is what is compared."""

    key: Key
    text: str

    @property
    def digest(self) -> str:
        """Return what is remembered of the text, which may be long: its SHA-256, in hex."""
        return hashlib.sha256(self.text.encode("utf-8", "surrogateescape")).hexdigest()


def normal_form(entries: Iterable[Entry]) -> dict[Key, Definition]:
    """Return all facts that these entries state, by key. Facts under one key are joined, in the order of their texts."""
    found: dict[Key, list[str]] = {}
    for entry in entries:
        for key, text in facts(entry):
            found.setdefault(key, []).append(text)
    return {key: Definition(key, "\n".join(sorted(texts))) for key, texts in found.items()}


def facts(entry: Entry) -> Iterator[tuple[Key, str]]:
    """Yield the facts of one entry: its definition, its owner, the replica identity that it sets."""
    if entry.kind.startswith(NOT_MOVED):
        return
    text = entry.text
    for match in REPLICA_IDENTITY.finditer(text):
        yield Key(IDENTITY, "", match["table"]), match["identity"]
    text = REPLICA_IDENTITY.sub("", text).strip()
    if entry.kind in _GRANTS:
        name = f"{entry.tag} FOR ROLE {entry.owner}" if entry.kind == "DEFAULT ACL" else entry.tag
        statements = grants(text)
        if statements:
            yield Key(entry.kind, entry.schema, name), "\n".join(sorted(statements))
        return
    if any(line and not line.startswith("--") for line in text.splitlines()):
        yield Key(entry.kind, entry.schema, entry.tag), text
    if entry.owner_text:
        yield Key(OWNER, entry.schema, f"{entry.kind} {entry.tag}"), entry.owner_text


def grants(text: str) -> list[str]:
    """Return the GRANT and REVOKE statements of an entry, one for each right, whoever granted it.

    Two roles may grant the same right; here one does. So a right that another statement gives too is left out.
    """
    found: dict[str, None] = {}
    for statement in (one.strip() for one in _BETWEEN.split(text)):
        if statement and not SESSION.match(statement):
            found.update(dict.fromkeys(_single(statement)))
    return [one for one in found if not any(wider in found and wider != one for wider in _wider(one))]


def _single(statement: str) -> Iterator[str]:
    """Yield a statement for each right that this one gives or takes; itself where its form is another."""
    parts = _GRANT.match(statement)
    if parts is None:
        yield statement
        return
    for right in _RIGHT.findall(parts["rights"]):
        yield f"{parts['verb']}{right.strip()}{parts['rest']}"


def _wider(statement: str) -> Iterator[str]:
    """Yield the statements that give this right and more: every right on the object, and the option to grant it."""
    parts = _GRANT.match(statement)
    if parts is None or parts["verb"].endswith("REVOKE "):
        return
    bare = parts["rest"].removesuffix(_OPTION) + ";" if parts["rest"].endswith(_OPTION) else parts["rest"]
    with_option = bare.removesuffix(";") + _OPTION
    for rights, rest in ((parts["rights"], with_option), ("ALL", parts["rest"]), ("ALL", with_option)):
        if rest == with_option or rest == parts["rest"]:
            yield f"{parts['verb']}{rights}{rest}"


def owner_in(text: str) -> str:
    """Return the role that a fact about an owner names."""
    found = _OWNER.search(text)
    return unquoted(found[1]) if found else ""


def with_identities(found: Mapping[Key, Definition], originals: Mapping[str, str]) -> dict[Key, Definition]:
    """Return the facts with the replica identities that the source had before we changed them.

    ``originals`` holds the identity of each table that we changed, by its quoted name, empty for DEFAULT; of those among
    the facts the original is added.
    """
    kept = {key: one for key, one in found.items() if key.kind != IDENTITY or key.name not in originals}
    for table in [all_quoted(key.schema, key.name) for key in found if key.kind == "TABLE"]:
        if originals.get(table):
            key = Key(IDENTITY, "", table)
            kept[key] = Definition(key, originals[table])
    return kept


def remember_definitions(migration: Migration, items: Sequence[MissingObject], *, anew: bool) -> None:
    """Record how the source prints what is created, in the caller's transaction; ``anew`` replaces what is recorded.

    The grants of a schema that stood before are completed, not made: they need not be what the source has. Raises
    ServerError.
    """
    found = normal_form(item.entry for item in items if not item.stands)
    found = with_identities(found, original_identities(migration))
    if found:
        digests = {(key.kind, key.schema, key.name): one.digest for key, one in found.items()}
        record_source(migration.store, digests, anew=anew)


def original_identities(migration: Migration) -> dict[str, str]:
    """Return the replica identities that the source's tables had before this migration set others, as `with_identities`
    wants them."""
    state = migration.state()
    found: dict[str, str] = {}
    for one in (state.before_image.get("identities", {}) if state else {}).values():
        letter, index = str(one["identity"]), str(one.get("index") or "")
        table = all_quoted(*name_of(str(one["table"])))
        found[table] = {"f": "FULL", "n": "NOTHING", "i": f"USING INDEX {all_quoted(index)}"}.get(letter, "")
    return found


def without_roles(text: str, roles: Collection[str]) -> str:
    """Return grants, in normal form, without those that name a role that is not among ``roles``."""
    return "\n".join(one for one in grants(text) if not lacking_roles(one, roles))
