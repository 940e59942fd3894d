# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parses what `pg_restore -v -f` writes: one entry for each object of the archive's table of contents. Pure.

pg_restore prints before each object the number of its entry, its identity in the source's catalog, and what it needs;
that is exact, which the readable name is not (a name may contain anything).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from sys import intern

from ..errors import ProtocolError

_HEADER = re.compile(
    r"^--\n-- TOC entry (?P<id>\d+) \(class (?P<class>\d+) OID (?P<oid>\d+)\)\n"
    r"(?:-- Dependencies: (?P<needs>[\d ]+)\n)?"
    r"-- Name: (?P<tag>[^\n]*); Type: (?P<kind>[A-Z ]+); Schema: (?P<schema>[^\n]*); Owner: (?P<owner>[^\n]*)\n"
    r"(?:-- Data Pos: \d+\n)?--\n",
    re.MULTILINE,
)
_LISTED = re.compile(r"^\d+; \d+ \d+ ", re.MULTILINE)
_TABLESPACE = re.compile(r"; Tablespace: [^\n]*\Z")
_END = re.compile(r"(?:^-- Completed on [^\n]*\n\n)?^--\n-- PostgreSQL database dump complete\n--\n", re.MULTILINE)
_STRINGS = re.compile(r"^SET standard_conforming_strings = (on|off);$", re.MULTILINE)
_SCHEMA = re.compile(r'\ACREATE SCHEMA ([^"\n]*);')
"""Without owners pg_restore writes this statement itself, and quotes only the names that need it."""
_STRAY = re.compile(r"(?:\s*^SET default_(?:tablespace|table_access_method) = [^\n]*;\s*)+\Z", re.MULTILINE)
"""Printed before the header of an object, and so at the end of the one before it, by programs older than 15."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One object of the dump.

    ``class_oid`` and ``oid`` say which row of the source's catalog it is, 0 if it has none of its own (a comment, a
    grant, an attachment). ``needs`` are the ``dump_id`` of what must exist before it. ``tag`` is its name as the
    archive has it, line breaks as blanks. ``text`` is the SQL that creates it, ``owner_text`` what sets its owner.
    """

    dump_id: int
    class_oid: int
    oid: int
    needs: tuple[int, ...]
    kind: str
    schema: str
    tag: str
    owner: str
    text: str
    owner_text: str = ""

    @property
    def has_statement(self) -> bool:
        """Return False if the archive holds nothing but a comment, as for a schema that initdb creates."""
        return any(line and not line.startswith("--") for line in self.text.splitlines())


@dataclass(frozen=True, slots=True)
class Script:
    """A parsed dump, in the order in which it can be restored."""

    entries: tuple[Entry, ...]
    standard_strings: bool


def parse(listing: str, script: str, without_owners: str) -> Script:
    """Parse the output of pg_restore with and without ``--no-owner``: the difference is the SQL that sets the owner.

    ``listing`` is the table of contents as ``--list`` prints it: a header that is not in it is part of a function.
    Raises ProtocolError if the format is not the expected one.
    """
    known = {line[0] for line in _LISTED.finditer(listing)}
    bare = {header["id"]: text for header, text in _pieces(without_owners, known)}
    entries = tuple(_entry(header, text, bare.get(header["id"])) for header, text in _pieces(script, known))
    strings = _STRINGS.search(script)
    return Script(entries, strings is None or strings[1] == "on")


def _pieces(script: str, known: Collection[str]) -> Iterator[tuple[re.Match[str], str]]:
    """Yield the header of each entry, and the text between it and the next."""
    ends = list(_END.finditer(script))
    if not ends:
        raise _unexpected("its end")
    last: re.Match[str] | None = None
    seen: set[str] = set()
    for header in _HEADER.finditer(script, 0, ends[-1].start()):
        if header["id"] not in seen and "{}; {} {} ".format(*header.group("id", "class", "oid")) in known:
            seen.add(header["id"])
            if last is not None:
                yield last, _statements(script[last.end() : header.start()])
            last = header
    if last is not None:
        yield last, _statements(script[last.end() : ends[-1].start()])


def _statements(text: str) -> str:
    return (_STRAY.sub("", text) if "SET default_table" in text else text).strip()


def _entry(header: re.Match[str], text: str, bare: str | None) -> Entry:
    """Return one entry. ``bare`` is the same text without what sets the owner."""
    if bare is not None and header["kind"] == "SCHEMA" and not text.startswith(bare):
        bare = _SCHEMA.sub(r'CREATE SCHEMA "\1";', bare)
    if bare is None or not text.startswith(bare):
        raise _unexpected(f"entry {header['id']} ({header['kind']})")
    schema, owner = header["schema"], header["owner"]
    return Entry(
        dump_id=int(header["id"]),
        class_oid=int(header["class"]),
        oid=int(header["oid"]),
        needs=tuple(int(number) for number in (header["needs"] or "").split()),
        kind=intern(header["kind"]),
        schema="" if schema == "-" else intern(schema),
        tag=header["tag"],
        owner=intern(_TABLESPACE.sub("", owner) if "; Tablespace: " in owner else owner),
        text=bare,
        owner_text=text[len(bare) :].strip(),
    )


def _unexpected(where: str) -> ProtocolError:
    return ProtocolError(
        "reading the output of pg_restore",
        where,
        "it is not in the format that this collection knows",
        "Use pg_dump and pg_restore of one version, of PostgreSQL 14 to 18 (client_bin).",
    )
